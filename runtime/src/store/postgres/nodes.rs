//! Lives of nodes and their leases in PostgreSQL, and the ping that health asks for.
//!
//! Incarnations rise over all nodes of the database. Every time here is the server's. A renewal goes through the writer
//! like what it stands for: a node that cannot write does not hold its lease either. Called through [`Nodes`].

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::Store;
use super::rows::Stored;
use crate::domain::step::Incarnation;
use crate::group_commit::Operation;
use crate::postgres;
use crate::postgres::session::{Session, Statement};
use crate::store::{Error, NodeRow, Nodes, Renewal};

/// The clock is read once: a second reading is later, and a lease would not be as long as it says.
const START: &str = "\
    insert into nodes (name, incarnation, started_at, lease_until) \
    select $1, nextval('incarnations'), clock.now, clock.now + make_interval(secs => $2) \
    from (select clock_timestamp() as now) clock \
    on conflict (name) do update set incarnation = excluded.incarnation, started_at = excluded.started_at, \
                                     lease_until = excluded.lease_until, ended_at = null \
    returning incarnation";

const RESUME: &str = "\
    update nodes set incarnation = nextval('incarnations'), started_at = clock.now, \
                     lease_until = clock.now + make_interval(secs => $2), ended_at = null \
    from (select clock_timestamp() as now) clock \
    where incarnation = $1 returning incarnation";

const RENEW: &str = "\
    update nodes set lease_until = clock_timestamp() + make_interval(secs => $2) \
    where incarnation = $1 and ended_at is null returning incarnation";

const IS_CURRENT: &str = "select incarnation from nodes where incarnation = $1";

const RELEASE: &str = "update nodes set ended_at = clock_timestamp() where incarnation = $1 and ended_at is null";

const EXPIRED: &str = "\
    select incarnation from nodes \
    where ended_at is null and lease_until <= clock_timestamp() and incarnation <> $1 order by incarnation limit 1";

/// A row that is being renewed, or ended by another, is passed over.
const END: &str = "\
    update nodes set ended_at = clock_timestamp() \
    where incarnation in ( \
        select incarnation from nodes \
        where ended_at is null and lease_until <= clock_timestamp() and incarnation <> $1 \
        order by incarnation for update skip locked) \
    returning incarnation";

const LIST: &str = "\
    select name, incarnation, started_at, lease_until, lease_until > clock_timestamp() as is_held, ended_at from nodes \
    order by ended_at is not null, started_at desc, name limit $1";

/// Changes a row: a statement that changes nothing would pass where nothing can be written.
const PING: &str = "\
    insert into pings (id, at) values (1, clock_timestamp()) on conflict (id) do update set at = excluded.at";

const READ: &str = "select count(*) from nodes";

#[async_trait]
impl Nodes for Store {
    async fn start(&self, name: &str, ttl: Duration) -> Result<Incarnation, Error> {
        let life = self.write(Start { name: name.to_owned(), ttl }).await?;
        self.database.writer().lives_as(life.0);
        Ok(life)
    }

    async fn resume(&self, former: Incarnation, ttl: Duration) -> Result<Option<Incarnation>, Error> {
        let life = self.write(Resume { former, ttl }).await?;
        if let Some(life) = life {
            self.database.writer().lives_as(life.0);
        }
        Ok(life)
    }

    async fn renew(&self, own: Incarnation, ttl: Duration) -> Result<Renewal, Error> {
        self.write(Renew { own, ttl }).await
    }

    async fn release(&self, own: Incarnation) -> Result<(), Error> {
        self.write(Release(own)).await
    }

    async fn end_expired(&self, own: Incarnation) -> Result<Vec<Incarnation>, Error> {
        // Almost always there is none, and a look costs no transaction that writes.
        if self.one(sqlx::query(EXPIRED).bind(own.0)).await?.is_none() {
            return Ok(Vec::new());
        }
        self.write(EndExpired(own)).await
    }

    async fn list(&self, limit: usize) -> Result<Vec<NodeRow>, Error> {
        let rows = self.all(sqlx::query(LIST).bind(self.rows(limit))).await?;
        rows.iter().map(node).collect()
    }

    async fn ping(&self) -> Result<(), Error> {
        self.write(Ping).await?;
        self.one(sqlx::query(READ)).await?;
        Ok(())
    }
}

fn node(row: &PgRow) -> Result<NodeRow, Error> {
    let row = Stored::new(row, "nodes");
    let ended = row.get::<Option<DateTime<Utc>>>("ended_at")?.is_some();
    Ok(NodeRow {
        name: row.get("name")?,
        incarnation: Incarnation(row.get("incarnation")?),
        started_at: row.time("started_at")?,
        lease_until: row.time("lease_until")?,
        is_held: row.get("is_held")?,
        ended_at: if ended { Some(row.time("ended_at")?) } else { None },
    })
}

/// The incarnations that a statement of a lease has written.
async fn lives(session: &mut Session, statement: Statement<'_>) -> Result<Vec<Incarnation>, postgres::Error> {
    let rows = session.returning(statement).await?;
    rows.iter().map(|row| Ok(Incarnation(row.try_get(0)?))).collect()
}

/// A process starts as a node.
struct Start {
    name: String,
    ttl: Duration,
}

#[async_trait]
impl Operation<Session> for Start {
    type Reply = Incarnation;
    const UNDER_LEASE: bool = false;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<Incarnation>, postgres::Error> {
        let mut answers = Vec::with_capacity(batch.len());
        for start in batch {
            let statement = sqlx::query(START).bind(start.name.clone()).bind(start.ttl.as_secs_f64());
            answers.push(lives(session, statement).await?.pop().ok_or(sqlx::Error::RowNotFound)?);
        }
        Ok(answers)
    }
}

/// A node goes on as another incarnation.
struct Resume {
    former: Incarnation,
    ttl: Duration,
}

#[async_trait]
impl Operation<Session> for Resume {
    type Reply = Option<Incarnation>;
    const UNDER_LEASE: bool = false;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<Self::Reply>, postgres::Error> {
        let mut answers = Vec::with_capacity(batch.len());
        for resume in batch {
            let statement = sqlx::query(RESUME).bind(resume.former.0).bind(resume.ttl.as_secs_f64());
            answers.push(lives(session, statement).await?.pop());
        }
        Ok(answers)
    }
}

/// A node renews its lease.
struct Renew {
    own: Incarnation,
    ttl: Duration,
}

#[async_trait]
impl Operation<Session> for Renew {
    type Reply = Renewal;
    const UNDER_LEASE: bool = false;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<Renewal>, postgres::Error> {
        let mut answers = Vec::with_capacity(batch.len());
        for Self { own, ttl } in batch {
            let statement = sqlx::query(RENEW).bind(own.0).bind(ttl.as_secs_f64());
            answers.push(if !lives(session, statement).await?.is_empty() {
                Renewal::Held
            } else if session.read(sqlx::query(IS_CURRENT).bind(own.0)).await?.is_empty() {
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
impl Operation<Session> for Release {
    type Reply = ();
    const UNDER_LEASE: bool = false;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<()>, postgres::Error> {
        for release in batch {
            session.write(sqlx::query(RELEASE).bind(release.0.0)).await?;
        }
        Ok(vec![(); batch.len()])
    }
}

/// A node has seen that others' leases have run out. Under its own lease: who does not live ends nobody.
struct EndExpired(Incarnation);

#[async_trait]
impl Operation<Session> for EndExpired {
    type Reply = Vec<Incarnation>;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<Self::Reply>, postgres::Error> {
        let mut answers = Vec::with_capacity(batch.len());
        for expired in batch {
            answers.push(lives(session, sqlx::query(END).bind(expired.0.0)).await?);
        }
        Ok(answers)
    }
}

/// Somebody asks whether the store can write.
struct Ping;

#[async_trait]
impl Operation<Session> for Ping {
    type Reply = ();
    const UNDER_LEASE: bool = false;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<()>, postgres::Error> {
        session.write(sqlx::query(PING)).await?;
        Ok(vec![(); batch.len()])
    }
}
