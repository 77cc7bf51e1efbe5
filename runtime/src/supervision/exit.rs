//! How an actor ended, and which endings call for a restart.
//!
//! ractor reports an end in three shapes: "failed" (a panic or an `Err` from a handler, alike), "terminated" with the
//! reason `killed`, and "terminated" otherwise. [`Exit::of`] reads them once, so that nobody else compares reason texts.

use std::fmt;

use ractor::{ActorCell, SupervisionEvent};

use super::cause::cause;
use crate::secret::Redactor;

/// What ractor gives as the reason of a kill.
const KILLED: &str = "killed";
/// What ractor gives as the reason when the actor's tokio task was aborted.
const ABORTED: &str = "actor_task_cancelled";

/// How an actor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It stopped or drained, by its own will or because it was asked to.
    Normal {
        /// What whoever stopped it said.
        reason: Option<String>,
    },
    /// It was cut off at an await.
    Killed,
    /// A panic or an error in a handler.
    Failed {
        /// The text of the panic or the error without its secrets, at most [`CAUSE_CHARS_MAX`](super::CAUSE_CHARS_MAX)
        /// characters.
        cause: String,
    },
}

/// Which endings call for a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Every one: the child is meant to be there always.
    #[default]
    Permanent,
    /// A crash or a kill, not a normal end: the child knows when it is done.
    Transient,
    /// None: when it is gone it is forgotten.
    Temporary,
}

impl Exit {
    /// Which actor ended how, if the event is about an end; its text without what the redactor knows.
    #[must_use]
    pub fn of<'event>(event: &'event SupervisionEvent, redactor: &Redactor) -> Option<(&'event ActorCell, Self)> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                Some((cell, Self::Failed { cause: cause(&error.to_string(), redactor) }))
            }
            SupervisionEvent::ActorTerminated(cell, _, reason) => match reason.as_deref() {
                Some(KILLED | ABORTED) => Some((cell, Self::Killed)),
                reason => Some((cell, Self::Normal { reason: reason.map(|text| cause(text, redactor)) })),
            },
            _ => None,
        }
    }

    /// Whether a child of this kind is started again after this end.
    #[must_use]
    pub const fn calls_for(&self, restart: Restart) -> bool {
        match (restart, self) {
            (Restart::Permanent, _) | (Restart::Transient, Self::Killed | Self::Failed { .. }) => true,
            (Restart::Transient, Self::Normal { .. }) | (Restart::Temporary, _) => false,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal { reason: None } => f.write_str("ended"),
            Self::Normal { reason: Some(reason) } => write!(f, "ended: {reason}"),
            Self::Killed => f.write_str("killed"),
            Self::Failed { cause } => f.write_str(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_endings_call_for_a_restart() {
        let normal = Exit::Normal { reason: None };
        let failed = Exit::Failed { cause: "x".into() };
        for (restart, on_normal, on_crash) in
            [(Restart::Permanent, true, true), (Restart::Transient, false, true), (Restart::Temporary, false, false)]
        {
            assert_eq!(normal.calls_for(restart), on_normal, "{restart:?}, normal");
            assert_eq!(Exit::Killed.calls_for(restart), on_crash, "{restart:?}, killed");
            assert_eq!(failed.calls_for(restart), on_crash, "{restart:?}, failed");
        }
    }

    #[test]
    fn an_exit_reads_well() {
        assert_eq!(Exit::Normal { reason: Some("Drained".into()) }.to_string(), "ended: Drained");
        assert_eq!(Exit::Killed.to_string(), "killed");
    }
}
