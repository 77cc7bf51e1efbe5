//! A whole troupe on embedded parts, without doors: what happens to a task when things go right, and when they fall.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::unnecessary_wraps, reason = "a puppet's lines have the shape of a model's answer")]

mod changing;
mod cleaning;
mod effects;
mod fallible;
mod falling;
mod health;
mod house;
mod leases;
mod sharing;
mod telling;
mod unlucky;
mod working;
