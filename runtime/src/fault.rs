//! The one classification of errors: what a caller may do about a failure.
//!
//! Every port error answers [`Faulty::fault`]; every boundary (HTTP status, ack/retry/dead letter, step retry) maps
//! the class in one table of its own. A fault is decided where the error is made and is never guessed from its text.

use std::time::Duration;

/// What a failure means for whoever must decide what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The same call may succeed later; wait at least `retry_after` when the other side named a time.
    Transient {
        /// The wait that the other side asked for, if it did.
        retry_after: Option<Duration>,
    },
    /// The same call will fail again: bad input, missing permission, unknown name.
    Permanent,
    /// Somebody with a higher epoch owns what we tried to write; whoever sees this stops at once.
    Fenced,
    /// A broken invariant of ours. Crashes the actor, never the node.
    Bug,
}

impl Fault {
    /// A transient fault without a named wait.
    #[must_use]
    pub const fn transient() -> Self {
        Self::Transient { retry_after: None }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Transient { .. })
    }

    /// The word used in logs, metrics and dead letters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient { .. } => "transient",
            Self::Permanent => "permanent",
            Self::Fenced => "fenced",
            Self::Bug => "bug",
        }
    }
}

/// An error that knows its class.
pub trait Faulty: std::error::Error {
    /// The class of this error.
    fn fault(&self) -> Fault;
}
