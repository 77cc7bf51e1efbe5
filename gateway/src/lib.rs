//! x
pub mod cli;
pub mod client;
pub mod slack;
pub mod stand_in;
