//! One agent of the roster: its spec, and what its steps need, or why it cannot be served.
//!
//! Made by the start and by a reload, which prepare it; read by everybody who reads the roster.

use std::sync::Arc;

use troupe_runtime::domain::agent::AgentSpec;

use crate::served::Served;

/// An agent as the pool is given it: ready to be served, or why not.
#[derive(Clone)]
pub struct Member {
    /// Its spec.
    pub spec: Arc<AgentSpec>,
    /// What its steps need, or why it cannot be served.
    pub served: Result<Arc<Served>, String>,
}

impl Member {
    /// The digest of its spec, which new runs pin.
    #[must_use]
    pub fn digest(&self) -> String {
        self.served.as_ref().map_or_else(|_| self.spec.digest(), |served| served.digest.to_string())
    }
}
