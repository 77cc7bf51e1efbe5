//! What the root is told, and by whom: the troupe's handle and the watcher, who look for the orchestrator, and its own timers.
//!
//! A question that goes unanswered is a root that has ended, and with it the node.

use ractor::{ActorRef, RpcReplyPort};
use ractor_cluster_derive::RactorMessage;
use troupe_runtime::supervision::ChildTimer;

use crate::orchestrator::OrchestratorMessage;

/// What the root is told.
#[derive(Debug, RactorMessage)]
pub enum RootMessage {
    /// Where does the orchestrator live now?
    Orchestrator(RpcReplyPort<Option<ActorRef<OrchestratorMessage>>>),
    /// A child's wait is over.
    Child(ChildTimer),
}
