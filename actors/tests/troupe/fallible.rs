//! A store that fails where a test wants it to; everything else is the real one's.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::{StepId, TaskId};
use troupe_runtime::domain::journal::Entry;
use troupe_runtime::domain::step::{Epoch, Incarnation};
use troupe_runtime::ports::Ports;
use troupe_runtime::store::{
    Acceptance, Accepted, Append, Claim, Cleaned, Completion, Damage, Error, Fork, Journal, NodeRow, Nodes, Orphan,
    Renewal, Retention, Steps, Task, TaskFilter, Tasks,
};

/// A journal whose rows cannot be read while it is told so, and whose next append may be slow, or written without anybody
/// knowing.
pub(crate) struct FallibleJournal {
    inner: Arc<dyn Journal>,
    pub(crate) unreadable: AtomicBool,
    /// The next append waits here, as one in a full queue does: whether or not its caller still lives.
    pub(crate) slow: Arc<Semaphore>,
    pub(crate) is_slow: AtomicBool,
    pub(crate) waits: Arc<AtomicBool>,
    pub(crate) late: Arc<Mutex<Option<Result<(), Error>>>>,
    /// No append is taken.
    pub(crate) is_away: AtomicBool,
    /// The next append is written, and its answer is lost.
    pub(crate) is_mute: AtomicBool,
}

impl FallibleJournal {
    pub(crate) fn before(ports: &mut Ports) -> Arc<Self> {
        let journal = Arc::new(Self {
            inner: ports.stores.journal.clone(),
            unreadable: AtomicBool::new(false),
            slow: Arc::new(Semaphore::new(0)),
            is_slow: AtomicBool::new(false),
            waits: Arc::default(),
            late: Arc::default(),
            is_away: AtomicBool::new(false),
            is_mute: AtomicBool::new(false),
        });
        ports.stores.journal = journal.clone();
        journal
    }
}

#[async_trait]
impl Journal for FallibleJournal {
    async fn append(&self, append: Append) -> Result<(), Error> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("it is away".to_owned()));
        }
        if self.is_mute.swap(false, Ordering::SeqCst) {
            self.inner.append(append).await?;
            return Err(Error::Unavailable("it is not known whether it was committed".to_owned()));
        }
        if !self.is_slow.swap(false, Ordering::SeqCst) {
            return self.inner.append(append).await;
        }
        let (inner, slow, waits, late) = (self.inner.clone(), self.slow.clone(), self.waits.clone(), self.late.clone());
        let appended = tokio::spawn(async move {
            waits.store(true, Ordering::SeqCst);
            drop(slow.acquire().await);
            let answer = inner.append(append).await;
            *late.lock().unwrap() = Some(answer.clone());
            answer
        });
        appended.await.unwrap()
    }

    async fn entries(&self, step: StepId) -> Result<Vec<Entry>, Error> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(Error::Corrupt(Damage::of("journal", "version: format 99").in_entry(step, 0)));
        }
        self.inner.entries(step).await
    }

    async fn entries_before(&self, step: StepId, seq: u32) -> Result<Vec<Entry>, Error> {
        self.inner.entries_before(step, seq).await
    }
}

/// Steps whose next end is committed only when a test says so.
pub(crate) struct FallibleSteps {
    inner: Arc<dyn Steps>,
    pub(crate) is_slow: AtomicBool,
    /// Ends that wait to be committed.
    pub(crate) waiting: AtomicU32,
    pub(crate) slow: Semaphore,
}

impl FallibleSteps {
    pub(crate) fn before(ports: &mut Ports) -> Arc<Self> {
        let steps = Arc::new(Self {
            inner: ports.stores.steps.clone(),
            is_slow: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            slow: Semaphore::new(0),
        });
        ports.stores.steps = steps.clone();
        steps
    }
}

#[async_trait]
impl Steps for FallibleSteps {
    async fn orphans(&self, after: i64, limit: usize) -> Result<Vec<Orphan>, Error> {
        self.inner.orphans(after, limit).await
    }

    async fn owned(&self, owner: Incarnation, after: i64, limit: usize) -> Result<Vec<Orphan>, Error> {
        self.inner.owned(owner, after, limit).await
    }

    async fn claim(&self, step: StepId, seen: Epoch, owner: Incarnation) -> Result<Option<Claim>, Error> {
        self.inner.claim(step, seen, owner).await
    }

    async fn complete(&self, completion: Completion) -> Result<Option<i64>, Error> {
        if self.is_slow.swap(false, Ordering::SeqCst) {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            drop(self.slow.acquire().await);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        self.inner.complete(completion).await
    }
}

/// Tasks of which one cannot be read, or none is accepted before the gate lets it.
pub(crate) struct FallibleTasks {
    inner: Arc<dyn Tasks>,
    unreadable: Option<TaskId>,
    /// How often somebody tried to read it.
    pub(crate) tried: AtomicU32,
    /// Acceptances that have been asked for.
    pub(crate) asked: AtomicU32,
    pub(crate) gate: Semaphore,
}

impl FallibleTasks {
    pub(crate) fn before(ports: &mut Ports, unreadable: TaskId) -> Arc<Self> {
        Self::put(ports, Some(unreadable), Semaphore::MAX_PERMITS)
    }

    /// All of them can be read.
    pub(crate) fn held(ports: &mut Ports) -> Arc<Self> {
        Self::put(ports, None, 0)
    }

    fn put(ports: &mut Ports, unreadable: Option<TaskId>, accepted: usize) -> Arc<Self> {
        let (inner, gate) = (ports.stores.tasks.clone(), Semaphore::new(accepted));
        let tasks = Arc::new(Self { inner, unreadable, tried: AtomicU32::new(0), asked: AtomicU32::new(0), gate });
        ports.stores.tasks = tasks.clone();
        tasks
    }
}

#[async_trait]
impl Tasks for FallibleTasks {
    async fn accept(&self, acceptance: Acceptance) -> Result<Accepted, Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Ok(permit) = self.gate.acquire().await {
            permit.forget();
        }
        self.inner.accept(acceptance).await
    }

    async fn fork(&self, fork: Fork) -> Result<TaskId, Error> {
        self.inner.fork(fork).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>, Error> {
        self.inner.task(id).await
    }

    async fn event(&self, id: TaskId) -> Result<Option<Event>, Error> {
        if self.unreadable == Some(id) {
            self.tried.fetch_add(1, Ordering::SeqCst);
            return Err(Error::Corrupt(Damage::of("tasks", "event: no JSON").at(format!("task {id}"))));
        }
        self.inner.event(id).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        self.inner.tasks(filter).await
    }

    async fn find(&self, prefix: &str, limit: usize) -> Result<Vec<TaskId>, Error> {
        self.inner.find(prefix, limit).await
    }
}

/// Nodes whose renewals are not answered while it is told so.
pub(crate) struct FallibleNodes {
    inner: Arc<dyn Nodes>,
    pub(crate) silent: AtomicBool,
    /// Renewals that were not answered.
    pub(crate) refused: AtomicU32,
}

impl FallibleNodes {
    pub(crate) fn before(ports: &mut Ports) -> Arc<Self> {
        let inner = ports.stores.nodes.clone();
        let nodes = Arc::new(Self { inner, silent: AtomicBool::new(false), refused: AtomicU32::new(0) });
        ports.stores.nodes = nodes.clone();
        nodes
    }
}

#[async_trait]
impl Nodes for FallibleNodes {
    async fn start(&self, name: &str, ttl: Duration) -> Result<Incarnation, Error> {
        self.inner.start(name, ttl).await
    }

    async fn resume(&self, former: Incarnation, ttl: Duration) -> Result<Option<Incarnation>, Error> {
        self.inner.resume(former, ttl).await
    }

    async fn renew(&self, own: Incarnation, ttl: Duration) -> Result<Renewal, Error> {
        if self.silent.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(Error::Unavailable("it is away".to_owned()));
        }
        self.inner.renew(own, ttl).await
    }

    async fn release(&self, own: Incarnation) -> Result<(), Error> {
        self.inner.release(own).await
    }

    async fn end_expired(&self, own: Incarnation) -> Result<Vec<Incarnation>, Error> {
        self.inner.end_expired(own).await
    }

    async fn list(&self, limit: usize) -> Result<Vec<NodeRow>, Error> {
        self.inner.list(limit).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.inner.ping().await
    }
}

/// A retention that refuses, panics or never answers while it is told so.
pub(crate) struct FallibleRetention {
    inner: Arc<dyn Retention>,
    pub(crate) is_away: AtomicBool,
    pub(crate) panics: AtomicBool,
    pub(crate) hangs: AtomicBool,
    /// How often somebody asked.
    pub(crate) asked: AtomicU32,
    /// Steps whose entries went, and tasks.
    pub(crate) gone: AtomicU64,
}

impl FallibleRetention {
    pub(crate) fn before(ports: &mut Ports) -> Arc<Self> {
        let retention = Arc::new(Self {
            inner: ports.stores.retention.clone(),
            is_away: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            asked: AtomicU32::new(0),
            gone: AtomicU64::new(0),
        });
        ports.stores.retention = retention.clone();
        retention
    }

    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    async fn look(&self) -> Result<(), Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics.load(Ordering::SeqCst), "as told");
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.is_away.load(Ordering::SeqCst) { Err(Error::Unavailable("it is away".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Retention for FallibleRetention {
    async fn clean_journals(&self, keep: Duration, limit: usize) -> Result<Cleaned, Error> {
        self.look().await?;
        let cleaned = self.inner.clean_journals(keep, limit).await?;
        self.gone.fetch_add(cleaned.things, Ordering::SeqCst);
        Ok(cleaned)
    }

    async fn clean_tasks(&self, keep: Duration, limit: usize) -> Result<Cleaned, Error> {
        self.look().await?;
        let cleaned = self.inner.clean_tasks(keep, limit).await?;
        self.gone.fetch_add(cleaned.things, Ordering::SeqCst);
        Ok(cleaned)
    }
}
