//! Lives of nodes and their leases in SQLite, and the ping that health asks for.
//!
//! Incarnations rise over all nodes of the file. The times are the machine's, which is the file's own clock. No write
//! is held against the lease here: the lock of the folder is what keeps a second node away, and a frozen process keeps
//! it. Called through [`Nodes`].

use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Store;
use super::rows::Stored;
use crate::domain::step::Incarnation;
use crate::sqlite;
use crate::sqlite::writer::Write;
use crate::store::record::count;
use crate::store::{Error, NodeRow, Nodes, Renewal};

/// `true` keeps the parser from taking `on` for a join's.
const START: &str = "\
    insert into nodes (name, incarnation, started_at, lease_until) \
    select ?1, coalesce(max(incarnation), 0) + 1, ?2, ?2 + ?3 from nodes where true \
    on conflict (name) do update set incarnation = excluded.incarnation, started_at = excluded.started_at, \
                                     lease_until = excluded.lease_until, ended_at = null \
    returning incarnation";

const RESUME: &str = "\
    update nodes set incarnation = (select max(incarnation) + 1 from nodes), started_at = ?2, lease_until = ?2 + ?3, \
                     ended_at = null \
    where incarnation = ?1 returning incarnation";

const RENEW: &str = "\
    update nodes set lease_until = ?2 + ?3 where incarnation = ?1 and ended_at is null returning incarnation";

const IS_CURRENT: &str = "select incarnation from nodes where incarnation = ?1";

const RELEASE: &str = "update nodes set ended_at = ?2 where incarnation = ?1 and ended_at is null";

const EXPIRED: &str = "\
    select incarnation from nodes where ended_at is null and lease_until <= ?2 and incarnation <> ?1 limit 1";

const END: &str = "\
    update nodes set ended_at = ?2 where ended_at is null and lease_until <= ?2 and incarnation <> ?1 \
    returning incarnation";

const LIST: &str = "\
    select name, incarnation, started_at, lease_until, lease_until > ?1 as is_held, ended_at from nodes \
    order by ended_at is not null, started_at desc, name limit ?2";

/// Changes a row: a statement that changes nothing would pass on a full disk.
const PING: &str = "\
    insert into pings (id, at) values (1, ?1) on conflict (id) do update set at = max(excluded.at, at + 1)";

const READ: &str = "select count(*) from nodes";

#[async_trait]
impl Nodes for Store {
    async fn start(&self, name: &str, ttl: Duration) -> Result<Incarnation, Error> {
        self.write(Start { name: name.to_owned(), ttl: millis(ttl) }).await
    }

    async fn resume(&self, former: Incarnation, ttl: Duration) -> Result<Option<Incarnation>, Error> {
        self.write(Resume { former, ttl: millis(ttl) }).await
    }

    async fn renew(&self, own: Incarnation, ttl: Duration) -> Result<Renewal, Error> {
        self.write(Renew { own, ttl: millis(ttl) }).await
    }

    async fn release(&self, own: Incarnation) -> Result<(), Error> {
        self.write(Release(own)).await
    }

    async fn end_expired(&self, own: Incarnation) -> Result<Vec<Incarnation>, Error> {
        let expired = sqlx::query(EXPIRED).bind(own.0).bind(now());
        // Almost always there is none, and a look writes nothing.
        if expired.fetch_optional(self.database.readers()).await?.is_none() {
            return Ok(Vec::new());
        }
        self.write(EndExpired(own)).await
    }

    async fn list(&self, limit: usize) -> Result<Vec<NodeRow>, Error> {
        let rows = sqlx::query(LIST).bind(now()).bind(self.rows(limit)).fetch_all(self.database.readers()).await?;
        rows.iter().map(node).collect()
    }

    async fn ping(&self) -> Result<(), Error> {
        self.write(Ping).await?;
        sqlx::query(READ).fetch_one(self.database.readers()).await?;
        Ok(())
    }
}

fn node(row: &SqliteRow) -> Result<NodeRow, Error> {
    let row = Stored::new(row, "nodes");
    let ended = row.get::<Option<i64>>("ended_at")?.is_some();
    Ok(NodeRow {
        name: row.get("name")?,
        incarnation: Incarnation(row.get("incarnation")?),
        started_at: row.time("started_at")?,
        lease_until: row.time("lease_until")?,
        is_held: row.get("is_held")?,
        ended_at: if ended { Some(row.time("ended_at")?) } else { None },
    })
}

fn now() -> i64 {
    Utc::now().timestamp_millis()
}

fn millis(ttl: Duration) -> i64 {
    count(ttl.as_millis() as u64)
}

/// A process starts as a node.
struct Start {
    name: String,
    ttl: i64,
}

#[async_trait]
impl Write for Start {
    type Reply = Incarnation;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Incarnation>, sqlite::Error> {
        let mut lives = Vec::with_capacity(batch.len());
        for start in batch {
            let statement = sqlx::query_scalar(START).bind(start.name.clone()).bind(now()).bind(start.ttl);
            lives.push(Incarnation(statement.fetch_one(&mut *connection).await?));
        }
        Ok(lives)
    }
}

/// A node goes on as another incarnation.
struct Resume {
    former: Incarnation,
    ttl: i64,
}

#[async_trait]
impl Write for Resume {
    type Reply = Option<Incarnation>;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Self::Reply>, sqlite::Error> {
        let mut lives = Vec::with_capacity(batch.len());
        for resume in batch {
            let statement = sqlx::query_scalar(RESUME).bind(resume.former.0).bind(now()).bind(resume.ttl);
            lives.push(statement.fetch_optional(&mut *connection).await?.map(Incarnation));
        }
        Ok(lives)
    }
}

/// A node renews its lease.
struct Renew {
    own: Incarnation,
    ttl: i64,
}

#[async_trait]
impl Write for Renew {
    type Reply = Renewal;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Renewal>, sqlite::Error> {
        let mut answers = Vec::with_capacity(batch.len());
        for Self { own, ttl } in batch {
            let renew = sqlx::query(RENEW).bind(own.0).bind(now()).bind(ttl);
            answers.push(if renew.fetch_optional(&mut *connection).await?.is_some() {
                Renewal::Held
            } else if sqlx::query(IS_CURRENT).bind(own.0).fetch_optional(&mut *connection).await?.is_none() {
                Renewal::Superseded
            } else {
                Renewal::TakenOver
            });
        }
        Ok(answers)
    }
}

/// A node leaves.
struct Release(Incarnation);

#[async_trait]
impl Write for Release {
    type Reply = ();

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        for release in batch {
            sqlx::query(RELEASE).bind(release.0.0).bind(now()).execute(&mut *connection).await?;
        }
        Ok(vec![(); batch.len()])
    }
}

/// A node has seen that others' leases have run out.
struct EndExpired(Incarnation);

#[async_trait]
impl Write for EndExpired {
    type Reply = Vec<Incarnation>;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Self::Reply>, sqlite::Error> {
        let mut answers = Vec::with_capacity(batch.len());
        for expired in batch {
            let end = sqlx::query_scalar(END).bind(expired.0.0).bind(now());
            answers.push(end.fetch_all(&mut *connection).await?.into_iter().map(Incarnation).collect());
        }
        Ok(answers)
    }
}

/// Somebody asks whether the store can write.
struct Ping;

#[async_trait]
impl Write for Ping {
    type Reply = ();

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        sqlx::query(PING).bind(now()).execute(connection).await?;
        Ok(vec![(); batch.len()])
    }
}
