//! The inbox in PostgreSQL: accepting, and the task as people see it.
//!
//! A task's wide row is inserted once; how it stands is read from its step and its result. Called through
//! [`Tasks`]; an unreadable row fails the call that asked for it by id, and is reported and left out of lists.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::Store;
use super::forks::Make;
use super::rows::{
    Stored, at, clean, column, ending, ending_columns, event_columns, event_json, moment, one_payload, payload, range,
    task_place, under_lease,
};
use crate::domain::chat::Usage;
use crate::domain::event::Event;
use crate::domain::fork::ForkedFrom;
use crate::domain::ids::{RunId, StepId, TaskId};
use crate::domain::journal::Act;
use crate::domain::step::{Epoch, Incarnation, StepStatus};
use crate::domain::task::TaskStatus;
use crate::group_commit::Operation;
use crate::postgres;
use crate::postgres::session::{Session, Statement};
use crate::store::payload::{Options, Payload};
use crate::store::{Acceptance, Accepted, Claim, Error, Fork, Journal as _, Step, Task, TaskFilter, Tasks};

/// The task and its step.
const ROWS_OF_A_TASK: u64 = 2;
/// Tasks that a list answers when its caller names no number.
const LIST_DEFAULT: usize = 100;

/// Tasks with their steps, which are the same node's. Answers those that were not there.
const ACCEPT: &str = "\
    with new as ( \
        insert into tasks (id, agent_id, execution_mode, spec_digest, step_id, event_id, topic, traceparent, priority, \
                           created_at, event, codec, size, checksum, packed) \
        select n.id, n.agent, n.mode, n.digest, n.step, n.event_id, n.topic, n.trace, n.priority, n.at, n.event, \
               n.codec, n.size, n.checksum, n.packed \
        from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[], \
                    $9::bigint[], $10::timestamptz[], $11::text[], $12::smallint[], $13::bigint[], $14::bigint[], \
                    $15::bytea[]) with ordinality \
          as n (id, agent, mode, digest, step, event_id, topic, trace, priority, at, event, codec, size, checksum, \
                packed, place) \
        order by n.place \
        on conflict (id) do nothing returning id, step_id), \
     opened as ( \
        insert into steps (id, task_id, run_no, step_no, status, owner, epoch, attempts, claims, claimed_seq) \
        select new.step_id, new.id, 0, 0, 'running', $16, 1, 1, 1, 0 from new) \
     select array(select id from new) as made";

/// One task with its step, under the lease of a node.
const ACCEPT_ALONE: &str = concat!(
    "with new as ( \
        insert into tasks (id, agent_id, execution_mode, spec_digest, step_id, event_id, topic, traceparent, priority, \
                           created_at, event, codec, size, checksum, packed) \
        select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15 from nodes n where ",
    under_lease!("$16"),
    " on conflict (id) do nothing returning id) \
     insert into steps (id, task_id, run_no, step_no, status, owner, epoch, attempts, claims, claimed_seq) \
     select $5, new.id, 0, 0, 'running', $17, 1, 1, 1, 0 from new"
);

const EVENT: &str = concat!("select ", event_columns!(), " from tasks t where t.id = $1");

const FIND: &str = "select id from tasks where id between $1 and $2 order by id limit $3";

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

const TASK: &str = task_query!("tasks t join steps s on s.id = t.step_id", "t.id = $1");

// One statement for each way in, so that each is served by its index: the newest tasks, an agent's, the open ones.
const LIST: &str = task_query!(
    "tasks t join steps s on s.id = t.step_id",
    "$1::text is null and ($2::text is null or s.status = $2) and ($3::timestamptz is null or t.created_at >= $3) \
     and t.seq < $4 order by t.seq desc limit $5"
);
const LIST_OF_AGENT: &str = task_query!(
    "tasks t join steps s on s.id = t.step_id",
    "t.agent_id = $1::text and ($2::text is null or s.status = $2) \
     and ($3::timestamptz is null or t.created_at >= $3) and t.seq < $4 order by t.seq desc limit $5"
);
const LIST_OPEN: &str = task_query!(
    "steps s join tasks t on t.id = s.task_id",
    "($1::text is null or t.agent_id = $1) and s.status in ('running', 'waiting') and s.status = $2::text \
     and ($3::timestamptz is null or t.created_at >= $3) and t.seq < $4 order by t.seq desc limit $5"
);

#[async_trait]
impl Tasks for Store {
    async fn accept(&self, acceptance: Acceptance) -> Result<Accepted, Error> {
        self.write(Accept::new(acceptance, self.options.payload).await?).await
    }

    async fn fork(&self, fork: Fork) -> Result<TaskId, Error> {
        let (task, make) = Make::new(fork, self.options.payload).await?;
        self.write(make).await.map(|()| task)
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>, Error> {
        let row = self.one(sqlx::query(TASK).bind(id.0)).await?;
        let Some(row) = row else { return Ok(None) };
        let mut task = task(&row, self.options.payload.bytes_max)?;
        if task.outcome.is_none() {
            task.usage = self.used_so_far(&task.steps).await?;
        }
        Ok(Some(task))
    }

    async fn event(&self, id: TaskId) -> Result<Option<Event>, Error> {
        let row = self.one(sqlx::query(EVENT).bind(id.0)).await?;
        let event = |row: &PgRow| Stored::new(row, "tasks").event(self.options.payload.bytes_max);
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
        let statement = sqlx::query(statement)
            .bind(filter.agent.as_ref().map(|agent| agent.as_str().to_owned()))
            .bind(filter.status.map(TaskStatus::as_str))
            .bind(filter.since)
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(self.rows(limit));
        let rows = self.all(statement).await?;
        let bytes_max = self.options.payload.bytes_max;
        let readable = |row| self.reported.readable(task(row, bytes_max), "a task is left out of the list");
        Ok(rows.iter().filter_map(readable).collect())
    }

    async fn find(&self, prefix: &str, limit: usize) -> Result<Vec<TaskId>, Error> {
        let Some((from, to)) = range(prefix) else { return Ok(Vec::new()) };
        let rows = self.all(sqlx::query(FIND).bind(from).bind(to).bind(self.rows(limit))).await?;
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

/// One acceptance, ready for the writer.
struct Accept {
    claim: Claim,
    acceptance: Acceptance,
    at: DateTime<Utc>,
    event: Payload,
}

impl Accept {
    async fn new(acceptance: Acceptance, options: Options) -> Result<Self, Error> {
        let task = TaskId::derive(&acceptance.event.id, acceptance.agent.as_str());
        let claim = Claim { task, step: task.run(0).step(0), epoch: Epoch(1) };
        let event = Payload::of("event", event_json(&acceptance.event)?, None, options).await?;
        Ok(Self { claim, acceptance, at: moment(Utc::now()), event })
    }

    /// Those of one node.
    fn all<'q>(batch: &[&'q Self], places: &[usize], owner: Incarnation) -> Statement<'q> {
        let accept = sqlx::query(ACCEPT)
            .bind(column(batch, places, |new| new.claim.task.0))
            .bind(column(batch, places, |new| new.acceptance.agent.as_str()))
            .bind(column(batch, places, |new| new.acceptance.mode.as_str()))
            .bind(column(batch, places, |new| &*new.acceptance.spec_digest))
            .bind(column(batch, places, |new| new.claim.step.0))
            .bind(column(batch, places, |new| clean(&new.acceptance.event.id)))
            .bind(column(batch, places, |new| new.acceptance.event.topic.as_str()))
            .bind(column(batch, places, |new| new.acceptance.event.traceparent.as_str()))
            .bind(column(batch, places, |new| i64::from(u8::from(new.acceptance.event.priority))))
            .bind(column(batch, places, |new| new.at));
        payload(accept, batch, places, |new| &new.event).bind(owner.0)
    }
}

#[async_trait]
impl Operation<Session> for Accept {
    type Reply = Accepted;

    fn rows_alone(&self) -> Option<u64> {
        Some(ROWS_OF_A_TASK)
    }

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<Accepted>, postgres::Error> {
        let mut answers: Vec<Accepted> = batch.iter().map(|accept| Accepted::Duplicate(accept.claim.task)).collect();
        // Within a batch the first of several with one id is the one; the unique id decides about all before it.
        let mut firsts: HashMap<Uuid, usize> = HashMap::with_capacity(batch.len());
        for (place, accept) in batch.iter().enumerate() {
            firsts.entry(accept.claim.task.0).or_insert(place);
        }
        let mut places: Vec<usize> = firsts.into_values().collect();
        places.sort_unstable();
        // Who writes is one node, and these are one statement.
        for same in places.chunk_by(|a, b| batch[*a].acceptance.owner == batch[*b].acceptance.owner) {
            let accept = Self::all(batch, same, batch[same[0]].acceptance.owner);
            let made: Vec<Uuid> = session.gathering(accept).await?.try_get("made")?;
            session.wrote(ROWS_OF_A_TASK * made.len() as u64);
            let made: HashSet<Uuid> = made.into_iter().collect();
            for place in same.iter().filter(|place| made.contains(&batch[**place].claim.task.0)) {
                answers[*place] = Accepted::New(batch[*place].claim);
            }
        }
        Ok(answers)
    }

    /// Not answered and found there afterwards, it is a duplicate: whether this node has it in hand already cannot be
    /// told, and the recovery takes up what nobody has.
    async fn execute_alone(&self, session: &mut Session) -> Result<Option<Accepted>, postgres::Error> {
        let Self { claim, acceptance, at, event } = self;
        let accept = sqlx::query(ACCEPT_ALONE)
            .bind(claim.task.0)
            .bind(acceptance.agent.as_str())
            .bind(acceptance.mode.as_str())
            .bind(&*acceptance.spec_digest)
            .bind(claim.step.0)
            .bind(clean(&acceptance.event.id))
            .bind(acceptance.event.topic.as_str())
            .bind(acceptance.event.traceparent.as_str())
            .bind(i64::from(u8::from(acceptance.event.priority)))
            .bind(*at);
        let accept = one_payload(accept, event).bind(session.life()).bind(acceptance.owner.0);
        Ok((session.changing(accept).await? == 1).then_some(Accepted::New(*claim)))
    }
}

fn task(row: &PgRow, bytes_max: usize) -> Result<Task, Error> {
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
pub(super) fn step(row: &PgRow, task: TaskId) -> Result<Step, Error> {
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
