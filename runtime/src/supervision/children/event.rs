//! What goes in and out of [`super::Children`]: timers, what became of a child, and refusals.
//!
//! None of these reports a child's failure as an error: a failure is an event, so that an actor which uses `?` on
//! everything still never dies of its child.

use std::sync::Arc;
use std::time::Duration;

use crate::supervision::child::CHILD_ID_BYTES_MAX;
use crate::supervision::wake::Wake;

/// A wait is over, or somebody asks for something: the message that a supervisor passes to [`super::Children::timer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildTimer {
    /// The path of the [`super::Children`] it belongs to, for an actor that holds several.
    pub parent: Arc<str>,
    /// The child it is about.
    pub id: String,
    /// What for.
    pub wake: Wake,
}

/// What became of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildEvent {
    /// It runs, for the first time.
    Started {
        /// Which.
        id: String,
    },
    /// It fell and comes back.
    Restarting {
        /// Which.
        id: String,
        /// After this wait.
        after: Duration,
        /// Why it fell.
        cause: String,
    },
    /// It runs again.
    Restarted {
        /// Which.
        id: String,
        /// How often it was restarted by now.
        restarts: u32,
    },
    /// Its budget is spent.
    Unavailable {
        /// Which.
        id: String,
        /// The budget and the last cause.
        reason: String,
    },
    /// It ended for good.
    Ended {
        /// Which.
        id: String,
        /// How.
        reason: String,
    },
    /// The event is about no child here.
    NotMine,
}

/// Why a supervisor refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChildrenError {
    /// The id cannot be a segment of a path.
    #[error("child id {0:?} must be 1 to {max} bytes: segments joined by single /, no control characters", max = CHILD_ID_BYTES_MAX)]
    BadId(String),
    /// There is one of that name.
    #[error("{parent} has a child {id:?} already, remove it first")]
    Duplicate {
        /// The supervisor's path.
        parent: Arc<str>,
        /// The name.
        id: String,
    },
    /// There is none of that name.
    #[error("{parent} has no child {id:?}")]
    Unknown {
        /// The supervisor's path.
        parent: Arc<str>,
        /// The name.
        id: String,
    },
    /// [`super::ChildrenOptions::limit`] is reached.
    #[error("{parent} has {limit} children, no more are taken")]
    Full {
        /// The supervisor's path.
        parent: Arc<str>,
        /// The limit.
        limit: usize,
    },
    /// [`super::Children::stop_all`] has begun.
    #[error("{0} is stopping and starts no more children")]
    Closing(Arc<str>),
}
