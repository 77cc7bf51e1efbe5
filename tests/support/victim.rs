//! A troupe in a process of its own, made to die: what it is told, and how it is started.
//!
//! It has one agent, whose run has three model calls and one tool of each effect class ([`TOOLS`]); model and tools live
//! outside, in servers that survive it. Its stores are the product's, with a [`killer`](crate::killer) in them and, when
//! asked for, a [mutant](crate::mutant). `victim.rs` is its main; `matrix.rs` starts one life after another on the same
//! data and compares what all sides have seen.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use troupe_runtime::domain::ids::{TaskId, event_id_from};
use troupe_runtime::domain::journal::Effect;

use crate::killer::Point;
use crate::model::{Answer, Asked};
use crate::mutant::Mutant;
use crate::node::Owned;
use crate::wait::until;

/// The agent.
pub const AGENT: &str = "victim";
/// Its tools, by what a second call would do.
pub const TOOLS: [(&str, Effect); 3] = [("look", Effect::Pure), ("book", Effect::Idempotent), ("pay", Effect::Unsafe)];
/// Model calls of a run.
pub const TURNS: usize = 3;
/// It did what it was there for.
pub const DONE: i32 = 0;
/// Its task did not come to rest in time.
pub const STUCK: i32 = 4;
/// A life that does not even end by its own clock is over after so much more.
const GRACE: Duration = Duration::from_secs(20);

/// What a life is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orders {
    /// The task's marker, which the model and the tools see too.
    pub task: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its PostgreSQL; the file in the folder without one.
    pub database: Option<String>,
    /// Where the model is.
    pub model: String,
    /// Where the tools and the ears for ends are.
    pub effects: String,
    /// Whether it asks for the task: once is enough.
    pub asks: bool,
    /// Where it dies.
    pub dies: Option<Point>,
    /// What is wrong with its store.
    pub mutant: Option<Mutant>,
    /// How long the task may take to come to rest, in milliseconds.
    pub limit_ms: u64,
}

impl Orders {
    /// The key under which the task is asked for.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        TaskId::derive(&event_id_from(&["idempotency", AGENT, &self.task]), AGENT)
    }

    /// Lives that life to its end; `log` gets what it says.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    pub async fn live(&self, program: &Path, log: &Path) -> ExitStatus {
        let orders = serde_json::to_string(self).expect("orders are JSON");
        let log = std::fs::File::options().create(true).append(true).open(log).expect("the victim's log");
        let mut command = Command::new(program);
        command.arg(orders).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = Owned::spawn(&mut command);
        let limit = Duration::from_millis(self.limit_ms) + GRACE;
        until("the end of the victim", limit, async || process.ended()).await
    }
}

/// The lines of the model: two tools at once, then the dangerous one, then the answer.
#[must_use]
pub fn lines(asked: &Asked) -> (Duration, Answer) {
    let task = &asked.task;
    let answer = match asked.turn {
        0 => Answer::Tools(vec![("look", json!({"at": task})), ("book", json!({"for": task}))]),
        1 => Answer::Tool("pay", json!({"for": task})),
        _ => Answer::Text(last_word(task)),
    };
    (Duration::ZERO, answer)
}

/// The answer of a run that came to its end.
#[must_use]
pub fn last_word(task: &str) -> String {
    format!("done {task}")
}
