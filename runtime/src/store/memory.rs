//! What agents remember: the port of `agent_states`, one memory a session.
//!
//! A memory is saved over the version that it was made from; of several that are, one wins. Caches stand before it and may
//! hold anything: [`Memory::refresh`] is how they ask whether what they have is still the memory. Every adapter
//! has it beside its other tables; the behaviour is in [`super::conformance`].

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Error, payload};
use crate::domain::agent::AgentName;

/// What agents keep between events (`agent_states`).
#[async_trait]
pub trait Memory: Send + Sync {
    /// The memory of an agent's session.
    async fn load(&self, agent: &AgentName, session: &str) -> Result<Option<Remembered>, Error>;
    /// The same for somebody who knows `known`, wherever it comes from: the stored text is read only when it is another
    /// one. Answers `known` itself when its version, size and checksum are those of the row, at the time of asking.
    async fn refresh(&self, agent: &AgentName, session: &str, known: Remembered) -> Result<Option<Remembered>, Error>;
    /// Saves it over the version that was loaded (0 = none was there); [`Error::Conflict`] when another is there.
    async fn save(&self, agent: &AgentName, session: &str, over: u64, body: &str) -> Result<u64, Error>;
    /// The sessions that an agent remembers something of, by name, without what it remembers.
    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, Error>;
}

/// A memory with its version stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Rises with every save.
    pub version: u64,
    /// JSON.
    pub body: Arc<str>,
    /// Of the body, as rows keep it ([`payload::checksum`]).
    pub checksum: i64,
}

impl Remembered {
    /// A memory of this version, with the checksum of its body.
    #[must_use]
    pub fn new(version: u64, body: impl Into<Arc<str>>) -> Self {
        let body = body.into();
        let checksum = payload::checksum(&body);
        Self { version, body, checksum }
    }

    /// Whether this is `other` itself, and not another with the same words.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.version == other.version && Arc::ptr_eq(&self.body, &other.body)
    }
}

/// Which sessions.
#[derive(Debug, Clone)]
pub struct SessionFilter {
    /// Of this agent.
    pub agent: AgentName,
    /// Behind this name in the order.
    pub after: Option<String>,
    /// At most.
    pub limit: usize,
}

/// A session that an agent remembers something of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionRow {
    /// Its name.
    pub session: String,
    /// The version of the memory.
    pub version: u64,
    /// Its size, in bytes.
    pub bytes: u64,
    /// When it was saved last.
    pub updated_at: DateTime<Utc>,
}
