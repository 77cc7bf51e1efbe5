//! An agent's preparation, tried again at each start of one of its actors until it succeeds once.
//!
//! What an agent needs may be missing now and there in a minute. So an agent that could not be made ready at the start is
//! tried again whenever its pool starts an instance of it: within the restart budget, after the budget's waits, and when
//! an operator asks for a restart. A failure is the failure of that start; it is logged, shown as the agent's reason, and
//! stops nobody else. Held by a company and its start functions; what came ready late is known to the recovery by
//! [`Late`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use troupe_runtime::domain::agent::AgentSpec;
use troupe_runtime::ports::Ports;

use crate::served::Served;

/// Agents that came ready after the start of the node. Cheap to clone.
#[derive(Clone, Default)]
pub struct Late(Arc<Mutex<HashMap<String, Arc<Served>>>>);

impl Late {
    /// The agent, if it came ready late.
    #[must_use]
    pub fn get(&self, agent: &str) -> Option<Arc<Served>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(agent).cloned()
    }

    fn put(&self, served: &Arc<Served>) {
        let name = served.spec.name.as_str().to_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, served.clone());
    }
}

/// One agent's preparation. Clones share it.
#[derive(Clone)]
pub(crate) struct Prepared {
    ports: Arc<Ports>,
    late: Late,
    /// The spec, and what was made of it.
    made: Arc<Mutex<Made>>,
}

type Made = (Arc<AgentSpec>, Option<Arc<Served>>);

impl Prepared {
    /// As the node's start has left it.
    pub(crate) fn new(ports: Arc<Ports>, spec: Arc<AgentSpec>, served: Option<Arc<Served>>, late: Late) -> Self {
        Self { ports, late, made: Arc::new(Mutex::new((spec, served))) }
    }

    /// The agent has another spec from now on.
    pub(crate) fn change(&self, spec: Arc<AgentSpec>, served: Option<Arc<Served>>) {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = (spec, served);
    }

    /// The agent, if it is ready.
    pub(crate) fn ready(&self) -> Option<Arc<Served>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// The agent made ready, now or before; else why it cannot be.
    pub(crate) fn get(&self) -> Result<Arc<Served>, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let (spec, served) = &mut *made;
        if let Some(served) = served {
            return Ok(served.clone());
        }
        let ready = Served::prepare(&self.ports, spec.clone()).map(Arc::new).map_err(|reason| {
            tracing::error!(agent = %spec.name, %reason, "the agent cannot be made ready");
            reason.to_string()
        })?;
        tracing::info!(agent = %spec.name, "the agent is ready after all");
        self.late.put(&ready);
        *served = Some(ready.clone());
        Ok(ready)
    }
}
