//! x
pub mod admin;
pub mod cli;
pub mod client;
pub mod listener;
pub mod node;
pub mod slack;
pub mod stand_in;
