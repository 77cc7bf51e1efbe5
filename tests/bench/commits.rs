//! The raw limit: how many single rows a client commits in a second, on the same disk, by the same driver.
//!
//! As lean as the driver can do it: a prepared insert into a table without any index, each a transaction of its own,
//! synced as our store syncs (WAL and `synchronous=FULL`; `fsync` and `synchronous_commit` on). `SQLite` has one writer at
//! a time, so there its clients share a connection.

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, PgConnection, SqliteConnection};
use tokio::sync::Mutex;

use crate::load::{Client, Load, closed_loop};

/// Bytes of a row, where nobody says otherwise: a small event.
const ROW_BYTES: usize = 400;

const TABLE: &str = "create table raw (body text not null)";

/// Clients of a database, each with a table's worth of rows to commit.
pub(crate) struct Commits {
    clients: Vec<Committer>,
}

/// One client.
pub(crate) struct Committer {
    to: To,
    body: Arc<str>,
}

enum To {
    Sqlite(Arc<Mutex<SqliteConnection>>),
    Postgres(Box<PgConnection>),
}

impl Commits {
    /// One client of a file of its own in this folder.
    pub(crate) async fn open(dir: &Path) -> Self {
        Self::sqlite(dir, 1, ROW_BYTES).await
    }

    /// One client of an empty database of a server.
    pub(crate) async fn on_server(url: &str) -> Self {
        Self::postgres(url, 1, ROW_BYTES).await
    }

    /// Clients of one file in this folder.
    pub(crate) async fn sqlite(dir: &Path, clients: usize, row_bytes: usize) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(dir.join("commits.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let mut connection = options.connect().await.expect("a database file");
        sqlx::query(TABLE).execute(&mut connection).await.expect("a table");
        let (shared, body) = (Arc::new(Mutex::new(connection)), row(row_bytes));
        let client = |_| Committer { to: To::Sqlite(shared.clone()), body: body.clone() };
        Self { clients: (0..clients).map(client).collect() }
    }

    /// Clients of a server, each on a connection of its own.
    pub(crate) async fn postgres(url: &str, clients: usize, row_bytes: usize) -> Self {
        let options = PgConnectOptions::from_str(url).expect("an address").disable_statement_logging();
        let mut first = options.connect().await.expect("the server answers");
        sqlx::query(TABLE).execute(&mut first).await.expect("a table");
        let body = row(row_bytes);
        let mut connections = vec![first];
        while connections.len() < clients {
            connections.push(options.connect().await.expect("the server answers"));
        }
        let client = |connection| Committer { to: To::Postgres(Box::new(connection)), body: body.clone() };
        Self { clients: connections.into_iter().map(client).collect() }
    }

    /// The first client commits one row after the other for a while: rows a second.
    pub(crate) async fn rate(&mut self, duration: Duration) -> f64 {
        self.load(1, duration).await.rate
    }

    /// So many clients at once.
    pub(crate) async fn load(&mut self, clients: usize, duration: Duration) -> Load {
        let rest = self.clients.split_off(clients);
        let (back, load) = closed_loop(std::mem::take(&mut self.clients), duration).await;
        self.clients = back;
        self.clients.extend(rest);
        load
    }
}

impl Client for Committer {
    async fn once(&mut self) {
        match &mut self.to {
            To::Sqlite(shared) => {
                let mut connection = shared.lock().await;
                let row = sqlx::query("insert into raw (body) values (?1)").bind(&*self.body);
                row.execute(&mut *connection).await.expect("a row");
            }
            To::Postgres(connection) => {
                let row = sqlx::query("insert into raw (body) values ($1)").bind(&*self.body);
                row.execute(&mut **connection).await.expect("a row");
            }
        }
    }
}

fn row(bytes: usize) -> Arc<str> {
    "x".repeat(bytes).into()
}
