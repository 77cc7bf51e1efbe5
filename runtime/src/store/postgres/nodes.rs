//! Lives of nodes in PostgreSQL, and the ping that health asks for.
//!
//! Incarnations rise over all nodes of the database, so that "an earlier life" is one comparison. Called through
//! [`Nodes`]: once at start, and by health checks.

use async_trait::async_trait;
use chrono::Utc;
use sqlx::Row as _;

use super::Store;
use super::rows::moment;
use crate::domain::step::Incarnation;
use crate::group_commit::Operation;
use crate::postgres;
use crate::postgres::writer::Session;
use crate::store::{Error, Nodes};

const START: &str = "\
    insert into nodes (name, incarnation, started_at) values ($1, nextval('incarnations'), $2) \
    on conflict (name) do update set incarnation = excluded.incarnation, started_at = excluded.started_at \
    returning incarnation";

/// Changes a row: a statement that changes nothing would pass where nothing can be written.
const PING: &str = "insert into pings (id, at) values (1, $1) on conflict (id) do update set at = excluded.at";

const READ: &str = "select count(*) from nodes";

#[async_trait]
impl Nodes for Store {
    async fn start(&self, name: &str) -> Result<Incarnation, Error> {
        self.write(Start { name: name.to_owned() }).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.write(Ping).await?;
        self.one(sqlx::query(READ)).await?;
        Ok(())
    }
}

/// A node starts.
struct Start {
    name: String,
}

#[async_trait]
impl Operation<Session> for Start {
    type Reply = Incarnation;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<Incarnation>, postgres::Error> {
        let mut lives = Vec::with_capacity(batch.len());
        for start in batch {
            let row = session.returning(sqlx::query(START).bind(start.name.clone()).bind(moment(Utc::now()))).await?;
            let life = row.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
            lives.push(Incarnation(life));
        }
        Ok(lives)
    }
}

/// Somebody asks whether the store can write.
struct Ping;

#[async_trait]
impl Operation<Session> for Ping {
    type Reply = ();

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<()>, postgres::Error> {
        session.write(sqlx::query(PING).bind(moment(Utc::now()))).await?;
        Ok(vec![(); batch.len()])
    }
}
