//! Cells of a database, by the words of the domain: what the cases of damage read and change behind the store's back.
//!
//! A cell spells the statement for itself; the harness of a suite runs it on a connection of its own. Who calls: the cases,
//! and harnesses and system tests outside the runtime. It never fails: what a database answers is the harness's affair.

use uuid::Uuid;

use crate::domain::ids::{StepId, TaskId};

/// One cell of the database.
#[derive(Debug, Clone)]
pub struct Cell {
    row: Row,
    column: &'static str,
}

impl Cell {
    /// The cell of a task's event that holds its text, when it is not packed.
    #[must_use]
    pub const fn event(task: TaskId) -> Self {
        Row::Task(task).cell("event")
    }

    /// The cell of an entry that holds its text, when it is not packed.
    #[must_use]
    pub const fn entry(step: StepId, seq: u32) -> Self {
        Row::Entry(step, seq).cell("body")
    }

    /// The cell of a step that holds its status.
    #[must_use]
    pub const fn status(step: StepId) -> Self {
        Row::Step(step).cell("status")
    }

    /// The statement that reads it.
    #[must_use]
    pub fn select(&self, dialect: Dialect) -> String {
        format!("select {} from {} where {}", self.column, self.row.table(dialect), self.row.key(dialect))
    }

    /// The statement that writes it; `value` is spelled as the database does.
    #[must_use]
    pub fn update(&self, dialect: Dialect, value: &str) -> String {
        format!("update {} set {} = {value} where {}", self.row.table(dialect), self.column, self.row.key(dialect))
    }
}

/// Whose rows they are: where a database keeps the journal, and how it spells an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A node's file.
    Sqlite,
    /// A server.
    Postgres,
}

impl Dialect {
    fn id(self, id: Uuid) -> String {
        match self {
            Self::Sqlite => format!("x'{}'", id.simple()),
            Self::Postgres => format!("'{id}'"),
        }
    }
}

/// A row, by its key.
#[derive(Debug, Clone)]
pub(super) enum Row {
    /// `tasks`.
    Task(TaskId),
    /// `journal_entries` in SQLite, `journal` in PostgreSQL.
    Entry(StepId, u32),
    /// `execution_results`.
    Result(StepId),
    /// `agent_states`.
    Memory(String, String),
    /// `agent_specs`.
    Spec(String),
    /// `steps`.
    Step(StepId),
}

impl Row {
    const fn table(&self, dialect: Dialect) -> &'static str {
        match self {
            Self::Task(_) => "tasks",
            Self::Entry(..) => match dialect {
                Dialect::Sqlite => "journal_entries",
                Dialect::Postgres => "journal",
            },
            Self::Result(_) => "execution_results",
            Self::Memory(..) => "agent_states",
            Self::Spec(_) => "agent_specs",
            Self::Step(_) => "steps",
        }
    }

    fn key(&self, dialect: Dialect) -> String {
        match self {
            Self::Task(task) => format!("id = {}", dialect.id(task.0)),
            Self::Entry(step, seq) => format!("step_id = {} and seq = {seq}", dialect.id(step.0)),
            Self::Result(step) => format!("step_id = {}", dialect.id(step.0)),
            Self::Memory(agent, session) => format!("agent_id = '{agent}' and session = '{session}'"),
            Self::Spec(digest) => format!("digest = '{digest}'"),
            Self::Step(step) => format!("id = {}", dialect.id(step.0)),
        }
    }

    pub(super) const fn cell(self, column: &'static str) -> Cell {
        Cell { row: self, column }
    }

    /// The column of its text.
    pub(super) const fn text(&self) -> &'static str {
        if matches!(self, Self::Task(_)) { "event" } else { "body" }
    }
}

/// What a cell holds, to the byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// Nothing.
    Null,
    /// A number.
    Number(i64),
    /// A text, perhaps not even UTF-8.
    Text(Vec<u8>),
    /// Bytes.
    Bytes(Vec<u8>),
}
