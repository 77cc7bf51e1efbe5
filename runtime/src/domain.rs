//! The words of the domain and the rules between them, pure: no I/O, no actor, no library of a runtime.
//!
//! Only what makes something new reads the clock or draws a number (a fresh event, a fresh trace); what a run does next
//! ([`run`]) is a function of its journal alone.
//!
//! Everything that recovery, the console and the wire agree on is spelled here once.

pub mod agent;
pub mod answer;
pub mod chat;
pub mod clarification;
pub mod conversation;
pub mod data;
pub mod event;
pub mod fork;
pub mod ids;
pub mod journal;
pub mod name;
pub mod outcome;
pub mod plan;
pub mod replay;
pub mod run;
pub mod step;
pub mod task;
mod text;
pub mod topic;
