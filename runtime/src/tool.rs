//! The tool port: something an agent can call.
//!
//! ```text
//! Tools::for_agent ─▶ ToolSet ─▶ clock │ wait │ http_get
//! ```
//!
//! Called by the life of a step when a model asks for a tool. A tool that fails is no error of ours: its [`Answer`] says so,
//! and the model may try another way. What is an [`Error`] is a spec that names a tool which cannot be had.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::domain::journal::Effect;
use crate::fault::{Fault, Faulty};
use crate::progress::Progress;

mod clock;
mod http_get;
mod set;
mod wait;

pub use http_get::HttpGetOptions;
pub use set::{ToolOptions, ToolSet, Tools};

/// One call of a tool.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The arguments as the model sent them.
    pub arguments: Value,
    /// Stable over attempts and nodes; sent along where the other side understands it.
    pub idempotency_key: String,
    /// What is left of the step's time.
    pub time_left: Duration,
    /// To be told of each sign of life; a call without one for `steps.stalled_after` is cancelled.
    pub progress: Progress,
}

/// What a tool answered; an error is an answer too (the model is told and may try another way).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What the model is told.
    pub content: String,
    /// Whether the tool failed.
    pub is_error: bool,
}

impl Answer {
    /// Good news.
    #[must_use]
    pub fn ok(content: impl Into<String>) -> Self {
        Self { content: content.into(), is_error: false }
    }

    /// Bad news.
    #[must_use]
    pub fn error(content: impl Into<String>) -> Self {
        Self { content: content.into(), is_error: true }
    }
}

/// Something an agent can call.
#[async_trait]
pub trait Tool: Send + Sync {
    /// The name the model calls it by.
    fn name(&self) -> &str;
    /// What it does, for the model.
    fn description(&self) -> &str;
    /// JSON Schema of its arguments.
    fn parameters(&self) -> Value;
    /// What a repetition would do.
    fn effect(&self) -> Effect;
    /// Performs one call. Dropping the future cancels it.
    async fn call(&self, invocation: Invocation) -> Answer;
}

/// Why a tool of a spec cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No built-in tool has this name.
    #[error("there is no built-in tool {name:?}; there are {known}")]
    Unknown {
        /// The name in the spec.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// Two tools of one name: the model could not tell them apart.
    #[error("the tool {name:?} is listed twice; take one of the lines out")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A tool that reaches out and may reach nowhere.
    #[error("http_get needs the hosts that it may reach, as in `hosts: [example.org, \"*.example.com\"]`")]
    NoHosts,
    /// An entry of `hosts` that names no host.
    #[error("{entry:?} in the hosts of http_get is none of example.org, *.example.org, * (each with :port if need be)")]
    BadHost {
        /// The entry.
        entry: String,
    },
    /// The HTTP client of the tool could not be made.
    #[error("the HTTP client of http_get cannot be set up: {message}")]
    Client {
        /// What is wrong.
        message: String,
    },
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        Fault::Permanent
    }
}
