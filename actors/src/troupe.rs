//! The running troupe as the doors see it: submit a task, wait for it, look at agents and actors, stop.
//!
//! A cheap handle; everything behind it is supervised. Who calls: the HTTP API, the demo, the tests.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::broadcast;
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::domain::event::Priority;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::fault::{Fault, Faulty};
use troupe_runtime::store::Task;
use troupe_runtime::{bus, store};

use crate::registry::{AgentFilter, AgentView};

/// What somebody asks an agent for through the API.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// The question: a text, or any JSON.
    pub input: Value,
    /// 0–9.
    pub priority: Priority,
    /// Which conversation it belongs to.
    pub session: Option<String>,
    /// The same key for the same agent leads to the same task.
    pub idempotency_key: Option<String>,
}

/// Why a request was not met.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such agent; the nearest name, when there is a near one.
    #[error("there is no agent {name}{}", near.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    UnknownAgent {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        near: Option<String>,
    },
    /// The bus did not take it.
    #[error(transparent)]
    Bus(#[from] bus::Error),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The troupe is stopping, or an actor did not answer in time.
    #[error("the troupe does not answer: {0}")]
    Unavailable(String),
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::UnknownAgent { .. } => Fault::Permanent,
            Self::Bus(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Unavailable(_) => Fault::transient(),
        }
    }
}

/// The running troupe.
#[derive(Clone)]
pub struct Troupe {
    ended: broadcast::Sender<TaskId>,
}

impl Troupe {
    /// Publishes the task's event, confirmed, and answers the id that the task will have.
    pub async fn submit(&self, agent: &str, submission: Submission) -> Result<TaskId, Error> {
        let _ = (agent, submission);
        Err(Error::Unavailable("to be written".into()))
    }

    /// Waits until the task has ended or `limit` has passed; answers it as it then stands. `None` = not accepted yet.
    pub async fn wait(&self, task: TaskId, limit: Duration) -> Result<Option<Task>, Error> {
        let _ = (task, limit);
        Err(Error::Unavailable("to be written".into()))
    }

    /// Told the id of every task that ends on this node; a hint, the store is the truth.
    #[must_use]
    pub fn ended(&self) -> broadcast::Receiver<TaskId> {
        self.ended.subscribe()
    }

    /// The registry.
    pub async fn agents(&self, filter: AgentFilter) -> Result<Vec<AgentView>, Error> {
        let _ = filter;
        Err(Error::Unavailable("to be written".into()))
    }

    /// One agent.
    pub async fn agent(&self, name: &str) -> Result<AgentView, Error> {
        let _ = name;
        Err(Error::Unavailable("to be written".into()))
    }

    /// Starts unavailable instances of an agent again, with a fresh restart budget.
    pub async fn restart(&self, agent: &AgentName) -> Result<(), Error> {
        let _ = agent;
        Err(Error::Unavailable("to be written".into()))
    }

    /// Stops intake, lets steps finish what they do, stops everything; at most `limit`.
    pub async fn drain(&self, limit: Duration) {
        let _ = limit;
    }
}
