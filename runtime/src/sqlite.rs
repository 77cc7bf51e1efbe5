//! The node's one file: opened, migrated, locked against a second node, read by a few, written by one.
//!
//! The embedded store and the embedded bus share it. Reads go through a small pool; every write goes through the one
//! [`writer::Writer`], which puts whatever waits into one transaction (group commit). Who calls: [`crate::ports`]
//! opens it once at start. What fails is an [`Error`] with its fault class; a full disk refuses the write and nothing
//! that was accepted is lost (WAL, `synchronous=FULL`).

pub mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqlStr};

use self::writer::Writer;
use crate::fault::{Fault, Faulty};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "troupe.db";
const LOCK_NAME: &str = "troupe.lock";

/// Same numbers and names as in `migrations/postgres`.
const MIGRATIONS: [(i64, &str, &str); 7] = [
    (1, "first light", include_str!("../../migrations/sqlite/0001_first_light.sql")),
    (2, "embedded bus", include_str!("../../migrations/sqlite/0002_embedded_bus.sql")),
    (3, "leases", include_str!("../../migrations/sqlite/0003_leases.sql")),
    (4, "payloads", include_str!("../../migrations/sqlite/0004_payloads.sql")),
    (5, "cleanings", include_str!("../../migrations/sqlite/0005_cleanings.sql")),
    (6, "forks", include_str!("../../migrations/sqlite/0006_forks.sql")),
    (7, "journal in order", include_str!("../../migrations/sqlite/0007_journal_in_order.sql")),
];

/// Limits of the file's users.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections for reading.
    pub readers: u32,
    /// Writes in one transaction, at most.
    pub batch_max: usize,
    /// Writes that may wait; the next caller waits for a place.
    pub writer_queue_max: usize,
    /// How long a reader or the writer waits for the file.
    pub busy_timeout: Duration,
    /// Bytes of the file's pages that the writer keeps in memory.
    pub page_cache_bytes: usize,
    /// Pages in the log after which they are folded into the file.
    pub checkpoint_pages: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readers: 4,
            batch_max: 1024,
            writer_queue_max: 4096,
            busy_timeout: Duration::from_secs(5),
            page_cache_bytes: 16 * 1024 * 1024,
            checkpoint_pages: 4000,
        }
    }
}

/// The opened file. Cheap to clone; closed when the last clone goes.
#[derive(Clone)]
pub struct Database {
    readers: SqlitePool,
    writer: Writer,
    path: Arc<Path>,
    /// Held for its lock: a second node on the same folder is refused.
    _lock: Arc<File>,
}

/// What can go wrong with the file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The folder or a file in it cannot be used.
    #[error("data directory {path}: {cause}; choose another with TROUPE_DATA_DIR or make it writable")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// Another node runs on this folder.
    #[error("data directory {0} is in use by another node; SQLite serves one node: stop it or use another folder")]
    InUse(PathBuf),
    /// The file was written by a newer binary, or its migrations are not ours.
    #[error("database {path}: {cause}; run the newer troupe, or restore the folder of this version")]
    Migration {
        /// Which.
        path: PathBuf,
        /// What does not fit.
        cause: String,
    },
    /// The file cannot be opened: locked, damaged, or no database at all.
    #[error("database {path}: {cause}; end what holds it, or restore the file from a backup")]
    Open {
        /// Which.
        path: PathBuf,
        /// What SQLite said.
        cause: String,
    },
    /// The disk is full: the write is refused.
    #[error("the disk that holds the database is full: {0}")]
    Full(String),
    /// The file answers with an I/O error or stays locked.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
    /// The file is damaged.
    #[error("the database file is damaged: {0}")]
    Corrupt(String),
    /// The writer is gone: the node is stopping.
    #[error("the database is closed")]
    Closed,
    /// A statement of ours is wrong, or a stored row cannot be read.
    #[error("database: {0}")]
    Statement(String),
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Full(_) | Self::Unavailable(_) | Self::Closed => Fault::transient(),
            Self::Directory { .. } | Self::InUse(_) | Self::Migration { .. } | Self::Open { .. } | Self::Corrupt(_) => {
                Fault::Permanent
            }
            Self::Statement(_) => Fault::Bug,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        // Primary result codes, sqlite.org/rescode.html; sqlx reports the extended code.
        let code =
            error.as_database_error().and_then(sqlx::error::DatabaseError::code).and_then(|c| c.parse::<i64>().ok());
        match code.map(|c| c & 0xff) {
            Some(13) => Self::Full(error.to_string()),
            Some(5 | 6 | 10 | 14) => Self::Unavailable(error.to_string()),
            Some(11 | 26) => Self::Corrupt(error.to_string()),
            _ => match error {
                sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => Self::Unavailable(error.to_string()),
                sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Self::Closed,
                other => Self::Statement(other.to_string()),
            },
        }
    }
}

impl Database {
    /// Opens the file in `dir`, creating both where missing, and brings its tables up to date.
    ///
    /// # Errors
    /// [`Error::InUse`] when another node runs there; [`Error::Directory`], [`Error::Migration`] and the rest with
    /// the place and what to do.
    pub async fn open(dir: &Path, options: &Options) -> Result<Self, Error> {
        let (lock, connect, path) = locked(dir, options)?;
        let cannot_open = |error: sqlx::Error| Error::Open { path: path.clone(), cause: error.to_string() };
        migrate(&connect, &path).await?;

        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers)
            .acquire_timeout(options.busy_timeout)
            .test_before_acquire(false)
            .connect_lazy_with(connect.clone().pragma("query_only", "ON"));
        let writing = writing(connect, options).connect().await.map_err(cannot_open)?;
        let writer = Writer::start(writing, options);
        Ok(Self { readers, writer, path: path.into(), _lock: Arc::new(lock) })
    }

    /// Brings the tables up to date and does nothing else; answers the file, and the last migration before and after.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub async fn migrate(dir: &Path, options: &Options) -> Result<(String, (i64, i64)), Error> {
        let (_lock, connect, path) = locked(dir, options)?;
        let numbers = migrate(&connect, &path).await?;
        Ok((path.display().to_string(), numbers))
    }

    /// The file, for people.
    #[must_use]
    pub fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// For reading; a statement that writes is refused here.
    #[must_use]
    pub const fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// For writing.
    #[must_use]
    pub const fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Finishes what waits, folds the log into the file and closes it. Further writes answer [`Error::Closed`].
    pub async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

/// How the writer's connection is opened. A batch changes many pages, for the ids of steps and tasks are scattered. By default
/// SQLite would keep the pages of a small batch only, copy each page that a statement changes to a temporary file before
/// (so that it can undo that statement alone), and fold every few batches: more reading and writing than the commits
/// themselves.
fn writing(connect: SqliteConnectOptions, options: &Options) -> SqliteConnectOptions {
    connect
        .pragma("temp_store", "MEMORY")
        // A negative number is KiB.
        .pragma("cache_size", format!("-{}", (options.page_cache_bytes / 1024).max(1)))
        .pragma("wal_autocheckpoint", options.checkpoint_pages.to_string())
}

/// The folder, made where it is missing and locked against a second node, and how its file is opened.
fn locked(dir: &Path, options: &Options) -> Result<(File, SqliteConnectOptions, PathBuf), Error> {
    let directory = |cause: std::io::Error| Error::Directory { path: dir.to_owned(), cause: cause.to_string() };
    std::fs::create_dir_all(dir).map_err(directory)?;
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK_NAME)).map_err(directory)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::InUse(dir.to_owned())),
        Err(TryLockError::Error(cause)) => return Err(directory(cause)),
    }
    let path = dir.join(FILE_NAME);
    let connect = SqliteConnectOptions::from_str("sqlite://")?
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(options.busy_timeout)
        .foreign_keys(false)
        .statement_cache_capacity(256)
        .disable_statement_logging();
    Ok((lock, connect, path))
}

/// Answers the last migration before and after.
async fn migrate(connect: &SqliteConnectOptions, path: &Path) -> Result<(i64, i64), Error> {
    let cannot_open = |error: sqlx::Error| Error::Open { path: path.to_owned(), cause: error.to_string() };
    let mut connection = connect.connect().await.map_err(cannot_open)?;
    let before = newest(&mut connection).await.map_err(cannot_open)?;
    let run = run_migrations(&mut connection).await;
    run.map_err(|cause| Error::Migration { path: path.to_owned(), cause })?;
    let after = newest(&mut connection).await.map_err(cannot_open)?;
    connection.close().await?;
    Ok((before, after))
}

/// The last migration that ran; 0 when none did.
async fn newest(connection: &mut sqlx::SqliteConnection) -> Result<i64, sqlx::Error> {
    let there = "select count(*) from sqlite_master where name = '_sqlx_migrations'";
    if sqlx::query_scalar::<_, i64>(there).fetch_one(&mut *connection).await? == 0 {
        return Ok(0);
    }
    sqlx::query_scalar("select coalesce(max(version), 0) from _sqlx_migrations").fetch_one(connection).await
}

async fn run_migrations(connection: &mut sqlx::SqliteConnection) -> Result<(), String> {
    let migrations = MIGRATIONS.map(|(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    });
    Migrator::with_migrations(migrations.to_vec()).run_direct(None, connection, false).await.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_node_on_the_same_folder_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Database::open(dir.path(), &Options::default()).await.unwrap();
        let second = Database::open(dir.path(), &Options::default()).await;
        assert!(matches!(second, Err(Error::InUse(_))));
        first.close().await;
        drop(first);
        Database::open(dir.path(), &Options::default()).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_from_the_future_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), &Options::default()).await.unwrap();
        db.close().await;
        drop(db);
        let url = format!("sqlite://{}", dir.path().join(FILE_NAME).display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query("insert into _sqlx_migrations values (999, 'later', current_timestamp, true, x'00', 1)")
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        let error = Database::open(dir.path(), &Options::default()).await.err().unwrap();
        assert!(matches!(error, Error::Migration { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_made_is_named() {
        let error = Database::open(Path::new("/proc/nowhere"), &Options::default()).await.err().unwrap();
        assert!(error.to_string().contains("/proc/nowhere"), "{error}");
        assert!(error.to_string().contains("TROUPE_DATA_DIR"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), "dear diary, ".repeat(1_000)).unwrap();
        let error = Database::open(dir.path(), &Options::default()).await.err().unwrap().to_string();
        assert!(error.contains(FILE_NAME) && error.contains("restore"), "{error}");
    }

    /// Reads a setting of the writer's connection.
    struct Setting(&'static str);

    #[async_trait::async_trait]
    impl writer::Write for Setting {
        type Reply = i64;

        async fn execute(batch: &[&Self], connection: &mut sqlx::SqliteConnection) -> Result<Vec<i64>, Error> {
            let mut values = Vec::with_capacity(batch.len());
            for setting in batch {
                values.push(sqlx::query_scalar(setting.0).fetch_one(&mut *connection).await?);
            }
            Ok(values)
        }
    }

    #[tokio::test]
    async fn the_writer_keeps_its_pages_and_undoes_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { page_cache_bytes: 3 << 20, checkpoint_pages: 77, ..Options::default() };
        let db = Database::open(dir.path(), &options).await.unwrap();
        let wanted = [
            ("pragma cache_size", -3072),
            ("pragma wal_autocheckpoint", 77),
            ("pragma temp_store", 2),
            ("pragma synchronous", 2),
        ];
        for (setting, value) in wanted {
            assert_eq!(db.writer().submit(Setting(setting)).await.unwrap(), value, "{setting}");
        }
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(dir.path(), &Options::default()).await.unwrap();
        let refused = sqlx::query("delete from nodes").execute(db.readers()).await;
        assert!(refused.is_err());
    }
}
