//! The cluster's one database: connected, migrated, read by a small pool, written by one connection a node.
//!
//! Reads go through the pool; every write goes through the one [`writer::Writer`], which puts whatever waits into one
//! transaction (group commit). Who calls: whoever opens the ports of a node whose state is in PostgreSQL. What fails is
//! an [`Error`] with its fault class; a server that is away refuses reads and writes until it is back, and nothing that
//! was answered is lost. No error names the password.

mod error;
pub mod session;
pub mod writer;

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, SqlStr};
use tokio::time::Instant;

pub use self::error::Error;
use self::writer::Writer;
use crate::fault::Faulty as _;

/// The oldest server that is served, as `server_version_num` counts.
const OLDEST: u32 = 15_00_00;

/// How long a start rests before it knocks again.
const START_AGAIN: Duration = Duration::from_millis(500);

/// Same numbers and names as in `migrations/sqlite`.
const MIGRATIONS: [(i64, &str, &str); 7] = [
    (1, "first light", include_str!("../../migrations/postgres/0001_first_light.sql")),
    (2, "embedded bus", include_str!("../../migrations/postgres/0002_embedded_bus.sql")),
    (3, "leases", include_str!("../../migrations/postgres/0003_leases.sql")),
    (4, "payloads", include_str!("../../migrations/postgres/0004_payloads.sql")),
    (5, "cleanings", include_str!("../../migrations/postgres/0005_cleanings.sql")),
    (6, "forks", include_str!("../../migrations/postgres/0006_forks.sql")),
    (7, "journal in order", include_str!("../../migrations/postgres/0007_journal_in_order.sql")),
];

/// Limits of the database's users.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections for reading; the writer has one of its own.
    pub connections: u32,
    /// The server ends a statement that takes longer.
    pub statement_timeout: Duration,
    /// The server ends a statement that waits longer for a row or a table. It also ends a transaction that is left
    /// open for so long: what a frozen node has locked is free again.
    pub lock_timeout: Duration,
    /// How long a connection may take to come about, and how long a reader waits for a free one.
    pub connect_timeout: Duration,
    /// After this a silent server counts as gone: its own limits plus a way there and back.
    pub answer_timeout: Duration,
    /// How long the writer asks what became of a transaction whose commit was not answered.
    pub doubt_timeout: Duration,
    /// How long migrations may take, the wait for another node's included.
    pub migrate_timeout: Duration,
    /// How long a start waits for a server that does not answer yet.
    pub start_timeout: Duration,
    /// Writes in one transaction, at most.
    pub batch_max: usize,
    /// Writes that may wait; the next caller waits for a place.
    pub writer_queue_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 8,
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(15),
            doubt_timeout: Duration::from_secs(30),
            migrate_timeout: Duration::from_mins(5),
            start_timeout: Duration::from_secs(30),
            batch_max: 1024,
            writer_queue_max: 4096,
        }
    }
}

/// The opened database. Cheap to clone; closed when the last clone goes.
#[derive(Clone)]
pub struct Database {
    readers: PgPool,
    writer: Writer,
    /// See [`Options::answer_timeout`].
    answer_timeout: Duration,
    /// Where it is, for people.
    place: Arc<str>,
}

/// What a look at a server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Where it is, without the password.
    pub place: String,
    /// The server's version: `15.18`.
    pub version: String,
    /// The last migration that ran there; 0 when none did.
    pub migration: i64,
    /// The last one that this binary knows.
    pub known: i64,
}

impl Database {
    /// Connects, waiting for a server that is only starting, and brings the tables up to date; two nodes may do so at
    /// once.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Refused`], [`Error::TooOld`], [`Error::Newer`] and the rest with the place and what
    /// to do.
    pub async fn open(url: &SecretString, options: &Options) -> Result<Self, Error> {
        let (connect, place) = addressed(url)?;
        migrate(&connect, &place, options).await?;

        let limited = limited(connect, options);
        let readers = PgPoolOptions::new()
            .max_connections(options.connections)
            .acquire_timeout(options.connect_timeout)
            .connect_lazy_with(limited.clone());
        let connection = connected(&limited, options).await.map_err(|error| at(&place, &error))?;
        let writer = Writer::start(connection, limited, options);
        Ok(Self { readers, writer, answer_timeout: options.answer_timeout, place: place.into() })
    }

    /// Brings the tables up to date and does nothing else; answers the place, and the last migration before and after.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub async fn migrate(url: &SecretString, options: &Options) -> Result<(String, (i64, i64)), Error> {
        let (connect, place) = addressed(url)?;
        let numbers = migrate(&connect, &place, options).await?;
        Ok((place, numbers))
    }

    /// Connects once, at once, and changes nothing.
    ///
    /// # Errors
    /// [`Error::Connect`] or [`Error::Refused`]; [`Error::TooOld`].
    pub async fn look(url: &SecretString, options: &Options) -> Result<Look, Error> {
        let (connect, place) = addressed(url)?;
        let mut connection = connected(&connect, options).await.map_err(|error| at(&place, &error))?;
        let found = young_enough(&connection, &place)?;
        let migration = newest(&mut connection).await?;
        connection.close().await?;
        let known = MIGRATIONS.last().map_or(0, |(number, ..)| *number);
        Ok(Look { place, version: format!("{}.{}", found / 1_00_00, found % 1_00_00), migration, known })
    }

    /// Where it is, for people: no password.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// For reading.
    #[must_use]
    pub const fn readers(&self) -> &PgPool {
        &self.readers
    }

    /// Waits for what a reader asks, but not for ever: a server behind a broken line says nothing at all.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no answer comes; else what the database says.
    pub async fn read<T>(&self, question: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.answer_timeout, question).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Error::Unavailable(format!("no answer within {:?}", self.answer_timeout))),
        }
    }

    /// For writing.
    #[must_use]
    pub const fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Finishes what waits and closes the connections. Further writes answer [`Error::Closed`].
    pub async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

/// The limits that the server itself keeps. No statement of ours walks a table; a planner that has not seen the tables
/// grow yet would choose to, and keep that plan. Where one must all the same, because the table is short and has no such index,
/// the price that this puts on it would have the server compile the statement, which takes 0.2 s: so not that either. It does not
/// keep the planner from walking an index: the statements of a batch see to that themselves (docs/adr/0038).
fn limited(connect: PgConnectOptions, options: &Options) -> PgConnectOptions {
    connect.options([
        ("statement_timeout", options.statement_timeout.as_millis().to_string()),
        ("lock_timeout", options.lock_timeout.as_millis().to_string()),
        ("enable_seqscan", "off".to_owned()),
        ("jit", "off".to_owned()),
        ("idle_in_transaction_session_timeout", options.lock_timeout.as_millis().to_string()),
    ])
}

/// One connection, within the time that it may take.
async fn connected(connect: &PgConnectOptions, options: &Options) -> Result<PgConnection, Error> {
    match tokio::time::timeout(options.connect_timeout, connect.connect()).await {
        Ok(Err(error)) if is_distrust(&error) => Err(Error::Statement(error.to_string())),
        Ok(connection) => Ok(connection?),
        Err(_) => Err(Error::Unavailable(format!("no connection within {:?}", options.connect_timeout))),
    }
}

/// Whether the two sides do not trust each other, which waiting does not mend: rustls says so in an I/O error.
fn is_distrust(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(cause) => cause.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// The first connection of a start: a server that does not answer yet is waited for.
async fn awaited(connect: &PgConnectOptions, place: &str, options: &Options) -> Result<PgConnection, Error> {
    let until = Instant::now() + options.start_timeout;
    loop {
        let error = match connected(connect, options).await {
            Ok(connection) => return Ok(connection),
            Err(error) => at(place, &error),
        };
        if !error.fault().is_transient() || Instant::now() + START_AGAIN > until {
            return Err(error);
        }
        tracing::warn!(%error, "the start waits for the database");
        tokio::time::sleep(START_AGAIN).await;
    }
}

/// Answers the last migration before and after.
async fn migrate(connect: &PgConnectOptions, place: &str, options: &Options) -> Result<(i64, i64), Error> {
    let mut connection = awaited(connect, place, options).await?;
    young_enough(&connection, place)?;
    let migrations = MIGRATIONS.map(|(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    });
    let migrator = Migrator::with_migrations(migrations.to_vec());
    let before = newest(&mut connection).await?;
    // Under the database's advisory lock: a second node waits here and then finds nothing to do.
    let run = migrator.run_direct(None, &mut connection, false);
    let place = place.to_owned();
    match tokio::time::timeout(options.migrate_timeout, run).await {
        Ok(Ok(())) => {}
        Ok(Err(MigrateError::VersionMissing(number))) => return Err(Error::Newer { place, number }),
        Ok(Err(error)) => return Err(Error::Migration { place, cause: error.to_string() }),
        Err(_) => {
            let cause = format!("the migrations did not end within {:?}", options.migrate_timeout);
            return Err(Error::Migration { place, cause });
        }
    }
    let after = newest(&mut connection).await?;
    connection.close().await?;
    Ok((before, after))
}

/// The server's version, when it is one that is served.
fn young_enough(connection: &PgConnection, place: &str) -> Result<u32, Error> {
    match connection.server_version_num() {
        Some(found) if found < OLDEST => Err(Error::TooOld { place: place.to_owned(), found: found / 1_00_00 }),
        found => Ok(found.unwrap_or(OLDEST)),
    }
}

/// The last migration that ran; 0 when none did.
async fn newest(connection: &mut PgConnection) -> Result<i64, Error> {
    let there = "select to_regclass('_sqlx_migrations') is not null";
    if !sqlx::query_scalar::<_, bool>(there).fetch_one(&mut *connection).await? {
        return Ok(0);
    }
    let number = "select coalesce(max(version), 0) from _sqlx_migrations where success";
    Ok(sqlx::query_scalar(number).fetch_one(connection).await?)
}

/// What a URL names, and how that is said to people.
fn addressed(url: &SecretString) -> Result<(PgConnectOptions, String), Error> {
    // The cause is a URL parser's and quotes nothing of what it was given.
    let connect = PgConnectOptions::from_str(url.expose_secret()).map_err(|e| Error::Address(e.to_string()))?;
    let place = place(&connect);
    Ok((connect.application_name("troupe").statement_cache_capacity(256).disable_statement_logging(), place))
}

/// Where the database is, for people.
fn place(connect: &PgConnectOptions) -> String {
    let (host, port, user) = (connect.get_host(), connect.get_port(), connect.get_username());
    format!("{user}@{host}:{port}/{}", connect.get_database().unwrap_or(user))
}

/// A connection did not come about: nobody answers, or we are not wanted.
fn at(place: &str, error: &Error) -> Error {
    let (place, cause) = (place.to_owned(), error.to_string());
    if error.fault().is_transient() { Error::Connect { place, cause } } else { Error::Refused { place, cause } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_without_its_password() {
        for bad in ["postgres://u:hidden@:x/db", "not a url hidden", "postgres://u:hidden@h/db?sslmode=maybe"] {
            let error = Database::open(&SecretString::from(bad), &Options::default()).await.err().unwrap();
            assert!(matches!(error, Error::Address(_)), "{error}");
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_without_its_password() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = SecretString::from(format!("postgres://u:hidden@127.0.0.1:{free}/db"));
        let at_once = Options { start_timeout: Duration::ZERO, ..Options::default() };
        let error = Database::open(&url, &at_once).await.err().unwrap();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("u@127.0.0.1:{free}/db")) && !text.contains("hidden"), "{text}");
    }
}
