//! The step journal in PostgreSQL: appending under a fence, and reading back.
//!
//! One statement joins all entries of a batch with their steps and inserts those whose epoch holds; the place in the
//! journal is the second fence. Called through [`Journal`]; an entry that this version cannot read is
//! [`Error::Corrupt`] with its step and place, never skipped: a run must not go on from half a history.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::Store;
use super::rows::{Stored, column, ids, it_runs, json, looked_up, one_payload, payload, rounds, under_lease};
use super::steps::refuse;
use crate::domain::ids::StepId;
use crate::domain::journal::{Entry, FORMAT_VERSION};
use crate::domain::step::StepStatus;
use crate::group_commit::Operation;
use crate::postgres;
use crate::postgres::session::Session;
use crate::store::payload::{Options, Payload};
use crate::store::{Append, Claim, Error, Journal};

/// The steps are locked while the entries are written: a claim by another node waits for them, and reads them.
const APPEND: &str = concat!(
    "with held as materialized ( \
        select s.id from unnest($1::uuid[], $2::bigint[]) as a (id, epoch) join steps s on ",
    looked_up!("s.id", "a.id"),
    " where s.epoch = a.epoch and ",
    it_runs!(),
    " for no key update of s) \
     insert into journal (step_id, seq, version, kind, body, codec, size, checksum, packed) \
     select a.id, a.seq, $4, a.kind, a.body, a.codec, a.size, a.checksum, a.packed \
     from unnest($1::uuid[], $3::bigint[], $5::text[], $6::text[], $7::smallint[], $8::bigint[], $9::bigint[], \
                 $10::bytea[]) as a (id, seq, kind, body, codec, size, checksum, packed) \
     join held h on h.id = a.id \
     on conflict (step_id, seq) do nothing \
     returning step_id"
);

/// One entry, under the lease of a node. Where its place is taken the server refuses it, and the ordinary way says what is there: to
/// have it look first, as [`APPEND`] does, costs each append what only a repeated one has use for. Two questions, each asked
/// once, and no join of their rows: the server is quicker with it.
const APPEND_ALONE: &str = concat!(
    "insert into journal (step_id, seq, version, kind, body, codec, size, checksum, packed) \
     select $1, $3, $4, $5, $6, $7, $8, $9, $10 \
     where exists (select 1 from steps s where s.id = $1 and s.epoch = $2 and ",
    it_runs!(),
    " for no key update of s) \
       and exists (select 1 from nodes n where ",
    under_lease!("$11"),
    ")"
);

/// Whether an entry is there as it was to be written.
const IS_WRITTEN: &str = "select step_id from journal where step_id = $1 and seq = $2 and size = $3 and checksum = $4";

const CHANGE: &str = concat!(
    "update steps s set attempts = coalesce(c.attempts, s.attempts), status = coalesce(c.status, s.status) \
     from unnest($1::uuid[], $2::bigint[], $3::text[]) as c (id, attempts, status) \
     where ",
    looked_up!("s.id", "c.id")
);

const BEFORE: &str = "\
    select seq, version, null as outcome, body, codec, size, checksum, packed \
    from journal where step_id = $1 and seq < $2 order by seq";

const ENTRIES: &str = "\
    select 0 as ended, seq, version, null as outcome, body, codec, size, checksum, packed \
    from journal where step_id = $1 \
    union all \
    select 1, seq, version, outcome, body, codec, size, checksum, packed \
    from execution_results where step_id = $1 \
    order by seq";

#[async_trait]
impl Journal for Store {
    async fn append(&self, append: Append) -> Result<(), Error> {
        self.write(Add::new(append, self.options.payload).await?).await?
    }

    async fn entries(&self, step: StepId) -> Result<Vec<Entry>, Error> {
        let rows = self.all(sqlx::query(ENTRIES).bind(step.0)).await?;
        rows.iter().map(|row| entry(row, step, self.options.payload.bytes_max)).collect()
    }

    async fn entries_before(&self, step: StepId, seq: u32) -> Result<Vec<Entry>, Error> {
        let rows = self.all(sqlx::query(BEFORE).bind(step.0).bind(i64::from(seq))).await?;
        let bytes_max = self.options.payload.bytes_max;
        rows.iter().map(|row| Stored::new(row, "journal").entry(step, bytes_max)).collect()
    }
}

fn entry(row: &PgRow, step: StepId, bytes_max: usize) -> Result<Entry, Error> {
    let ended: i32 = Stored::new(row, "journal").get("ended")?;
    let table = if ended == 0 { "journal" } else { "execution_results" };
    Stored::new(row, table).entry(step, bytes_max)
}

/// One entry, ready for the writer.
struct Add {
    claim: Claim,
    seq: u32,
    kind: &'static str,
    body: Payload,
    attempts: Option<u32>,
    status: Option<StepStatus>,
}

impl Add {
    async fn new(append: Append, options: Options) -> Result<Self, Error> {
        let Append { claim, entry, attempts, status } = append;
        if let Some(end) = status.filter(|status| status.is_terminal()) {
            return Err(Error::Internal(format!("step {}: {end} is an end, and ends are completed", claim.step)));
        }
        let body = Payload::of("entry", json(&entry)?, None, options).await?;
        Ok(Self { claim, seq: entry.seq, kind: entry.act.kind(), body, attempts, status })
    }

    const fn changes(&self) -> bool {
        self.attempts.is_some() || self.status.is_some()
    }

    async fn is_written(&self, session: &mut Session) -> Result<bool, postgres::Error> {
        let asked = sqlx::query(IS_WRITTEN)
            .bind(self.claim.step.0)
            .bind(i64::from(self.seq))
            .bind(self.body.size)
            .bind(self.body.checksum);
        Ok(!session.read(asked).await?.is_empty())
    }
}

#[async_trait]
impl Operation<Session> for Add {
    type Reply = Result<(), Error>;

    fn rows_alone(&self) -> Option<u64> {
        (!self.changes()).then_some(1)
    }

    async fn execute(batch: &[&Self], session: &mut Session) -> Result<Vec<Self::Reply>, postgres::Error> {
        let mut answers: Vec<Self::Reply> = vec![Ok(()); batch.len()];
        for round in rounds(batch, |add| add.claim.step) {
            let append = sqlx::query(APPEND)
                .bind(column(batch, &round, |add| add.claim.step.0))
                .bind(column(batch, &round, |add| add.claim.epoch.0))
                .bind(column(batch, &round, |add| i64::from(add.seq)))
                .bind(i64::from(FORMAT_VERSION))
                .bind(column(batch, &round, |add| add.kind));
            let append = payload(append, batch, &round, |add| &add.body);
            let added = ids(&session.returning(append).await?)?;
            let (added, refused): (Vec<usize>, Vec<usize>) =
                round.into_iter().partition(|place| added.contains(&batch[*place].claim.step.0));
            let refused: Vec<_> =
                refused.into_iter().map(|place| (place, batch[place].claim, batch[place].seq)).collect();
            refuse(&refused, &mut answers, session).await?;
            if session.is_in_doubt()
                && let [add] = batch
                && let [answer @ Err(Error::Conflict(_))] = answers.as_mut_slice()
                && add.is_written(session).await?
            {
                *answer = Ok(());
            }
            let changed: Vec<usize> = added.into_iter().filter(|place| batch[*place].changes()).collect();
            if !changed.is_empty() {
                let change = sqlx::query(CHANGE)
                    .bind(column(batch, &changed, |add| add.claim.step.0))
                    .bind(column(batch, &changed, |add| add.attempts.map(i64::from)))
                    .bind(column(batch, &changed, |add| add.status.map(StepStatus::as_str)));
                session.write(change).await?;
            }
        }
        Ok(answers)
    }

    async fn execute_alone(&self, session: &mut Session) -> Result<Option<Self::Reply>, postgres::Error> {
        let append = sqlx::query(APPEND_ALONE)
            .bind(self.claim.step.0)
            .bind(self.claim.epoch.0)
            .bind(i64::from(self.seq))
            .bind(i64::from(FORMAT_VERSION))
            .bind(self.kind);
        let append = one_payload(append, &self.body).bind(session.life());
        Ok((session.changing(append).await? == 1).then_some(Ok(())))
    }
}
