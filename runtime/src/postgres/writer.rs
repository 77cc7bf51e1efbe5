//! Group commit into PostgreSQL: one connection a node writes, and whatever waits goes into one transaction.
//!
//! ```text
//! BEGIN, and its number ─► kind A: n rows ─► kind B: m rows ─► what was left for it, COMMIT ─► replies
//!                      refused │                        no answer │
//!              each once more, alone            asked by its number: committed ─► replies, aborted ─► refused
//!
//! one write, one statement ─► that statement, which commits itself ─► its reply
//!             changed nothing, or not answered │
//!                                  as above, and what is found there may be what was sent
//! ```
//!
//! A commit that is not answered is not guessed about: the transaction's number is known, and the server says what
//! became of it (`pg_xact_status`) as soon as it can be asked again. So a caller that hears of a failure may repeat,
//! and nothing is written twice. Only when the server stays away for longer than the limit, the answer is that nobody
//! knows. A server that is away refuses at once between two tries to reach it; the tries back off.
//!
//! **The fence.** Once the node lives ([`Writer::lives_as`]) the answer to BEGIN says how its lease stands, by the
//! server's clock and without another way there and back. Operations that are under the lease are refused when it has
//! run out or was ended; the others (renewing it, for one) go on in the same transaction.
//!
//! The queue is [`crate::group_commit`]'s; how a transaction begins and ends on the connection is [`super::session`]'s. Who calls: `store/postgres`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::session::{Failure, NOBODY, Session, silent};
use super::{Error, Options, connected};
pub use crate::group_commit::Written;
use crate::group_commit::{Batch, Intake, Operation, Queue};

/// First wait before the server is tried again; doubles.
const BACKOFF_BASE: Duration = Duration::from_millis(50);
/// No wait is longer.
const BACKOFF_CAP: Duration = Duration::from_secs(1);
/// Times that a transaction is begun again because another one won.
const COLLISIONS_MAX: u32 = 5;

/// The queue to the one writing connection. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    queue: Queue<Session>,
    /// The incarnation of the node, or [`NOBODY`].
    life: Arc<AtomicI64>,
}

impl Writer {
    pub(super) fn start(connection: PgConnection, connect: PgConnectOptions, options: &Options) -> Self {
        let session = Some(Session::new(connection));
        let life = Arc::new(AtomicI64::new(NOBODY));
        let (settings, of_node) = (options.clone(), life.clone());
        let work = |intake| {
            let (wait, next_try) = (BACKOFF_BASE, Instant::now());
            let patience = Box::pin(sleep_until(next_try));
            Work { session, connect, options: settings, life: of_node, intake, wait, next_try, patience }.run()
        };
        Self { queue: Queue::start(options.writer_queue_max, options.batch_max, work), life }
    }

    /// The node that writes here lives as this incarnation from now on: its lease is looked at with every transaction.
    pub fn lives_as(&self, incarnation: i64) {
        self.life.store(incarnation, Ordering::Release);
    }

    /// Performs one write and returns once it is durable.
    ///
    /// Cancelling the caller does not undo the write: it may or may not be committed.
    ///
    /// # Errors
    /// [`Error`] when the write was not committed; [`Error::Closed`] once the writer is closed.
    pub async fn submit<W: Operation<Session>>(&self, operation: W) -> Result<W::Reply, Error> {
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

    pub(super) async fn close(&self) {
        self.queue.close().await;
    }
}

/// The writing side.
struct Work {
    /// Nothing while the server is away.
    session: Option<Session>,
    connect: PgConnectOptions,
    options: Options,
    life: Arc<AtomicI64>,
    intake: Intake<Session>,
    /// The next wait, when the next try fails too.
    wait: Duration,
    /// The server is not tried before.
    next_try: Instant,
    /// How long a write that is alone is waited for. One timer for all of them: a new one would wake the runtime's clock each
    /// time, and one that is put off does not.
    patience: Pin<Box<Sleep>>,
}

impl Work {
    async fn run(mut self) {
        while let Some(batch) = self.intake.next().await {
            self.batch(batch).await;
        }
        if let Some(session) = self.session
            && let Err(error) = session.close().await
        {
            tracing::debug!(%error, "the database did not take leave");
        }
    }

    async fn batch(&mut self, mut batch: Batch<Session>) {
        let operations = batch.len();
        match self.transaction(&mut batch).await {
            Err(Error::Statement(_) | Error::Collided(_)) if operations > 1 => {
                for mut alone in batch.split() {
                    let result = self.transaction(&mut alone).await;
                    self.end(alone, result);
                }
            }
            result => self.end(batch, result),
        }
    }

    fn end(&self, batch: Batch<Session>, result: Result<u64, Error>) {
        match &result {
            Ok(rows) => self.intake.count(batch.len(), *rows),
            // Said already, with those that it held.
            Err(Error::Lapsed | Error::Over) => {}
            // Said once, when the server was tried; whoever waits for it comes here again and again.
            Err(error) if self.is_away() => tracing::debug!(%error, operations = batch.len(), "writes wait"),
            Err(error) => tracing::error!(%error, operations = batch.len(), "a transaction was refused"),
        }
        batch.settle(&result.map(drop));
    }

    /// Runs the batch, the short way if it can go that way; answers the rows written.
    async fn transaction(&mut self, batch: &mut Batch<Session>) -> Result<u64, Error> {
        let life = self.life.load(Ordering::Acquire);
        let has_begun = self.session.as_ref().is_some_and(Session::has_begun);
        let Some(rows) = batch.rows_alone().filter(|_| life != NOBODY && !has_begun) else {
            return self.ordinary(batch, false).await;
        };
        let mut session = self.session().await?;
        session.lives_as(life);
        let limit = self.options.answer_timeout;
        self.patience.as_mut().reset(Instant::now() + limit);
        let written = tokio::select! {
            biased;
            written = batch.execute_alone(&mut session) => written,
            () = self.patience.as_mut() => Err(silent(limit)),
        };
        let cause = match written {
            Ok(true) => {
                self.session = Some(session);
                return Ok(rows);
            }
            Err(cause @ (Error::Unavailable(_) | Error::Closed)) => cause,
            // It changed nothing, or was refused: that is an answer. The ordinary way says why.
            Ok(false) | Err(_) => {
                self.session = Some(session);
                return self.ordinary(batch, false).await;
            }
        };
        // The connection goes, whatever it still has to say; a late answer must not meet the next question.
        drop(session);
        tracing::warn!(%cause, "a write was not answered; it is made again, or found");
        self.found(batch, &cause).await
    }

    /// Executes once more what was sent alone and not answered. If it has come through, or is still on its way, it takes
    /// the place that this one wants: either this finds its predecessor there, or the late one finds this.
    async fn found(&mut self, batch: &mut Batch<Session>, cause: &Error) -> Result<u64, Error> {
        let until = Instant::now() + self.options.doubt_timeout;
        let mut wait = BACKOFF_BASE;
        loop {
            match self.ordinary(batch, true).await {
                Err(error @ (Error::Unavailable(_) | Error::Collided(_))) => {
                    if Instant::now() + wait >= until {
                        tracing::error!(%error, "it stays unknown whether a write was committed");
                        return Err(Error::Unavailable(format!("{cause}; it is not known whether it was committed")));
                    }
                }
                result => return result,
            }
            sleep_until((Instant::now() + wait).max(self.next_try)).await;
            wait = (wait * 2).min(BACKOFF_CAP);
        }
    }

    /// Runs the batch in one transaction; answers the rows written.
    async fn ordinary(&mut self, batch: &mut Batch<Session>, in_doubt: bool) -> Result<u64, Error> {
        let mut collisions = 0;
        loop {
            let mut session = self.session().await?;
            let life = self.life.load(Ordering::Acquire);
            session.set_in_doubt(in_doubt);
            let failure = match self.attempt(&mut session, life, batch).await {
                Ok(rows) => {
                    self.session = Some(session);
                    return Ok(rows);
                }
                Err(failure) => failure,
            };
            match failure {
                Failure::Doubt { number, rows, cause } => {
                    // The connection goes, whatever it still has to say; a late answer must not meet the next question.
                    drop(session);
                    return self.resolve(&number, &cause).await.map(|()| rows);
                }
                Failure::Refused(error) => {
                    let kept = !matches!(error, Error::Unavailable(_) | Error::Closed);
                    if kept && session.rolled_back(self.options.answer_timeout).await {
                        self.session = Some(session);
                    }
                    collisions += 1;
                    if !matches!(error, Error::Collided(_)) || collisions > COLLISIONS_MAX {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The connection, or a new one in its place.
    async fn session(&mut self) -> Result<Session, Error> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        if self.is_away() {
            return Err(Error::Unavailable("it was away a moment ago, and is tried again soon".to_owned()));
        }
        match connected(&self.connect, &self.options).await {
            Ok(connection) => {
                self.wait = BACKOFF_BASE;
                Ok(Session::new(connection))
            }
            Err(error) => {
                tracing::error!(%error, again_in = ?self.wait, "the database is away");
                self.next_try = Instant::now() + self.wait;
                self.wait = (self.wait * 2).min(BACKOFF_CAP);
                Err(Error::Unavailable(error.to_string()))
            }
        }
    }

    /// It was tried a moment ago, in vain.
    fn is_away(&self) -> bool {
        self.session.is_none() && Instant::now() < self.next_try
    }

    /// Asks what became of a transaction: it is committed, or it is refused.
    async fn resolve(&mut self, number: &str, cause: &Error) -> Result<(), Error> {
        tracing::warn!(%cause, transaction = number, "a commit was not answered; the server is asked about it");
        let until = Instant::now() + self.options.doubt_timeout;
        let mut wait = BACKOFF_BASE;
        loop {
            match self.status(number).await {
                Ok(Some(status)) if status == "committed" => return Ok(()),
                Ok(Some(status)) if status == "aborted" => {
                    return Err(Error::Unavailable(format!("{cause}; the transaction was rolled back")));
                }
                // Its old backend has not noticed yet.
                Ok(Some(_)) | Err(Error::Unavailable(_)) => {}
                Ok(None) => {
                    tracing::error!(transaction = number, "the server has forgotten the transaction");
                    return Err(Error::Unavailable(format!("{cause}; it is not known whether it was committed")));
                }
                Err(error) => {
                    tracing::error!(%error, transaction = number, "the server does not know the transaction");
                    return Err(Error::Unavailable(format!("{cause}; it is not known whether it was committed")));
                }
            }
            if Instant::now() + wait >= until {
                tracing::error!(transaction = number, "it stays unknown whether a transaction was committed");
                return Err(Error::Unavailable(format!("{cause}; it is not known whether it was committed")));
            }
            sleep_until((Instant::now() + wait).max(self.next_try)).await;
            wait = (wait * 2).min(BACKOFF_CAP);
        }
    }

    async fn status(&mut self, number: &str) -> Result<Option<String>, Error> {
        let mut session = self.session().await?;
        let status = session.status(number, self.options.answer_timeout).await?;
        self.session = Some(session);
        Ok(status)
    }

    /// The course of one transaction; answers the rows written.
    async fn attempt(&mut self, session: &mut Session, life: i64, batch: &mut Batch<Session>) -> Result<u64, Failure> {
        let limit = self.options.answer_timeout;
        let begun = session.begin(life, limit).await.map_err(Failure::Refused)?;
        if let Err(error) = &begun.lease {
            let refused = batch.split_leased();
            if !refused.is_empty() {
                tracing::warn!(%error, operations = refused.len(), "writes were refused");
                refused.settle(&begun.lease);
            }
            if batch.is_empty() {
                return Err(Failure::Refused(error.clone()));
            }
        }
        match timeout(limit, batch.execute(session)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Failure::Refused(error)),
            Err(_) => return Err(Failure::Refused(silent(limit))),
        }
        session.commit(begun, self.intake.has_more(), limit).await
    }
}
