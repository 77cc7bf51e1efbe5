//! The writing connection: how a transaction begins on it, what is done in it, and how it ends.
//!
//! ```text
//! BEGIN, its number, how the lease stands ─► statements ─► what was left for it, COMMIT ─┬─► somebody waits: the next one's BEGIN
//!                                                                                        └─► nobody: nothing is open
//! ```
//!
//! A transaction whose successor is wanted already begins it in the same way there and back ([`Session::commit`]), so a busy writer goes
//! three ways a transaction and not four; nothing is left open that nobody uses. Owned by the [writer](super::writer), which says what
//! is done about a failure; lent to the operations of the store, which write with it.

use std::time::Duration;

use futures::StreamExt as _;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Either, Postgres, Row as _};
use tokio::time::timeout;

use super::Error;
use crate::group_commit;

/// The transaction's number, and how the lease of a node stands. Prepared by name, for a query that begins a transaction with it: planned for each
/// of them it would take as long as the rest of the query.
const PREPARE: &str = "\
    prepare troupe_begin (bigint) as \
    select pg_current_xact_id()::text, \
           (select case when ended_at is not null then 'over' when lease_until <= clock_timestamp() then 'run out' else 'held' end \
            from nodes where incarnation = $1)";
/// Who has not begun to live yet; the server counts from 1.
pub(super) const NOBODY: i64 = 0;

/// The writing connection inside an open transaction; counts the rows that it writes.
pub struct Session {
    connection: PgConnection,
    /// [`PREPARE`] was sent.
    is_prepared: bool,
    rows: u64,
    /// What goes with the commit; each ends in a semicolon.
    last: String,
    /// How many these are.
    last_statements: usize,
    /// What was begun with the last commit, or why it was not.
    next: Option<Result<Begun, Error>>,
    life: i64,
    in_doubt: bool,
}

/// A transaction that has begun.
pub(super) struct Begun {
    /// By this the server knows what became of it.
    number: String,
    /// Whose lease was looked at.
    life: i64,
    /// Whether it is held, by the server's clock.
    pub(super) lease: Result<(), Error>,
}

/// How a transaction did not end well.
pub(super) enum Failure {
    /// It left nothing behind.
    Refused(Error),
    /// Its commit was sent, and not answered.
    Doubt { number: String, rows: u64, cause: Error },
}

/// A statement with its arguments; texts may be borrowed, they are copied into what is sent.
pub type Statement<'q> = Query<'q, Postgres, PgArguments>;

impl group_commit::Session for Session {
    type Error = Error;

    fn closed() -> Error {
        Error::Closed
    }

    fn miscounted(kind: &'static str) -> Error {
        Error::Statement(format!("{kind} answered the wrong number of writes"))
    }
}

impl Session {
    pub(super) const fn new(connection: PgConnection) -> Self {
        Self {
            connection,
            is_prepared: false,
            rows: 0,
            last: String::new(),
            last_statements: 0,
            next: None,
            life: NOBODY,
            in_doubt: false,
        }
    }

    /// The incarnation whose lease a statement of its own has to look at
    /// ([`Operation::execute_alone`](group_commit::Operation::execute_alone)).
    #[must_use]
    pub const fn life(&self) -> i64 {
        self.life
    }

    /// From now on these are a statement's of its own.
    pub(super) const fn lives_as(&mut self, life: i64) {
        self.life = life;
    }

    /// Whether the one operation of this transaction was sent as a statement of its own before and not answered: what it
    /// finds in its place may be its own.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    pub(super) const fn set_in_doubt(&mut self, in_doubt: bool) {
        self.in_doubt = in_doubt;
    }

    /// Runs a statement that writes and answers nothing.
    pub async fn write(&mut self, statement: Statement<'_>) -> Result<(), Error> {
        self.changing(statement).await.map(drop)
    }

    /// Runs a statement that writes; answers how many rows.
    pub async fn changing(&mut self, statement: Statement<'_>) -> Result<u64, Error> {
        let rows = statement.execute(&mut self.connection).await?.rows_affected();
        self.rows += rows;
        Ok(rows)
    }

    /// Runs a statement that writes; each row that it returns is a row that it wrote.
    pub async fn returning(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Error> {
        self.returning_one_for(1, statement).await
    }

    /// Runs a statement that writes and tells in one row what became of all of it, where a row for each would be read one by one. How
    /// many were written is [noted](Self::wrote) by whoever has read it.
    pub async fn gathering(&mut self, statement: Statement<'_>) -> Result<PgRow, Error> {
        Ok(statement.fetch_one(&mut self.connection).await?)
    }

    /// So many rows were written.
    pub const fn wrote(&mut self, rows: u64) {
        self.rows += rows;
    }

    /// Runs a statement that writes; each row that it returns stands for so many that it wrote.
    pub async fn returning_one_for(&mut self, written: u64, statement: Statement<'_>) -> Result<Vec<PgRow>, Error> {
        let rows = statement.fetch_all(&mut self.connection).await?;
        self.rows += written * rows.len() as u64;
        Ok(rows)
    }

    /// Leaves one statement for the commit, which goes with it in one way there and back: it has no arguments, and nobody waits
    /// for what it answers. The rows that it writes are counted.
    pub fn write_last(&mut self, statement: &str) {
        self.last.push_str(statement);
        self.last.push(';');
        self.last_statements += 1;
    }

    /// Runs a statement that reads, or only locks.
    pub async fn read(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, Error> {
        Ok(statement.fetch_all(&mut self.connection).await?)
    }

    /// Whether a transaction is open already, so that no statement would commit itself.
    pub(super) const fn has_begun(&self) -> bool {
        self.next.is_some()
    }

    /// A transaction that is open, and how the lease of the node stands that lives as `life`: the one that was begun with the last commit, or
    /// a new one.
    pub(super) async fn begin(&mut self, life: i64, limit: Duration) -> Result<Begun, Error> {
        self.rows = 0;
        self.last.clear();
        self.last_statements = 0;
        if let Some(begun) = self.next.take() {
            let begun = begun?;
            if begun.life == life {
                return Ok(begun);
            }
            // Another life's lease was looked at.
            timed(limit, sqlx::raw_sql("rollback").execute(&mut self.connection)).await?;
        }
        if !self.is_prepared {
            timed(limit, sqlx::raw_sql(PREPARE).execute(&mut self.connection)).await?;
            self.is_prepared = true;
        }
        let question = sqlx::raw_sql(AssertSqlSafe(beginning(life)));
        Begun::read(&timed(limit, question.fetch_one(&mut self.connection)).await?, life)
    }

    /// Commits the transaction, and with `and_next` begins another one, which is to be used at once; answers the rows written.
    pub(super) async fn commit(&mut self, of: Begun, and_next: bool, limit: Duration) -> Result<u64, Failure> {
        let Begun { number, life, .. } = of;
        let (mut question, before) = (std::mem::take(&mut self.last), self.last_statements);
        question.push_str("commit;");
        if and_next {
            question.push_str(&beginning(life));
        }
        let (mut done, mut rows, mut next) = (0, self.rows, None);
        let asked = async {
            let mut answers = sqlx::raw_sql(AssertSqlSafe(question)).fetch_many(&mut self.connection);
            while let Some(answer) = answers.next().await {
                match answer? {
                    Either::Left(statement) => {
                        if done < before {
                            rows += statement.rows_affected();
                        }
                        done += 1;
                    }
                    Either::Right(row) => next = Some(Begun::read(&row, life)),
                }
            }
            Ok(())
        };
        let answered = timed(limit, asked).await;
        // The server has said so, whatever became of what comes after it.
        if done > before {
            let nothing = || Err(Error::Statement("the server does not say what it has begun".to_owned()));
            self.next = and_next.then(|| answered.and_then(|()| next.unwrap_or_else(nothing)));
            return Ok(rows);
        }
        match answered {
            // The server says no to what went with the commit: it did not come to that.
            Err(refusal @ (Error::Statement(_) | Error::Collided(_) | Error::Corrupt(_))) => {
                Err(Failure::Refused(refusal))
            }
            Err(cause) => Err(Failure::Doubt { number, rows: self.rows, cause }),
            Ok(()) => {
                let cause = Error::Unavailable("the server says nothing of a commit".to_owned());
                Err(Failure::Doubt { number, rows: self.rows, cause })
            }
        }
    }

    /// Whether the connection can be used again.
    pub(super) async fn rolled_back(&mut self, limit: Duration) -> bool {
        timed(limit, sqlx::raw_sql("rollback").fetch_all(&mut self.connection)).await.is_ok()
    }

    /// What became of the transaction of this number; `None` when the server has forgotten it.
    pub(super) async fn status(&mut self, number: &str, limit: Duration) -> Result<Option<String>, Error> {
        const STATUS: &str = "select pg_xact_status($1::text::xid8)";
        let asked = sqlx::query_scalar(STATUS).bind(number.to_owned()).fetch_one(&mut self.connection);
        timed(limit, asked).await
    }

    /// Takes leave of the server.
    pub(super) async fn close(self) -> Result<(), Error> {
        Ok(self.connection.close().await?)
    }
}

impl Begun {
    fn read(row: &PgRow, life: i64) -> Result<Self, Error> {
        let lease = match row.try_get::<Option<&str>, _>(1)? {
            // Who has not begun to live has none.
            _ if life == NOBODY => Ok(()),
            Some("held") => Ok(()),
            Some("run out") => Err(Error::Lapsed),
            // Without a row the name is another incarnation's.
            _ => Err(Error::Over),
        };
        Ok(Self { number: row.try_get(0)?, life, lease })
    }
}

fn beginning(life: i64) -> String {
    format!("begin isolation level read committed;execute troupe_begin({life})")
}

async fn timed<T>(limit: Duration, question: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    match timeout(limit, question).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(silent(limit)),
    }
}

pub(super) fn silent(limit: Duration) -> Error {
    Error::Unavailable(format!("no answer within {limit:?}"))
}
