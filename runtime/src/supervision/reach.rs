//! How a life is reached by whoever does not own it: to cut it off, or to ask whether it gets on.
//!
//! Kept by the [`super::Tree`] while the life lasts, for its kill switch and for the vitals.

use std::sync::Arc;

use ractor::ActorCell;
use tokio::task::AbortHandle;

use super::mailbox::AnyMailbox;

/// How a life can be cut off by whoever does not own it.
#[derive(Debug, Clone)]
pub enum Reach {
    /// By a kill.
    Actor(ActorCell),
    /// By an abort.
    Routine {
        /// The life.
        handle: AbortHandle,
        /// Whether it gets on can be asked here.
        mailbox: Option<Arc<dyn AnyMailbox>>,
    },
}

impl From<ActorCell> for Reach {
    fn from(cell: ActorCell) -> Self {
        Self::Actor(cell)
    }
}

impl Reach {
    /// Cuts the life off at its next await.
    pub fn cut_off(&self) {
        match self {
            Self::Actor(cell) => cell.kill(),
            Self::Routine { handle, .. } => handle.abort(),
        }
    }

    /// Where it can be asked whether it gets on.
    pub(super) const fn mailbox(&self) -> Option<&Arc<dyn AnyMailbox>> {
        match self {
            Self::Actor(_) => None,
            Self::Routine { mailbox, .. } => mailbox.as_ref(),
        }
    }
}
