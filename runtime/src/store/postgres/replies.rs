//! Answers on their way back, in PostgreSQL: a small state machine a task, marked before each try.
//!
//! ```text
//! (none) ─begin─► sending ─Sent────► sent
//!    pending ◄─NotSent─┤ └─GivenUp─► given_up ─Sent─► sent      sending ─begin─► sending, doubtful + 1
//! ```
//!
//! `sending` found at the next try means that the try before ended without an answer. Called through [`Replies`].

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;

use super::Store;
use super::rows::{Stored, at, broken, clean, column, moment, rounds, task_place};
use crate::domain::ids::TaskId;
use crate::group_commit::Operation;
use crate::postgres;
use crate::postgres::session::Session;
use crate::store::{Error, Replies, ReplyOutcome, ReplyRow, ReplyState};

/// One statement, so that of two nodes that begin at once the second hears of the first.
const BEGIN: &str = "\
    insert into replies as r (task_id, status, attempts, doubtful, updated_at) \
    select n.task, 'sending', 1, 0, n.at from unnest($1::uuid[], $2::timestamptz[]) as n (task, at) \
    on conflict (task_id) do update \
    set attempts = r.attempts + 1, doubtful = r.doubtful + case when r.status = 'sending' then 1 else 0 end, \
        previous = r.status, status = 'sending', updated_at = excluded.updated_at \
    where r.status in ('sending', 'pending') \
    returning task_id, coalesce(previous, 'pending') as status";

/// How those stand that no try may begin for.
const ENDED: &str = "select task_id, status from replies where task_id = any($1) and status in ('sent', 'given_up')";

/// What was sent stays sent; what was given up is sent only when it turns out to have been.
const SETTLE: &str = "\
    insert into replies as r (task_id, status, attempts, doubtful, ts, last_error, updated_at) \
    select n.task, n.status, 0, 0, n.ts, n.error, n.at \
    from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[]) as n (task, status, ts, error, at) \
    on conflict (task_id) do update set status = excluded.status, ts = coalesce(excluded.ts, r.ts), \
                                        last_error = coalesce(excluded.last_error, r.last_error), \
                                        updated_at = excluded.updated_at \
    where r.status <> 'sent' and (r.status <> 'given_up' or excluded.status = 'sent')";

const REPLY: &str = "select status, attempts, doubtful, ts, last_error from replies where task_id = $1";

#[async_trait]
impl Replies for Store {
    async fn begin(&self, task: TaskId) -> Result<ReplyState, Error> {
        self.write(Begin { task, at: moment(Utc::now()) }).await?
    }

    async fn settle(&self, task: TaskId, outcome: ReplyOutcome) -> Result<(), Error> {
        let (status, ts, error) = match outcome {
            ReplyOutcome::Sent { ts } => ("sent", ts, None),
            ReplyOutcome::NotSent { error } => ("pending", None, Some(error)),
            ReplyOutcome::GivenUp { error } => ("given_up", None, Some(error)),
        };
        let cleaned = |text: Option<String>| text.map(|text| clean(&text).into_owned());
        let (ts, error) = (cleaned(ts), cleaned(error));
        self.write(Settle { task, status, ts, error, at: moment(Utc::now()) }).await
    }

    async fn reply(&self, task: TaskId) -> Result<Option<ReplyRow>, Error> {
        let row = self.one(sqlx::query(REPLY).bind(task.0)).await?;
        row.as_ref().map(reply_row).transpose().map_err(|error| at(error, &task_place(task)))
    }
}

fn reply_row(row: &PgRow) -> Result<ReplyRow, Error> {
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
    at: DateTime<Utc>,
}

#[async_trait]
impl Operation<Session> for Begin {
    type Reply = Result<ReplyState, Error>;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<Self::Reply>, postgres::Error> {
        let mut answers: Vec<Self::Reply> = vec![Ok(ReplyState::Clear); batch.len()];
        for round in rounds(batch, |begin| begin.task) {
            let tasks = column(batch, &round, |begin| begin.task.0);
            let begin = sqlx::query(BEGIN).bind(tasks.clone()).bind(column(batch, &round, |begin| begin.at));
            let mut before = session.returning(begin).await?;
            if before.len() < round.len() {
                before.extend(session.read(sqlx::query(ENDED).bind(tasks)).await?);
            }
            let mut before: HashMap<TaskId, Self::Reply> = before.iter().map(state).collect::<Result<_, _>>()?;
            for place in round {
                if let Some(state) = before.remove(&batch[place].task) {
                    answers[place] = state;
                }
            }
        }
        Ok(answers)
    }
}

fn state(row: &PgRow) -> Result<(TaskId, Result<ReplyState, Error>), postgres::Error> {
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
    status: &'static str,
    ts: Option<String>,
    error: Option<String>,
    at: DateTime<Utc>,
}

#[async_trait]
impl Operation<Session> for Settle {
    type Reply = ();
    /// What came of a call came of it, whoever lives.
    const UNDER_LEASE: bool = false;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<()>, postgres::Error> {
        for round in rounds(batch, |settle| settle.task) {
            let settle = sqlx::query(SETTLE)
                .bind(column(batch, &round, |settle| settle.task.0))
                .bind(column(batch, &round, |settle| settle.status))
                .bind(column(batch, &round, |settle| settle.ts.as_deref()))
                .bind(column(batch, &round, |settle| settle.error.as_deref()))
                .bind(column(batch, &round, |settle| settle.at));
            session.write(settle).await?;
        }
        Ok(vec![(); batch.len()])
    }
}
