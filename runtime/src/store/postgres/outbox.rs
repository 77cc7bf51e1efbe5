//! What must still be told to the bus, in PostgreSQL: a row refers to its task and result and is deleted once told.
//!
//! Called by the relay through [`Outbox`]. A row that cannot be read is reported once and passed over, never deleted
//! and never in the way of the rows behind it.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::Store;
use super::rows::{Stored, at, ending, ending_columns, event_columns};
use crate::domain::ids::{StepId, TaskId};
use crate::domain::step::Incarnation;
use crate::group_commit::Operation;
use crate::postgres;
use crate::postgres::session::Session;
use crate::store::{Damage, Error, Outbox, Told};

const PENDING: &str = concat!(
    "select o.seq as place, o.task_id, o.step_id, t.agent_id, ",
    event_columns!(),
    ", ",
    ending_columns!(),
    " from outbox o left join tasks t on t.id = o.task_id left join execution_results r on r.step_id = o.step_id \
     where o.owner = $3 and o.seq > $1 order by o.seq limit $2"
);

/// Whether anybody has ends to tell and does not live; from teller to teller by the index.
macro_rules! gone {
    ($then:literal) => {
        concat!(
            "with recursive tellers (owner) as ( \
                (select min(owner) from outbox) \
                union all \
                select (select min(o.owner) from outbox o where o.owner > t.owner) from tellers t \
                where t.owner is not null), \
             gone as ( \
                select owner from tellers t where t.owner is not null \
                  and not exists (select 1 from nodes n where n.incarnation = t.owner and n.ended_at is null)) ",
            $then
        )
    };
}

const ANY_GONE: &str = gone!("select exists (select 1 from gone) as any_gone");

/// Two heirs meet in the rows: the second finds that they are the first's.
const INHERIT: &str = gone!("update outbox o set owner = $1 from gone g where o.owner = g.owner");

#[async_trait]
impl Outbox for Store {
    async fn pending(&self, teller: Incarnation, mut after: i64, limit: usize) -> Result<Vec<Told>, Error> {
        let limit = self.rows(limit);
        let mut pending = Vec::new();
        while (pending.len() as i64) < limit {
            let wanted = limit - pending.len() as i64;
            let rows = self.all(sqlx::query(PENDING).bind(after).bind(wanted).bind(teller.0)).await?;
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
        // Almost always there is nothing, and a look costs no transaction that writes.
        let row = self.one(sqlx::query(ANY_GONE)).await?;
        if !row.is_some_and(|row| row.get("any_gone")) {
            return Ok(0);
        }
        self.write(Inherit(heir)).await
    }

    async fn told(&self, seqs: Vec<i64>) -> Result<(), Error> {
        self.write(Forget(seqs)).await
    }
}

fn told(row: &PgRow, bytes_max: usize) -> Result<Told, Error> {
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
impl Operation<Session> for Inherit {
    type Reply = u64;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<u64>, postgres::Error> {
        let mut answers = Vec::with_capacity(batch.len());
        for inherit in batch {
            answers.push(session.changing(sqlx::query(INHERIT).bind(inherit.0.0)).await?);
        }
        Ok(answers)
    }
}

/// These were told.
struct Forget(Vec<i64>);

#[async_trait]
impl Operation<Session> for Forget {
    type Reply = ();
    /// What was told was told, whoever lives.
    const UNDER_LEASE: bool = false;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<()>, postgres::Error> {
        let seqs: Vec<String> = batch.iter().flat_map(|forget| &forget.0).map(i64::to_string).collect();
        session.write_last(&format!("delete from outbox where seq = any ('{{{}}}')", seqs.join(",")));
        Ok(vec![(); batch.len()])
    }
}
