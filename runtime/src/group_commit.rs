//! Group commit, whatever the database: operations wait in one bounded queue and leave it by the batch.
//!
//! A caller submits an operation and gets its reply *after* the transaction that holds it. The operations of a batch
//! are grouped by kind, each kind executed together by statements that carry many rows. There is no linger: an idle
//! writer takes the first operation at once, a busy one finds a full queue when it comes back.
//!
//! ```text
//! Queue::submit ─► bounded channel ─► Intake::next ─► Batch { kind A: n, kind B: m } ─► settle ─► replies
//! ```
//!
//! Who calls: the writers of [`crate::sqlite`] and [`crate::postgres`], which know how a transaction begins, ends and
//! fails. A writer that is gone answers [`Session::closed`].

mod batch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

pub use self::batch::Batch;
use self::batch::Group;

/// Turns that others are given before a batch is taken. A turn is some sixty tasks for each thread.
const TURNS_MAX: usize = 16;

/// What operations are executed on, inside an open transaction.
pub trait Session: Send + 'static {
    /// What goes wrong there; every caller of a batch that fails gets a copy.
    type Error: Clone + Send + 'static;

    /// The writer has ended, or is ending.
    fn closed() -> Self::Error;

    /// An operation of this type did not answer each of its batch: a bug.
    fn miscounted(kind: &'static str) -> Self::Error;
}

/// One kind of write.
#[async_trait]
pub trait Operation<S: Session>: Send + Sync + Sized + 'static {
    /// What the caller gets after the commit.
    type Reply: Send + 'static;

    /// Whether only a node that lives may do it. A writer that several nodes have refuses it when the node's lease has
    /// run out; one that a node has to itself does not ask.
    const UNDER_LEASE: bool = true;

    /// How many rows this operation writes, unless it is refused, if it is one statement when its batch holds nothing
    /// else: a database may then commit the statement by itself. `None`, which is always right: it needs a transaction.
    fn rows_alone(&self) -> Option<u64> {
        None
    }

    /// Executes all of `batch`, in order, inside the open transaction, and answers each in place.
    ///
    /// Must be repeatable: after a failed batch the operations run again one by one.
    async fn execute(batch: &[&Self], session: &mut S) -> Result<Vec<Self::Reply>, S::Error>;

    /// Executes this one as the one statement that it is, without a transaction around it. `None`: it changed nothing, and
    /// it is for [`Operation::execute`] to say why. Only asked where [`Operation::rows_alone`] says that it can be.
    async fn execute_alone(&self, session: &mut S) -> Result<Option<Self::Reply>, S::Error> {
        Ok(Self::execute(&[self], session).await?.pop())
    }
}

/// The callers' end. Cheap to clone.
pub struct Queue<S: Session> {
    waiting: mpsc::Sender<Box<dyn Group<S>>>,
    closing: Arc<AtomicBool>,
    tasks: TaskTracker,
    counts: Arc<Counts>,
}

/// The writer's end.
pub struct Intake<S: Session> {
    waiting: mpsc::Receiver<Box<dyn Group<S>>>,
    closing: Arc<AtomicBool>,
    counts: Arc<Counts>,
    batch_max: usize,
    /// What the next batch is made of; kept for its room.
    taken: Vec<Box<dyn Group<S>>>,
    /// Operations of the last batch.
    answered: usize,
}

/// What a writer has done since it started, and who hears of each transaction.
#[derive(Default)]
struct Counts {
    transactions: AtomicU64,
    operations: AtomicU64,
    rows: AtomicU64,
    on_commit: OnceLock<OnCommit>,
}

/// Told the number of operations of every committed transaction; must be quick.
type OnCommit = Box<dyn Fn(usize) + Send + Sync>;

/// A reading of a writer's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Committed transactions.
    pub transactions: u64,
    /// Operations in them.
    pub operations: u64,
    /// Rows inserted, updated or deleted by them.
    pub rows: u64,
}

impl<S: Session> Clone for Queue<S> {
    fn clone(&self) -> Self {
        Self {
            waiting: self.waiting.clone(),
            closing: self.closing.clone(),
            tasks: self.tasks.clone(),
            counts: self.counts.clone(),
        }
    }
}

impl<S: Session> Queue<S> {
    /// A queue in which `queue_max` operations may wait, and `batch_max` leave together; `work` is the writer that
    /// takes from it until [`Intake::next`] answers nothing.
    pub fn start<F>(queue_max: usize, batch_max: usize, work: impl FnOnce(Intake<S>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, waiting) = mpsc::channel(queue_max);
        let closing = Arc::new(AtomicBool::new(false));
        let counts = Arc::<Counts>::default();
        let tasks = TaskTracker::new();
        let taken = Vec::with_capacity(batch_max);
        let intake =
            Intake { waiting, closing: closing.clone(), counts: counts.clone(), batch_max, taken, answered: 0 };
        tasks.spawn(work(intake));
        tasks.close();
        Self { waiting: sender, closing, tasks, counts }
    }

    /// Performs one write and returns once it is durable.
    ///
    /// Cancelling the caller does not undo the write: it may or may not be committed.
    ///
    /// # Errors
    /// The session's error when the write was not committed; [`Session::closed`] once the writer is closed.
    pub async fn submit<W: Operation<S>>(&self, operation: W) -> Result<W::Reply, S::Error> {
        let (reply, answer) = oneshot::channel();
        if self.closing.load(Ordering::Acquire) {
            return Err(S::closed());
        }
        self.waiting.send(batch::single(operation, reply)).await.map_err(|_| S::closed())?;
        answer.await.map_err(|_| S::closed())?
    }

    /// What has been written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        Written {
            transactions: self.counts.transactions.load(Ordering::Relaxed),
            operations: self.counts.operations.load(Ordering::Relaxed),
            rows: self.counts.rows.load(Ordering::Relaxed),
        }
    }

    /// Has `told` hear the number of operations of every transaction from now on; the first one that asks is told.
    pub fn on_commit(&self, told: impl Fn(usize) + Send + Sync + 'static) {
        self.counts.on_commit.set(Box::new(told)).ok();
    }

    /// Operations that wait for the next transaction.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.waiting.max_capacity() - self.waiting.capacity()
    }

    /// Lets the writer finish what waits, and waits until it has ended.
    pub async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        // Wakes a writer that sleeps on an empty queue; an error means it has gone already.
        self.waiting.send(batch::nothing()).await.ok();
        self.tasks.wait().await;
    }
}

impl<S: Session> Intake<S> {
    /// Whatever waits, at least one operation; `None` when the queue is closed and empty.
    ///
    /// Those who were just answered, and have more to write, are let in first: without their turn the next batch would
    /// hold the few that were quicker than the writer, and every other sync would be for them alone.
    pub async fn next(&mut self) -> Option<Batch<S>> {
        self.let_in().await;
        loop {
            if self.closing.load(Ordering::Acquire) {
                self.waiting.close();
            }
            if self.waiting.recv_many(&mut self.taken, self.batch_max).await == 0 {
                return None;
            }
            let batch = Batch::of(&mut self.taken);
            self.answered = batch.len();
            if !batch.is_empty() {
                return Some(batch);
            }
        }
    }

    /// Whether the next batch is there already, or some of it.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Gives others their turn for as long as that brings more, until all who were answered are back, or a batch is full. No
    /// time is waited for: on an idle node this is over at once.
    ///
    /// Where one was answered and nobody waits there is nobody to let in. And a turn is not free there: the runtime's thread has
    /// then nothing else to do, looks for work at its neighbour, and wakes it when it goes on, each time (tokio 1.54,
    /// `transition_from_searching`). It changes nothing here: `&mut` is for a future that may move, as what is taken cannot be
    /// shared between threads.
    async fn let_in(&mut self) {
        if self.answered <= 1 && self.waiting.is_empty() {
            return;
        }
        let all = self.waiting.len() + self.answered;
        for _ in 0..TURNS_MAX {
            let before = self.waiting.len();
            tokio::task::yield_now().await;
            let now = self.waiting.len();
            if now == before || now >= all.min(self.batch_max) {
                return;
            }
        }
    }

    /// Counts one committed transaction.
    pub fn count(&self, operations: usize, rows: u64) {
        self.counts.transactions.fetch_add(1, Ordering::Relaxed);
        self.counts.operations.fetch_add(operations as u64, Ordering::Relaxed);
        self.counts.rows.fetch_add(rows, Ordering::Relaxed);
        if let Some(told) = self.counts.on_commit.get() {
            told(operations);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{join, join_all};
    use tokio::sync::{Notify, Semaphore};
    use tokio::time::Instant;

    use super::*;

    /// A database that commits as often as it is allowed to.
    struct Disk(Arc<Semaphore>);

    impl Session for Disk {
        type Error = &'static str;

        fn closed() -> Self::Error {
            "closed"
        }

        fn miscounted(kind: &'static str) -> Self::Error {
            kind
        }
    }

    /// Answers how many of its kind were executed together.
    struct Note;

    #[async_trait]
    impl Operation<Disk> for Note {
        type Reply = usize;

        async fn execute(batch: &[&Self], _disk: &mut Disk) -> Result<Vec<usize>, &'static str> {
            Ok(vec![batch.len(); batch.len()])
        }
    }

    fn queue(batch_max: usize, commits: &Arc<Semaphore>) -> Queue<Disk> {
        telling(batch_max, commits, Arc::new(Notify::new()))
    }

    /// One that says when it is at a commit.
    fn telling(batch_max: usize, commits: &Arc<Semaphore>, committing: Arc<Notify>) -> Queue<Disk> {
        let mut disk = Disk(commits.clone());
        Queue::start(1024, batch_max, |mut intake: Intake<Disk>| async move {
            while let Some(mut batch) = intake.next().await {
                let result = batch.execute(&mut disk).await;
                committing.notify_one();
                disk.0.acquire().await.unwrap().forget();
                intake.count(batch.len(), batch.len() as u64);
                batch.settle(&result);
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_a_commit_is_under_way_shares_the_next_one() {
        let commits = Arc::new(Semaphore::new(0));
        let committing = Arc::new(Notify::new());
        let queue = telling(256, &commits, committing.clone());
        let first = queue.submit(Note);
        let allowed = async {
            committing.notified().await;
            let rest = join_all((0..300).map(|_| queue.submit(Note)));
            let three = async {
                tokio::task::yield_now().await;
                assert_eq!(queue.depth(), 300);
                commits.add_permits(3);
            };
            join(rest, three).await.0
        };
        let (first, rest) = join(first, allowed).await;
        assert_eq!(first, Ok(1));
        let together = |number| rest.iter().filter(|answer| **answer == Ok(number)).count();
        assert_eq!((together(256), together(44)), (256, 44), "a full batch, and what was left");
        assert_eq!(queue.written(), Written { transactions: 3, operations: 301, rows: 301 });
    }

    /// A turn for nobody is not free: it has the runtime wake a second thread, each time, where the database would run.
    #[tokio::test]
    async fn a_writer_with_one_caller_gives_no_turns() {
        const WRITES: u64 = 100;
        let turns = Arc::new(AtomicU64::new(0));
        let (counted, mut disk) = (turns.clone(), Disk(Arc::new(Semaphore::new(0))));
        let queue = Queue::start(1024, 256, |mut intake: Intake<Disk>| {
            let mut work = Box::pin(async move {
                while let Some(mut batch) = intake.next().await {
                    let result = batch.execute(&mut disk).await;
                    batch.settle(&result);
                }
            });
            std::future::poll_fn(move |context| {
                counted.fetch_add(1, Ordering::Relaxed);
                work.as_mut().poll(context)
            })
        });
        for _ in 0..WRITES {
            assert_eq!(queue.submit(Note).await, Ok(1));
            // It has something to do between two writes.
            tokio::task::yield_now().await;
        }
        let turns = turns.load(Ordering::Relaxed);
        // One for each write, and for the first one's beginning.
        assert!(turns <= WRITES + 2, "{WRITES} writes took {turns} turns");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_writer_commits_one_write_at_once_and_alone() {
        let queue = queue(256, &Arc::new(Semaphore::new(10)));
        let begun = Instant::now();
        for _ in 0..10 {
            assert_eq!(queue.submit(Note).await, Ok(1));
        }
        // The clock stands still unless somebody waits for it.
        assert_eq!(begun.elapsed(), std::time::Duration::ZERO);
        assert_eq!(queue.written().transactions, 10);
    }
}
