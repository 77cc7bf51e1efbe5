//! x
pub mod slack;
pub mod stand_in;
