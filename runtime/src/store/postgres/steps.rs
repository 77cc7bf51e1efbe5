//! The narrow rows of PostgreSQL's store: who works on a step, under which epoch, and how it ends.
//!
//! Claiming and completing are compare-and-set on the epoch, for all rows of a batch in one statement; what a
//! statement does not return was somebody else's. Called through [`Steps`].

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::rows::{
    Stored, at, broken, column, count, ids, it_runs, json, looked_up, moment, one_payload, payload, rounds, seldom,
    status_of, stored_outcome, task_place, under_lease,
};
use super::{Store, tasks};
use crate::domain::chat::Usage;
use crate::domain::ids::{StepId, TaskId};
use crate::domain::journal::FORMAT_VERSION;
use crate::domain::step::{Epoch, Incarnation};
use crate::group_commit::Operation;
use crate::postgres;
use crate::postgres::session::{Session, Statement};
use crate::store::payload::{Options, Payload};
use crate::store::{Claim, Completion, Error, Orphan, Steps};

/// The step, its result, what must be told of it.
const ROWS_OF_AN_END: u64 = 3;

macro_rules! orphan_query {
    ($with:literal, $from:literal, $which:literal) => {
        concat!(
            $with,
            "select t.seq as place, t.id, t.agent_id, t.spec_digest, s.id as step_id, s.run_no, s.step_no, s.status, \
                    s.owner, s.epoch, s.attempts, s.claims, s.copied ",
            $from,
            "join tasks t on t.id = s.task_id where ",
            $which
        )
    };
}

/// From owner to owner by the index: the steps of those who live are not read, however many they are.
const ORPHANS: &str = orphan_query!(
    "with recursive owners (owner) as ( \
        (select min(owner) from steps where status = 'running') \
        union all \
        select (select min(s.owner) from steps s where s.status = 'running' and s.owner > o.owner) \
        from owners o where o.owner is not null), \
     gone as ( \
        select owner from owners o where o.owner is not null \
          and not exists (select 1 from nodes n where n.incarnation = o.owner and n.ended_at is null)) ",
    "from gone g join steps s on s.owner = g.owner and s.status = 'running' ",
    "t.seq > $1 order by t.seq limit $2"
);

const OWNED: &str =
    orphan_query!("", "from steps s ", "s.status = 'running' and s.owner = $3 and t.seq > $1 order by t.seq limit $2");

/// Waits for writes under the old epoch, so that the journal that is looked at next is the whole one.
const LOCK: &str = "select id from steps where id = any($1) order by id for no key update";

/// A journal that grew since the last claim is progress: the count of claims begins again.
const CLAIM: &str = concat!(
    "update steps s set epoch = s.epoch + 1, owner = c.owner, claimed_seq = c.grown, \
                        claims = case when c.grown > s.claimed_seq then 1 else s.claims + 1 end \
     from (select n.id, n.seen, n.owner, \
                  (select coalesce(max(seq) + 1, 0) from journal where step_id = n.id) as grown \
           from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as n (id, seen, owner)) c \
     where ",
    looked_up!("s.id", "c.id"),
    " and s.epoch = c.seen and ",
    it_runs!(),
    " returning s.id, s.task_id, s.epoch"
);

/// Steps with their results and what must be told of them, in one statement: what a step ends with goes along with it, and no row of a
/// batch is looked for twice. The last entry has a place of its own after all others; else an append of a lost actor has come in between.
/// Asked for each step by itself (`offset 0`), never by a join with all entries.
const COMPLETE: &str = concat!(
    "with ended as ( \
        update steps s set status = c.status \
        from unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::timestamptz[], $7::bigint[], \
                    $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::text[], $13::smallint[], $14::bigint[], \
                    $15::bigint[], $16::bytea[]) with ordinality \
          as c (id, epoch, status, seq, agent, at, input, output, cost, outcome, kind, body, codec, size, checksum, \
                packed, place) \
        where ",
    looked_up!("s.id", "c.id"),
    " and s.epoch = c.epoch and ",
    it_runs!(),
    " and not exists (select 1 from journal j where j.step_id = c.id and j.seq >= c.seq offset 0) \
        returning s.task_id as task, s.owner, c.*), \
     told as ( \
        insert into outbox (task_id, step_id, owner) select e.task, e.id, e.owner from ended e order by e.place \
        returning step_id, seq), \
     results as ( \
        insert into execution_results (step_id, task_id, agent_id, execution_timestamp, status, input_tokens, \
                                       output_tokens, cost_microusd, outcome, seq, kind, version, body, codec, size, \
                                       checksum, packed) \
        select e.id, e.task, e.agent, e.at, e.status, e.input, e.output, e.cost, e.outcome, e.seq, e.kind, $17, e.body, \
               e.codec, e.size, e.checksum, e.packed from ended e) \
     select array(select step_id from told) as ended, array(select seq from told) as told"
);

/// One step with its result and what must be told of it, under the lease of a node.
const COMPLETE_ALONE: &str = concat!(
    "with ended as ( \
        update steps s set status = $3 from nodes n \
        where s.id = $1 and s.epoch = $2 and ",
    it_runs!(),
    " and ",
    under_lease!("$17"),
    " and not exists (select 1 from journal j where j.step_id = $1 and j.seq >= $9) \
        returning s.id, s.task_id, s.owner), \
     told as (insert into outbox (task_id, step_id, owner) select e.task_id, e.id, e.owner from ended e returning seq) \
     insert into execution_results (step_id, task_id, agent_id, execution_timestamp, status, input_tokens, \
                                    output_tokens, cost_microusd, outcome, seq, kind, version, body, codec, size, \
                                    checksum, packed) \
     select e.id, e.task_id, $4, $5, $3, $6, $7, $8, $18, $9, $10, $11, $12, $13, $14, $15, $16 from ended e \
     returning (select seq from told) as seq"
);

/// Whether a step has ended as it was to end.
const HAS_ENDED: &str = "\
    select s.id from steps s join execution_results r on r.step_id = s.id \
    where s.id = $1 and s.epoch = $2 and s.status = $3 and r.seq = $4 and r.size = $5 and r.checksum = $6";

/// Of these claims, the ones that hold.
const HOLDING: &str = concat!(
    "select s.id from unnest($1::uuid[], $2::bigint[]) as c (id, epoch) join steps s on ",
    looked_up!("s.id", "c.id"),
    " where s.epoch = c.epoch and ",
    it_runs!()
);

#[async_trait]
impl Steps for Store {
    async fn orphans(&self, after: i64, limit: usize) -> Result<Vec<Orphan>, Error> {
        let page = |after, missing| sqlx::query(ORPHANS).bind(after).bind(missing);
        self.running(page, after, limit).await
    }

    async fn owned(&self, owner: Incarnation, after: i64, limit: usize) -> Result<Vec<Orphan>, Error> {
        let page = |after, missing| sqlx::query(OWNED).bind(after).bind(missing).bind(owner.0);
        self.running(page, after, limit).await
    }

    async fn claim(&self, step: StepId, seen: Epoch, owner: Incarnation) -> Result<Option<Claim>, Error> {
        self.write(Take { step, seen, owner }).await
    }

    async fn complete(&self, completion: Completion) -> Result<Option<i64>, Error> {
        self.write(Complete::new(completion, self.options.payload).await?).await?
    }
}

impl Store {
    /// Running steps, page by page until `limit` of them could be read.
    async fn running<F>(&self, page: F, mut after: i64, limit: usize) -> Result<Vec<Orphan>, Error>
    where
        F: Fn(i64, i64) -> Statement<'static> + Send + Sync,
    {
        let (wanted, mut found) = (self.rows(limit), Vec::new());
        loop {
            let missing = wanted - found.len() as i64;
            let rows = self.all(page(after, missing)).await?;
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

fn orphan(row: &PgRow) -> Result<Orphan, Error> {
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
    seen: Epoch,
    owner: Incarnation,
}

#[async_trait]
impl Operation<Session> for Take {
    type Reply = Option<Claim>;

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<Self::Reply>, postgres::Error> {
        let mut answers = vec![None; batch.len()];
        for round in rounds(batch, |take| take.step) {
            let steps = column(batch, &round, |take| take.step.0);
            session.read(sqlx::query(LOCK).bind(steps.clone())).await?;
            let claim_all = sqlx::query(CLAIM)
                .bind(steps)
                .bind(column(batch, &round, |take| take.seen.0))
                .bind(column(batch, &round, |take| take.owner.0));
            let taken = session.returning(claim_all).await?;
            let mut taken: HashMap<StepId, Claim> =
                taken.iter().map(claim).collect::<Result<_, Error>>().map_err(|error| broken(&error))?;
            for place in round {
                answers[place] = taken.remove(&batch[place].step);
            }
        }
        Ok(answers)
    }
}

fn claim(row: &PgRow) -> Result<(StepId, Claim), Error> {
    let row = Stored::new(row, "steps");
    let (task, step) = (TaskId(row.id("task_id")?), StepId(row.id("id")?));
    Ok((step, Claim { task, step, epoch: Epoch(row.get("epoch")?) }))
}

/// The end of a step, ready for the writer.
struct Complete {
    claim: Claim,
    agent: String,
    at: DateTime<Utc>,
    status: &'static str,
    usage: Usage,
    outcome: Option<String>,
    seq: u32,
    kind: &'static str,
    body: Payload,
}

impl Complete {
    async fn new(completion: Completion, options: Options) -> Result<Self, Error> {
        let Completion { claim, agent, entry, outcome, usage } = completion;
        let stored = stored_outcome(&outcome, &entry)?;
        let body = Payload::of("entry", json(&entry)?, stored.as_deref(), options).await?;
        Ok(Self {
            claim,
            agent: agent.as_str().to_owned(),
            at: moment(entry.at),
            status: status_of(&outcome).as_str(),
            usage,
            outcome: stored,
            seq: entry.seq,
            kind: entry.act.kind(),
            body,
        })
    }

    async fn has_ended(&self, session: &mut Session) -> Result<bool, postgres::Error> {
        let asked = sqlx::query(HAS_ENDED)
            .bind(self.claim.step.0)
            .bind(self.claim.epoch.0)
            .bind(self.status)
            .bind(i64::from(self.seq))
            .bind(self.body.size)
            .bind(self.body.checksum);
        Ok(!session.read(asked).await?.is_empty())
    }

    fn all<'q>(batch: &[&'q Self], round: &[usize]) -> Statement<'q> {
        let complete = sqlx::query(COMPLETE)
            .bind(column(batch, round, |end| end.claim.step.0))
            .bind(column(batch, round, |end| end.claim.epoch.0))
            .bind(column(batch, round, |end| end.status))
            .bind(column(batch, round, |end| i64::from(end.seq)))
            .bind(column(batch, round, |end| end.agent.as_str()))
            .bind(column(batch, round, |end| end.at))
            .bind(column(batch, round, |end| count(end.usage.input_tokens)))
            .bind(column(batch, round, |end| count(end.usage.output_tokens)))
            .bind(column(batch, round, |end| count(end.usage.cost_microusd)))
            .bind(seldom(batch, round, |end| end.outcome.as_deref()))
            .bind(column(batch, round, |end| end.kind));
        payload(complete, batch, round, |end| &end.body).bind(i64::from(FORMAT_VERSION))
    }
}

#[async_trait]
impl Operation<Session> for Complete {
    type Reply = Result<Option<i64>, Error>;

    fn rows_alone(&self) -> Option<u64> {
        Some(ROWS_OF_AN_END)
    }

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<Self::Reply>, postgres::Error> {
        let mut answers: Vec<Self::Reply> = vec![Ok(None); batch.len()];
        for round in rounds(batch, |complete| complete.claim.step) {
            let row = session.gathering(Self::all(batch, &round)).await?;
            let (ended, told): (Vec<Uuid>, Vec<i64>) = (row.try_get("ended")?, row.try_get("told")?);
            session.wrote(ROWS_OF_AN_END * told.len() as u64);
            let mut told: HashMap<StepId, i64> = ended.into_iter().map(StepId).zip(told).collect();
            let mut refused = Vec::new();
            for place in round {
                let Self { claim, seq, .. } = batch[place];
                match told.remove(&claim.step) {
                    Some(told) => answers[place] = Ok(Some(told)),
                    None => refused.push((place, *claim, *seq)),
                }
            }
            refuse(&refused, &mut answers, session).await?;
            if session.is_in_doubt()
                && let [complete] = batch
                && let [answer @ Err(_)] = answers.as_mut_slice()
                && complete.has_ended(session).await?
            {
                *answer = Ok(None);
            }
        }
        Ok(answers)
    }

    async fn execute_alone(&self, session: &mut Session) -> Result<Option<Self::Reply>, postgres::Error> {
        let complete = sqlx::query(COMPLETE_ALONE)
            .bind(self.claim.step.0)
            .bind(self.claim.epoch.0)
            .bind(self.status)
            .bind(self.agent.as_str())
            .bind(self.at)
            .bind(count(self.usage.input_tokens))
            .bind(count(self.usage.output_tokens))
            .bind(count(self.usage.cost_microusd))
            .bind(i64::from(self.seq))
            .bind(self.kind)
            .bind(i64::from(FORMAT_VERSION));
        let complete = one_payload(complete, &self.body).bind(session.life()).bind(self.outcome.as_deref());
        let rows = session.returning_one_for(ROWS_OF_AN_END, complete).await?;
        let seq = rows.first().map(|row| Stored::new(row, "outbox").get("seq")).transpose();
        Ok(seq.map_err(|error| broken(&error))?.map(|seq| Ok(Some(seq))))
    }
}

/// Answers the writes of a round that were refused: the places of a batch with their claim and their place in the
/// journal. Where the claim holds, it was the place in the journal that was taken; else the write is fenced.
pub(super) async fn refuse<T>(
    refused: &[(usize, Claim, u32)],
    answers: &mut [Result<T, Error>],
    session: &mut Session,
) -> Result<(), postgres::Error> {
    if refused.is_empty() {
        return Ok(());
    }
    let holding = sqlx::query(HOLDING)
        .bind(refused.iter().map(|(_, claim, _)| claim.step.0).collect::<Vec<_>>())
        .bind(refused.iter().map(|(_, claim, _)| claim.epoch.0).collect::<Vec<_>>());
    let holding = ids(&session.read(holding).await?)?;
    for (place, claim, seq) in refused {
        answers[*place] = Err(if holding.contains(&claim.step.0) {
            Error::Conflict(format!("place {seq} in the journal of step {} is taken", claim.step))
        } else {
            Error::Fenced(claim.step)
        });
    }
    Ok(())
}
