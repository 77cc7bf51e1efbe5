//! Answers on their way back, in SQLite: a small state machine a task, marked before each try.
//!
//! ```text
//! (none) ─begin─► sending ─Sent────► sent
//!    pending ◄─NotSent─┤ └─GivenUp─► given_up ─Sent─► sent      sending ─begin─► sending, doubtful + 1
//! ```
//!
//! `sending` found at the next try means that the try before ended without an answer. Called through [`Replies`].

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::Utc;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Store;
use super::rows::{Stored, array, at, broken, hex, json, rounds, task_place};
use crate::domain::ids::TaskId;
use crate::sqlite;
use crate::sqlite::writer::Write;
use crate::store::{Error, Replies, ReplyOutcome, ReplyRow, ReplyState};

const BEFORE: &str = "\
    select r.task_id, r.status from json_each(?1) b cross join replies r on r.task_id = unhex(b.value ->> 0)";

const BEGIN: &str = "\
    insert into replies (task_id, status, attempts, doubtful, updated_at) \
    select unhex(value ->> 0), 'sending', 1, 0, value ->> 1 from json_each(?1) where true \
    on conflict (task_id) do update set attempts = attempts + 1, doubtful = doubtful + (status = 'sending'), \
                                        status = 'sending', updated_at = excluded.updated_at \
    where status in ('sending', 'pending')";

/// What was sent stays sent; what was given up is sent only when it turns out to have been.
const SETTLE: &str = "\
    insert into replies (task_id, status, attempts, doubtful, ts, last_error, updated_at) \
    select unhex(value ->> 0), value ->> 2, 0, 0, value ->> 3, value ->> 4, value ->> 1 from json_each(?1) where true \
    on conflict (task_id) do update set status = excluded.status, ts = coalesce(excluded.ts, ts), \
                                        last_error = coalesce(excluded.last_error, last_error), \
                                        updated_at = excluded.updated_at \
    where status <> 'sent' and (status <> 'given_up' or excluded.status = 'sent')";

const REPLY: &str = "select status, attempts, doubtful, ts, last_error from replies where task_id = ?1";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[BEFORE, BEGIN, SETTLE, REPLY];

#[async_trait]
impl Replies for Store {
    async fn begin(&self, task: TaskId) -> Result<ReplyState, Error> {
        self.write(Begin { task, row: json(&(hex(task.0), Utc::now().timestamp_millis()))? }).await?
    }

    async fn settle(&self, task: TaskId, outcome: ReplyOutcome) -> Result<(), Error> {
        let (status, ts, error) = match outcome {
            ReplyOutcome::Sent { ts } => ("sent", ts, None),
            ReplyOutcome::NotSent { error } => ("pending", None, Some(error)),
            ReplyOutcome::GivenUp { error } => ("given_up", None, Some(error)),
        };
        let row = json(&(hex(task.0), Utc::now().timestamp_millis(), status, ts, error))?;
        self.write(Settle { task, row }).await
    }

    async fn reply(&self, task: TaskId) -> Result<Option<ReplyRow>, Error> {
        let row = sqlx::query(REPLY).bind(&task.0.as_bytes()[..]).fetch_optional(self.database.readers()).await?;
        row.as_ref().map(reply_row).transpose().map_err(|error| at(error, &task_place(task)))
    }
}

fn reply_row(row: &SqliteRow) -> Result<ReplyRow, Error> {
    let row = Stored::new(row, "replies");
    Ok(ReplyRow {
        status: row.get("status")?,
        attempts: row.number("attempts")?,
        doubtful: row.number("doubtful")?,
        ts: row.get("ts")?,
        last_error: row.get("last_error")?,
    })
}

/// A try begins.
struct Begin {
    task: TaskId,
    row: String,
}

#[async_trait]
impl Write for Begin {
    type Reply = Result<ReplyState, Error>;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Self::Reply>, sqlite::Error> {
        let mut answers: Vec<Self::Reply> = vec![Ok(ReplyState::Clear); batch.len()];
        for round in rounds(batch, |begin| begin.task) {
            let rows = array(round.iter().map(|place| batch[*place].row.as_str()));
            let before = sqlx::query(BEFORE).bind(&rows).fetch_all(&mut *connection).await?;
            let mut before: HashMap<TaskId, Self::Reply> = before.iter().map(state).collect::<Result<_, _>>()?;
            sqlx::query(BEGIN).bind(rows).execute(&mut *connection).await?;
            for place in round {
                if let Some(state) = before.remove(&batch[place].task) {
                    answers[place] = state;
                }
            }
        }
        Ok(answers)
    }
}

fn state(row: &SqliteRow) -> Result<(TaskId, Result<ReplyState, Error>), sqlite::Error> {
    let row = Stored::new(row, "replies");
    let task = row.id("task_id").map_err(|error| broken(&error))?;
    let state = row.word("status", |word| match word {
        "sending" => Some(ReplyState::Doubtful),
        "pending" => Some(ReplyState::Clear),
        "sent" => Some(ReplyState::Sent),
        "given_up" => Some(ReplyState::GivenUp),
        _ => None,
    });
    Ok((TaskId(task), state))
}

/// A try ended.
struct Settle {
    task: TaskId,
    row: String,
}

#[async_trait]
impl Write for Settle {
    type Reply = ();

    fn rows_alone(&self) -> Option<u64> {
        Some(1)
    }

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        for round in rounds(batch, |settle| settle.task) {
            let rows = array(round.iter().map(|place| batch[*place].row.as_str()));
            sqlx::query(SETTLE).bind(rows).execute(&mut *connection).await?;
        }
        Ok(vec![(); batch.len()])
    }
}
