//! What must still be told to the bus, in SQLite: a row refers to its task and result and is deleted once told.
//!
//! Called by the relay through [`Outbox`]. A row that cannot be read is reported once and passed over, never deleted
//! and never in the way of the rows behind it.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Store;
use super::rows::{Stored, at, broken, ending, ending_columns, json};
use crate::domain::ids::{StepId, TaskId};
use crate::sqlite;
use crate::sqlite::writer::Write;
use crate::store::{Damage, Error, Outbox, Told};

const PENDING: &str = concat!(
    "select o.seq as place, o.task_id, o.step_id, t.agent_id, t.execution_mode, t.created_at, t.event, ",
    ending_columns!(),
    " from outbox o left join tasks t on t.id = o.task_id left join execution_results r on r.step_id = o.step_id \
     where o.seq > ?1 order by o.seq limit ?2"
);

const TOLD: &str = "delete from outbox where seq in (select value from json_each(?1))";

#[async_trait]
impl Outbox for Store {
    async fn pending(&self, limit: usize) -> Result<Vec<Told>, Error> {
        let limit = self.rows(limit);
        let (mut pending, mut after) = (Vec::new(), i64::MIN);
        while (pending.len() as i64) < limit {
            let wanted = limit - pending.len() as i64;
            let rows = sqlx::query(PENDING).bind(after).bind(wanted).fetch_all(self.database.readers()).await?;
            for row in &rows {
                after = Stored::new(row, "outbox").get("place")?;
                match told(row) {
                    Ok(told) => pending.push(told),
                    Err(error) => self.report(after, &error),
                }
            }
            if (rows.len() as i64) < wanted {
                break;
            }
        }
        Ok(pending)
    }

    async fn told(&self, seqs: Vec<i64>) -> Result<(), Error> {
        self.write(Forget(seqs)).await
    }
}

impl Store {
    /// Says once that a row cannot be told.
    fn report(&self, seq: i64, error: &Error) {
        let mut reported = self.reported.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if reported.insert(seq) {
            tracing::error!(seq, %error, "the end of a step cannot be told: its outbox row is passed over");
        }
        if reported.len() > self.options.unreadable_max {
            reported.pop_first();
        }
    }
}

fn told(row: &SqliteRow) -> Result<Told, Error> {
    let stored = Stored::new(row, "outbox");
    let (task, step) = (TaskId(stored.id("task_id")?), StepId(stored.id("step_id")?));
    let read = || {
        let tasks = Stored::new(row, "tasks");
        let end = ending(row, step)?
            .ok_or_else(|| Error::Corrupt(Damage::of("execution_results", "its result is missing")))?;
        Ok(Told {
            seq: stored.get("place")?,
            task,
            step,
            agent: tasks.agent()?,
            mode: tasks.mode()?,
            event: tasks.document("event")?,
            outcome: end.outcome,
            usage: end.usage,
            attempt: end.attempt,
            at: end.at,
            accepted_at: tasks.time("created_at")?,
        })
    };
    read().map_err(|error| at(error, &format!("step {step} of task {task}")))
}

/// These were told.
struct Forget(Vec<i64>);

#[async_trait]
impl Write for Forget {
    type Reply = ();

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        let seqs: Vec<i64> = batch.iter().flat_map(|forget| forget.0.iter().copied()).collect();
        let seqs = json(&seqs).map_err(|error| broken(&error))?;
        sqlx::query(TOLD).bind(seqs).execute(connection).await?;
        Ok(vec![(); batch.len()])
    }
}
