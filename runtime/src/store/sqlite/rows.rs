//! Between rows and the words of the domain: how a batch of writes becomes one JSON text, and how columns are read.
//!
//! A row that is written travels as a JSON array, made by the caller's task and only joined by the writer; ids are hex
//! in it (`unhex` makes them blobs again), documents are strings (so that they are stored as they are). A column that
//! cannot be read is [`Error::Corrupt`] with its table, name and row; it never breaks the rows beside it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Display;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::domain::agent::{AgentName, AgentSpec, ExecutionMode};
use crate::domain::chat::Usage;
use crate::domain::event::Event;
use crate::domain::ids::StepId;
use crate::domain::journal::{Entry, Unreadable};
use crate::sqlite;
use crate::store::payload::{BODY, Columns, EVENT, Held};
pub(super) use crate::store::record::{
    Ending, answer_of, at, count, event_json, in_entry, json, pinned, range, rounds, status_of, stored_outcome,
    task_place, window,
};
use crate::store::{Damage, Error};

/// Rows as the one JSON array that a statement takes.
pub(super) fn array<'r>(rows: impl IntoIterator<Item = &'r str>) -> String {
    let mut text = String::from("[");
    for row in rows {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(row);
    }
    text.push(']');
    text
}

/// An id as a JSON row holds it.
pub(super) fn hex(id: Uuid) -> String {
    id.simple().to_string()
}

/// The ids that a statement returned.
pub(super) fn ids(rows: &[SqliteRow]) -> Result<HashSet<Uuid>, sqlx::Error> {
    let id = |row: &SqliteRow| {
        Uuid::from_slice(row.try_get::<&[u8], _>(0)?).map_err(|error| sqlx::Error::Decode(error.into()))
    };
    rows.iter().map(id).collect()
}

/// A row of ours that breaks a write.
pub(super) fn broken(error: &Error) -> sqlite::Error {
    sqlite::Error::Statement(error.to_string())
}

/// A row being read; knows its table, so that what cannot be read is found again.
#[derive(Clone, Copy)]
pub(super) struct Stored<'r> {
    row: &'r SqliteRow,
    table: &'static str,
}

impl<'r> Stored<'r> {
    pub(super) const fn new(row: &'r SqliteRow, table: &'static str) -> Self {
        Self { row, table }
    }

    pub(super) fn get<T>(self, column: &'static str) -> Result<T, Error>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.row.try_get(column).map_err(|error| self.bad(column, error))
    }

    pub(super) fn id(self, column: &'static str) -> Result<Uuid, Error> {
        Uuid::from_slice(self.get(column)?).map_err(|error| self.bad(column, error))
    }

    pub(super) fn number<N: TryFrom<i64, Error: Display>>(self, column: &'static str) -> Result<N, Error> {
        N::try_from(self.get::<i64>(column)?).map_err(|error| self.bad(column, error))
    }

    pub(super) fn time(self, column: &'static str) -> Result<DateTime<Utc>, Error> {
        let millis = self.get(column)?;
        DateTime::from_timestamp_millis(millis).ok_or_else(|| self.bad(column, format!("{millis} is no time")))
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
            codec: self.get(columns.codec)?,
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
pub(super) fn ending(row: &SqliteRow, step: StepId, bytes_max: usize) -> Result<Option<Ending>, Error> {
    let row = Stored::new(row, "execution_results");
    if row.get::<Option<i64>>("execution_timestamp")?.is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_joined_to_one_array() {
        assert_eq!(array([]), "[]");
        assert_eq!(array(["[1]", "[2]"]), "[[1],[2]]");
    }
}
