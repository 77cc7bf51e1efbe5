//! Group commit into the node's file: one connection writes, and whatever waits goes into one transaction.
//!
//! Operations of one kind in a batch are executed together, by statements that carry many rows (`json_each`): sqlx
//! hands every statement to a thread of its own, and row by row that hand-over is the cost.
//!
//! ```text
//! submit ─► queue (bounded) ─► [op op op …] ─► BEGIN · kind A: n rows · kind B: m rows · COMMIT ─► replies
//!                              [op] of one statement ─► that statement, which commits itself ─► its reply
//! ```
//!
//! A lonely write needs no hand-over for the beginning and none for the end: it is one statement, or it goes as one text.
//!
//! When a batch fails for a reason of its own (not a full disk), every operation is tried once more in a transaction
//! of its own, so that one bad operation fails alone. The queue is [`crate::group_commit`]'s. Who calls:
//! `store/sqlite` and `bus/embedded`.

use async_trait::async_trait;
use futures::TryStreamExt as _;
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::{Error, Options};
pub use crate::group_commit::Written;
use crate::group_commit::{Batch, Intake, Operation, Queue, Session};

/// One kind of write.
#[async_trait]
pub trait Write: Send + Sync + Sized + 'static {
    /// What the caller gets after the commit.
    type Reply: Send + 'static;

    /// How many rows this write changes, unless it is refused, if it can go in one hand-over to SQLite's thread when nothing
    /// else is in its batch: [`Write::execute_alone`].
    fn rows_alone(&self) -> Option<u64> {
        None
    }

    /// Executes all of `batch`, in order, inside the open transaction, and answers each in place.
    ///
    /// Must be repeatable: after a failed batch the operations run again one by one.
    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Self::Reply>, Error>;

    /// Executes this one in one go, as the statement or the [`alone!`] transaction that it is. `None`: it changed nothing,
    /// and it is for [`Write::execute`] to say why.
    async fn execute_alone(&self, connection: &mut SqliteConnection) -> Result<Option<Self::Reply>, Error> {
        Ok(Self::execute(&[self], connection).await?.pop())
    }
}

/// Statements that are a transaction of their own in one hand-over; its only row says how many rows the last one wrote, and the
/// number of the last row inserted.
macro_rules! alone {
    ($($statement:expr),+) => {
        concat!("begin immediate; ", $($statement, "; ",)+ "commit; select changes(), last_insert_rowid()")
    };
}
pub(crate) use alone;

/// The queue to the one writing connection. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    queue: Queue<SqliteConnection>,
}

impl Writer {
    /// Starts the writer on its connection; it ends when [`Writer::close`] is called or every handle is gone.
    pub(super) fn start(connection: SqliteConnection, options: &Options) -> Self {
        let work = |intake| Work { connection, intake, changes: 0 }.run();
        Self { queue: Queue::start(options.writer_queue_max, options.batch_max, work) }
    }

    /// Performs one write and returns once it is durable.
    ///
    /// Cancelling the caller does not undo the write: it may or may not be committed.
    ///
    /// # Errors
    /// [`Error`] when the write was not committed; [`Error::Closed`] once the writer is closed.
    pub async fn submit<W: Write>(&self, operation: W) -> Result<W::Reply, Error> {
        self.queue.submit(operation).await
    }

    /// What has been written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        self.queue.written()
    }

    /// Has `told` hear the number of writes in every transaction from now on; the first one that asks is told.
    pub fn on_commit(&self, told: impl Fn(usize) + Send + Sync + 'static) {
        self.queue.on_commit(told);
    }

    /// Operations that wait for the next transaction.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.queue.depth()
    }

    /// Commits what waits, then closes the connection.
    pub(super) async fn close(&self) {
        self.queue.close().await;
    }
}

impl Session for SqliteConnection {
    type Error = Error;

    fn closed() -> Error {
        Error::Closed
    }

    fn miscounted(kind: &'static str) -> Error {
        Error::Statement(format!("{kind} answered the wrong number of writes"))
    }
}

#[async_trait]
impl<W: Write> Operation<SqliteConnection> for W {
    type Reply = W::Reply;

    fn rows_alone(&self) -> Option<u64> {
        <W as Write>::rows_alone(self)
    }

    async fn execute(batch: &[&Self], session: &mut SqliteConnection) -> Result<Vec<W::Reply>, Error> {
        <W as Write>::execute(batch, session).await
    }

    async fn execute_alone(&self, session: &mut SqliteConnection) -> Result<Option<W::Reply>, Error> {
        <W as Write>::execute_alone(self, session).await
    }
}

/// The writing side.
struct Work {
    connection: SqliteConnection,
    intake: Intake<SqliteConnection>,
    /// The connection's count of changed rows after the last transaction.
    changes: u64,
}

impl Work {
    async fn run(mut self) {
        while let Some(batch) = self.intake.next().await {
            self.batch(batch).await;
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "closing the database failed; the log is folded in at the next start");
        }
    }

    async fn batch(&mut self, mut batch: Batch<SqliteConnection>) {
        let operations = batch.len();
        match self.transaction(&mut batch).await {
            Ok(rows) => {
                self.intake.count(operations, rows);
                batch.settle(&Ok(()));
            }
            Err(Error::Statement(_)) if operations > 1 => self.one_by_one(batch).await,
            Err(error) => {
                tracing::error!(%error, operations, "a transaction was refused");
                batch.settle(&Err(error));
            }
        }
    }

    async fn one_by_one(&mut self, batch: Batch<SqliteConnection>) {
        for mut alone in batch.split() {
            let result = self.transaction(&mut alone).await;
            match &result {
                Ok(rows) => self.intake.count(1, *rows),
                Err(error) => tracing::error!(%error, "a write was refused"),
            }
            alone.settle(&result.map(drop));
        }
    }

    /// Runs the batch in one transaction; answers the rows written.
    async fn transaction(&mut self, batch: &mut Batch<SqliteConnection>) -> Result<u64, Error> {
        match self.attempt(batch).await {
            Ok(changes) => {
                let before = self.changes;
                self.changes = changes.unwrap_or(before);
                Ok(self.changes.saturating_sub(before))
            }
            Err(error) => {
                // SQLite has rolled back by itself after some errors (a full disk, for one), and says so here: it is the
                // reason why the transaction is spelled out instead of being left to sqlx, which would count it as open.
                sqlx::query("rollback").execute(&mut self.connection).await.ok();
                // What was undone stays in SQLite's count.
                let counted = sqlx::query_scalar("select total_changes()").fetch_one(&mut self.connection).await;
                self.changes = counted.map_or(self.changes, i64::unsigned_abs);
                Err(error)
            }
        }
    }

    /// Answers how many rows the connection has changed since it was opened, if it says so.
    async fn attempt(&mut self, batch: &mut Batch<SqliteConnection>) -> Result<Option<u64>, Error> {
        if let Some(rows) = batch.rows_alone()
            && batch.execute_alone(&mut self.connection).await?
        {
            return Ok(Some(self.changes + rows));
        }
        sqlx::query("begin immediate").execute(&mut self.connection).await?;
        batch.execute(&mut self.connection).await?;
        // Together, for one hand-over. The first answer is the commit's. What is committed is committed, whether or not
        // its rows can be counted: an error for that would have the caller write it a second time.
        let mut answers = sqlx::raw_sql("commit; select total_changes()").fetch_many(&mut self.connection);
        answers.try_next().await?;
        let mut changes = None;
        while let Ok(Some(answer)) = answers.try_next().await {
            changes = answer.right().and_then(|row| row.try_get::<i64, _>(0).ok()).map(i64::unsigned_abs).or(changes);
        }
        Ok(changes)
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
                let next = "insert into nodes (name, incarnation, started_at) \
                            select $1, coalesce(max(incarnation), 0) + 1, 0 from nodes";
                let insert = if insert.0 == "bad" {
                    sqlx::query("insert into nodes (name, started_at) values ('bad', 0)")
                } else {
                    sqlx::query(next).bind(insert.0.clone())
                };
                insert.execute(&mut *connection).await?;
            }
            Ok(vec![batch.len(); batch.len()])
        }
    }

    /// Inserts a node, unless there is one of that name, by one statement.
    struct Single(&'static str);

    #[async_trait]
    impl Write for Single {
        /// Whether a transaction was open around the statement.
        type Reply = bool;

        fn rows_alone(&self) -> Option<u64> {
            Some(1)
        }

        async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<bool>, Error> {
            for single in batch {
                let insert = "insert into nodes (name, incarnation, started_at) \
                              select $1, (select count(*) + 1 from nodes), 0 \
                              where not exists (select 1 from nodes where name = $1)";
                sqlx::query(insert).bind(single.0).execute(&mut *connection).await?;
            }
            // SQLite refuses to begin a transaction within one.
            let open = sqlx::query("begin").execute(&mut *connection).await.is_err();
            if !open {
                sqlx::query("rollback").execute(&mut *connection).await?;
            }
            Ok(vec![open; batch.len()])
        }
    }

    #[tokio::test]
    async fn a_lonely_write_of_one_statement_commits_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), &Options::default()).await.unwrap();
        assert!(!db.writer().submit(Single("alone")).await.unwrap());
        let written = db.writer().written();
        assert_eq!((written.transactions, written.operations, written.rows), (1, 1, 1));
        // It is there already: nothing is written, and the next transaction's count says so.
        assert!(!db.writer().submit(Single("alone")).await.unwrap());
        db.writer().submit(Insert("in a transaction".into())).await.unwrap();
        let written = db.writer().written();
        assert_eq!((written.transactions, written.operations, written.rows), (3, 3, 2));

        let (one, other) = tokio::join!(db.writer().submit(Single("one")), db.writer().submit(Single("other")));
        // The writer has its turn when both wait: they share a transaction.
        assert!(one.unwrap() && other.unwrap());
        assert_eq!(db.writer().written().transactions, 4);
        assert_eq!(names(&db).await, ["alone", "in a transaction", "one", "other"]);
    }

    /// Two rows in one go; the name `bad` breaks the second of them.
    struct Pair(&'static str);

    #[async_trait]
    impl Write for Pair {
        type Reply = bool;

        fn rows_alone(&self) -> Option<u64> {
            Some(2)
        }

        async fn execute(batch: &[&Self], _connection: &mut SqliteConnection) -> Result<Vec<bool>, Error> {
            Ok(vec![false; batch.len()])
        }

        async fn execute_alone(&self, connection: &mut SqliteConnection) -> Result<Option<bool>, Error> {
            let pair = alone!(
                "insert into nodes (name, incarnation, started_at) select $1, 1 + count(*), 0 from nodes where true \
                 on conflict do nothing",
                "insert into nodes (name, incarnation, started_at) select $1 || 2, 1 + count(*), nullif($1, 'bad') || 0 \
                 from nodes having changes() > 0"
            );
            let second: i64 = sqlx::query_scalar(pair).bind(self.0).fetch_one(connection).await?;
            Ok((second == 1).then_some(true))
        }
    }

    #[tokio::test]
    async fn a_lonely_transaction_is_whole_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), &Options::default()).await.unwrap();
        let refused = db.writer().submit(Pair("bad")).await;
        assert!(matches!(refused, Err(Error::Statement(_))), "{refused:?}");
        assert!(names(&db).await.is_empty());
        assert!(db.writer().submit(Pair("0")).await.unwrap());
        // It is there already: the ordinary way is asked.
        assert!(!db.writer().submit(Pair("0")).await.unwrap());
        assert_eq!(names(&db).await, ["0", "02"]);
        let written = db.writer().written();
        assert_eq!((written.transactions, written.operations, written.rows), (2, 2, 2));
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
