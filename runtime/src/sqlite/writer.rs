//! Group commit: one connection writes, and whatever waits goes into one transaction.
//!
//! A caller submits an operation and gets its reply *after* the commit that holds it. Operations of one kind in a
//! batch are executed together, by statements that carry many rows (`json_each`): sqlx hands every statement to a
//! thread of its own, and row by row that hand-over is the cost. There is no linger: an idle writer takes the first
//! operation at once, a busy one finds a full queue when it comes back.
//!
//! ```text
//! submit ─► queue (bounded) ─► [op op op …] ─► BEGIN · kind A: n rows · kind B: m rows · COMMIT ─► replies
//! ```
//!
//! When a batch fails for a reason of its own (not a full disk), every operation is tried once more in a transaction
//! of its own, so that one bad operation fails alone. Who calls: `store/sqlite` and `bus/embedded`.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{Error, Options};

/// One kind of write.
#[async_trait]
pub trait Write: Send + Sync + Sized + 'static {
    /// What the caller gets after the commit.
    type Reply: Send + 'static;

    /// Executes all of `batch`, in order, inside the open transaction, and answers each in place.
    ///
    /// Must be repeatable: after a failed batch the operations run again one by one.
    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Self::Reply>, Error>;
}

/// The queue to the one writing connection. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Box<dyn Group>>,
    closing: Arc<AtomicBool>,
    tasks: TaskTracker,
    counts: Arc<Counts>,
}

/// What the writer has done since it started.
#[derive(Debug, Default)]
struct Counts {
    transactions: AtomicU64,
    operations: AtomicU64,
    rows: AtomicU64,
}

/// A reading of the writer's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Committed transactions.
    pub transactions: u64,
    /// Operations in them.
    pub operations: u64,
    /// Rows inserted, updated or deleted by them.
    pub rows: u64,
}

impl Writer {
    /// Starts the writer on its connection; it ends when [`Writer::close`] is called or every handle is gone.
    pub(super) fn start(connection: SqliteConnection, options: &Options) -> Self {
        let (queue, waiting) = mpsc::channel(options.writer_queue_max);
        let writer = Self {
            queue,
            closing: Arc::new(AtomicBool::new(false)),
            tasks: TaskTracker::new(),
            counts: Arc::default(),
        };
        let work =
            Work { connection, waiting, closing: writer.closing.clone(), counts: writer.counts.clone(), changes: 0 };
        writer.tasks.spawn(work.run(options.batch_max));
        writer.tasks.close();
        writer
    }

    /// Performs one write and returns once it is durable.
    ///
    /// Cancelling the caller does not undo the write: it may or may not be committed.
    ///
    /// # Errors
    /// [`Error`] when the write was not committed; [`Error::Closed`] once the writer is closed.
    pub async fn submit<W: Write>(&self, operation: W) -> Result<W::Reply, Error> {
        let (reply, answer) = oneshot::channel();
        let job = Jobs { operations: vec![operation], replies: vec![reply], answers: Vec::new() };
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.queue.send(Box::new(job)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
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

    /// Operations that wait for the next transaction.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Commits what waits, then closes the connection.
    pub(super) async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        // Wakes a writer that sleeps on an empty queue; an error means it has gone already.
        self.queue.send(Box::new(Jobs::<Nothing>::default())).await.ok();
        self.tasks.wait().await;
    }
}

/// Operations of one kind, with where their replies go, behind a face that the queue can hold.
#[async_trait]
trait Group: Send {
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
    /// Takes in `other` when it is of the same kind; gives it back when not.
    fn absorb(&mut self, other: Box<dyn Group>) -> Option<Box<dyn Group>>;
    fn kind(&self) -> std::any::TypeId;
    fn len(&self) -> usize;
    async fn execute(&mut self, connection: &mut SqliteConnection) -> Result<(), Error>;
    /// The transaction is over: replies go out.
    fn settle(self: Box<Self>, result: Result<(), Error>);
    fn split(self: Box<Self>) -> Vec<Box<dyn Group>>;
}

struct Jobs<W: Write> {
    operations: Vec<W>,
    replies: Vec<oneshot::Sender<Result<W::Reply, Error>>>,
    answers: Vec<W::Reply>,
}

impl<W: Write> Default for Jobs<W> {
    fn default() -> Self {
        Self { operations: Vec::new(), replies: Vec::new(), answers: Vec::new() }
    }
}

#[async_trait]
impl<W: Write> Group for Jobs<W> {
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }

    fn kind(&self) -> std::any::TypeId {
        std::any::TypeId::of::<W>()
    }

    fn absorb(&mut self, other: Box<dyn Group>) -> Option<Box<dyn Group>> {
        if other.kind() != self.kind() {
            return Some(other);
        }
        if let Ok(more) = other.into_any().downcast::<Self>() {
            self.operations.extend(more.operations);
            self.replies.extend(more.replies);
        }
        None
    }

    fn len(&self) -> usize {
        self.operations.len()
    }

    async fn execute(&mut self, connection: &mut SqliteConnection) -> Result<(), Error> {
        if self.operations.is_empty() {
            return Ok(());
        }
        let batch: Vec<&W> = self.operations.iter().collect();
        self.answers = W::execute(&batch, connection).await?;
        if self.answers.len() == self.operations.len() {
            Ok(())
        } else {
            Err(Error::Statement(format!("{} answered the wrong number of writes", std::any::type_name::<W>())))
        }
    }

    fn settle(self: Box<Self>, result: Result<(), Error>) {
        match result {
            Ok(()) => {
                for (reply, answer) in self.replies.into_iter().zip(self.answers) {
                    reply.send(Ok(answer)).ok();
                }
            }
            Err(error) => {
                for reply in self.replies {
                    reply.send(Err(error.clone())).ok();
                }
            }
        }
    }

    fn split(self: Box<Self>) -> Vec<Box<dyn Group>> {
        let single = |(operation, reply)| -> Box<dyn Group> {
            Box::new(Self { operations: vec![operation], replies: vec![reply], answers: Vec::new() })
        };
        self.operations.into_iter().zip(self.replies).map(single).collect()
    }
}

/// What the closing writer is woken with.
struct Nothing;

#[async_trait]
impl Write for Nothing {
    type Reply = ();

    async fn execute(batch: &[&Self], _connection: &mut SqliteConnection) -> Result<Vec<()>, Error> {
        Ok(vec![(); batch.len()])
    }
}

/// The writing side.
struct Work {
    connection: SqliteConnection,
    waiting: mpsc::Receiver<Box<dyn Group>>,
    closing: Arc<AtomicBool>,
    counts: Arc<Counts>,
    /// The connection's count of changed rows after the last transaction.
    changes: u64,
}

impl Work {
    async fn run(mut self, batch_max: usize) {
        let mut taken = Vec::with_capacity(batch_max);
        loop {
            if self.closing.load(Ordering::Acquire) {
                self.waiting.close();
            }
            if self.waiting.recv_many(&mut taken, batch_max).await == 0 {
                break;
            }
            self.batch(grouped(&mut taken)).await;
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "closing the database failed; the log is folded in at the next start");
        }
    }

    async fn batch(&mut self, mut groups: Vec<Box<dyn Group>>) {
        let operations: usize = groups.iter().map(|group| group.len()).sum();
        if operations == 0 {
            return;
        }
        match self.transaction(&mut groups).await {
            Ok(rows) => {
                self.count(operations, rows);
                settle(groups, &Ok(()));
            }
            Err(Error::Statement(_)) if operations > 1 => self.one_by_one(groups).await,
            Err(error) => {
                tracing::error!(%error, operations, "a transaction was refused");
                settle(groups, &Err(error));
            }
        }
    }

    async fn one_by_one(&mut self, groups: Vec<Box<dyn Group>>) {
        for single in groups.into_iter().flat_map(Group::split) {
            let mut alone = vec![single];
            let result = self.transaction(&mut alone).await;
            match &result {
                Ok(rows) => self.count(1, *rows),
                Err(error) => tracing::error!(%error, "a write was refused"),
            }
            settle(alone, &result.map(drop));
        }
    }

    /// Runs the groups in one transaction; answers the rows written.
    async fn transaction(&mut self, groups: &mut [Box<dyn Group>]) -> Result<u64, Error> {
        match self.attempt(groups).await {
            Ok(()) => {
                // What is committed is committed, whether or not its rows can be counted: an error here would have the
                // caller write it a second time.
                let now = sqlx::query_scalar::<_, i64>("select total_changes()").fetch_one(&mut self.connection).await;
                let now = now.map_or(self.changes, i64::unsigned_abs);
                let before = std::mem::replace(&mut self.changes, now);
                Ok(self.changes.saturating_sub(before))
            }
            Err(error) => {
                // SQLite has rolled back by itself after some errors (a full disk, for one), and says so here: it is the
                // reason why the transaction is spelled out instead of being left to sqlx, which would count it as open.
                sqlx::query("rollback").execute(&mut self.connection).await.ok();
                Err(error)
            }
        }
    }

    async fn attempt(&mut self, groups: &mut [Box<dyn Group>]) -> Result<(), Error> {
        sqlx::query("begin immediate").execute(&mut self.connection).await?;
        for group in groups {
            group.execute(&mut self.connection).await?;
        }
        sqlx::query("commit").execute(&mut self.connection).await?;
        Ok(())
    }

    fn count(&self, operations: usize, rows: u64) {
        self.counts.transactions.fetch_add(1, Ordering::Relaxed);
        self.counts.operations.fetch_add(operations as u64, Ordering::Relaxed);
        self.counts.rows.fetch_add(rows, Ordering::Relaxed);
    }
}

/// Merges what was taken into one group a kind, in the order in which the kinds first came.
fn grouped(taken: &mut Vec<Box<dyn Group>>) -> Vec<Box<dyn Group>> {
    let mut groups: Vec<Box<dyn Group>> = Vec::with_capacity(8);
    for job in taken.drain(..) {
        match groups.iter_mut().find(|group| group.kind() == job.kind()) {
            Some(group) => drop(group.absorb(job)),
            None => groups.push(job),
        }
    }
    groups
}

fn settle(groups: Vec<Box<dyn Group>>, result: &Result<(), Error>) {
    for group in groups {
        group.settle(result.clone());
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::sqlite::Database;

    /// Inserts a node; the name `bad` breaks the whole statement.
    struct Insert(String);

    #[async_trait]
    impl Write for Insert {
        type Reply = usize;

        async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<usize>, Error> {
            for insert in batch {
                let incarnation = if insert.0 == "bad" { None } else { Some(1_i64) };
                sqlx::query("insert into nodes values ($1, $2, 0)")
                    .bind(&insert.0)
                    .bind(incarnation)
                    .execute(&mut *connection)
                    .await?;
            }
            Ok(vec![batch.len(); batch.len()])
        }
    }

    async fn names(db: &Database) -> Vec<String> {
        sqlx::query_scalar("select name from nodes order by name").fetch_all(db.readers()).await.unwrap()
    }

    #[tokio::test]
    async fn what_waits_shares_a_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), &Options::default()).await.unwrap();
        let inserts = (0..100).map(|n| db.writer().submit(Insert(format!("n{n:03}"))));
        let sizes: Vec<usize> = join_all(inserts).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(names(&db).await.len(), 100);
        let written = db.writer().written();
        assert_eq!((written.operations, written.rows), (100, 100));
        assert!(written.transactions < 10, "{written:?}");
        assert!(sizes.iter().any(|size| *size > 10), "{sizes:?}");
    }

    #[tokio::test]
    async fn a_bad_write_fails_alone() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), &Options::default()).await.unwrap();
        let inserts = ["a", "bad", "b"].map(|name| db.writer().submit(Insert(name.to_owned())));
        let results = join_all(inserts).await;
        assert!(results[0].is_ok() && results[2].is_ok());
        assert!(matches!(results[1], Err(Error::Statement(_))));
        assert_eq!(names(&db).await, ["a", "b"]);
    }

    /// Lets the file have no more than this many pages: what a full disk is to SQLite.
    struct Pages(u32);

    #[async_trait]
    impl Write for Pages {
        type Reply = ();

        async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, Error> {
            for pages in batch {
                let pragma = format!("pragma max_page_count = {}", pages.0);
                sqlx::query(sqlx::AssertSqlSafe(pragma)).execute(&mut *connection).await?;
            }
            Ok(vec![(); batch.len()])
        }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_writes_until_there_is_room_again() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), &Options::default()).await.unwrap();
        let large = |n: u32| Insert(format!("{n} {}", "x".repeat(9_000)));
        db.writer().submit(Insert("kept".into())).await.unwrap();
        // A number below the present size means the present size.
        db.writer().submit(Pages(1)).await.unwrap();
        for n in 0..3 {
            let refused = db.writer().submit(large(n)).await;
            assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
        }
        db.writer().submit(Pages(1_000_000)).await.unwrap();
        db.writer().submit(large(3)).await.unwrap();
        let names = names(&db).await;
        assert_eq!((names.len(), names[1].as_str()), (2, "kept"));
    }

    #[tokio::test]
    async fn closing_commits_what_waits_and_refuses_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), &Options::default()).await.unwrap();
        let (inserted, ()) = tokio::join!(db.writer().submit(Insert("last".into())), db.close());
        inserted.unwrap();
        assert!(matches!(db.writer().submit(Insert("late".into())).await, Err(Error::Closed)));
        drop(db);
        let db = Database::open(dir.path(), &Options::default()).await.unwrap();
        assert_eq!(names(&db).await, ["last"]);
    }
}
