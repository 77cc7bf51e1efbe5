//! Deleting what is old, in PostgreSQL: a transaction a batch, on a connection beside the writer's.
//!
//! Not through the writer: nobody who waits for a commit should wait for a clean-up. An advisory lock, held as long as
//! the transaction, makes one node of the cluster clean at a time. Ages are by the server's clock. Called through
//! [`Retention`].

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Postgres, Transaction};

use super::Store;
use super::rows::Stored;
use crate::store::retention::JOURNALS;
use crate::store::{Cleaned, Error, Retention};

/// The number of the lock.
const LOCK: i64 = i64::from_be_bytes(*b"cleaning");

/// Agents that have results, one after the other by their index.
macro_rules! of_agents {
    ($rest:literal) => {
        concat!(
            "with recursive c (agent_id) as ( \
                 (select min(agent_id) from execution_results) \
                 union all \
                 select (select min(e.agent_id) from execution_results e where e.agent_id > c.agent_id) \
                 from c where c.agent_id is not null)",
            $rest
        )
    };
}

const BEGIN: &str = "\
    select pg_try_advisory_xact_lock($1) as mine, now() - $2 * interval '1 second' as before, \
           coalesce((select until from cleanings where what = $3), 'epoch') as since";

/// The time of the `$3`th result from `$1` on and before `$2`.
const NTH: &str = of_agents!(
    " select r.execution_timestamp from c cross join lateral ( \
         select e.execution_timestamp from execution_results e \
         where e.agent_id = c.agent_id and e.execution_timestamp >= $1 and e.execution_timestamp < $2 \
         order by e.execution_timestamp limit $3) r \
     order by r.execution_timestamp limit 1 offset $3 - 1"
);

const ENTRIES: &str = of_agents!(
    ", old as materialized ( \
         select r.step_id from c cross join lateral ( \
             select e.step_id from execution_results e \
             where e.agent_id = c.agent_id and e.execution_timestamp >= $1 and e.execution_timestamp < $2 \
             offset 0) r \
         join steps s on s.id = r.step_id \
         where s.status in ('succeeded', 'failed', 'cancelled') and r.step_id not in (select step_id from outbox)), \
     gone as (delete from journal j using old where j.step_id = old.step_id returning j.step_id) \
     select count(distinct step_id) as things, count(*) as rows from gone"
);

const UNTIL: &str = "\
    insert into cleanings (what, until) values ($1, $2) \
    on conflict (what) do update set until = greatest(cleanings.until, excluded.until)";

const TASKS: &str = of_agents!(
    ", old as materialized ( \
         select r.step_id, r.task_id from c cross join lateral ( \
             select e.step_id, e.task_id from execution_results e join steps s on s.id = e.step_id \
             where e.agent_id = c.agent_id and e.execution_timestamp < $1 \
               and s.status in ('succeeded', 'failed', 'cancelled') \
               and e.step_id not in (select step_id from outbox) \
               and e.task_id not in (select o.task_id from steps o where o.status in ('running', 'waiting')) \
             order by e.execution_timestamp limit $2) r \
         limit $2), \
     a as (delete from journal j using old where j.step_id = old.step_id returning 1), \
     b as (delete from execution_results r using old where r.step_id = old.step_id returning 1), \
     d as (delete from replies p using old where p.task_id = old.task_id returning 1), \
     e as (delete from steps s using old where s.id = old.step_id returning 1), \
     f as (delete from tasks t using old where t.id = old.task_id returning 1) \
     select (select count(*) from old) as things, \
            (select count(*) from a) + (select count(*) from b) + (select count(*) from d) + (select count(*) from e) \
              + (select count(*) from f) as rows"
);

#[async_trait]
impl Retention for Store {
    async fn clean_journals(&self, keep: Duration, limit: usize) -> Result<Cleaned, Error> {
        let Some(mut clean) = self.clean(keep).await? else { return Ok(Cleaned::default()) };
        let (since, before) = (clean.since, clean.before);
        let nth = sqlx::query(NTH).bind(since).bind(before).bind(limit.max(1) as i64);
        let nth = self.database.read(nth.fetch_optional(&mut *clean.transaction)).await?;
        let nth: Option<DateTime<Utc>> =
            nth.map(|row| Stored::new(&row, "execution_results").get("execution_timestamp")).transpose()?;
        // All that ended within the same millisecond goes along.
        let until = nth.map_or(before, |last| last + Duration::from_millis(1));
        let entries = sqlx::query(ENTRIES).bind(since).bind(until);
        let gone = self.database.read(entries.fetch_one(&mut *clean.transaction)).await?;
        let mark = sqlx::query(UNTIL).bind(JOURNALS).bind(until);
        self.database.read(mark.execute(&mut *clean.transaction)).await?;
        self.database.read(clean.transaction.commit()).await?;
        let gone = Stored::new(&gone, "journal");
        Ok(Cleaned { things: gone.number("things")?, rows: gone.number("rows")?, more: nth.is_some() })
    }

    async fn clean_tasks(&self, keep: Duration, limit: usize) -> Result<Cleaned, Error> {
        let Some(mut clean) = self.clean(keep).await? else { return Ok(Cleaned::default()) };
        let limit = limit.max(1) as u64;
        let tasks = sqlx::query(TASKS).bind(clean.before).bind(limit as i64);
        let gone = self.database.read(tasks.fetch_one(&mut *clean.transaction)).await?;
        self.database.read(clean.transaction.commit()).await?;
        let gone = Stored::new(&gone, "tasks");
        let things = gone.number("things")?;
        Ok(Cleaned { things, rows: gone.number("rows")?, more: things >= limit })
    }
}

/// A batch that is ours to do. Dropped, it has done nothing.
struct Clean {
    transaction: Transaction<'static, Postgres>,
    /// What ended before this is old.
    before: DateTime<Utc>,
    /// What ended before this has no entries left.
    since: DateTime<Utc>,
}

impl Store {
    /// Begins a batch; nothing when another node is at one.
    async fn clean(&self, keep: Duration) -> Result<Option<Clean>, Error> {
        let mut transaction = self.database.read(self.database.readers().begin()).await?;
        let begin = sqlx::query(BEGIN).bind(LOCK).bind(keep.as_secs_f64()).bind(JOURNALS);
        let row = self.database.read(begin.fetch_one(&mut *transaction)).await?;
        let row = Stored::new(&row, "cleanings");
        let mine: bool = row.get("mine")?;
        let (before, since) = (row.time("before")?, row.time("since")?);
        Ok(mine.then_some(Clean { transaction, before, since }))
    }
}
