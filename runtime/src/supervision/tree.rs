//! The live tree: every actor of this process, for people and for the kill switch.
//!
//! ```text
//!   root                                  running
//!   root/orchestrator                     running
//!   root/orchestrator/autonomous          running
//!   root/orchestrator/autonomous/echo     restarting   2 restarts   last: "index out of bounds"
//!   root/relay                            unavailable  …
//! ```
//!
//! Whoever starts an actor [`Tree::insert`]s it and keeps the [`Entry`]; dropping the entry takes the actor out. So a
//! supervisor's children leave the tree with the supervisor, however it dies, and a short-lived step leaves it
//! with its guard. An entry outlives the actor's single lives: between two of them it says `restarting` or
//! `unavailable` and why.
//!
//! The tree is a *view*. It decides nothing, and nothing that must survive is read from it. Reads and writes take one
//! short lock and never wait for an actor. A path that is inserted twice belongs to the later entry; the earlier one
//! then changes nothing, so a dying supervisor cannot take its successor's children off the list.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::cause::{CAUSE_CHARS_MAX, cause, clip};
use super::ledger::{Ledger, LedgerOptions};
use super::reach::Reach;
use super::wake::Wake;
use crate::clock::{Clock, SystemClock};
use crate::secret::Redactor;

pub use self::lives::Life;

mod lives;
mod nearest;

/// Longest text of a current step that is shown, in characters.
pub const STEP_CHARS_MAX: usize = 200;

/// How an actor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorState {
    /// In `pre_start`.
    Starting,
    /// Takes messages.
    Running,
    /// Fell, and comes back after a wait.
    Restarting,
    /// Comes back when those it stands on have.
    Waiting,
    /// Was asked to stop and finishes what it has.
    Stopping,
    /// Fell too often; somebody has to look.
    Unavailable,
    /// Ended and is not wanted back.
    Stopped,
}

/// One actor as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActorView {
    /// Its place, `/` between the segments.
    pub path: String,
    /// What it is: `pool`, `agent`, `step` …
    pub kind: &'static str,
    /// How it is.
    pub state: ActorState,
    /// Since when it is so.
    pub since: DateTime<Utc>,
    /// Restarts since its supervisor first started it.
    pub restarts: u32,
    /// Messages waiting, as far as they came through a [`super::Mailbox`].
    pub mailbox_depth: usize,
    /// What it is doing, in its own words.
    pub step: Option<String>,
    /// Why it last fell.
    pub last_error: Option<String>,
}

/// Why nothing was killed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KillError {
    /// Nobody lives there.
    #[error("no actor at {path:?}{}", .nearest.as_ref().map(|near| format!(", did you mean {near:?}")).unwrap_or_default())]
    NotFound {
        /// What was asked for.
        path: String,
        /// The path that looks most like it.
        nearest: Option<String>,
    },
    /// It is known, but is dead already.
    #[error("the actor at {path:?} does not run, it is {state}")]
    NotRunning {
        /// What was asked for.
        path: String,
        /// How it is instead.
        state: ActorState,
    },
}

/// Why nothing is started again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    /// Nobody lives there.
    #[error(transparent)]
    NotFound(#[from] KillError),
    /// It has nobody who starts it again by itself.
    #[error("the {kind} at {path:?} is not started again by itself; it lives once")]
    LivesOnce {
        /// What was asked for.
        path: String,
        /// What it is.
        kind: &'static str,
    },
}

/// How a supervisor is asked for something about one child.
pub(super) type Ask = Arc<dyn Fn(Wake) + Send + Sync>;

/// The registry of live actors; clones are handles on the same tree.
#[derive(Clone)]
pub struct Tree {
    shared: Arc<Shared>,
}

/// The right to say how the actor at a path is. Dropping it takes the actor out of the tree.
#[derive(Debug)]
#[must_use = "dropping an entry takes the actor out of the tree"]
pub struct Entry {
    tree: Tree,
    path: String,
    serial: u64,
}

struct Shared {
    clock: Arc<dyn Clock>,
    redactor: Redactor,
    nodes: Mutex<BTreeMap<String, Node>>,
    next_serial: AtomicU64,
    ledger: Ledger,
}

struct Node {
    serial: u64,
    kind: &'static str,
    state: ActorState,
    since: DateTime<Utc>,
    restarts: u32,
    step: Option<String>,
    last_error: Option<String>,
    reach: Option<Reach>,
    ask: Option<Ask>,
}

impl Tree {
    /// An empty tree that stamps by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::of_node(clock, Redactor::default(), LedgerOptions::default())
    }

    /// [`Tree::new`] for a node: what is told of falls has no secret that the redactor knows, and ends of the node's own.
    #[must_use]
    pub fn of_node(clock: Arc<dyn Clock>, redactor: Redactor, options: LedgerOptions) -> Self {
        let (nodes, next_serial, ledger) = (Mutex::default(), AtomicU64::new(0), Ledger::new(options));
        Self { shared: Arc::new(Shared { clock, redactor, nodes, next_serial, ledger }) }
    }

    /// Puts an actor that is about to start into the tree.
    pub fn insert(&self, path: impl Into<String>, kind: &'static str) -> Entry {
        let path = path.into();
        let serial = self.shared.next_serial.fetch_add(1, Ordering::Relaxed);
        let node = Node {
            serial,
            kind,
            state: ActorState::Starting,
            since: self.shared.clock.now(),
            restarts: 0,
            step: None,
            last_error: None,
            reach: None,
            ask: None,
        };
        self.nodes().insert(path.clone(), node);
        Entry { tree: self.clone(), path, serial }
    }

    /// All actors, a parent before its children.
    #[must_use]
    pub fn list(&self) -> Vec<ActorView> {
        let mut views: Vec<ActorView> = self.nodes().iter().map(|(path, node)| node.view(path)).collect();
        // By segment: as plain text `a-b` would come between `a` and `a/0`.
        views.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        views
    }

    /// The actor at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<ActorView> {
        self.nodes().get(path).map(|node| node.view(path))
    }

    /// How often the actor at a path was restarted.
    #[must_use]
    pub fn restarts(&self, path: &str) -> Option<u32> {
        self.nodes().get(path).map(|node| node.restarts)
    }

    /// Cuts the actor at a path off at its next await, as a crash would. Its supervisor then does what it does.
    pub fn kill(&self, path: &str) -> Result<(), KillError> {
        let nodes = self.nodes();
        let node = nodes.get(path).ok_or_else(|| not_found(&nodes, path))?;
        let Some(reach) = node.reach.clone() else {
            return Err(KillError::NotRunning { path: path.to_owned(), state: node.state });
        };
        drop(nodes);
        reach.cut_off();
        Ok(())
    }

    /// Has the actor at a path started again by its supervisor, at once and without a charge to its budget: it is cut off
    /// when it runs, and brought back when it is down. `why` is what the ledger says of it.
    pub fn restart(&self, path: &str, why: &str) -> Result<(), RestartError> {
        let nodes = self.nodes();
        let node = nodes.get(path).ok_or_else(|| not_found(&nodes, path))?;
        let kind = node.kind;
        let Some(ask) = node.ask.clone() else {
            return Err(RestartError::LivesOnce { path: path.to_owned(), kind });
        };
        drop(nodes);
        ask(Wake::Restart { why: self.cause(why) });
        Ok(())
    }

    /// Every actor of a kind that is in a state.
    #[must_use]
    pub fn standing(&self, kind: &str, state: ActorState) -> Vec<ActorView> {
        let nodes = self.nodes();
        let meant = nodes.iter().filter(|(_, node)| node.kind == kind && node.state == state);
        meant.map(|(path, node)| node.view(path)).collect()
    }

    /// What masks the texts of ends.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.shared.redactor
    }

    /// A text as a cause.
    pub(super) fn cause(&self, text: &str) -> String {
        cause(text, &self.shared.redactor)
    }

    /// Who fell, and why.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Writes into the ledger that the actor at a path fell.
    pub(super) fn fell(&self, path: &str, cause: &str, after: Option<Duration>) {
        self.shared.ledger.fell(self.shared.clock.now(), path, cause, after);
    }

    /// What the actor at a path is doing, in its own words; nothing happens when nobody is there.
    pub fn set_step(&self, path: &str, step: Option<&str>) {
        if let Some(node) = self.nodes().get_mut(path) {
            node.step = step.map(|text| clip(text, STEP_CHARS_MAX));
        }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        // Nothing inside the lock can panic half-way through a change, so a poisoned map is a whole one.
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("actors", &self.nodes().len()).finish()
    }
}

impl Entry {
    /// Where the actor stands.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Since when it is as it is.
    pub(super) fn since(&self) -> DateTime<Utc> {
        let nodes = self.tree.nodes();
        let own = nodes.get(&self.path).filter(|node| node.serial == self.serial);
        own.map_or_else(|| self.tree.shared.clock.now(), |node| node.since)
    }

    /// Its supervisor starts it again, and is asked for that by `ask`.
    pub(super) fn supervised(&self, ask: Ask) {
        self.change(|node, _| node.ask = Some(ask));
    }

    /// A new life begins.
    pub fn starting(&self) {
        self.change(|node, now| node.enter(ActorState::Starting, now));
    }

    /// It runs, after so many restarts.
    pub fn running(&self, life: impl Into<Reach>, restarts: u32) {
        let reach = life.into();
        self.change(|node, now| {
            node.enter(ActorState::Running, now);
            node.restarts = restarts;
            node.reach = Some(reach);
        });
    }

    /// It runs and may have said what it does; this is how it is reached.
    pub fn reached_by(&self, reach: Reach) {
        self.change(|node, now| {
            node.state = ActorState::Running;
            node.since = now;
            node.reach = Some(reach);
        });
    }

    /// It was asked to stop, and can still be killed.
    pub fn stopping(&self) {
        self.change(|node, now| {
            node.state = ActorState::Stopping;
            node.since = now;
        });
    }

    /// It is down, in one of the states without a life.
    pub fn down(&self, state: ActorState) {
        self.change(|node, now| node.enter(state, now));
    }

    /// Why it fell.
    pub fn failed(&self, cause: &str) {
        self.change(|node, _| node.last_error = Some(clip(cause, CAUSE_CHARS_MAX)));
    }

    /// What it is doing.
    pub fn set_step(&self, step: Option<&str>) {
        self.change(|node, _| node.step = step.map(|text| clip(text, STEP_CHARS_MAX)));
    }

    fn change(&self, change: impl FnOnce(&mut Node, DateTime<Utc>)) {
        let now = self.tree.shared.clock.now();
        if let Some(node) = self.tree.nodes().get_mut(&self.path).filter(|node| node.serial == self.serial) {
            change(node, now);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut nodes = self.tree.nodes();
        if nodes.get(&self.path).is_some_and(|node| node.serial == self.serial) {
            nodes.remove(&self.path);
        }
    }
}

fn not_found(nodes: &BTreeMap<String, Node>, path: &str) -> KillError {
    let nearest = nearest::nearest(path, nodes.keys().map(String::as_str)).map(str::to_owned);
    KillError::NotFound { path: path.to_owned(), nearest }
}

impl ActorState {
    /// The word that people see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
            Self::Unavailable => "unavailable",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for ActorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Node {
    /// Into a state without a life; the one that begins one says how it is reached afterwards.
    fn enter(&mut self, state: ActorState, now: DateTime<Utc>) {
        self.state = state;
        self.since = now;
        self.step = None;
        self.reach = None;
    }

    fn view(&self, path: &str) -> ActorView {
        ActorView {
            path: path.to_owned(),
            kind: self.kind,
            state: self.state,
            since: self.since,
            restarts: self.restarts,
            mailbox_depth: self.reach.as_ref().and_then(Reach::mailbox).map_or(0, |mailbox| mailbox.depth()),
            step: self.step.clone(),
            last_error: self.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
