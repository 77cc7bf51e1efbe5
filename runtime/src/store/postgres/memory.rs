//! What agents keep between events, in PostgreSQL: one row a session, compare-and-set on its version.
//!
//! Called through [`Memory`], usually behind the tiers.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;

use super::Store;
use super::rows::{Stored, at, broken, column, count, looked_up, moment, payload, rounds};
use crate::domain::agent::AgentName;
use crate::group_commit::Operation;
use crate::postgres;
use crate::postgres::session::{Session, Statement};
use crate::store::payload::{BODY, Payload, checksum as checksum_of};
use crate::store::{Error, Memory, Remembered, SessionFilter, SessionRow};

const LOAD: &str = "\
    select version, body, codec, size, checksum, packed from agent_states where agent_id = $1 and session = $2";

/// The same without its text when it is the version, the size and the checksum that are known. A row without a checksum is
/// never known.
const REFRESH: &str = "\
    select version, known, case when known then '' else body end as body, codec, size, checksum, \
           case when not known then packed end as packed \
    from (select *, coalesce(version = $3 and size = $4 and checksum = $5, false) as known from agent_states \
          where agent_id = $1 and session = $2) s";

/// The first version only where there is none.
const FIRST: &str = "\
    insert into agent_states (agent_id, session, version, updated_at, body, codec, size, checksum, packed) \
    select n.agent, n.session, 1, n.at, n.body, n.codec, n.size, n.checksum, n.packed \
    from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::text[], $6::smallint[], $7::bigint[], \
                $8::bigint[], $9::bytea[]) \
      as n (agent, session, seen, at, body, codec, size, checksum, packed) \
    where n.seen = 0 \
    on conflict (agent_id, session) do nothing \
    returning agent_id, session, version";

/// A later one only over the version that it was made from.
const NEXT: &str = concat!(
    "update agent_states s set version = s.version + 1, updated_at = n.at, body = n.body, codec = n.codec, \
                               size = n.size, checksum = n.checksum, packed = n.packed \
     from unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::text[], $6::smallint[], $7::bigint[], \
                 $8::bigint[], $9::bytea[]) \
       as n (agent, session, seen, at, body, codec, size, checksum, packed) \
     where ",
    looked_up!("s.agent_id", "n.agent"),
    " and ",
    looked_up!("s.session", "n.session"),
    " and s.version = n.seen \
     returning s.agent_id, s.session, s.version"
);

const SESSIONS: &str = "\
    select session, version, coalesce(size, octet_length(body)) as bytes, updated_at from agent_states \
    where agent_id = $1 and session >= $2 and session is distinct from $3 order by session limit $4";

#[async_trait]
impl Memory for Store {
    async fn load(&self, agent: &AgentName, session: &str) -> Result<Option<Remembered>, Error> {
        let load = sqlx::query(LOAD).bind(agent.as_str().to_owned()).bind(session.to_owned());
        let row = self.one(load).await?;
        row.as_ref().map(|row| self.remembered(row, agent, session)).transpose()
    }

    async fn refresh(&self, agent: &AgentName, session: &str, known: Remembered) -> Result<Option<Remembered>, Error> {
        let refresh = sqlx::query(REFRESH)
            .bind(agent.as_str().to_owned())
            .bind(session.to_owned())
            .bind(count(known.version))
            .bind(known.body.len() as i64)
            .bind(known.checksum);
        let Some(row) = self.one(refresh).await? else { return Ok(None) };
        if Stored::new(&row, "agent_states").get("known")? {
            return Ok(Some(known));
        }
        self.remembered(&row, agent, session).map(Some)
    }

    async fn save(&self, agent: &AgentName, session: &str, over: u64, body: &str) -> Result<u64, Error> {
        let key = (agent.as_str().to_owned(), session.to_owned());
        let body = Payload::of("memory", body.to_owned(), None, self.options.payload).await?;
        let save = Save { key, over: count(over), body, at: moment(Utc::now()) };
        self.write(save).await?.ok_or_else(|| {
            Error::Conflict(format!("agent {agent}, session {session}: another version than {over} is there"))
        })
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, Error> {
        let sessions = sqlx::query(SESSIONS)
            .bind(filter.agent.as_str().to_owned())
            .bind(filter.after.clone().unwrap_or_default())
            .bind(filter.after.clone())
            .bind(self.rows(filter.limit));
        self.all(sessions).await?.iter().map(session).collect()
    }
}

impl Store {
    fn remembered(&self, row: &PgRow, agent: &AgentName, session: &str) -> Result<Remembered, Error> {
        let read = || {
            let row = Stored::new(row, "agent_states");
            let body = row.payload(BODY, None, self.options.payload.bytes_max)?;
            let checksum: Option<i64> = row.get("checksum")?;
            let checksum = checksum.unwrap_or_else(|| checksum_of(&body));
            Ok(Remembered { version: row.number("version")?, body: body.into(), checksum })
        };
        read().map_err(|error| at(error, &format!("agent {agent}, session {session}")))
    }
}

fn session(row: &PgRow) -> Result<SessionRow, Error> {
    let row = Stored::new(row, "agent_states");
    Ok(SessionRow {
        session: row.get("session")?,
        version: row.number("version")?,
        bytes: row.number("bytes")?,
        updated_at: row.time("updated_at")?,
    })
}

/// One memory, ready for the writer.
struct Save {
    key: (String, String),
    over: i64,
    body: Payload,
    at: DateTime<Utc>,
}

impl Save {
    fn statement<'q>(text: &'static str, batch: &[&'q Self], places: &[usize]) -> Statement<'q> {
        let save = sqlx::query(text)
            .bind(column(batch, places, |save| save.key.0.as_str()))
            .bind(column(batch, places, |save| save.key.1.as_str()))
            .bind(column(batch, places, |save| save.over))
            .bind(column(batch, places, |save| save.at));
        payload(save, batch, places, |save| &save.body)
    }
}

#[async_trait]
impl Operation<Session> for Save {
    /// The new version; `None` when it was made from another one than is there.
    type Reply = Option<u64>;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<Self::Reply>, postgres::Error> {
        let mut answers = vec![None; batch.len()];
        for round in rounds(batch, |save| save.key.clone()) {
            let (firsts, nexts): (Vec<usize>, Vec<usize>) = round.iter().partition(|place| batch[**place].over == 0);
            let mut saved = Vec::new();
            for (statement, places) in [(FIRST, firsts), (NEXT, nexts)] {
                if !places.is_empty() {
                    saved.extend(session.returning(Self::statement(statement, batch, &places)).await?);
                }
            }
            let mut saved: HashMap<(String, String), u64> =
                saved.iter().map(version).collect::<Result<_, Error>>().map_err(|error| broken(&error))?;
            for place in round {
                answers[place] = saved.remove(&batch[place].key);
            }
        }
        Ok(answers)
    }
}

fn version(row: &PgRow) -> Result<((String, String), u64), Error> {
    let row = Stored::new(row, "agent_states");
    Ok(((row.get("agent_id")?, row.get("session")?), row.number("version")?))
}
