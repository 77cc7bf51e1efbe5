//! What a pool is told, and by whom: its inboxes, the recovery, the orchestrator, its own timers.
//!
//! Nothing that is lost with a mailbox is lost for good: work is in the store, and the recovery asks for it again.

use std::sync::Arc;

use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorMessage;
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::supervision::ChildTimer;

use crate::registry::AgentView;
use crate::work::Work;

/// What a pool is told.
#[derive(Debug, RactorMessage)]
pub enum PoolMessage {
    /// An inbox has accepted these.
    Accepted(Vec<Arc<Work>>),
    /// The recovery has claimed these; they may have begun.
    Recovered(Vec<Arc<Work>>),
    /// How do the agents stand, or the one of this name?
    Views(Option<AgentName>, RpcReplyPort<Vec<AgentView>>),
    /// An operator wants an agent's actors started again, with a whole budget; answers whether it is here.
    Reset(AgentName, RpcReplyPort<bool>),
    /// An agent was paused or resumed: its inbox is to be closed or opened; answers whether it is here.
    Regate(AgentName, RpcReplyPort<bool>),
    /// The roster is another one.
    Roster,
    /// See whether those that leave have finished.
    Tidy,
    /// A child's wait is over.
    Child(ChildTimer),
}
