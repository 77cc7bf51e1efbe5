//! The step journal in SQLite: appending under a fence, and reading back.
//!
//! One statement joins all entries of a batch with their steps and inserts those whose epoch holds; the place in the
//! journal is the second fence. Called through [`Journal`]; an entry that this version cannot read is
//! [`Error::Corrupt`] with its step and place, never skipped: a run must not go on from half a history.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Store;
use super::rows::{Stored, array, hex, ids, json, rounds};
use super::steps::{Refused, refuse};
use crate::domain::ids::StepId;
use crate::domain::journal::{Entry, FORMAT_VERSION};
use crate::domain::step::StepStatus;
use crate::sqlite;
use crate::sqlite::writer::Write;
use crate::store::payload::{Options, Payload};
use crate::store::{Append, Claim, Error, Journal};

const APPEND: &str = "\
    insert into journal_entries (task, run_no, step_no, seq, step_id, version, kind, body, codec, size, checksum, packed) \
    select t.seq, s.run_no, s.step_no, a.value ->> 2, s.id, a.value ->> 3, a.value ->> 4, a.value ->> 5, \
           a.value ->> 6, a.value ->> 7, a.value ->> 8, unhex(a.value ->> 9) \
    from json_each(?1) a cross join steps s on s.id = unhex(a.value ->> 0) cross join tasks t on t.id = s.task_id \
    where s.epoch = a.value ->> 1 and s.status = 'running' \
    on conflict (task, run_no, step_no, seq) do nothing \
    returning step_id";

/// One entry, its parts as they are: taking them out of a JSON text is worth it for many rows only. Its count says enough: a row
/// that is returned is one more thing that SQLite's thread hands over.
const APPEND_ALONE: &str = "\
    insert into journal_entries (task, run_no, step_no, seq, step_id, version, kind, body, codec, size, checksum, packed) \
    select t.seq, s.run_no, s.step_no, ?3, s.id, ?4, ?5, ?6, ?7, ?8, ?9, ?10 \
    from steps s cross join tasks t on t.id = s.task_id \
    where s.id = ?1 and s.epoch = ?2 and s.status = 'running' \
    on conflict (task, run_no, step_no, seq) do nothing";

const CHANGE: &str = "\
    update steps set attempts = coalesce(c.attempts, steps.attempts), status = coalesce(c.status, steps.status) \
    from (select unhex(value ->> 0) as id, value ->> 1 as attempts, value ->> 2 as status from json_each(?1)) c \
    where steps.id = c.id";

const BEFORE: &str = "\
    select seq, version, null as outcome, body, codec, size, checksum, packed \
    from entries where step_id = ?1 and seq < ?2 order by seq";

const ENTRIES: &str = "\
    select 0 as ended, seq, version, null as outcome, body, codec, size, checksum, packed \
    from entries where step_id = ?1 \
    union all \
    select 1, seq, version, outcome, body, codec, size, checksum, packed \
    from execution_results where step_id = ?1 \
    order by seq";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[APPEND, APPEND_ALONE, CHANGE, BEFORE, ENTRIES];

#[async_trait]
impl Journal for Store {
    async fn append(&self, append: Append) -> Result<(), Error> {
        self.write(Add::new(&append, self.options.payload).await?).await?
    }

    async fn entries(&self, step: StepId) -> Result<Vec<Entry>, Error> {
        let rows = sqlx::query(ENTRIES).bind(&step.0.as_bytes()[..]).fetch_all(self.database.readers()).await?;
        rows.iter().map(|row| entry(row, step, self.options.payload.bytes_max)).collect()
    }

    async fn entries_before(&self, step: StepId, seq: u32) -> Result<Vec<Entry>, Error> {
        let before = sqlx::query(BEFORE).bind(&step.0.as_bytes()[..]).bind(i64::from(seq));
        let rows = before.fetch_all(self.database.readers()).await?;
        let bytes_max = self.options.payload.bytes_max;
        rows.iter().map(|row| Stored::new(row, "journal").entry(step, bytes_max)).collect()
    }
}

fn entry(row: &SqliteRow, step: StepId, bytes_max: usize) -> Result<Entry, Error> {
    let ended: i64 = Stored::new(row, "journal").get("ended")?;
    let table = if ended == 0 { "journal" } else { "execution_results" };
    Stored::new(row, table).entry(step, bytes_max)
}

/// One entry, ready for the writer.
struct Add {
    claim: Claim,
    seq: u32,
    kind: &'static str,
    body: Payload,
    /// The same for a batch.
    row: String,
    /// What changes in the step, when something does.
    change: Option<String>,
}

impl Add {
    async fn new(append: &Append, options: Options) -> Result<Self, Error> {
        let Append { claim, entry, attempts, status } = append;
        if let Some(end) = status.filter(|status| status.is_terminal()) {
            return Err(Error::Internal(format!("step {}: {end} is an end, and ends are completed", claim.step)));
        }
        let step = hex(claim.step.0);
        let body = Payload::of("entry", json(entry)?, None, options).await?;
        let (epoch, seq, kind) = (claim.epoch.0, entry.seq, entry.act.kind());
        let Payload { text, codec, size, checksum, packed } = &body;
        let packed = packed.as_ref().map(hex::encode);
        let row = json(&(&step, epoch, seq, FORMAT_VERSION, kind, text, codec, size, checksum, packed))?;
        let change = (attempts.is_some() || status.is_some())
            .then(|| json(&(&step, attempts, status.map(StepStatus::as_str))))
            .transpose()?;
        Ok(Self { claim: *claim, seq, kind, body, row, change })
    }

    fn refused(&self) -> Refused<'_> {
        Refused { step: self.claim.step, seq: self.seq, row: &self.row }
    }
}

#[async_trait]
impl Write for Add {
    type Reply = Result<(), Error>;

    fn rows_alone(&self) -> Option<u64> {
        self.change.is_none().then_some(1)
    }

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Self::Reply>, sqlite::Error> {
        let mut answers: Vec<Self::Reply> = vec![Ok(()); batch.len()];
        for round in rounds(batch, |add| add.claim.step) {
            let rows = array(round.iter().map(|place| batch[*place].row.as_str()));
            let added = ids(&sqlx::query(APPEND).bind(rows).fetch_all(&mut *connection).await?)?;
            let (added, refused): (Vec<usize>, Vec<usize>) =
                round.into_iter().partition(|place| added.contains(&batch[*place].claim.step.0));
            let refused: Vec<_> = refused.into_iter().map(|place| (place, batch[place].refused())).collect();
            refuse(&refused, &mut answers, connection).await?;
            let changes: Vec<&str> = added.iter().filter_map(|place| batch[*place].change.as_deref()).collect();
            if !changes.is_empty() {
                sqlx::query(CHANGE).bind(array(changes)).execute(&mut *connection).await?;
            }
        }
        Ok(answers)
    }

    async fn execute_alone(&self, connection: &mut SqliteConnection) -> Result<Option<Self::Reply>, sqlite::Error> {
        let Payload { text, codec, size, checksum, packed } = &self.body;
        let append = sqlx::query(APPEND_ALONE)
            .bind(&self.claim.step.0.as_bytes()[..])
            .bind(self.claim.epoch.0)
            .bind(self.seq)
            .bind(FORMAT_VERSION)
            .bind(self.kind)
            .bind(text.as_str())
            .bind(codec)
            .bind(size)
            .bind(checksum)
            .bind(packed.as_deref());
        let added = append.execute(connection).await?;
        Ok((added.rows_affected() == 1).then_some(Ok(())))
    }
}
