//! What agents keep between events, in SQLite: one row a session, compare-and-set on its version.
//!
//! Called through [`Memory`], usually behind the tiers.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::Utc;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Store;
use super::rows::{Stored, array, at, broken, count, json, rounds};
use crate::domain::agent::AgentName;
use crate::sqlite;
use crate::sqlite::writer::Write;
use crate::store::payload::{BODY, Payload, checksum as checksum_of};
use crate::store::{Error, Memory, Remembered, SessionFilter, SessionRow};

const LOAD: &str = "\
    select version, body, codec, size, checksum, packed from agent_states where agent_id = ?1 and session = ?2";

/// The same without its text when it is the version, the size and the checksum that are known. A row without a checksum is
/// never known.
const REFRESH: &str = "\
    select version, known, case when known then '' else body end as body, codec, size, checksum, \
           case when not known then packed end as packed \
    from (select *, coalesce(version = ?3 and size = ?4 and checksum = ?5, false) as known from agent_states \
          where agent_id = ?1 and session = ?2) s";

/// The first version only where there is none, a later one only over the version that it was made from.
const SAVE: &str = "\
    insert into agent_states (agent_id, session, version, updated_at, body, codec, size, checksum, packed) \
    select n.value ->> 0, n.value ->> 1, (n.value ->> 2) + 1, n.value ->> 3, n.value ->> 4, n.value ->> 5, \
           n.value ->> 6, n.value ->> 7, unhex(n.value ->> 8) from json_each(?1) n \
    where n.value ->> 2 = 0 or exists (select 1 from agent_states s where s.agent_id = n.value ->> 0 \
                                       and s.session = n.value ->> 1 and s.version = n.value ->> 2) \
    on conflict (agent_id, session) do update \
    set version = excluded.version, updated_at = excluded.updated_at, body = excluded.body, codec = excluded.codec, \
        size = excluded.size, checksum = excluded.checksum, packed = excluded.packed \
    where version = excluded.version - 1 \
    returning agent_id, session, version";

const SESSIONS: &str = "\
    select session, version, coalesce(size, octet_length(body)) as bytes, updated_at from agent_states \
    where agent_id = ?1 and session >= ?2 and session is not ?3 order by session limit ?4";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[LOAD, REFRESH, SAVE, SESSIONS];

#[async_trait]
impl Memory for Store {
    async fn load(&self, agent: &AgentName, session: &str) -> Result<Option<Remembered>, Error> {
        let row = sqlx::query(LOAD)
            .bind(agent.as_str().to_owned())
            .bind(session.to_owned())
            .fetch_optional(self.database.readers())
            .await?;
        row.as_ref().map(|row| self.remembered(row, agent, session)).transpose()
    }

    async fn refresh(&self, agent: &AgentName, session: &str, known: Remembered) -> Result<Option<Remembered>, Error> {
        let row = sqlx::query(REFRESH)
            .bind(agent.as_str().to_owned())
            .bind(session.to_owned())
            .bind(count(known.version))
            .bind(known.body.len() as i64)
            .bind(known.checksum)
            .fetch_optional(self.database.readers())
            .await?;
        let Some(row) = row else { return Ok(None) };
        if Stored::new(&row, "agent_states").get("known")? {
            return Ok(Some(known));
        }
        self.remembered(&row, agent, session).map(Some)
    }

    async fn save(&self, agent: &AgentName, session: &str, over: u64, body: &str) -> Result<u64, Error> {
        let key = (agent.as_str().to_owned(), session.to_owned());
        let Payload { text, codec, size, checksum, packed } =
            Payload::of("memory", body.to_owned(), None, self.options.payload).await?;
        let (now, packed) = (Utc::now().timestamp_millis(), packed.map(hex::encode));
        let row = json(&(&key.0, &key.1, count(over), now, text, codec, size, checksum, packed))?;
        self.write(Save { key, row }).await?.ok_or_else(|| {
            Error::Conflict(format!("agent {agent}, session {session}: another version than {over} is there"))
        })
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, Error> {
        let rows = sqlx::query(SESSIONS)
            .bind(filter.agent.as_str().to_owned())
            .bind(filter.after.clone().unwrap_or_default())
            .bind(filter.after.clone())
            .bind(self.rows(filter.limit))
            .fetch_all(self.database.readers())
            .await?;
        rows.iter().map(session).collect()
    }
}

impl Store {
    fn remembered(&self, row: &SqliteRow, agent: &AgentName, session: &str) -> Result<Remembered, Error> {
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

fn session(row: &SqliteRow) -> Result<SessionRow, Error> {
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
    row: String,
}

#[async_trait]
impl Write for Save {
    /// The new version; `None` when it was made from another one than is there.
    type Reply = Option<u64>;

    fn rows_alone(&self) -> Option<u64> {
        Some(1)
    }

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Self::Reply>, sqlite::Error> {
        let mut answers = vec![None; batch.len()];
        for round in rounds(batch, |save| save.key.clone()) {
            let rows = array(round.iter().map(|place| batch[*place].row.as_str()));
            let saved = sqlx::query(SAVE).bind(rows).fetch_all(&mut *connection).await?;
            let mut saved: HashMap<(String, String), u64> =
                saved.iter().map(version).collect::<Result<_, Error>>().map_err(|error| broken(&error))?;
            for place in round {
                answers[place] = saved.remove(&batch[place].key);
            }
        }
        Ok(answers)
    }
}

fn version(row: &SqliteRow) -> Result<((String, String), u64), Error> {
    let row = Stored::new(row, "agent_states");
    Ok(((row.get("agent_id")?, row.get("session")?), row.number("version")?))
}
