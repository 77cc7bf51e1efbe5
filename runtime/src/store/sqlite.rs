//! The store in the node's SQLite file: native statements, one file an aggregate.
//!
//! Reads take a connection of the small pool; every write is a [`crate::sqlite::writer::Write`] operation, executed
//! together with whatever waits beside it by statements that carry all their rows as one JSON text (`json_each`): a
//! statement costs a hand-over to another thread, a row in it next to nothing. [`crate::ports`] calls [`stores`] once.
//! When the file does not answer or the disk is full, a call ends with [`Error::Unavailable`] and nothing is written.

mod journal;
mod memory;
mod nodes;
mod outbox;
mod replies;
mod rows;
mod specs;
mod steps;
mod tasks;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::{Error, Stores};
use crate::sqlite::writer::Write;
use crate::sqlite::{self, Database};

/// Limits of the store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows that one call answers, at most, whatever its caller asks for.
    pub rows_max: usize,
    /// Unreadable outbox rows that are remembered, so that each is reported once and not at every look.
    pub unreadable_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { rows_max: 1000, unreadable_max: 1000 }
    }
}

/// Every aggregate of the store that lives in `database`.
#[must_use]
pub fn stores(database: Database, options: Options) -> Stores {
    let store = Arc::new(Store { database, options, reported: Mutex::default() });
    Stores {
        tasks: store.clone(),
        steps: store.clone(),
        journal: store.clone(),
        outbox: store.clone(),
        replies: store.clone(),
        specs: store.clone(),
        nodes: store.clone(),
        memory: store,
    }
}

/// The adapter behind every aggregate.
struct Store {
    database: Database,
    options: Options,
    /// Outbox rows that were reported as unreadable.
    reported: Mutex<BTreeSet<i64>>,
}

impl Store {
    async fn write<W: Write>(&self, operation: W) -> Result<W::Reply, Error> {
        Ok(self.database.writer().submit(operation).await?)
    }

    /// What a `limit` of rows comes to.
    fn rows(&self, limit: usize) -> i64 {
        limit.min(self.options.rows_max) as i64
    }
}

/// The one table from what the file says to what the port says.
impl From<sqlite::Error> for Error {
    fn from(error: sqlite::Error) -> Self {
        use sqlite::Error as E;
        match error {
            E::Full(_) | E::Unavailable(_) | E::Closed => Self::Unavailable(error.to_string()),
            E::Corrupt(_) | E::Migration { .. } => Self::Corrupt(error.to_string()),
            E::Statement(_) | E::Directory { .. } | E::InUse(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::from(sqlite::Error::from(error))
    }
}
