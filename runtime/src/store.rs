//! The store port: what a node must remember, by aggregate, handed out one at a time.
//!
//! Every write that speaks for a step names the step's [`Epoch`]; when another claim has raised it the write changes
//! nothing and answers [`Error::Fenced`], and whoever wrote stops at once. A write returns after it is durable.
//!
//! Adapters: [`sqlite`], [`postgres`]; the [`tiers`] ([`cache`], [`redis_cache`]) go before any of them. The behaviour is
//! [`conformance`]; every adapter runs it unchanged, and so it is run through the tiers.

pub mod cache;
pub mod conformance;
mod damage;
mod fork;
mod memory;
mod nodes;
pub mod payload;
pub mod postgres;
mod record;
pub mod redis_cache;
mod replies;
mod reported;
pub mod results;
pub mod retention;
pub mod sqlite;
pub mod tiers;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

pub use self::damage::Damage;
pub use self::fork::{Fork, NOBODY};
pub use self::memory::{Memory, Remembered, SessionFilter, SessionRow};
pub use self::nodes::{NodeRow, Nodes, Renewal};
pub use self::replies::{Replies, ReplyOutcome, ReplyRow, ReplyState};
pub use self::retention::{Cleaned, Retention};
use crate::domain::agent::{AgentName, AgentSpec, ExecutionMode};
use crate::domain::chat::Usage;
use crate::domain::event::{Event, Priority, TraceParent};
use crate::domain::fork::ForkedFrom;
use crate::domain::ids::{RunId, StepId, TaskId};
use crate::domain::journal::Entry;
use crate::domain::outcome::Outcome;
use crate::domain::step::{Epoch, Incarnation, StepStatus};
use crate::domain::task::TaskStatus;
use crate::fault::{Fault, Faulty};

pub use results::{ResultFilter, ResultPlace, ResultRow, Results};

/// Limits of a store, wherever it is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows that one call answers, at most, whatever its caller asks for.
    pub rows_max: usize,
    /// Unreadable rows that are remembered, so that each is reported once and not at every look.
    pub unreadable_max: usize,
    /// Limits of texts that may be large.
    pub payload: payload::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self { rows_max: 1000, unreadable_max: 1000, payload: payload::Options::default() }
    }
}

/// The aggregates of one store.
#[derive(Clone)]
pub struct Stores {
    /// What was asked for.
    pub tasks: Arc<dyn Tasks>,
    /// Who works on it.
    pub steps: Arc<dyn Steps>,
    /// What happened.
    pub journal: Arc<dyn Journal>,
    /// How it ended.
    pub results: Arc<dyn Results>,
    /// What must still be told.
    pub outbox: Arc<dyn Outbox>,
    /// Answers on their way back.
    pub replies: Arc<dyn Replies>,
    /// Pinned specs.
    pub specs: Arc<dyn Specs>,
    /// Lives of nodes, and their leases.
    pub nodes: Arc<dyn Nodes>,
    /// What agents keep between events.
    pub memory: Arc<dyn Memory>,
    /// What is deleted, and when.
    pub retention: Arc<dyn Retention>,
}

/// The inbox.
#[async_trait]
pub trait Tasks: Send + Sync {
    /// Accepts an event for an agent: task, run and first step, claimed by `owner` with epoch 1 and attempt 1, in one
    /// transaction. The same event for the same agent a second time changes nothing.
    async fn accept(&self, acceptance: Acceptance) -> Result<Accepted, Error>;

    /// Makes a fork: task, run, first step and the entries that it takes over, in one transaction. The step is [`NOBODY`]'s.
    /// The same event for the same agent a second time changes nothing.
    async fn fork(&self, fork: Fork) -> Result<TaskId, Error>;

    /// One task with its steps.
    async fn task(&self, id: TaskId) -> Result<Option<Task>, Error>;

    /// The event that a task was made from.
    async fn event(&self, id: TaskId) -> Result<Option<Event>, Error>;

    /// Tasks, newest first. One that cannot be read is left out. The usage of a task that has not ended is not summed up.
    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, Error>;

    /// Ids that begin with `prefix` (hex digits, hyphens ignored), at most `limit`.
    async fn find(&self, prefix: &str, limit: usize) -> Result<Vec<TaskId>, Error>;
}

/// What a pool wants accepted.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// For whom.
    pub agent: AgentName,
    /// In which mode it runs.
    pub mode: ExecutionMode,
    /// The spec that the run pins.
    pub spec_digest: Arc<str>,
    /// What was asked.
    pub event: Arc<Event>,
    /// Who claims the first step.
    pub owner: Incarnation,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// A new task; its first step is claimed.
    New(Claim),
    /// It was accepted before, by whomever.
    Duplicate(TaskId),
}

/// A step that is ours until somebody claims it with a higher epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Of which task.
    pub task: TaskId,
    /// Which step.
    pub step: StepId,
    /// Under which fencing number.
    pub epoch: Epoch,
}

/// Which tasks.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Of this agent.
    pub agent: Option<AgentName>,
    /// In this status.
    pub status: Option<TaskStatus>,
    /// Made at or after.
    pub since: Option<DateTime<Utc>>,
    /// Older than this place in the order ([`Task::place`]).
    pub before: Option<i64>,
    /// At most; 0 = 100.
    pub limit: usize,
}

/// A task as people see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its place in the order of acceptance.
    #[serde(skip)]
    pub place: i64,
    /// Of whom it was asked.
    pub agent: AgentName,
    /// In which mode it runs.
    pub execution_mode: ExecutionMode,
    /// How it stands.
    pub status: TaskStatus,
    /// The event that it was made from.
    pub event_id: String,
    /// The topic of that event.
    pub topic: String,
    /// What was asked.
    pub input: String,
    /// Its trace.
    pub traceparent: TraceParent,
    /// 0–9.
    pub priority: Priority,
    /// The spec it runs with.
    pub spec_digest: String,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What all its model calls used, the journaled ones of an open step included, those that a fork took over not.
    pub usage: Usage,
    /// Of what it is a fork, when it is one.
    pub forked_from: Option<ForkedFrom>,
    /// Its steps, first run first.
    pub steps: Vec<Step>,
}

/// A step as people see it, and as recovery needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its id.
    pub id: StepId,
    /// Its run.
    pub run: RunId,
    /// The run's number within the task, from 0.
    pub run_no: u32,
    /// Its number within the run, from 0.
    pub step_no: u32,
    /// How it stands.
    pub status: StepStatus,
    /// Who owns it.
    pub owner: Incarnation,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Attempts begun.
    pub attempts: u32,
    /// Claims since its journal last grew.
    pub claims: u32,
    /// Entries at the head of its journal that a fork took over.
    pub copied: u32,
}

/// Who works on what.
#[async_trait]
pub trait Steps: Send + Sync {
    /// Running steps of nobody who lives, oldest first, at most `limit`, those behind the place `after` in the order
    /// ([`Orphan::place`]). Whoever was not ended lives ([`Nodes`]). One that cannot be read is passed over.
    async fn orphans(&self, after: i64, limit: usize) -> Result<Vec<Orphan>, Error>;

    /// The same of the running steps of `owner`, who knows which of them it works on.
    async fn owned(&self, owner: Incarnation, after: i64, limit: usize) -> Result<Vec<Orphan>, Error>;

    /// Takes a step over: compare-and-set from `seen` to the next epoch. `None` when somebody else was faster or the
    /// step is no longer running. Counts the claim, from 1 again when the journal has grown since the last one.
    async fn claim(&self, step: StepId, seen: Epoch, owner: Incarnation) -> Result<Option<Claim>, Error>;

    /// Ends a step: its last entry becomes its result row, its status is set, its outbox row is written, in one
    /// transaction. Answers the outbox row's number ([`Told::seq`]); `None` when the end was written and not answered, and found
    /// afterwards. [`Error::Fenced`] when the epoch is not the step's or the step is not running; [`Error::Conflict`]
    /// when the journal already has an entry at this place or behind it.
    async fn complete(&self, completion: Completion) -> Result<Option<i64>, Error>;
}

/// A step to take up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its task's place in the order of acceptance.
    pub place: i64,
    /// Its task.
    pub task: TaskId,
    /// Whose task.
    pub agent: AgentName,
    /// The spec it runs with.
    pub spec_digest: String,
    /// The step as it stands.
    pub step: Step,
}

/// The end of a step, or its pause.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Which, under which epoch.
    pub claim: Claim,
    /// Whose.
    pub agent: AgentName,
    /// The last entry.
    pub entry: Entry,
    /// How it ended.
    pub outcome: Outcome,
    /// What all its model calls used.
    pub usage: Usage,
}

/// What happened.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Appends an entry; `attempts` is written to the step in the same transaction when the entry begins another
    /// attempt, `status` when it parks the step. [`Error::Fenced`] when the epoch is not the step's or the step is not
    /// running; [`Error::Conflict`] when the place is taken. An append never ends a step.
    async fn append(&self, append: Append) -> Result<(), Error>;

    /// All entries of a step in order, its result included.
    async fn entries(&self, step: StepId) -> Result<Vec<Entry>, Error>;

    /// Those before a place: what can be read of a journal with a damaged entry there.
    async fn entries_before(&self, step: StepId, seq: u32) -> Result<Vec<Entry>, Error>;
}

/// One entry to append.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// Whose journal, under which epoch.
    pub claim: Claim,
    /// The entry.
    pub entry: Entry,
    /// Attempts begun, when this entry begins one.
    pub attempts: Option<u32>,
    /// The step's new status, when this entry changes it ([`StepStatus::Waiting`]).
    pub status: Option<StepStatus>,
}

/// What must still be told to the bus.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// The oldest ends of steps that `teller` has to tell, at most `limit`, those behind the place `after` ([`Told::seq`]): those
    /// that it has completed, and those that it has inherited. One that cannot be read is passed over.
    async fn pending(&self, teller: Incarnation, after: i64, limit: usize) -> Result<Vec<Told>, Error>;

    /// Has `heir` tell what nobody who lives would tell; answers how many ends that is. Of several heirs one gets each.
    async fn inherit(&self, heir: Incarnation) -> Result<u64, Error>;

    /// These were told. A number is never given again: saying so twice does no harm.
    async fn told(&self, seqs: Vec<i64>) -> Result<(), Error>;
}

/// The end of a step, to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Its place in the outbox.
    pub seq: i64,
    /// Which task.
    pub task: TaskId,
    /// Which step.
    pub step: StepId,
    /// Of whom.
    pub agent: AgentName,
    /// The event that it was made from.
    pub event: Arc<Event>,
    /// How it ended.
    pub outcome: Outcome,
    /// The attempt that ended it.
    pub attempt: u32,
    /// When it ended.
    pub at: DateTime<Utc>,
}

/// Pinned specs.
#[async_trait]
pub trait Specs: Send + Sync {
    /// Keeps a spec under its digest.
    async fn keep(&self, spec: &AgentSpec) -> Result<String, Error>;
    /// The spec with this digest.
    async fn spec(&self, digest: &str) -> Result<Option<AgentSpec>, Error>;
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Somebody with a higher epoch owns the step, or the step has ended.
    #[error("fenced: step {0} belongs to another claim")]
    Fenced(StepId),
    /// The node was ended: its steps are others'.
    #[error("fenced: this life of the node is over, others have its steps")]
    Over,
    /// The node's lease has run out, and nobody has ended the node yet.
    #[error("the node's lease has run out; nothing is written until it is renewed")]
    Lapsed,
    /// The place is taken by something else.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The database does not take it now.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// A stored row cannot be read.
    #[error("a stored row cannot be read: {0}")]
    Corrupt(Damage),
    /// It is too large to be kept.
    #[error("the {what} has {bytes} bytes, and the store keeps at most {limit} (store.payload_bytes_max)")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Something of ours is wrong.
    #[error("store: {0}")]
    Internal(String),
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Fenced(_) | Self::Over => Fault::Fenced,
            Self::Conflict(_) | Self::Corrupt(_) | Self::TooLarge { .. } => Fault::Permanent,
            Self::Unavailable(_) | Self::Lapsed => Fault::transient(),
            Self::Internal(_) => Fault::Bug,
        }
    }
}
