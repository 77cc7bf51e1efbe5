//! Making a fork in SQLite: the task, its step and the entries that it takes over, in the one transaction of a batch.
//!
//! Forks are rare: each has statements of its own. Called through [`Tasks::fork`](crate::store::Tasks::fork); the unique
//! id of the task decides, and one that is there already is left as it is.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::rows::{array, hex, json};
use super::tasks::task_row;
use crate::domain::ids::TaskId;
use crate::domain::journal::FORMAT_VERSION;
use crate::sqlite;
use crate::sqlite::writer::Write;
use crate::store::payload::{Options, Payload};
use crate::store::{Error, Fork, NOBODY};

const TASK: &str = "\
    insert into tasks (id, agent_id, execution_mode, spec_digest, step_id, event_id, topic, traceparent, priority, \
                       created_at, event, codec, size, checksum, packed, \
                       forked_task, forked_run, forked_step_no, forked_entry) \
    select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5, value ->> 6, \
           value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, \
           unhex(value ->> 14), unhex(?2 ->> 0), unhex(?2 ->> 1), ?2 ->> 2, ?2 ->> 3 \
    from json_each(?1) where true \
    on conflict (id) do nothing \
    returning id";

const STEP: &str = "\
    insert into steps (id, task_id, run_no, step_no, status, owner, epoch, attempts, claims, claimed_seq, copied) \
    select unhex(value ->> 0), unhex(value ->> 1), 0, 0, 'running', value ->> 2, 0, 1, 0, 0, value ->> 3 \
    from json_each(?1)";

const ENTRIES: &str = "\
    insert into journal_entries (task, run_no, step_no, seq, step_id, version, kind, body, codec, size, checksum, packed) \
    select t.seq, s.run_no, s.step_no, a.value ->> 1, s.id, a.value ->> 2, a.value ->> 3, a.value ->> 4, a.value ->> 5, \
           a.value ->> 6, a.value ->> 7, unhex(a.value ->> 8) \
    from json_each(?1) a cross join steps s on s.id = unhex(a.value ->> 0) cross join tasks t on t.id = s.task_id";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[TASK, STEP, ENTRIES];

/// A fork, ready for the writer.
pub(super) struct Make {
    task: String,
    from: String,
    step: String,
    entries: Vec<String>,
}

impl Make {
    pub(super) async fn new(fork: &Fork, options: Options) -> Result<(TaskId, Self), Error> {
        let Fork { agent, mode, spec_digest, event, from, cut } = fork;
        let task = TaskId::derive(&event.id, agent.as_str());
        let step = task.run(0).step(0);
        let task_row = task_row(agent, *mode, spec_digest, event, options).await?;
        let from = json(&(hex(from.task_id.0), hex(from.run_id.0), from.step_no, from.entry))?;
        let mut entries = Vec::with_capacity(cut.kept.len());
        for entry in &cut.kept {
            let Payload { text, codec, size, checksum, packed } =
                Payload::of("entry", json(entry)?, None, options).await?;
            let (seq, kind, packed) = (entry.seq, entry.act.kind(), packed.map(hex::encode));
            entries.push(json(&(hex(step.0), seq, FORMAT_VERSION, kind, text, codec, size, checksum, packed))?);
        }
        let step = json(&(hex(step.0), hex(task.0), NOBODY.0, entries.len()))?;
        Ok((task, Self { task: task_row, from, step, entries }))
    }
}

#[async_trait]
impl Write for Make {
    type Reply = ();

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        for Self { task, from, step, entries } in batch {
            let row = array([task.as_str()]);
            let new = sqlx::query(TASK).bind(row).bind(from).fetch_optional(&mut *connection).await?.is_some();
            if new {
                sqlx::query(STEP).bind(array([step.as_str()])).execute(&mut *connection).await?;
                let rows = array(entries.iter().map(String::as_str));
                sqlx::query(ENTRIES).bind(rows).execute(&mut *connection).await?;
            }
        }
        Ok(vec![(); batch.len()])
    }
}
