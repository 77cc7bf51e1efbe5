//! How steps ended, in PostgreSQL: read by agent and time from the index that their table has, whatever its size.
//!
//! Called through [`Results`]; a row that cannot be read is reported and left out of lists.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
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

const RESULT: &str = result_query!("", "execution_results r", "where r.step_id = $1");

/// The newest in the index's own order, those of the last time all of them, and of these the page: an order that the index
/// does not have would be sorted first, an agent's whole share of the table for one page.
const LIST_OF_AGENT: &str = result_query!(
    "with newest as ( \
       select e.step_id from execution_results e \
       where e.agent_id = $1 and ($2::text is null or e.status = $2) \
         and e.execution_timestamp >= $3 and e.execution_timestamp < $4 \
         and (e.execution_timestamp, e.step_id) < ($5, $6) \
       order by e.execution_timestamp desc fetch first $7 rows with ties) ",
    "newest n join execution_results r on r.step_id = n.step_id",
    "order by r.execution_timestamp desc, r.step_id desc limit $7"
);

/// The same from one agent to the next in the index: no second index by time alone, which every end of a step would pay
/// for.
const LIST: &str = result_query!(
    "with recursive agents (agent_id) as ( \
         (select agent_id from execution_results order by agent_id limit 1) \
         union all \
         select (select e.agent_id from execution_results e where e.agent_id > a.agent_id order by e.agent_id limit 1) \
         from agents a where a.agent_id is not null), \
       newest as ( \
         select n.step_id from agents a cross join lateral ( \
           select e.step_id, e.execution_timestamp from execution_results e \
           where $1::text is null and e.agent_id = a.agent_id and ($2::text is null or e.status = $2) \
             and e.execution_timestamp >= $3 and e.execution_timestamp < $4 \
             and (e.execution_timestamp, e.step_id) < ($5, $6) \
           order by e.execution_timestamp desc fetch first $7 rows with ties) n \
         order by n.execution_timestamp desc, n.step_id desc limit $7) ",
    "newest n join execution_results r on r.step_id = n.step_id",
    "order by r.execution_timestamp desc, r.step_id desc"
);

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
        self.one(sqlx::query(RESULT).bind(step.0))
            .await?
            .as_ref()
            .map(|row| result(row, self.options.payload.bytes_max))
            .transpose()
    }
}

impl Store {
    async fn page(&self, filter: &ResultFilter, after: Option<ResultPlace>, limit: i64) -> Result<Vec<PgRow>, Error> {
        let (since, until) = window(filter, after);
        let (at, step) = after.map_or((until, Uuid::max()), |place| (place.at, place.step.0));
        let page = sqlx::query(if filter.agent.is_some() { LIST_OF_AGENT } else { LIST })
            .bind(filter.agent.as_ref().map(|agent| agent.as_str().to_owned()))
            .bind(filter.status.map(StepStatus::as_str))
            .bind(since)
            .bind(until)
            .bind(at)
            .bind(step)
            .bind(limit);
        self.all(page).await
    }
}

fn place(row: &PgRow) -> Result<ResultPlace, Error> {
    let row = Stored::new(row, "execution_results");
    Ok(ResultPlace { at: row.time("execution_timestamp")?, step: StepId(row.id("step_id")?) })
}

fn result(row: &PgRow, bytes_max: usize) -> Result<ResultRow, Error> {
    let stored = Stored::new(row, "execution_results");
    let step = StepId(stored.id("step_id")?);
    let read = || {
        let end = ending(row, step, bytes_max)?
            .ok_or_else(|| Error::Corrupt(Damage::of("execution_results", "its time is missing")))?;
        Ok(ResultRow {
            step_id: step,
            task_id: TaskId(stored.id("task_id")?),
            agent: stored.agent()?,
            status: stored.word("status", StepStatus::from_stored)?,
            attempt: end.attempt,
            accepted_at: Stored::new(row, "tasks").get::<Option<DateTime<Utc>>>("created_at")?,
            ended_at: end.at,
            outcome: end.outcome,
            usage: end.usage,
        })
    };
    read().map_err(|error| at(error, &format!("step {step}")))
}
