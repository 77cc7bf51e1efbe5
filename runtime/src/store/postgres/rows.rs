//! Between rows and the words of the domain: a batch of writes as columns, and how columns are read.
//!
//! The rows of a batch travel as one array a column (`unnest`), documents as the text that they are. A column that
//! cannot be read is [`Error::Corrupt`] with its table, name and row; it never breaks the rows beside it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Display;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::domain::agent::{AgentName, AgentSpec, ExecutionMode};
use crate::domain::chat::Usage;
use crate::domain::event::Event;
use crate::domain::ids::StepId;
use crate::domain::journal::{Entry, Unreadable};
use crate::postgres;
use crate::postgres::session::Statement;
use crate::store::payload::{BODY, Columns, EVENT, Held, Payload};
pub(super) use crate::store::record::{
    Ending, answer_of, at, count, event_json, in_entry, json, pinned, range, rounds, status_of, stored_outcome,
    task_place, window,
};
use crate::store::{Damage, Error};

/// One column of the rows of a round.
pub(super) fn column<'q, W, T>(batch: &[&'q W], round: &[usize], field: impl Fn(&'q W) -> T) -> Vec<T> {
    round.iter().map(|place| field(batch[*place])).collect()
}

/// A column that few rows have something in. Where none has, it travels empty: the server fills up what is shorter than the others (`unnest`).
pub(super) fn seldom<'q, W, T>(batch: &[&'q W], round: &[usize], field: impl Fn(&'q W) -> Option<T>) -> Vec<Option<T>> {
    let column = column(batch, round, field);
    if column.iter().any(Option::is_some) { column } else { Vec::new() }
}

/// Binds the columns of a payload: text, codec, size, checksum, packed.
pub(super) fn payload<'q, W>(
    statement: Statement<'q>,
    batch: &[&'q W],
    round: &[usize],
    of: impl Fn(&'q W) -> &'q Payload,
) -> Statement<'q> {
    statement
        .bind(column(batch, round, |write| of(write).text.as_str()))
        .bind(column(batch, round, |write| of(write).codec))
        .bind(column(batch, round, |write| of(write).size))
        .bind(column(batch, round, |write| of(write).checksum))
        .bind(seldom(batch, round, |write| of(write).packed.as_deref()))
}

/// Binds the columns of one row's payload, in the same order.
pub(super) fn one_payload<'q>(statement: Statement<'q>, payload: &'q Payload) -> Statement<'q> {
    let Payload { text, codec, size, checksum, packed } = payload;
    statement.bind(text.as_str()).bind(*codec).bind(*size).bind(*checksum).bind(packed.as_deref())
}

/// Whether the node that a statement of its own speaks for (`nodes n`) lives and holds its lease.
macro_rules! under_lease {
    ($life:literal) => {
        concat!("n.incarnation = ", $life, " and n.ended_at is null and n.lease_until > clock_timestamp()")
    };
}
pub(super) use under_lease;

/// A column of a table is that of a row of a batch: looked up by an index for each of them, whatever the planner believes of the table. A
/// plan is kept for as long as the server knows nothing new of it: one that reads all of a table with few rows, to join them, would go on
/// to when there are many. This form of an equation is for an index and not for a join.
macro_rules! looked_up {
    ($column:literal, $of:literal) => {
        concat!($column, " = any (array[", $of, "])")
    };
}
pub(super) use looked_up;

/// Whether it runs, asked of the row once it is found: there is an index of open steps, and a planner that was told of few of them would
/// read them all in place of one.
macro_rules! it_runs {
    () => {
        "s.status || '' = 'running'"
    };
}
pub(super) use it_runs;

/// The ids that a statement returned.
pub(super) fn ids(rows: &[PgRow]) -> Result<HashSet<Uuid>, sqlx::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// A time as a column keeps it: milliseconds, as in every store.
pub(super) fn moment(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(3)
}

/// A text that may come from outside; PostgreSQL's have no NUL.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// A row of ours that breaks a write.
pub(super) fn broken(error: &Error) -> postgres::Error {
    postgres::Error::Statement(error.to_string())
}

/// A row being read; knows its table, so that what cannot be read is found again.
#[derive(Clone, Copy)]
pub(super) struct Stored<'r> {
    row: &'r PgRow,
    table: &'static str,
}

impl<'r> Stored<'r> {
    pub(super) const fn new(row: &'r PgRow, table: &'static str) -> Self {
        Self { row, table }
    }

    pub(super) fn get<T>(self, column: &'static str) -> Result<T, Error>
    where
        T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        self.row.try_get(column).map_err(|error| self.bad(column, error))
    }

    pub(super) fn id(self, column: &'static str) -> Result<Uuid, Error> {
        self.get(column)
    }

    pub(super) fn number<N: TryFrom<i64, Error: Display>>(self, column: &'static str) -> Result<N, Error> {
        N::try_from(self.get::<i64>(column)?).map_err(|error| self.bad(column, error))
    }

    pub(super) fn time(self, column: &'static str) -> Result<DateTime<Utc>, Error> {
        self.get(column)
    }

    /// A stored word, by the domain's parser for it.
    pub(super) fn word<T>(self, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Error> {
        let word: &str = self.get(column)?;
        parse(word).ok_or_else(|| self.bad(column, format!("{word:?} is unknown")))
    }

    pub(super) fn document<T: DeserializeOwned>(self, column: &'static str) -> Result<T, Error> {
        serde_json::from_str(self.get(column)?).map_err(|error| self.bad(column, error))
    }

    /// A text that may lie there packed, once it is what was written. `also` is the second text of its checksum.
    pub(super) fn payload(self, columns: Columns, also: Option<&str>, bytes_max: usize) -> Result<Cow<'r, str>, Error> {
        let held = Held {
            text: self.get(columns.text)?,
            packed: self.get(columns.packed)?,
            codec: self.get::<Option<i16>>(columns.codec)?.map(i64::from),
            size: self.get(columns.size)?,
            checksum: self.get(columns.checksum)?,
        };
        held.open(also, bytes_max).map_err(|cause| self.bad(columns.text, cause))
    }

    pub(super) fn agent(self) -> Result<AgentName, Error> {
        self.word("agent_id", |word| word.parse().ok())
    }

    pub(super) fn mode(self) -> Result<ExecutionMode, Error> {
        self.word("execution_mode", |word| ExecutionMode::ALL.into_iter().find(|mode| mode.as_str() == word))
    }

    /// An entry of the journal or, with its outcome, a result; by the reader of its version.
    pub(super) fn entry(self, step: StepId, bytes_max: usize) -> Result<Entry, Error> {
        let seq: u32 = self.number("seq")?;
        self.entry_at(seq, bytes_max).map_err(|error| in_entry(error, step, seq))
    }

    fn entry_at(self, seq: u32, bytes_max: usize) -> Result<Entry, Error> {
        let body = self.payload(BODY, self.get("outcome")?, bytes_max)?;
        let entry = Entry::read(self.get("version")?, &body).map_err(|error| match error {
            Unreadable::Version(_) => self.bad("version", error),
            Unreadable::Form(_) => self.bad("body", error),
        })?;
        if entry.seq == seq { Ok(entry) } else { Err(self.bad("seq", format!("its body is {}'s", entry.seq))) }
    }

    /// The event of a task, its columns as [`event_columns`] calls them.
    pub(super) fn event(self, bytes_max: usize) -> Result<Event, Error> {
        let event = self.payload(EVENT, None, bytes_max)?;
        serde_json::from_str(&event).map_err(|error| self.bad("event", error))
    }

    /// The spec that a run pins.
    pub(super) fn spec(self, digest: &str) -> Result<AgentSpec, Error> {
        pinned(self.get("body")?, digest).map_err(|cause| self.bad("body", cause))
    }

    pub(super) fn bad(self, column: &str, cause: impl Display) -> Error {
        Error::Corrupt(Damage::of(self.table, format!("{column}: {cause}")))
    }
}

/// The columns that [`Stored::event`] reads, from `tasks t`.
macro_rules! event_columns {
    () => {
        "t.event, t.codec as event_codec, t.size as event_size, t.checksum as event_checksum, t.packed as event_packed"
    };
}
pub(super) use event_columns;

/// The columns that [`ending`] reads, from `execution_results r`.
macro_rules! ending_columns {
    () => {
        "r.execution_timestamp, r.input_tokens, r.output_tokens, r.cost_microusd, r.outcome, r.seq, r.version, r.body, \
         r.codec, r.size, r.checksum, r.packed"
    };
}
pub(super) use ending_columns;

/// Reads [`ending_columns`]; `None` when the step has not ended.
pub(super) fn ending(row: &PgRow, step: StepId, bytes_max: usize) -> Result<Option<Ending>, Error> {
    let row = Stored::new(row, "execution_results");
    if row.get::<Option<DateTime<Utc>>>("execution_timestamp")?.is_none() {
        return Ok(None);
    }
    let entry = row.entry(step, bytes_max)?;
    let outcome = match row.get::<Option<&str>>("outcome")? {
        Some(_) => row.document("outcome")?,
        None => answer_of(&entry).ok_or_else(|| row.bad("outcome", "missing, and the entry is no answer"))?,
    };
    let usage = Usage {
        input_tokens: row.number("input_tokens")?,
        output_tokens: row.number("output_tokens")?,
        cost_microusd: row.number("cost_microusd")?,
    };
    Ok(Some(Ending { at: row.time("execution_timestamp")?, attempt: entry.attempt, outcome, usage }))
}
