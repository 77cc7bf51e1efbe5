//! Between rows and the words of the domain: a batch of writes as columns, and how columns are read.
//!
//! The rows of a batch travel as one array a column (`unnest`), documents as the text that they are. A column that
//! cannot be read is [`Error::Corrupt`] with its table, name and row; it never breaks the rows beside it.

use std::collections::HashSet;
use std::fmt::Display;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::domain::agent::{AgentName, ExecutionMode};
use crate::domain::chat::Usage;
use crate::domain::ids::StepId;
use crate::domain::journal::{Entry, FORMAT_VERSION};
use crate::postgres;
pub(super) use crate::store::record::{
    Ending, answer_of, at, count, in_entry, json, range, rounds, status_of, stored_outcome, task_place, window,
};
use crate::store::{Damage, Error};

/// One column of the rows of a round.
pub(super) fn column<W, T>(batch: &[&W], round: &[usize], field: impl Fn(&W) -> T) -> Vec<T> {
    round.iter().map(|place| field(batch[*place])).collect()
}

/// The ids that a statement returned.
pub(super) fn ids(rows: &[PgRow]) -> Result<HashSet<Uuid>, sqlx::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// A time as a column keeps it: milliseconds, as in every store.
pub(super) fn moment(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(3)
}

/// A text that may come from outside; PostgreSQL's have no NUL.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
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

    pub(super) fn agent(self) -> Result<AgentName, Error> {
        self.word("agent_id", |word| word.parse().ok())
    }

    pub(super) fn mode(self) -> Result<ExecutionMode, Error> {
        self.word("execution_mode", |word| ExecutionMode::ALL.into_iter().find(|mode| mode.as_str() == word))
    }

    /// A journal entry, by the reader of its version.
    pub(super) fn entry(self, step: StepId) -> Result<Entry, Error> {
        let (seq, version): (u32, i64) = (self.number("seq")?, self.get("version")?);
        if version != i64::from(FORMAT_VERSION) {
            let cause = format!("format {version}, this version reads {FORMAT_VERSION}; run the newer troupe");
            return Err(in_entry(self.bad("version", cause), step, seq));
        }
        let entry: Entry = self.document("body").map_err(|error| in_entry(error, step, seq))?;
        let fits = entry.seq == seq;
        if fits { Ok(entry) } else { Err(in_entry(self.bad("seq", format!("its body is {}'s", entry.seq)), step, seq)) }
    }

    fn bad(self, column: &str, cause: impl Display) -> Error {
        Error::Corrupt(Damage::of(self.table, format!("{column}: {cause}")))
    }
}

/// The columns that [`ending`] reads, from `execution_results r`.
macro_rules! ending_columns {
    () => {
        "r.execution_timestamp, r.input_tokens, r.output_tokens, r.cost_microusd, r.outcome, r.seq, r.version, r.body"
    };
}
pub(super) use ending_columns;

/// Reads [`ending_columns`]; `None` when the step has not ended.
pub(super) fn ending(row: &PgRow, step: StepId) -> Result<Option<Ending>, Error> {
    let row = Stored::new(row, "execution_results");
    if row.get::<Option<DateTime<Utc>>>("execution_timestamp")?.is_none() {
        return Ok(None);
    }
    let entry = row.entry(step)?;
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
