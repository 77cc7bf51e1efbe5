//! Why the troupe did not do what a door asked of it.
//!
//! Made by the handle and by a reload; each door maps it to its own answers in one table, by what it is or by its fault.

use troupe_runtime::bus;
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::fault::{Fault, Faulty};
use troupe_runtime::store;

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
    /// The agent is in the configuration, so its queue is needed.
    #[error("agent {0} is in the configuration; remove its file first")]
    Configured(AgentName),
    /// The key was used for something else.
    #[error("idempotency key {0:?} was used for another input; take a new key")]
    KeyReused(String),
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
            Self::UnknownAgent { .. } | Self::Configured(_) | Self::KeyReused(_) => Fault::Permanent,
            Self::Bus(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Unavailable(_) => Fault::transient(),
        }
    }
}
