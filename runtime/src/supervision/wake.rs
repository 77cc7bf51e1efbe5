//! What a supervisor is woken for: one of its waits is over, one of its routines, or somebody asks it for something.
//!
//! Sent to the supervisor by its own timers, by the guard of a routine, and by way of the live tree; taken in by
//! [`super::Children::timer`]. One that comes too late is about a wait or a life that is past, and counts for nothing.

use super::exit::Exit;

/// What a supervisor is woken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// The wait of this number is over; a child that has moved on since ignores it.
    Wait(u64),
    /// The child shall be started again.
    Restart {
        /// Who asks, or why.
        why: String,
    },
    /// This life of the child does not answer.
    GiveUp {
        /// Which of its lives.
        life: u64,
        /// What was tried.
        cause: String,
    },
    /// A routine has ended.
    Over {
        /// Which of its lives.
        life: u64,
        /// How.
        exit: Exit,
    },
}
