//! Pinned specs in SQLite, by digest: written once, never changed.
//!
//! Called through [`Specs`], usually behind the cache. A spec that this version cannot read is [`Error::Corrupt`].

use async_trait::async_trait;
use chrono::Utc;
use sqlx::SqliteConnection;

use super::Store;
use super::rows::{Stored, array, at, json};
use crate::domain::agent::AgentSpec;
use crate::sqlite;
use crate::sqlite::writer::Write;
use crate::store::{Error, Specs};

const KEEP: &str = "\
    insert into agent_specs (digest, agent_id, body, first_seen) \
    select value ->> 0, value ->> 1, value ->> 2, value ->> 3 from json_each(?1) where true \
    on conflict (digest) do nothing";

const SPEC: &str = "select body from agent_specs where digest = ?1";

#[async_trait]
impl Specs for Store {
    async fn keep(&self, spec: &AgentSpec) -> Result<String, Error> {
        let digest = spec.digest();
        let row = json(&(&digest, spec.name.as_str(), json(spec)?, Utc::now().timestamp_millis()))?;
        self.write(Keep { row }).await?;
        Ok(digest)
    }

    async fn spec(&self, digest: &str) -> Result<Option<AgentSpec>, Error> {
        let row = sqlx::query(SPEC).bind(digest.to_owned()).fetch_optional(self.database.readers()).await?;
        let spec = row.map(|row| Stored::new(&row, "agent_specs").spec(digest)).transpose();
        spec.map_err(|error| at(error, &format!("spec {digest}")))
    }
}

/// One spec, ready for the writer.
struct Keep {
    row: String,
}

#[async_trait]
impl Write for Keep {
    type Reply = ();

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        let rows = array(batch.iter().map(|keep| keep.row.as_str()));
        sqlx::query(KEEP).bind(rows).execute(connection).await?;
        Ok(vec![(); batch.len()])
    }
}
