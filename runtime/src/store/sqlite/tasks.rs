//! The inbox in SQLite: accepting, and the task as people see it.
//!
//! A task's wide row is inserted once; how it stands is read from its step and its result. Called through
//! [`Tasks`]; an unreadable row fails the call that asked for it by id, and is reported and left out of lists.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::Utc;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::Store;
use super::forks::Make;
use super::rows::{
    Stored, array, at, ending, ending_columns, event_columns, event_json, hex, ids, json, range, task_place,
};
use crate::domain::agent::{AgentName, ExecutionMode};
use crate::domain::chat::Usage;
use crate::domain::event::Event;
use crate::domain::fork::ForkedFrom;
use crate::domain::ids::{RunId, StepId, TaskId};
use crate::domain::journal::Act;
use crate::domain::step::{Epoch, Incarnation, StepStatus};
use crate::domain::task::TaskStatus;
use crate::sqlite;
use crate::sqlite::writer::{Write, alone};
use crate::store::payload::{Options, Payload};
use crate::store::{Acceptance, Accepted, Claim, Error, Fork, Journal as _, Step, Task, TaskFilter, Tasks};

/// Tasks that a list answers when its caller names no number.
const LIST_DEFAULT: usize = 100;

macro_rules! accept_tasks {
    ($returning:literal) => {
        concat!(
            "insert into tasks (id, agent_id, execution_mode, spec_digest, step_id, event_id, topic, traceparent, priority, \
                                created_at, event, codec, size, checksum, packed) \
             select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5, \
                    value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, \
                    value ->> 13, unhex(value ->> 14) \
             from json_each(?1) where true \
             on conflict (id) do nothing",
            $returning
        )
    };
}

macro_rules! accept_steps {
    ($rows:literal, $which:literal) => {
        concat!(
            "insert into steps (id, task_id, run_no, step_no, status, owner, epoch, attempts, claims, claimed_seq) \
             select unhex(value ->> 0), unhex(value ->> 1), 0, 0, 'running', value ->> 2, 1, 1, 1, 0 \
             from json_each(",
            $rows,
            ")",
            $which
        )
    };
}

const ACCEPT_TASKS: &str = accept_tasks!(" returning id");
const ACCEPT_STEPS: &str = accept_steps!("?1", "");
const ACCEPT_ALONE: &str = alone!(accept_tasks!(""), accept_steps!("?2", " where changes() > 0"));

const EVENT: &str = concat!("select ", event_columns!(), " from tasks t where t.id = ?1");

const FIND: &str = "select id from tasks where id between ?1 and ?2 order by id limit ?3";

macro_rules! task_query {
    ($from:literal, $which:literal) => {
        concat!(
            "select t.seq as place, t.id, t.agent_id, t.execution_mode, t.spec_digest, t.created_at, \
                    s.id as step_id, s.run_no, s.step_no, s.status, s.owner, s.epoch, s.attempts, s.claims, s.copied, \
                    t.forked_task, t.forked_run, t.forked_step_no, t.forked_entry, ",
            event_columns!(),
            ", ",
            ending_columns!(),
            " from ",
            $from,
            " left join execution_results r on r.step_id = s.id where ",
            $which
        )
    };
}

const TASK: &str = task_query!("tasks t join steps s on s.id = t.step_id", "t.id = ?1");

// One statement for each way in, so that each is served by its index: the newest tasks, an agent's, the open ones.
const LIST: &str = task_query!(
    "tasks t join steps s on s.id = t.step_id",
    "?1 is null and (?2 is null or s.status = ?2) and t.created_at >= ?3 and t.seq < ?4 order by t.seq desc limit ?5"
);
const LIST_OF_AGENT: &str = task_query!(
    "tasks t join steps s on s.id = t.step_id",
    "t.agent_id = ?1 and (?2 is null or s.status = ?2) and t.created_at >= ?3 and t.seq < ?4 \
     order by t.seq desc limit ?5"
);
const LIST_OPEN: &str = task_query!(
    "steps s cross join tasks t on t.id = s.task_id",
    "(?1 is null or t.agent_id = ?1) and s.status in ('running', 'waiting') and s.status = ?2 \
     and t.created_at >= ?3 and t.seq < ?4 order by t.seq desc limit ?5"
);

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[ACCEPT_TASKS, ACCEPT_STEPS, EVENT, FIND, TASK, LIST_OF_AGENT, LIST_OPEN];

#[async_trait]
impl Tasks for Store {
    async fn accept(&self, acceptance: Acceptance) -> Result<Accepted, Error> {
        self.write(Accept::new(&acceptance, self.options.payload).await?).await
    }

    async fn fork(&self, fork: Fork) -> Result<TaskId, Error> {
        let (task, make) = Make::new(&fork, self.options.payload).await?;
        self.write(make).await.map(|()| task)
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>, Error> {
        let row = sqlx::query(TASK).bind(&id.0.as_bytes()[..]).fetch_optional(self.database.readers()).await?;
        let Some(row) = row else { return Ok(None) };
        let mut task = task(&row, self.options.payload.bytes_max)?;
        if task.outcome.is_none() {
            task.usage = self.used_so_far(&task.steps).await?;
        }
        Ok(Some(task))
    }

    async fn event(&self, id: TaskId) -> Result<Option<Event>, Error> {
        let row = sqlx::query(EVENT).bind(&id.0.as_bytes()[..]).fetch_optional(self.database.readers()).await?;
        let event = |row: &SqliteRow| Stored::new(row, "tasks").event(self.options.payload.bytes_max);
        row.as_ref().map(event).transpose().map_err(|error| at(error, &task_place(id)))
    }

    async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        let statement = match (filter.status, &filter.agent) {
            // Not accepted yet: these are on the bus.
            (Some(TaskStatus::Received), _) => return Ok(Vec::new()),
            (Some(TaskStatus::Running | TaskStatus::Waiting), _) => LIST_OPEN,
            (_, Some(_)) => LIST_OF_AGENT,
            (_, None) => LIST,
        };
        let limit = if filter.limit == 0 { LIST_DEFAULT } else { filter.limit };
        let rows = sqlx::query(statement)
            .bind(filter.agent.as_ref().map(|agent| agent.as_str().to_owned()))
            .bind(filter.status.map(TaskStatus::as_str))
            .bind(filter.since.map_or(i64::MIN, |since| since.timestamp_millis()))
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(self.rows(limit))
            .fetch_all(self.database.readers())
            .await?;
        let bytes_max = self.options.payload.bytes_max;
        let readable = |row| self.reported.readable(task(row, bytes_max), "a task is left out of the list");
        Ok(rows.iter().filter_map(readable).collect())
    }

    async fn find(&self, prefix: &str, limit: usize) -> Result<Vec<TaskId>, Error> {
        let Some((from, to)) = range(prefix) else { return Ok(Vec::new()) };
        let rows = sqlx::query(FIND)
            .bind(&from.as_bytes()[..])
            .bind(&to.as_bytes()[..])
            .bind(self.rows(limit))
            .fetch_all(self.database.readers())
            .await?;
        rows.iter().map(|row| Stored::new(row, "tasks").id("id").map(TaskId)).collect()
    }
}

impl Store {
    /// What the journaled model calls of open steps used.
    async fn used_so_far(&self, steps: &[Step]) -> Result<Usage, Error> {
        let mut usage = Usage::default();
        for step in steps {
            for entry in self.entries(step.id).await?.into_iter().skip(step.copied as usize) {
                if let Act::ModelResult { completion, .. } = entry.act {
                    usage.add(completion.usage);
                }
            }
        }
        Ok(usage)
    }
}

/// A task's row as [`ACCEPT_TASKS`] and a fork's statement read it.
pub(super) async fn task_row(
    agent: &AgentName,
    mode: ExecutionMode,
    spec_digest: &str,
    event: &Event,
    options: Options,
) -> Result<String, Error> {
    let body = Payload::of("event", event_json(event)?, None, options).await?;
    let task = TaskId::derive(&event.id, agent.as_str());
    json(&(
        hex(task.0),
        agent.as_str(),
        mode.as_str(),
        spec_digest,
        hex(task.run(0).step(0).0),
        &event.id,
        event.topic.as_str(),
        event.traceparent.as_str(),
        u8::from(event.priority),
        Utc::now().timestamp_millis(),
        &body.text,
        body.codec,
        body.size,
        body.checksum,
        body.packed.map(hex::encode),
    ))
}

/// One acceptance, ready for the writer.
struct Accept {
    claim: Claim,
    task_row: String,
    step_row: String,
}

impl Accept {
    async fn new(acceptance: &Acceptance, options: Options) -> Result<Self, Error> {
        let event = &acceptance.event;
        let task = TaskId::derive(&event.id, acceptance.agent.as_str());
        let step = task.run(0).step(0);
        let Acceptance { agent, mode, spec_digest, .. } = acceptance;
        let task_row = task_row(agent, *mode, spec_digest, event, options).await?;
        let step_row = json(&(hex(step.0), hex(task.0), acceptance.owner.0))?;
        Ok(Self { claim: Claim { task, step, epoch: Epoch(1) }, task_row, step_row })
    }
}

#[async_trait]
impl Write for Accept {
    type Reply = Accepted;

    fn rows_alone(&self) -> Option<u64> {
        Some(2)
    }

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Accepted>, sqlite::Error> {
        let mut answers: Vec<Accepted> = batch.iter().map(|accept| Accepted::Duplicate(accept.claim.task)).collect();
        // Within a batch the first of several with one id is the one; the unique id decides about all before it.
        let mut firsts: HashMap<Uuid, usize> = HashMap::with_capacity(batch.len());
        for (place, accept) in batch.iter().enumerate() {
            firsts.entry(accept.claim.task.0).or_insert(place);
        }
        let mut places: Vec<usize> = firsts.into_values().collect();
        places.sort_unstable();
        let rows = array(places.iter().map(|place| batch[*place].task_row.as_str()));
        let new = ids(&sqlx::query(ACCEPT_TASKS).bind(rows).fetch_all(&mut *connection).await?)?;
        places.retain(|place| new.contains(&batch[*place].claim.task.0));
        if !places.is_empty() {
            let rows = array(places.iter().map(|place| batch[*place].step_row.as_str()));
            sqlx::query(ACCEPT_STEPS).bind(rows).execute(connection).await?;
        }
        for place in places {
            answers[place] = Accepted::New(batch[place].claim);
        }
        Ok(answers)
    }

    async fn execute_alone(&self, connection: &mut SqliteConnection) -> Result<Option<Accepted>, sqlite::Error> {
        let accept = sqlx::query_scalar(ACCEPT_ALONE)
            .bind(array([self.task_row.as_str()]))
            .bind(array([self.step_row.as_str()]));
        let steps: i64 = accept.fetch_one(connection).await?;
        Ok((steps == 1).then_some(Accepted::New(self.claim)))
    }
}

fn task(row: &SqliteRow, bytes_max: usize) -> Result<Task, Error> {
    let stored = Stored::new(row, "tasks");
    let id = TaskId(stored.id("id")?);
    let read = || {
        let event = stored.event(bytes_max)?;
        let step = step(row, id)?;
        let ending = ending(row, step.id, bytes_max)?;
        let input = event.input();
        Ok(Task {
            id,
            place: stored.get("place")?,
            agent: stored.agent()?,
            execution_mode: stored.mode()?,
            status: step.status.task(),
            event_id: event.id,
            topic: event.topic.as_str().to_owned(),
            input,
            traceparent: event.traceparent,
            priority: event.priority,
            spec_digest: stored.get("spec_digest")?,
            created_at: stored.time("created_at")?,
            ended_at: ending.as_ref().map(|ending| ending.at),
            usage: ending.as_ref().map(|ending| ending.usage).unwrap_or_default(),
            outcome: ending.map(|ending| ending.outcome),
            forked_from: forked_from(stored)?,
            steps: vec![step],
        })
    };
    read().map_err(|error| at(error, &task_place(id)))
}

/// Of what a task is a fork.
fn forked_from(row: Stored<'_>) -> Result<Option<ForkedFrom>, Error> {
    let Some(entry) = row.get::<Option<i64>>("forked_entry")? else { return Ok(None) };
    Ok(Some(ForkedFrom {
        task_id: TaskId(row.id("forked_task")?),
        run_id: RunId(row.id("forked_run")?),
        step_no: row.number("forked_step_no")?,
        entry: u32::try_from(entry).map_err(|error| row.bad("forked_entry", error))?,
    }))
}

/// Reads the columns of `steps`, its id under the name `step_id`.
pub(super) fn step(row: &SqliteRow, task: TaskId) -> Result<Step, Error> {
    let row = Stored::new(row, "steps");
    let run_no = row.number("run_no")?;
    Ok(Step {
        id: StepId(row.id("step_id")?),
        run: task.run(run_no),
        run_no,
        step_no: row.number("step_no")?,
        status: row.word("status", StepStatus::from_stored)?,
        owner: Incarnation(row.get("owner")?),
        epoch: Epoch(row.get("epoch")?),
        attempts: row.number("attempts")?,
        claims: row.number("claims")?,
        copied: row.number("copied")?,
    })
}
