//! The baseline: how many single rows one client commits to SQLite in a second, on the same disk and by the same driver.
//!
//! The settings are the store's own (WAL, `synchronous=FULL`), the row has the size of a small event. A task commits
//! several times, so only who commits for many at once gets past this figure.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, SqliteConnection};

/// Bytes of a row.
const ROW_BYTES: usize = 400;

/// A client with a table of its own.
pub(crate) struct Commits(SqliteConnection);

impl Commits {
    /// In a file of its own in this folder.
    pub(crate) async fn open(dir: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(dir.join("commits.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let mut connection = options.connect().await.expect("a database file");
        sqlx::query("create table rows (id integer primary key, body text not null) strict")
            .execute(&mut connection)
            .await
            .expect("a table");
        Self(connection)
    }

    /// Commits one row after the other for a while: rows a second.
    pub(crate) async fn rate(&mut self, duration: Duration) -> f64 {
        let (body, begun, mut rows) = ("x".repeat(ROW_BYTES), Instant::now(), 0_u32);
        while begun.elapsed() < duration {
            let row = sqlx::query("insert into rows (body) values (?1)").bind(&body).execute(&mut self.0);
            row.await.expect("a row");
            rows += 1;
        }
        f64::from(rows) / begun.elapsed().as_secs_f64()
    }
}
