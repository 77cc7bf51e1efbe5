//! The store in PostgreSQL: native statements, one file an aggregate.
//!
//! Reads take a connection of the pool; every write is a [`crate::group_commit::Operation`], executed together with
//! whatever waits beside it by statements that carry all their rows as arrays (`unnest`). Other nodes write here too:
//! a write that speaks for a step locks the step's narrow row, so that a claim and a write under the old epoch come one
//! after the other. Whoever opens a node's ports calls [`stores`] once. When the server does not answer, a call ends
//! with [`Error::Unavailable`] and nothing is written, or the text says that it is not known.

mod forks;
mod journal;
mod memory;
mod nodes;
mod outbox;
mod replies;
mod results;
mod retention;
mod rows;
mod specs;
mod steps;
mod tasks;

use std::sync::Arc;

use sqlx::postgres::PgRow;

use super::reported::Reported;
use super::{Damage, Error, Options, Stores};
use crate::group_commit::Operation;
use crate::postgres::session::{Session, Statement};
use crate::postgres::{self, Database};

/// Every aggregate of the store that lives in `database`.
#[must_use]
pub fn stores(database: Database, options: Options) -> Stores {
    let reported = Reported::new(options.unreadable_max);
    let store = Arc::new(Store { database, options, reported });
    Stores {
        tasks: store.clone(),
        steps: store.clone(),
        journal: store.clone(),
        outbox: store.clone(),
        replies: store.clone(),
        results: store.clone(),
        specs: store.clone(),
        nodes: store.clone(),
        memory: store.clone(),
        retention: store,
    }
}

/// The adapter behind every aggregate.
struct Store {
    database: Database,
    options: Options,
    reported: Reported,
}

impl Store {
    async fn write<W: Operation<Session>>(&self, operation: W) -> Result<W::Reply, Error> {
        Ok(self.database.writer().submit(operation).await?)
    }

    /// All rows of a statement that reads.
    async fn all(&self, statement: Statement<'_>) -> Result<Vec<PgRow>, Error> {
        Ok(self.database.read(statement.fetch_all(self.database.readers())).await?)
    }

    /// The row of a statement that reads.
    async fn one(&self, statement: Statement<'_>) -> Result<Option<PgRow>, Error> {
        Ok(self.database.read(statement.fetch_optional(self.database.readers())).await?)
    }

    /// What a `limit` of rows comes to.
    fn rows(&self, limit: usize) -> i64 {
        limit.min(self.options.rows_max) as i64
    }
}

/// The one table from what the database says to what the port says.
impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        use postgres::Error as E;
        match error {
            E::Unavailable(_) | E::Collided(_) | E::Connect { .. } | E::Closed => Self::Unavailable(error.to_string()),
            E::Lapsed => Self::Lapsed,
            E::Over => Self::Over,
            E::Corrupt(_) | E::Newer { .. } | E::Migration { .. } => {
                Self::Corrupt(Damage::of_database(error.to_string()))
            }
            E::Statement(_) | E::Address(_) | E::Refused { .. } | E::TooOld { .. } => Self::Internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_says_becomes_what_the_port_says() {
        assert!(matches!(Error::from(postgres::Error::Unavailable("57P01".into())), Error::Unavailable(_)));
        assert!(matches!(Error::from(postgres::Error::Collided("40P01".into())), Error::Unavailable(_)));
        assert!(matches!(Error::from(postgres::Error::Closed), Error::Unavailable(_)));
        assert_eq!(Error::from(postgres::Error::Lapsed), Error::Lapsed);
        assert_eq!(Error::from(postgres::Error::Over), Error::Over);
        assert!(matches!(Error::from(postgres::Error::Corrupt("XX001".into())), Error::Corrupt(_)));
        assert!(matches!(Error::from(postgres::Error::Statement("42601".into())), Error::Internal(_)));
    }
}
