//! A whole troupe on embedded parts, without doors: what happens to a task when things go right, and when they fall.

mod falling;
mod house;
mod working;
