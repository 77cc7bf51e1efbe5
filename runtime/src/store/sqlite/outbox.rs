//! What must still be told to the bus, in SQLite: a row refers to its task and result and is deleted once told.
//!
//! Called by the relay through [`Outbox`]. A row that cannot be read is reported once and passed over, never deleted
//! and never in the way of the rows behind it.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Store;
use super::rows::{Stored, at, broken, ending, ending_columns, event_columns, json};
use crate::domain::ids::{StepId, TaskId};
use crate::domain::step::Incarnation;
use crate::sqlite;
use crate::sqlite::writer::Write;
use crate::store::{Damage, Error, Outbox, Told};

const PENDING: &str = concat!(
    "select o.seq as place, o.task_id, o.step_id, t.agent_id, ",
    event_columns!(),
    ", ",
    ending_columns!(),
    " from outbox o left join tasks t on t.id = o.task_id left join execution_results r on r.step_id = o.step_id \
     where o.owner = ?3 and o.seq > ?1 order by o.seq limit ?2"
);

/// Whether a row is of nobody who lives, nor of whoever asks.
macro_rules! is_gone {
    ($begin:literal, $end:literal) => {
        concat!(
            $begin,
            " where owner <> ?1 \
              and not exists (select 1 from nodes n where n.incarnation = outbox.owner and n.ended_at is null)",
            $end
        )
    };
}

const ANY_GONE: &str = is_gone!("select exists (select 1 from outbox", ")");
const INHERIT: &str = is_gone!("update outbox set owner = ?1", "");

const TOLD: &str = "delete from outbox where seq in (select value from json_each(?1))";

#[async_trait]
impl Outbox for Store {
    async fn pending(&self, teller: Incarnation, mut after: i64, limit: usize) -> Result<Vec<Told>, Error> {
        let limit = self.rows(limit);
        let mut pending = Vec::new();
        while (pending.len() as i64) < limit {
            let wanted = limit - pending.len() as i64;
            let rows =
                sqlx::query(PENDING).bind(after).bind(wanted).bind(teller.0).fetch_all(self.database.readers()).await?;
            for row in &rows {
                after = Stored::new(row, "outbox").get("place")?;
                let end = told(row, self.options.payload.bytes_max);
                pending.extend(
                    self.reported.readable(end, "the end of a step cannot be told: its outbox row is passed over"),
                );
            }
            if (rows.len() as i64) < wanted {
                break;
            }
        }
        Ok(pending)
    }

    async fn inherit(&self, heir: Incarnation) -> Result<u64, Error> {
        // Almost always there is nothing, and a look writes nothing.
        let any_gone = sqlx::query_scalar(ANY_GONE).bind(heir.0).fetch_one(self.database.readers());
        if any_gone.await? { self.write(Inherit(heir)).await } else { Ok(0) }
    }

    async fn told(&self, seqs: Vec<i64>) -> Result<(), Error> {
        self.write(Forget(seqs)).await
    }
}

fn told(row: &SqliteRow, bytes_max: usize) -> Result<Told, Error> {
    let stored = Stored::new(row, "outbox");
    let (task, step) = (TaskId(stored.id("task_id")?), StepId(stored.id("step_id")?));
    let read = || {
        let tasks = Stored::new(row, "tasks");
        let end = ending(row, step, bytes_max)?
            .ok_or_else(|| Error::Corrupt(Damage::of("execution_results", "its result is missing")))?;
        Ok(Told {
            seq: stored.get("place")?,
            task,
            step,
            agent: tasks.agent()?,
            event: Arc::new(tasks.event(bytes_max)?),
            outcome: end.outcome,
            attempt: end.attempt,
            at: end.at,
        })
    };
    read().map_err(|error| at(error, &format!("step {step} of task {task}")))
}

/// What nobody who lives tells is the heir's.
struct Inherit(Incarnation);

#[async_trait]
impl Write for Inherit {
    type Reply = u64;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<u64>, sqlite::Error> {
        let mut answers = Vec::with_capacity(batch.len());
        for inherit in batch {
            answers.push(sqlx::query(INHERIT).bind(inherit.0.0).execute(&mut *connection).await?.rows_affected());
        }
        Ok(answers)
    }
}

/// These were told.
struct Forget(Vec<i64>);

#[async_trait]
impl Write for Forget {
    type Reply = ();

    fn rows_alone(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        let seqs: Vec<i64> = batch.iter().flat_map(|forget| forget.0.iter().copied()).collect();
        let seqs = json(&seqs).map_err(|error| broken(&error))?;
        sqlx::query(TOLD).bind(seqs).execute(connection).await?;
        Ok(vec![(); batch.len()])
    }
}
