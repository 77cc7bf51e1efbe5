//! Where a stored row is damaged, and how: what [`Error::Corrupt`](super::Error::Corrupt) carries.
//!
//! A value, so that callers need not read it out of a text: a replay answers with the number of the entry, a list leaves
//! the row out, a step that stands on it is blocked. Made by the adapters and by the cases of the conformance suite; an
//! adapter names the column as it reads it, and whoever knows the row adds it.

use std::fmt;

use crate::domain::ids::StepId;

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The table; empty when it is the database itself that is damaged.
    pub table: &'static str,
    /// Which row, by what people know it: `task 0190…`. Empty when it could not even be told.
    pub row: String,
    /// The entry's place in the journal of its step, when it is one.
    pub entry: Option<u32>,
    /// What is wrong, with the column where it is one column's.
    pub cause: String,
}

impl Damage {
    /// Something is wrong in this table; the row is not known yet.
    #[must_use]
    pub fn of(table: &'static str, cause: impl Into<String>) -> Self {
        Self { table, row: String::new(), entry: None, cause: cause.into() }
    }

    /// The database itself is damaged.
    #[must_use]
    pub fn of_database(cause: impl Into<String>) -> Self {
        Self::of("", cause)
    }

    /// In this row, unless it is known already.
    #[must_use]
    pub fn at(mut self, row: impl fmt::Display) -> Self {
        if self.row.is_empty() {
            self.row = row.to_string();
        }
        self
    }

    /// In this entry of this step's journal.
    #[must_use]
    pub fn in_entry(self, step: StepId, seq: u32) -> Self {
        Self { row: format!("step {step}"), entry: Some(seq), ..self }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.table.is_empty() {
            write!(f, "{}, ", self.table)?;
        }
        if !self.row.is_empty() {
            write!(f, "{}, ", self.row)?;
        }
        if let Some(entry) = self.entry {
            write!(f, "entry {entry}, ")?;
        }
        f.write_str(&self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TaskId;

    #[test]
    fn it_says_as_much_as_is_known() {
        assert_eq!(Damage::of_database("page 7 is torn").to_string(), "page 7 is torn");
        assert_eq!(Damage::of("tasks", "event: no JSON").to_string(), "tasks, event: no JSON");
        let step = TaskId::derive("e", "a").run(0).step(0);
        let damage = Damage::of("journal", "body: the checksum does not fit").in_entry(step, 3);
        assert_eq!(damage.to_string(), format!("journal, step {step}, entry 3, body: the checksum does not fit"));
        assert_eq!(damage.entry, Some(3));
    }

    #[test]
    fn the_row_that_was_named_first_stays() {
        let damage = Damage::of("tasks", "x").at("task 1").at("task 2");
        assert_eq!(damage.row, "task 1");
    }
}
