//! Lives of nodes in SQLite, and the ping that health asks for.
//!
//! Incarnations rise over all nodes of the file, so that "an earlier life" is one comparison. Called through
//! [`Nodes`]: once at start, and by health checks.

use async_trait::async_trait;
use chrono::Utc;
use sqlx::SqliteConnection;

use super::Store;
use crate::domain::step::Incarnation;
use crate::sqlite;
use crate::sqlite::writer::Write;
use crate::store::{Error, Nodes};

const START: &str = "\
    insert into nodes (name, incarnation, started_at) \
    select ?1, coalesce(max(incarnation), 0) + 1, ?2 from nodes where true \
    on conflict (name) do update set incarnation = excluded.incarnation, started_at = excluded.started_at \
    returning incarnation";

/// Changes a row: a statement that changes nothing would pass on a full disk.
const PING: &str = "\
    insert into pings (id, at) values (1, ?1) on conflict (id) do update set at = max(excluded.at, at + 1)";

const READ: &str = "select count(*) from nodes";

#[async_trait]
impl Nodes for Store {
    async fn start(&self, name: &str) -> Result<Incarnation, Error> {
        self.write(Start { name: name.to_owned() }).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.write(Ping).await?;
        sqlx::query(READ).fetch_one(self.database.readers()).await?;
        Ok(())
    }
}

/// A node starts.
struct Start {
    name: String,
}

#[async_trait]
impl Write for Start {
    type Reply = Incarnation;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Incarnation>, sqlite::Error> {
        let mut lives = Vec::with_capacity(batch.len());
        for start in batch {
            let life = sqlx::query_scalar(START)
                .bind(start.name.clone())
                .bind(Utc::now().timestamp_millis())
                .fetch_one(&mut *connection)
                .await?;
            lives.push(Incarnation(life));
        }
        Ok(lives)
    }
}

/// Somebody asks whether the store can write.
struct Ping;

#[async_trait]
impl Write for Ping {
    type Reply = ();

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        sqlx::query(PING).bind(Utc::now().timestamp_millis()).execute(connection).await?;
        Ok(vec![(); batch.len()])
    }
}
