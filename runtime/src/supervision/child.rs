//! The child spec: everything a supervisor must know to start a child, to start it again, and to bring it down.
//!
//! ```no_run
//! # use troupe_runtime::supervision::{ChildSpec, Restart, Shutdown};
//! # use ractor::{Actor, ActorProcessingErr, ActorRef};
//! # use std::time::Duration;
//! # #[derive(ractor_cluster_derive::RactorMessage)] struct M;
//! # #[derive(Clone)] struct Relay;
//! # impl Actor for Relay { type Msg = M; type State = (); type Arguments = ();
//! #   async fn pre_start(&self, _: ActorRef<M>, (): ()) -> Result<(), ActorProcessingErr> { Ok(()) } }
//! let spec = ChildSpec::new("relay", "relay", |context| async move { context.spawn(Relay, ()).await })
//!     .restart(Restart::Permanent)
//!     .shutdown(Shutdown::Drain(Duration::from_secs(10)));
//! ```
//!
//! The start function is called for every life, so it captures what it needs by clone and makes everything else
//! afresh: what a crash left behind must not reach the next life. `pre_start` is quick and connects to nothing (the
//! supervisor waits for it, at most [`ChildSpec::start_timeout`]); connecting belongs into a state after the start. The
//! spawn is the last thing a start function does: if it failed afterwards, a life would go on that nobody knows.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use ractor::{Actor, ActorCell, ActorProcessingErr, SpawnErr};
use serde::Serialize;

use super::alive::{Alive, Desk};
use super::backoff::BackoffOptions;
use super::budget::RestartBudget;
use super::exit::Restart;
use super::mailbox::Messages;
use super::tree::{ActorState, Tree};

/// Longest id of a child, in bytes.
pub const CHILD_ID_BYTES_MAX: usize = 200;

/// How a child is brought down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// It takes nothing new and handles what it has; killed when that takes longer. A supervisor's time must cover that
    /// of its own children.
    Drain(Duration),
    /// Cut off at its next await.
    Kill,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::Drain(Duration::from_secs(5))
    }
}

/// What starts one life of a child.
pub type StartFn = Arc<dyn Fn(ChildContext) -> BoxFuture<'static, Result<Alive, SpawnErr>> + Send + Sync>;

/// How to start, restart and stop a child.
#[derive(Clone)]
pub struct ChildSpec {
    /// Its name among its siblings; the last segment of its path.
    pub id: String,
    /// What it is, for people: `pool`, `agent`, `relay` …
    pub kind: &'static str,
    /// Which endings call for a restart.
    pub restart: Restart,
    /// How often.
    pub budget: RestartBudget,
    /// After which waits.
    pub backoff: BackoffOptions,
    /// How it is brought down.
    pub shutdown: Shutdown,
    /// How long the start function and `pre_start` may take; more counts as a failed start.
    pub start_timeout: Duration,
    /// After how long an unavailable child is tried again with a fresh budget; `None` leaves it to a person.
    pub revive_after: Option<Duration>,
    /// Starts one life.
    pub start: StartFn,
}

/// What one life of a child is given.
#[derive(Debug)]
pub struct ChildContext {
    /// Its supervisor, to be linked to.
    pub supervisor: ActorCell,
    /// Its place in the tree.
    pub path: String,
    /// The tree, to say what it is doing and to register its own children.
    pub tree: Tree,
    /// How many lives it had before.
    pub restarts: u32,
    /// Where the end of this one is told, should it be a routine.
    pub(super) desk: Desk,
}

/// A child as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChildView {
    /// Its name among its siblings.
    pub id: String,
    /// What it is.
    pub kind: &'static str,
    /// How it is.
    pub state: ActorState,
    /// Since when it is so.
    pub since: DateTime<Utc>,
    /// Whether its last start came to a life; one that fails to start is down for another reason than one that fell.
    pub started: bool,
    /// Why it is unavailable or stopped.
    pub reason: Option<String>,
    /// When it is started again, while it is backing off.
    pub starts_in_ms: Option<u64>,
    /// Restarts so far.
    pub restarts: u32,
    /// Why it last fell.
    pub last_error: Option<String>,
    /// Messages waiting in its mailbox, if it has one of ours.
    pub mailbox_depth: usize,
}

impl ChildSpec {
    /// A permanent child with the default budget, backoff and shutdown.
    pub fn new<F, Start, Life>(id: impl Into<String>, kind: &'static str, start: F) -> Self
    where
        F: Fn(ChildContext) -> Start + Send + Sync + 'static,
        Start: Future<Output = Result<Life, SpawnErr>> + Send + 'static,
        Life: Into<Alive> + 'static,
    {
        Self {
            id: id.into(),
            kind,
            restart: Restart::default(),
            budget: RestartBudget::default(),
            backoff: BackoffOptions::default(),
            shutdown: Shutdown::default(),
            start_timeout: Duration::from_secs(5),
            revive_after: Some(Duration::from_mins(5)),
            start: Arc::new(move |context| start(context).map_ok(Into::into).boxed()),
        }
    }

    /// The same with other endings that call for a restart.
    #[must_use]
    pub fn restart(self, restart: Restart) -> Self {
        Self { restart, ..self }
    }

    /// The same with another budget.
    #[must_use]
    pub fn budget(self, budget: RestartBudget) -> Self {
        Self { budget, ..self }
    }

    /// The same with other waits.
    #[must_use]
    pub fn backoff(self, backoff: BackoffOptions) -> Self {
        Self { backoff, ..self }
    }

    /// The same, brought down otherwise.
    #[must_use]
    pub fn shutdown(self, shutdown: Shutdown) -> Self {
        Self { shutdown, ..self }
    }

    /// The same, tried again at another time after it became unavailable.
    #[must_use]
    pub fn revive_after(self, revive_after: Option<Duration>) -> Self {
        Self { revive_after, ..self }
    }

    /// Whether the id can continue a path: a segment, or several where siblings belong together (`researcher/0`).
    pub(super) fn has_good_id(&self) -> bool {
        let segment = |part: &str| !part.is_empty() && !part.contains(char::is_control);
        self.id.len() <= CHILD_ID_BYTES_MAX && self.id.split('/').all(segment)
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("restart", &self.restart)
            .field("budget", &self.budget)
            .field("backoff", &self.backoff)
            .field("shutdown", &self.shutdown)
            .field("start_timeout", &self.start_timeout)
            .field("revive_after", &self.revive_after)
            .finish_non_exhaustive()
    }
}

impl ChildContext {
    /// Starts `actor` as the supervisor's child. Without a global name: names are one flat space for the process, and
    /// the tree has the path already.
    pub async fn spawn<A: Actor>(&self, actor: A, arguments: A::Arguments) -> Result<ActorCell, SpawnErr> {
        let (actor, _) = self.supervisor.spawn_linked(None, actor, arguments).await?;
        Ok(actor.get_cell())
    }

    /// Starts a routine as the supervisor's child: `life` is all that it does. It has no mailbox, so it is cut off at its next
    /// await however its spec has it brought down; its return is a normal end, an error and a panic are falls.
    #[must_use = "a routine that is dropped is cut off"]
    pub fn run(self, life: impl Future<Output = Result<(), ActorProcessingErr>> + Send + 'static) -> Alive {
        Alive::routine(self.desk, None, life)
    }

    /// Starts a routine that attends to a mailbox as the supervisor's child: `life` takes one message after the other and returns
    /// when there are no more, for then it is being brought down. Its return is a normal end, an error and a panic are falls.
    #[must_use = "a routine that is dropped is cut off"]
    pub fn attend<M, Life>(self, life: impl FnOnce(Messages<M>) -> Life) -> Alive
    where
        M: Send + 'static,
        Life: Future<Output = Result<(), ActorProcessingErr>> + Send + 'static,
    {
        let messages = Messages::of_life(self.desk.number);
        Alive::routine(self.desk, Some(messages.mailbox()), life(messages))
    }
}
