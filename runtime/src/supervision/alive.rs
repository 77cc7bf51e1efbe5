//! What lives at a child's place: an actor, or a routine.
//!
//! Who supervises others is an actor of ractor's. Whoever there is one of for each agent or step is a **routine**: a future on
//! the runtime under the same supervision, for an idle actor of ractor's holds four mailboxes, more than 6 KiB. An inbox and a step
//! have none at all, for nobody sends them anything (docs/adr/0032, 0033); an agent has one of ours (`mailbox.rs`, docs/adr/0034).
//!
//! | | actor of ractor's | routine |
//! |---|---|---|
//! | its end is told by | ractor's supervision event | its `Ending`, as that is dropped, whatever has ended it |
//! | a fall is | a panic or an `Err` of a handler | a panic or an `Err` of the future |
//! | to drain it | it handles what waits, then ends | the same with a mailbox; without one nothing waits: it is cut off |
//! | when its supervisor is gone | ractor kills it | [`Routine`] is dropped with the supervisor's state, which cuts it off |
//!
//! Made by [`super::ChildContext`], kept by [`super::Children`]; the [`super::Tree`] has the [`Reach`] of it. An actor whose
//! children live once and by the thousand keeps its [`Routine`]s itself: an agent its steps (docs/adr/0033).

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use ractor::{ActorCell, ActorProcessingErr};
use tokio::task::JoinHandle;

use super::cause::panic_text;
use super::exit::Exit;
use super::mailbox::AnyMailbox;
use super::reach::Reach;
use super::tree::Tree;

/// One life of a child.
#[derive(Debug)]
pub enum Alive {
    /// An actor, linked to the supervisor.
    Actor(ActorCell),
    /// A routine.
    Routine {
        /// Which life; no two of this process are alike.
        number: u64,
        /// The life.
        routine: Routine,
        /// What it is sent comes here, if it is sent anything.
        mailbox: Option<Arc<dyn AnyMailbox>>,
    },
}

/// A routine; dropping it cuts it off.
#[derive(Debug)]
#[must_use = "a routine that is dropped is cut off"]
pub struct Routine {
    handle: JoinHandle<()>,
}

/// Where the end of a life is told, should it be a routine.
pub(super) struct Desk {
    /// Hears how it ended, once.
    pub(super) told: Box<dyn FnOnce(Exit) + Send + Sync>,
    /// It knows what no cause may quote.
    pub(super) tree: Tree,
    /// Which life; no two of this process are alike.
    pub(super) number: u64,
}

/// Tells that a routine is over, when it is dropped.
struct Ending<T: FnOnce(Exit)> {
    told: Option<T>,
    tree: Tree,
    /// As long as nothing else is known: cut off.
    exit: Exit,
}

impl Alive {
    /// Begins a routine whose end is told at `desk`.
    pub(super) fn routine(
        desk: Desk,
        mailbox: Option<Arc<dyn AnyMailbox>>,
        life: impl Future<Output = Result<(), ActorProcessingErr>> + Send + 'static,
    ) -> Self {
        let Desk { told, tree, number } = desk;
        Self::Routine { number, routine: Routine::begin(tree, told, life), mailbox }
    }

    /// The actor that it is.
    pub(super) const fn actor(&self) -> Option<&ActorCell> {
        match self {
            Self::Actor(cell) => Some(cell),
            Self::Routine { .. } => None,
        }
    }

    /// Whether it is the routine of this number.
    pub(super) const fn is_routine(&self, of: u64) -> bool {
        matches!(self, Self::Routine { number, .. } if *number == of)
    }

    /// Where it is sent messages, if it is a routine that takes any.
    pub(super) const fn mailbox(&self) -> Option<&Arc<dyn AnyMailbox>> {
        match self {
            Self::Actor(_) => None,
            Self::Routine { mailbox, .. } => mailbox.as_ref(),
        }
    }

    pub(super) fn reach(&self) -> Reach {
        match self {
            Self::Actor(cell) => Reach::Actor(cell.clone()),
            Self::Routine { routine, mailbox, .. } => {
                Reach::Routine { handle: routine.handle.abort_handle(), mailbox: mailbox.clone() }
            }
        }
    }

    /// Cuts it off at its next await.
    pub(super) fn kill(&self) {
        match self {
            Self::Actor(cell) => cell.kill(),
            Self::Routine { routine, .. } => routine.handle.abort(),
        }
    }

    /// Has it finish what waits for it; nothing waits for a routine without a mailbox.
    pub(super) fn drain(&self) {
        match self {
            // An error says that it has ended already; then its event is on the way.
            Self::Actor(cell) => drop(cell.drain()),
            Self::Routine { mailbox: Some(mailbox), .. } => mailbox.close(),
            Self::Routine { routine, mailbox: None, .. } => routine.handle.abort(),
        }
    }

    /// Waits for its end, so long; answers whether it has come.
    pub(super) async fn ends_within(&mut self, limit: Duration) -> bool {
        match self {
            Self::Actor(cell) => cell.wait(Some(limit)).await.is_ok(),
            Self::Routine { routine, .. } => tokio::time::timeout(limit, &mut routine.handle).await.is_ok(),
        }
    }
}

impl Routine {
    /// Begins one. `told` hears how it ended, once, whatever has ended it, and without what the tree's redactor knows; it is
    /// called as the last of the routine is dropped, so it must be quick.
    pub fn begin(
        tree: Tree,
        told: impl FnOnce(Exit) + Send + 'static,
        life: impl Future<Output = Result<(), ActorProcessingErr>> + Send + 'static,
    ) -> Self {
        let ending = Ending { told: Some(told), tree, exit: Exit::Killed };
        // Combined and not awaited in a block of its own, which would keep room for the future twice.
        let handle = tokio::spawn(AssertUnwindSafe(life).catch_unwind().map(move |end| ending.is(end)));
        Self { handle }
    }

    /// How it can be cut off.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::Routine { handle: self.handle.abort_handle(), mailbox: None }
    }
}

impl From<ActorCell> for Alive {
    fn from(cell: ActorCell) -> Self {
        Self::Actor(cell)
    }
}

impl Drop for Routine {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl<T: FnOnce(Exit)> Ending<T> {
    fn is(mut self, end: std::thread::Result<Result<(), ActorProcessingErr>>) {
        let failed = |text: &str| Exit::Failed { cause: self.tree.cause(text) };
        self.exit = match end {
            Ok(Ok(())) => Exit::Normal { reason: None },
            Ok(Err(error)) => failed(&error.to_string()),
            Err(panic) => failed(panic_text(panic.as_ref())),
        };
    }
}

impl<T: FnOnce(Exit)> Drop for Ending<T> {
    fn drop(&mut self) {
        let exit = std::mem::replace(&mut self.exit, Exit::Killed);
        if let Some(told) = self.told.take() {
            told(exit);
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("number", &self.number).finish_non_exhaustive()
    }
}
