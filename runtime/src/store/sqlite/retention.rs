//! Deleting what is old, in SQLite: found by a reader, deleted by the writer, a bounded batch at a time.
//!
//! What is old is found from agent to agent by the index that results have. The writer's part is short, for everybody
//! else's writes wait behind it: it reads no more of the results than it deletes for. Called through [`Retention`].

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use sqlx::{Row as _, SqliteConnection};

use super::Store;
use super::rows::{Stored, broken, hex, json};
use crate::sqlite;
use crate::sqlite::writer::Write;
use crate::store::retention::JOURNALS;
use crate::store::{Cleaned, Error, Retention};

/// Agents that have results, one after the other by their index.
macro_rules! of_agents {
    ($rest:literal) => {
        concat!(
            "with recursive c (agent_id) as ( \
                 select min(agent_id) from execution_results \
                 union all \
                 select (select min(e.agent_id) from execution_results e where e.agent_id > c.agent_id) \
                 from c where c.agent_id is not null) ",
            $rest
        )
    };
}

const SINCE: &str = "select until from cleanings where what = ?1";

/// The time of the `?3`th result from `?1` on and before `?2`.
const NTH: &str = of_agents!(
    "select r.execution_timestamp from c cross join execution_results r on r.id in ( \
         select e.id from execution_results e \
         where e.agent_id = c.agent_id and e.execution_timestamp >= ?1 and e.execution_timestamp < ?2 \
         order by e.execution_timestamp limit ?3) \
     order by r.execution_timestamp limit 1 offset ?3 - 1"
);

const ENTRIES: &str = concat!(
    "delete from journal_entries where place in (select place from entries where step_id in (",
    of_agents!(
        "select r.step_id from c cross join execution_results r on r.agent_id = c.agent_id \
             and r.execution_timestamp >= ?1 and r.execution_timestamp < ?2 \
         cross join steps s on s.id = r.step_id \
         where s.status in ('succeeded', 'failed', 'cancelled') and r.step_id not in (select step_id from outbox)"
    ),
    ")) returning step_id"
);

const UNTIL: &str = "\
    insert into cleanings (what, until) values (?1, ?2) \
    on conflict (what) do update set until = max(until, excluded.until)";

const RESULTS: &str = concat!(
    "delete from execution_results where id in (",
    of_agents!(
        "select r.id from c cross join execution_results r on r.id in ( \
             select e.id from execution_results e cross join steps s on s.id = e.step_id \
             where e.agent_id = c.agent_id and e.execution_timestamp < ?1 \
               and s.status in ('succeeded', 'failed', 'cancelled') \
               and e.step_id not in (select step_id from outbox) \
               and e.task_id not in (select o.task_id from steps o where o.status in ('running', 'waiting')) \
             order by e.execution_timestamp limit ?2) \
         limit ?2"
    ),
    ") returning step_id, task_id"
);

/// Everything else of the tasks whose results are gone, by pairs of step and task.
const REST: [&str; 4] = [
    // By task: whatever became of its steps, a number that is given again must not find entries of its predecessor.
    "delete from journal_entries where task in \
     (select t.seq from json_each(?1) c cross join tasks t on t.id = unhex(c.value ->> 1))",
    "delete from steps where id in (select unhex(value ->> 0) from json_each(?1))",
    "delete from replies where task_id in (select unhex(value ->> 1) from json_each(?1))",
    "delete from tasks where id in (select unhex(value ->> 1) from json_each(?1))",
];

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[SINCE, NTH, ENTRIES, UNTIL, RESULTS, REST[0], REST[1], REST[2], REST[3]];

#[async_trait]
impl Retention for Store {
    async fn clean_journals(&self, keep: Duration, limit: usize) -> Result<Cleaned, Error> {
        let (before, readers) = (before(keep), self.database.readers());
        let since = sqlx::query(SINCE).bind(JOURNALS).fetch_optional(readers).await?;
        let since = since.map(|row| Stored::new(&row, "cleanings").get("until")).transpose()?.unwrap_or(i64::MIN);
        let nth = sqlx::query(NTH).bind(since).bind(before).bind(limit.max(1) as i64).fetch_optional(readers).await?;
        let nth: Option<i64> =
            nth.map(|row| Stored::new(&row, "execution_results").get("execution_timestamp")).transpose()?;
        // All that ended within the same millisecond goes along.
        let until = nth.map_or(before, |last| last + 1);
        let cleaned = self.write(Journals { since, until }).await?;
        Ok(Cleaned { more: nth.is_some(), ..cleaned })
    }

    async fn clean_tasks(&self, keep: Duration, limit: usize) -> Result<Cleaned, Error> {
        self.write(Tasks { before: before(keep), limit: limit.max(1) as i64 }).await
    }
}

fn before(keep: Duration) -> i64 {
    let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    Utc::now().timestamp_millis().saturating_sub(keep)
}

/// The entries of steps that ended within a time.
struct Journals {
    since: i64,
    until: i64,
}

#[async_trait]
impl Write for Journals {
    type Reply = Cleaned;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Cleaned>, sqlite::Error> {
        let mut answers = Vec::with_capacity(batch.len());
        for Self { since, until } in batch {
            let rows = sqlx::query(ENTRIES).bind(since).bind(until).fetch_all(&mut *connection).await?;
            sqlx::query(UNTIL).bind(JOURNALS).bind(until).execute(&mut *connection).await?;
            let steps: HashSet<&[u8]> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            answers.push(Cleaned { things: steps.len() as u64, rows: rows.len() as u64, more: false });
        }
        Ok(answers)
    }
}

/// Tasks that ended before a time.
struct Tasks {
    before: i64,
    limit: i64,
}

#[async_trait]
impl Write for Tasks {
    type Reply = Cleaned;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Cleaned>, sqlite::Error> {
        let mut answers = Vec::with_capacity(batch.len());
        for Self { before, limit } in batch {
            let old = sqlx::query(RESULTS).bind(before).bind(limit).fetch_all(&mut *connection).await?;
            let pair = |row: &sqlx::sqlite::SqliteRow| {
                let row = Stored::new(row, "execution_results");
                Ok((hex(row.id("step_id")?), hex(row.id("task_id")?)))
            };
            let pairs: Result<Vec<(String, String)>, Error> = old.iter().map(pair).collect();
            let pairs = pairs.and_then(|pairs| json(&pairs)).map_err(|error| broken(&error))?;
            let mut rows = old.len() as u64;
            if rows > 0 {
                for statement in REST {
                    rows += sqlx::query(statement).bind(&pairs).execute(&mut *connection).await?.rows_affected();
                }
            }
            answers.push(Cleaned { things: old.len() as u64, rows, more: old.len() as i64 >= *limit });
        }
        Ok(answers)
    }
}
