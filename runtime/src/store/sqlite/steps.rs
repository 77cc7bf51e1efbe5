//! The narrow rows of SQLite's store: who works on a step, under which epoch, and how it ends.
//!
//! Claiming and completing are compare-and-set on the epoch, for all rows of a batch in one statement; what a
//! statement does not return was somebody else's. Called through [`Steps`].

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Sqlite, SqliteConnection};

use super::rows::{Stored, array, at, broken, count, hex, ids, json, rounds, status_of, stored_outcome, task_place};
use super::{Store, tasks};
use crate::domain::ids::{StepId, TaskId};
use crate::domain::journal::FORMAT_VERSION;
use crate::domain::step::{Epoch, Incarnation};
use crate::sqlite;
use crate::sqlite::writer::{Write, alone};
use crate::store::payload::{Options, Payload};
use crate::store::{Claim, Completion, Error, Orphan, Steps};

macro_rules! orphan_query {
    ($with:literal, $from:literal, $which:literal) => {
        concat!(
            $with,
            "select t.seq as place, t.id, t.agent_id, t.spec_digest, s.id as step_id, s.run_no, s.step_no, s.status, \
                    s.owner, s.epoch, s.attempts, s.claims, s.copied ",
            $from,
            "cross join tasks t on t.id = s.task_id where ",
            $which
        )
    };
}

/// From owner to owner by the index: the steps of those who live are not read, however many they are.
const ORPHANS: &str = orphan_query!(
    "with recursive owners (owner) as ( \
        select min(owner) from steps where status in ('running', 'waiting') and status = 'running' \
        union all \
        select (select min(s.owner) from steps s \
                where s.status in ('running', 'waiting') and s.status = 'running' and s.owner > o.owner) \
        from owners o where o.owner is not null), \
     gone as ( \
        select owner from owners o where o.owner is not null \
          and not exists (select 1 from nodes n where n.incarnation = o.owner and n.ended_at is null)) ",
    "from gone g cross join steps s on s.owner = g.owner and s.status in ('running', 'waiting') and s.status = 'running' ",
    "t.seq > ?1 order by t.seq limit ?2"
);

const OWNED: &str = orphan_query!(
    "",
    "from steps s ",
    "s.status in ('running', 'waiting') and s.status = 'running' and s.owner = ?3 and t.seq > ?1 \
     order by t.seq limit ?2"
);

/// A journal that grew since the last claim is progress: the count of claims begins again.
const CLAIM: &str = "\
    update steps set epoch = steps.epoch + 1, owner = c.owner, claimed_seq = c.grown, \
                     claims = case when c.grown > claimed_seq then 1 else claims + 1 end \
    from (select unhex(value ->> 0) as id, value ->> 1 as seen, value ->> 2 as owner, \
                 (select coalesce(max(seq) + 1, 0) from entries where step_id = unhex(value ->> 0)) as grown \
          from json_each(?1)) c \
    where steps.id = c.id and steps.epoch = c.seen and steps.status = 'running' \
    returning id, task_id, epoch";

/// The last entry has a place of its own after all others; else an append of a lost actor has come in between.
macro_rules! complete_steps {
    ($returning:literal) => {
        concat!(
            "update steps set status = c.status \
             from (select unhex(value ->> 0) as id, value ->> 1 as epoch, value ->> 2 as status, value ->> 3 as seq \
                   from json_each(?1)) c \
             where steps.id = c.id and steps.epoch = c.epoch and steps.status = 'running' \
               and not exists (select 1 from entries where step_id = c.id and seq >= c.seq)",
            $returning
        )
    };
}

macro_rules! complete_results {
    ($rows:literal, $which:literal) => {
        concat!(
            "insert into execution_results (step_id, task_id, agent_id, execution_timestamp, status, input_tokens, \
                                            output_tokens, cost_microusd, outcome, seq, kind, version, body, codec, size, \
                                            checksum, packed) \
             select unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, \
                    value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, ?2, value ->> 11, value ->> 12, \
                    value ->> 13, value ->> 14, unhex(value ->> 15) \
             from json_each(",
            $rows,
            ")",
            $which
        )
    };
}

macro_rules! complete_outbox {
    ($which:literal, $returning:literal) => {
        concat!(
            "insert into outbox (task_id, step_id, owner) \
             select s.task_id, s.id, s.owner from json_each(?1) c cross join steps s on s.id = unhex(c.value ->> 0)",
            $which,
            " order by c.key",
            $returning
        )
    };
}

const COMPLETE_STEPS: &str = complete_steps!(" returning id");
const COMPLETE_RESULTS: &str = complete_results!("?1", "");
const COMPLETE_OUTBOX: &str = complete_outbox!("", " returning step_id as id, seq");
const COMPLETE_ALONE: &str = alone!(
    complete_steps!(""),
    complete_results!("?3", " where changes() > 0"),
    complete_outbox!(" where changes() > 0", "")
);

/// Of these claims, the ones that hold.
const HOLDING: &str = "\
    select s.id from json_each(?1) c cross join steps s on s.id = unhex(c.value ->> 0) \
    where s.epoch = c.value ->> 1 and s.status = 'running'";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] =
    &[ORPHANS, OWNED, CLAIM, COMPLETE_STEPS, COMPLETE_RESULTS, COMPLETE_OUTBOX, HOLDING];

#[async_trait]
impl Steps for Store {
    async fn orphans(&self, after: i64, limit: usize) -> Result<Vec<Orphan>, Error> {
        let page = |after: i64, missing: i64| sqlx::query(ORPHANS).bind(after).bind(missing);
        self.running(page, after, limit).await
    }

    async fn owned(&self, owner: Incarnation, after: i64, limit: usize) -> Result<Vec<Orphan>, Error> {
        let page = |after: i64, missing: i64| sqlx::query(OWNED).bind(after).bind(missing).bind(owner.0);
        self.running(page, after, limit).await
    }

    async fn claim(&self, step: StepId, seen: Epoch, owner: Incarnation) -> Result<Option<Claim>, Error> {
        self.write(Take { step, row: json(&(hex(step.0), seen.0, owner.0))? }).await
    }

    async fn complete(&self, completion: Completion) -> Result<Option<i64>, Error> {
        self.write(Complete::new(&completion, self.options.payload).await?).await?
    }
}

impl Store {
    /// Running steps, page by page until `limit` of them could be read.
    async fn running<F>(&self, page: F, mut after: i64, limit: usize) -> Result<Vec<Orphan>, Error>
    where
        F: Fn(i64, i64) -> Query<'static, Sqlite, SqliteArguments> + Send + Sync,
    {
        let (wanted, mut found) = (self.rows(limit), Vec::new());
        loop {
            let missing = wanted - found.len() as i64;
            let rows = page(after, missing).fetch_all(self.database.readers()).await?;
            for row in &rows {
                after = Stored::new(row, "tasks").get("place")?;
                found.extend(self.reported.readable(orphan(row), "a step cannot be taken up again"));
            }
            // A full page of which nothing is missing, or the last one.
            if found.len() as i64 == wanted || (rows.len() as i64) < missing {
                return Ok(found);
            }
        }
    }
}

fn orphan(row: &SqliteRow) -> Result<Orphan, Error> {
    let stored = Stored::new(row, "tasks");
    let task = TaskId(stored.id("id")?);
    let read = || {
        Ok(Orphan {
            place: stored.get("place")?,
            task,
            agent: stored.agent()?,
            spec_digest: stored.get("spec_digest")?,
            step: tasks::step(row, task)?,
        })
    };
    read().map_err(|error| at(error, &task_place(task)))
}

/// Takes a step over.
struct Take {
    step: StepId,
    row: String,
}

#[async_trait]
impl Write for Take {
    type Reply = Option<Claim>;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Self::Reply>, sqlite::Error> {
        let mut answers = vec![None; batch.len()];
        for round in rounds(batch, |take| take.step) {
            let rows = array(round.iter().map(|place| batch[*place].row.as_str()));
            let taken = sqlx::query(CLAIM).bind(rows).fetch_all(&mut *connection).await?;
            let mut taken: HashMap<StepId, Claim> =
                taken.iter().map(claim).collect::<Result<_, Error>>().map_err(|error| broken(&error))?;
            for place in round {
                answers[place] = taken.remove(&batch[place].step);
            }
        }
        Ok(answers)
    }
}

fn claim(row: &SqliteRow) -> Result<(StepId, Claim), Error> {
    let row = Stored::new(row, "steps");
    let (task, step) = (TaskId(row.id("task_id")?), StepId(row.id("id")?));
    Ok((step, Claim { task, step, epoch: Epoch(row.get("epoch")?) }))
}

/// The end of a step, ready for the writer.
struct Complete {
    step: StepId,
    /// The key, and what changes.
    narrow: String,
    /// The result.
    wide: String,
    seq: u32,
}

impl Complete {
    async fn new(completion: &Completion, options: Options) -> Result<Self, Error> {
        let Completion { claim, agent, entry, outcome, usage } = completion;
        let (step, task) = (hex(claim.step.0), hex(claim.task.0));
        let (status, stored) = (status_of(outcome).as_str(), stored_outcome(outcome, entry)?);
        let body = Payload::of("entry", json(entry)?, stored.as_deref(), options).await?;
        let wide = json(&(
            &step,
            &task,
            agent.as_str(),
            entry.at.timestamp_millis(),
            status,
            count(usage.input_tokens),
            count(usage.output_tokens),
            count(usage.cost_microusd),
            &stored,
            entry.seq,
            entry.act.kind(),
            &body.text,
            body.codec,
            body.size,
            body.checksum,
            body.packed.map(hex::encode),
        ))?;
        let narrow = json(&(step, claim.epoch.0, status, entry.seq, task))?;
        Ok(Self { step: claim.step, narrow, wide, seq: entry.seq })
    }

    fn refused(&self) -> Refused<'_> {
        Refused { step: self.step, seq: self.seq, row: &self.narrow }
    }
}

#[async_trait]
impl Write for Complete {
    type Reply = Result<Option<i64>, Error>;

    fn rows_alone(&self) -> Option<u64> {
        Some(3)
    }

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Self::Reply>, sqlite::Error> {
        let mut answers: Vec<Self::Reply> = vec![Ok(None); batch.len()];
        for round in rounds(batch, |complete| complete.step) {
            let narrow = array(round.iter().map(|place| batch[*place].narrow.as_str()));
            let ended = ids(&sqlx::query(COMPLETE_STEPS).bind(narrow).fetch_all(&mut *connection).await?)?;
            let (ended, refused): (Vec<usize>, Vec<usize>) =
                round.into_iter().partition(|place| ended.contains(&batch[*place].step.0));
            let refused: Vec<_> = refused.into_iter().map(|place| (place, batch[place].refused())).collect();
            refuse(&refused, &mut answers, connection).await?;
            if !ended.is_empty() {
                let wide = array(ended.iter().map(|place| batch[*place].wide.as_str()));
                sqlx::query(COMPLETE_RESULTS)
                    .bind(wide)
                    .bind(i64::from(FORMAT_VERSION))
                    .execute(&mut *connection)
                    .await?;
                let narrow = array(ended.iter().map(|place| batch[*place].narrow.as_str()));
                let rows = sqlx::query(COMPLETE_OUTBOX).bind(narrow).fetch_all(&mut *connection).await?;
                let mut places =
                    rows.iter().map(place).collect::<Result<HashMap<_, _>, _>>().map_err(|e| broken(&e))?;
                for end in ended {
                    answers[end] = Ok(places.remove(&batch[end].step));
                }
            }
        }
        Ok(answers)
    }

    async fn execute_alone(&self, connection: &mut SqliteConnection) -> Result<Option<Self::Reply>, sqlite::Error> {
        let complete = sqlx::query_as(COMPLETE_ALONE)
            .bind(array([self.narrow.as_str()]))
            .bind(i64::from(FORMAT_VERSION))
            .bind(array([self.wide.as_str()]));
        let (told, seq): (i64, i64) = complete.fetch_one(connection).await?;
        Ok((told == 1).then_some(Ok(Some(seq))))
    }
}

/// A step and its place in the outbox.
fn place(row: &SqliteRow) -> Result<(StepId, i64), Error> {
    let row = Stored::new(row, "outbox");
    Ok((StepId(row.id("id")?), row.get("seq")?))
}

/// Answers the writes of a round that were refused: the places of a batch with their row, which begins with the step and
/// its epoch. Where the claim holds, it was the place in the journal that was taken; else the write is fenced.
pub(super) async fn refuse<T>(
    refused: &[(usize, Refused<'_>)],
    answers: &mut [Result<T, Error>],
    connection: &mut SqliteConnection,
) -> Result<(), sqlite::Error> {
    if refused.is_empty() {
        return Ok(());
    }
    let rows = array(refused.iter().map(|(_, write)| write.row));
    let holding = ids(&sqlx::query(HOLDING).bind(rows).fetch_all(connection).await?)?;
    for (place, Refused { step, seq, .. }) in refused {
        answers[*place] = Err(if holding.contains(&step.0) {
            Error::Conflict(format!("place {seq} in the journal of step {step} is taken"))
        } else {
            Error::Fenced(*step)
        });
    }
    Ok(())
}

/// A write that changed nothing.
pub(super) struct Refused<'r> {
    pub(super) step: StepId,
    pub(super) seq: u32,
    pub(super) row: &'r str,
}
