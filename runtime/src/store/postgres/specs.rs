//! Pinned specs in PostgreSQL, by digest: written once, never changed.
//!
//! Called through [`Specs`], usually behind the cache. A spec that this version cannot read is [`Error::Corrupt`].

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Store;
use super::rows::{Stored, at, json, moment};
use crate::domain::agent::AgentSpec;
use crate::group_commit::Operation;
use crate::postgres;
use crate::postgres::session::Session;
use crate::store::{Error, Specs};

const KEEP: &str = "\
    insert into agent_specs (digest, agent_id, body, first_seen) \
    select * from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) \
    on conflict (digest) do nothing";

const SPEC: &str = "select body from agent_specs where digest = $1";

#[async_trait]
impl Specs for Store {
    async fn keep(&self, spec: &AgentSpec) -> Result<String, Error> {
        let digest = spec.digest();
        let (agent, body) = (spec.name.as_str().to_owned(), json(spec)?);
        self.write(Keep { digest: digest.clone(), agent, body, at: moment(Utc::now()) }).await?;
        Ok(digest)
    }

    async fn spec(&self, digest: &str) -> Result<Option<AgentSpec>, Error> {
        let row = self.one(sqlx::query(SPEC).bind(digest.to_owned())).await?;
        let spec = row.map(|row| Stored::new(&row, "agent_specs").spec(digest)).transpose();
        spec.map_err(|error| at(error, &format!("spec {digest}")))
    }
}

/// One spec, ready for the writer.
struct Keep {
    digest: String,
    agent: String,
    body: String,
    at: DateTime<Utc>,
}

#[async_trait]
impl Operation<Session> for Keep {
    type Reply = ();
    /// A spec is the same, whoever keeps it; and it is kept before the node lives.
    const UNDER_LEASE: bool = false;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<()>, postgres::Error> {
        let keep = sqlx::query(KEEP)
            .bind(batch.iter().map(|keep| keep.digest.clone()).collect::<Vec<_>>())
            .bind(batch.iter().map(|keep| keep.agent.clone()).collect::<Vec<_>>())
            .bind(batch.iter().map(|keep| keep.body.clone()).collect::<Vec<_>>())
            .bind(batch.iter().map(|keep| keep.at).collect::<Vec<_>>());
        session.write(keep).await?;
        Ok(vec![(); batch.len()])
    }
}
