//! Between rows and the words of the domain: how a batch of writes becomes one JSON text, and how columns are read.
//!
//! A row that is written travels as a JSON array, made by the caller's task and only joined by the writer; ids are hex
//! in it (`unhex` makes them blobs again), documents are strings (so that they are stored as they are). A column that
//! cannot be read is [`Error::Corrupt`] with its table, name and row; it never breaks the rows beside it.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::domain::agent::{AgentName, ExecutionMode};
use crate::domain::chat::Usage;
use crate::domain::ids::{StepId, TaskId};
use crate::domain::journal::{Act, Entry, FORMAT_VERSION};
use crate::domain::outcome::Outcome;
use crate::domain::step::StepStatus;
use crate::sqlite;
use crate::store::Error;

/// A value as JSON text: a row for `json_each`, or a document to store.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Internal(format!("a value has no JSON form: {error}")))
}

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

/// The places of a batch in rounds in which no key occurs twice, so that one statement may serve a round and the
/// result is that of the operations one after the other. Almost always there is one round.
pub(super) fn rounds<T, K: Hash + Eq>(batch: &[&T], key: impl Fn(&T) -> K) -> Vec<Vec<usize>> {
    let mut rounds: Vec<(HashSet<K>, Vec<usize>)> = Vec::new();
    for (place, operation) in batch.iter().enumerate() {
        let key = key(operation);
        match rounds.iter_mut().find(|(keys, _)| !keys.contains(&key)) {
            Some((keys, places)) => {
                keys.insert(key);
                places.push(place);
            }
            None => rounds.push((HashSet::from([key]), vec![place])),
        }
    }
    rounds.into_iter().map(|(_, places)| places).collect()
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

/// A number that SQLite can hold; what is larger is as good as endless.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
            return Err(Error::Corrupt(format!(
                "step {step}, entry {seq}: format {version}, this version reads {FORMAT_VERSION}"
            )));
        }
        let entry: Entry = self.document("body").map_err(|error| at(error, &format!("step {step}, entry {seq}")))?;
        if entry.seq == seq { Ok(entry) } else { Err(self.bad("seq", format!("step {step}, {seq} is {}", entry.seq))) }
    }

    fn bad(self, column: &str, cause: impl Display) -> Error {
        Error::Corrupt(format!("{}.{column}: {cause}", self.table))
    }
}

/// Puts the place of the row before what is wrong with it.
pub(super) fn at(error: Error, place: &impl Display) -> Error {
    match error {
        Error::Corrupt(cause) => Error::Corrupt(format!("{place}: {cause}")),
        other => other,
    }
}

/// The place of a task's row.
pub(super) fn task_place(id: TaskId) -> String {
    format!("task {id}")
}

/// The status of a step that ended so.
pub(super) const fn status_of(outcome: &Outcome) -> StepStatus {
    match outcome {
        Outcome::Succeeded { .. } => StepStatus::Succeeded,
        Outcome::Failed { .. } => StepStatus::Failed,
        Outcome::Cancelled { .. } => StepStatus::Cancelled,
    }
}

/// What `execution_results.outcome` holds: nothing when the entry beside it says the same.
pub(super) fn stored_outcome(outcome: &Outcome, entry: &Entry) -> Result<Option<String>, Error> {
    if answer_of(entry).as_ref() == Some(outcome) { Ok(None) } else { json(outcome).map(Some) }
}

/// How a step ended, as its row in `execution_results` tells.
pub(super) struct Ending {
    pub(super) at: DateTime<Utc>,
    pub(super) attempt: u32,
    pub(super) outcome: Outcome,
    pub(super) usage: Usage,
}

/// The columns that [`ending`] reads, from `execution_results r`.
macro_rules! ending_columns {
    () => {
        "r.execution_timestamp, r.input_tokens, r.output_tokens, r.cost_microusd, r.outcome, r.seq, r.version, r.body"
    };
}
pub(super) use ending_columns;

/// Reads [`ending_columns`]; `None` when the step has not ended.
pub(super) fn ending(row: &SqliteRow, step: StepId) -> Result<Option<Ending>, Error> {
    let row = Stored::new(row, "execution_results");
    if row.get::<Option<i64>>("execution_timestamp")?.is_none() {
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

/// The outcome that an entry is by itself.
fn answer_of(entry: &Entry) -> Option<Outcome> {
    match &entry.act {
        Act::ModelResult { completion } => Some(Outcome::Succeeded { output: completion.text.clone() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_joined_to_one_array() {
        assert_eq!(array([]), "[]");
        assert_eq!(array(["[1]", "[2]"]), "[[1],[2]]");
    }

    #[test]
    fn a_key_occurs_once_a_round_and_in_order() {
        let batch = [&"a", &"b", &"a", &"c", &"a"];
        assert_eq!(rounds(&batch, |key| *key), [vec![0, 1, 3], vec![2], vec![4]]);
        assert!(rounds(&[] as &[&&str], |key| *key).is_empty());
    }

    #[test]
    fn counts_do_not_turn_negative() {
        assert_eq!(count(u64::MAX), i64::MAX);
        assert_eq!(count(7), 7);
    }
}
