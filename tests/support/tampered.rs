//! Stores with a hand in them: every write, and the reads that recovery lives on, pass through a [`Hand`] that may do
//! something before, after or instead of it.
//!
//! ```text
//! actors ─► tampered ─► Hand ─► the real stores
//! ```
//!
//! A hand that changes nothing is [`Honest`]. The others: the [`killer`](crate::killer), which ends the process at a
//! commit, and the [mutants](crate::mutant), each of which takes one promise out of the store. Who calls: the victim of
//! the crash matrix and the check of the checks. Hands may be laid over one another.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::{StepId, TaskId};
use troupe_runtime::domain::journal::Entry;
use troupe_runtime::domain::step::{Epoch, Incarnation};
use troupe_runtime::store::{
    Acceptance, Accepted, Append, Claim, Completion, Error, Fork, Journal, Memory, NodeRow, Nodes, Orphan, Outbox,
    Remembered, Renewal, Replies, ReplyOutcome, ReplyRow, ReplyState, SessionFilter, SessionRow, Steps, Stores, Task,
    TaskFilter, Tasks, Told,
};

/// What is done in place of an operation; without a word of its own, the operation.
#[async_trait]
pub trait Hand: Send + Sync + 'static {
    /// In place of [`Tasks::accept`].
    async fn accept(&self, stores: &Stores, acceptance: Acceptance) -> Result<Accepted, Error> {
        stores.tasks.accept(acceptance).await
    }

    /// In place of [`Steps::orphans`].
    async fn orphans(&self, stores: &Stores, after: i64, limit: usize) -> Result<Vec<Orphan>, Error> {
        stores.steps.orphans(after, limit).await
    }

    /// In place of [`Steps::claim`].
    async fn claim(
        &self,
        stores: &Stores,
        step: StepId,
        seen: Epoch,
        owner: Incarnation,
    ) -> Result<Option<Claim>, Error> {
        stores.steps.claim(step, seen, owner).await
    }

    /// In place of [`Steps::complete`].
    async fn complete(&self, stores: &Stores, completion: Completion) -> Result<Option<i64>, Error> {
        stores.steps.complete(completion).await
    }

    /// In place of [`Journal::append`].
    async fn append(&self, stores: &Stores, append: Append) -> Result<(), Error> {
        stores.journal.append(append).await
    }

    /// In place of [`Outbox::pending`].
    async fn pending(
        &self,
        stores: &Stores,
        teller: Incarnation,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Told>, Error> {
        stores.outbox.pending(teller, after, limit).await
    }

    /// In place of [`Outbox::told`].
    async fn told(&self, stores: &Stores, seqs: Vec<i64>) -> Result<(), Error> {
        stores.outbox.told(seqs).await
    }

    /// In place of [`Replies::begin`].
    async fn begin(&self, stores: &Stores, task: TaskId) -> Result<ReplyState, Error> {
        stores.replies.begin(task).await
    }

    /// In place of [`Nodes::start`].
    async fn start(&self, stores: &Stores, name: &str, ttl: Duration) -> Result<Incarnation, Error> {
        stores.nodes.start(name, ttl).await
    }

    /// In place of [`Nodes::renew`].
    async fn renew(&self, stores: &Stores, own: Incarnation, ttl: Duration) -> Result<Renewal, Error> {
        stores.nodes.renew(own, ttl).await
    }

    /// In place of [`Nodes::end_expired`].
    async fn end_expired(&self, stores: &Stores, own: Incarnation) -> Result<Vec<Incarnation>, Error> {
        stores.nodes.end_expired(own).await
    }

    /// In place of [`Memory::save`].
    async fn save(
        &self,
        stores: &Stores,
        agent: &AgentName,
        session: &str,
        over: u64,
        body: &str,
    ) -> Result<u64, Error> {
        stores.memory.save(agent, session, over, body).await
    }
}

/// Changes nothing.
#[derive(Debug)]
pub struct Honest;

impl Hand for Honest {}

/// The stores with the hand in them.
#[must_use]
pub fn tampered(stores: Stores, hand: Arc<dyn Hand>) -> Stores {
    let Stores { results, specs, retention, .. } = stores.clone();
    let tampered = Arc::new(Tampered { stores, hand });
    Stores {
        tasks: tampered.clone(),
        steps: tampered.clone(),
        journal: tampered.clone(),
        outbox: tampered.clone(),
        replies: tampered.clone(),
        nodes: tampered.clone(),
        memory: tampered,
        results,
        specs,
        retention,
    }
}

struct Tampered {
    stores: Stores,
    hand: Arc<dyn Hand>,
}

#[async_trait]
impl Tasks for Tampered {
    async fn accept(&self, acceptance: Acceptance) -> Result<Accepted, Error> {
        self.hand.accept(&self.stores, acceptance).await
    }

    async fn fork(&self, fork: Fork) -> Result<TaskId, Error> {
        self.stores.tasks.fork(fork).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>, Error> {
        self.stores.tasks.task(id).await
    }

    async fn event(&self, id: TaskId) -> Result<Option<Event>, Error> {
        self.stores.tasks.event(id).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        self.stores.tasks.tasks(filter).await
    }

    async fn find(&self, prefix: &str, limit: usize) -> Result<Vec<TaskId>, Error> {
        self.stores.tasks.find(prefix, limit).await
    }
}

#[async_trait]
impl Steps for Tampered {
    async fn orphans(&self, after: i64, limit: usize) -> Result<Vec<Orphan>, Error> {
        self.hand.orphans(&self.stores, after, limit).await
    }

    async fn owned(&self, owner: Incarnation, after: i64, limit: usize) -> Result<Vec<Orphan>, Error> {
        self.stores.steps.owned(owner, after, limit).await
    }

    async fn claim(&self, step: StepId, seen: Epoch, owner: Incarnation) -> Result<Option<Claim>, Error> {
        self.hand.claim(&self.stores, step, seen, owner).await
    }

    async fn complete(&self, completion: Completion) -> Result<Option<i64>, Error> {
        self.hand.complete(&self.stores, completion).await
    }
}

#[async_trait]
impl Journal for Tampered {
    async fn append(&self, append: Append) -> Result<(), Error> {
        self.hand.append(&self.stores, append).await
    }

    async fn entries(&self, step: StepId) -> Result<Vec<Entry>, Error> {
        self.stores.journal.entries(step).await
    }

    async fn entries_before(&self, step: StepId, seq: u32) -> Result<Vec<Entry>, Error> {
        self.stores.journal.entries_before(step, seq).await
    }
}

#[async_trait]
impl Outbox for Tampered {
    async fn pending(&self, teller: Incarnation, after: i64, limit: usize) -> Result<Vec<Told>, Error> {
        self.hand.pending(&self.stores, teller, after, limit).await
    }

    async fn inherit(&self, heir: Incarnation) -> Result<u64, Error> {
        self.stores.outbox.inherit(heir).await
    }

    async fn told(&self, seqs: Vec<i64>) -> Result<(), Error> {
        self.hand.told(&self.stores, seqs).await
    }
}

#[async_trait]
impl Replies for Tampered {
    async fn begin(&self, task: TaskId) -> Result<ReplyState, Error> {
        self.hand.begin(&self.stores, task).await
    }

    async fn settle(&self, task: TaskId, outcome: ReplyOutcome) -> Result<(), Error> {
        self.stores.replies.settle(task, outcome).await
    }

    async fn reply(&self, task: TaskId) -> Result<Option<ReplyRow>, Error> {
        self.stores.replies.reply(task).await
    }
}

#[async_trait]
impl Nodes for Tampered {
    async fn start(&self, name: &str, ttl: Duration) -> Result<Incarnation, Error> {
        self.hand.start(&self.stores, name, ttl).await
    }

    async fn resume(&self, former: Incarnation, ttl: Duration) -> Result<Option<Incarnation>, Error> {
        self.stores.nodes.resume(former, ttl).await
    }

    async fn renew(&self, own: Incarnation, ttl: Duration) -> Result<Renewal, Error> {
        self.hand.renew(&self.stores, own, ttl).await
    }

    async fn release(&self, own: Incarnation) -> Result<(), Error> {
        self.stores.nodes.release(own).await
    }

    async fn end_expired(&self, own: Incarnation) -> Result<Vec<Incarnation>, Error> {
        self.hand.end_expired(&self.stores, own).await
    }

    async fn list(&self, limit: usize) -> Result<Vec<NodeRow>, Error> {
        self.stores.nodes.list(limit).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.stores.nodes.ping().await
    }
}

#[async_trait]
impl Memory for Tampered {
    async fn load(&self, agent: &AgentName, session: &str) -> Result<Option<Remembered>, Error> {
        self.stores.memory.load(agent, session).await
    }

    async fn refresh(&self, agent: &AgentName, session: &str, known: Remembered) -> Result<Option<Remembered>, Error> {
        self.stores.memory.refresh(agent, session, known).await
    }

    async fn save(&self, agent: &AgentName, session: &str, over: u64, body: &str) -> Result<u64, Error> {
        self.hand.save(&self.stores, agent, session, over, body).await
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, Error> {
        self.stores.memory.sessions(filter).await
    }
}
