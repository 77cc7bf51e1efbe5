//! How steps ended, in SQLite: read by agent and time from the index that their table has, whatever its size.
//!
//! Called through [`Results`]; a row that cannot be read is reported and left out of lists.

use async_trait::async_trait;
use chrono::DateTime;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::Store;
use super::rows::{Stored, at, ending, ending_columns, window};
use crate::domain::ids::{StepId, TaskId};
use crate::domain::step::StepStatus;
use crate::store::results::LIST_DEFAULT;
use crate::store::{Damage, Error, ResultFilter, ResultPlace, ResultRow, Results};

macro_rules! result_query {
    ($with:literal, $from:literal, $which:literal) => {
        concat!(
            $with,
            "select r.step_id, r.task_id, r.agent_id, r.status, t.created_at, ",
            ending_columns!(),
            " from ",
            $from,
            " left join tasks t on t.id = r.task_id ",
            $which
        )
    };
}

const RESULT: &str = result_query!("", "execution_results r", "where r.step_id = ?1");

const LIST_OF_AGENT: &str = result_query!(
    "",
    "execution_results r",
    "where r.agent_id = ?1 and (?2 is null or r.status = ?2) \
       and r.execution_timestamp >= ?3 and r.execution_timestamp < ?4 and (r.execution_timestamp, r.step_id) < (?5, ?6) \
     order by r.execution_timestamp desc, r.step_id desc limit ?7"
);

/// From one agent to the next in the index, the newest of each, and of those the newest: no second index by time alone,
/// which every end of a step would pay for.
const LIST: &str = result_query!(
    "with recursive c (agent_id) as ( \
         select min(agent_id) from execution_results \
         union all \
         select (select min(e.agent_id) from execution_results e where e.agent_id > c.agent_id) \
         from c where c.agent_id is not null) ",
    "c cross join execution_results r on r.id in ( \
         select e.id from execution_results e \
         where ?1 is null and e.agent_id = c.agent_id and (?2 is null or e.status = ?2) \
           and e.execution_timestamp >= ?3 and e.execution_timestamp < ?4 \
           and (e.execution_timestamp, e.step_id) < (?5, ?6) \
         order by e.execution_timestamp desc, e.step_id desc limit ?7)",
    "order by r.execution_timestamp desc, r.step_id desc limit ?7"
);

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[RESULT, LIST_OF_AGENT, LIST];

#[async_trait]
impl Results for Store {
    async fn results(&self, filter: &ResultFilter) -> Result<Vec<ResultRow>, Error> {
        let limit = self.rows(if filter.limit == 0 { LIST_DEFAULT } else { filter.limit });
        let (mut results, mut after) = (Vec::new(), filter.after);
        while (results.len() as i64) < limit {
            let wanted = limit - results.len() as i64;
            let rows = self.page(filter, after, wanted).await?;
            for row in &rows {
                after = Some(place(row)?);
                let end = result(row, self.options.payload.bytes_max);
                results.extend(self.reported.readable(end, "a result is left out of the list"));
            }
            if (rows.len() as i64) < wanted {
                break;
            }
        }
        Ok(results)
    }

    async fn result(&self, step: StepId) -> Result<Option<ResultRow>, Error> {
        let asked = sqlx::query(RESULT).bind(&step.0.as_bytes()[..]);
        asked
            .fetch_optional(self.database.readers())
            .await?
            .as_ref()
            .map(|row| result(row, self.options.payload.bytes_max))
            .transpose()
    }
}

impl Store {
    async fn page(
        &self,
        filter: &ResultFilter,
        after: Option<ResultPlace>,
        limit: i64,
    ) -> Result<Vec<SqliteRow>, Error> {
        let (since, until) = window(filter, after);
        let (at, step) = after.map_or((until, Uuid::max()), |place| (place.at, place.step.0));
        let page = sqlx::query(if filter.agent.is_some() { LIST_OF_AGENT } else { LIST })
            .bind(filter.agent.as_ref().map(|agent| agent.as_str().to_owned()))
            .bind(filter.status.map(StepStatus::as_str))
            .bind(since.timestamp_millis())
            .bind(until.timestamp_millis())
            .bind(at.timestamp_millis())
            .bind(&step.as_bytes()[..])
            .bind(limit);
        Ok(page.fetch_all(self.database.readers()).await?)
    }
}

fn place(row: &SqliteRow) -> Result<ResultPlace, Error> {
    let row = Stored::new(row, "execution_results");
    Ok(ResultPlace { at: row.time("execution_timestamp")?, step: StepId(row.id("step_id")?) })
}

fn result(row: &SqliteRow, bytes_max: usize) -> Result<ResultRow, Error> {
    let stored = Stored::new(row, "execution_results");
    let step = StepId(stored.id("step_id")?);
    let read = || {
        let end = ending(row, step, bytes_max)?
            .ok_or_else(|| Error::Corrupt(Damage::of("execution_results", "its time is missing")))?;
        let accepted: Option<i64> = Stored::new(row, "tasks").get("created_at")?;
        Ok(ResultRow {
            step_id: step,
            task_id: TaskId(stored.id("task_id")?),
            agent: stored.agent()?,
            status: stored.word("status", StepStatus::from_stored)?,
            attempt: end.attempt,
            accepted_at: accepted.and_then(DateTime::from_timestamp_millis),
            ended_at: end.at,
            outcome: end.outcome,
            usage: end.usage,
        })
    };
    read().map_err(|error| at(error, &format!("step {step}")))
}
