//! Making a fork in PostgreSQL: the task, its step and the entries that it takes over, in the one transaction of a batch.
//!
//! Forks are rare: each has statements of its own. Called through [`Tasks::fork`](crate::store::Tasks::fork); the unique
//! id of the task decides, and one that is there already is left as it is.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::rows::{clean, column, event_json, json, moment, payload};
use crate::domain::ids::{StepId, TaskId};
use crate::domain::journal::FORMAT_VERSION;
use crate::group_commit::Operation;
use crate::postgres;
use crate::postgres::session::{Session, Statement};
use crate::store::payload::{Options, Payload};
use crate::store::{Error, Fork, NOBODY};

const TASK: &str = "\
    insert into tasks (id, agent_id, execution_mode, spec_digest, step_id, event_id, topic, traceparent, priority, \
                       created_at, event, codec, size, checksum, packed, \
                       forked_task, forked_run, forked_step_no, forked_entry) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
    on conflict (id) do nothing \
    returning id";

const STEP: &str = "\
    insert into steps (id, task_id, run_no, step_no, status, owner, epoch, attempts, claims, claimed_seq, copied) \
    values ($1, $2, 0, 0, 'running', $3, 0, 1, 0, 0, $4)";

const ENTRIES: &str = "\
    insert into journal (step_id, seq, version, kind, body, codec, size, checksum, packed) \
    select $1, n.seq, $2, n.kind, n.body, n.codec, n.size, n.checksum, n.packed \
    from unnest($3::bigint[], $4::text[], $5::text[], $6::smallint[], $7::bigint[], $8::bigint[], $9::bytea[]) \
      as n (seq, kind, body, codec, size, checksum, packed)";

/// A fork, ready for the writer.
pub(super) struct Make {
    task: TaskId,
    step: StepId,
    at: DateTime<Utc>,
    fork: Fork,
    event: Payload,
    entries: Vec<Kept>,
}

struct Kept {
    seq: i64,
    kind: &'static str,
    body: Payload,
}

impl Make {
    pub(super) async fn new(fork: Fork, options: Options) -> Result<(TaskId, Self), Error> {
        let event = Payload::of("event", event_json(&fork.event)?, None, options).await?;
        let mut entries = Vec::with_capacity(fork.cut.kept.len());
        for entry in &fork.cut.kept {
            let body = Payload::of("entry", json(entry)?, None, options).await?;
            entries.push(Kept { seq: entry.seq.into(), kind: entry.act.kind(), body });
        }
        let task = TaskId::derive(&fork.event.id, fork.agent.as_str());
        let step = task.run(0).step(0);
        Ok((task, Self { task, step, at: moment(Utc::now()), fork, event, entries }))
    }

    fn task(&self) -> Statement<'_> {
        let Self { fork, event: body, .. } = self;
        sqlx::query(TASK)
            .bind(self.task.0)
            .bind(fork.agent.as_str().to_owned())
            .bind(fork.mode.as_str())
            .bind(fork.spec_digest.to_string())
            .bind(self.step.0)
            .bind(clean(&fork.event.id))
            .bind(fork.event.topic.as_str().to_owned())
            .bind(fork.event.traceparent.as_str().to_owned())
            .bind(i64::from(u8::from(fork.event.priority)))
            .bind(self.at)
            .bind(body.text.clone())
            .bind(body.codec)
            .bind(body.size)
            .bind(body.checksum)
            .bind(body.packed.clone())
            .bind(fork.from.task_id.0)
            .bind(fork.from.run_id.0)
            .bind(i64::from(fork.from.step_no))
            .bind(i64::from(fork.from.entry))
    }

    fn step(&self) -> Statement<'_> {
        let copied = self.entries.len() as i64;
        sqlx::query(STEP).bind(self.step.0).bind(self.task.0).bind(NOBODY.0).bind(copied)
    }

    fn entries(&self) -> Statement<'_> {
        let (kept, places): (Vec<&Kept>, Vec<usize>) =
            (self.entries.iter().collect(), (0..self.entries.len()).collect());
        let entries = sqlx::query(ENTRIES)
            .bind(self.step.0)
            .bind(i64::from(FORMAT_VERSION))
            .bind(column(&kept, &places, |kept| kept.seq))
            .bind(column(&kept, &places, |kept| kept.kind));
        payload(entries, &kept, &places, |kept| &kept.body)
    }
}

#[async_trait]
impl Operation<Session> for Make {
    type Reply = ();

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<()>, postgres::Error> {
        for make in batch {
            if session.returning(make.task()).await?.is_empty() {
                continue;
            }
            session.write(make.step()).await?;
            session.write(make.entries()).await?;
        }
        Ok(vec![(); batch.len()])
    }
}
