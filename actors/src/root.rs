//! The root: the top of a node's supervision tree.
//!
//! Started by [`Troupe::start`](crate::troupe::Troupe::start), messaged by its handle. Rest for one: the node's lease,
//! orchestrator, relay, then what the gateway brings (its doors), each standing on those before it; last the cleaner and the
//! watcher, on which nobody stands. When it dies the node is over: the process that started it sees its end and exits.

pub mod message;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use troupe_runtime::supervision::{ChildEvent, ChildSpec, Children, ChildrenOptions, Entry, Strategy, Tree};

pub use self::message::RootMessage;
use crate::cleaner::CLEANER;
use crate::lease::LEASE;
use crate::watcher::WATCHER;

/// The root's own segment, and the orchestrator's.
pub(crate) const ROOT: &str = "root";
pub(crate) const ORCHESTRATOR: &str = "orchestrator";

/// The root.
pub struct Root {
    /// The tree it is the top of.
    pub tree: Tree,
}

/// The root's children and its own line in the tree, which goes with it.
pub struct Trunk {
    children: Children,
    _line: Entry,
}

impl Actor for Root {
    type Msg = RootMessage;
    type State = Trunk;
    type Arguments = Vec<ChildSpec>;

    async fn pre_start(
        &self,
        myself: ActorRef<RootMessage>,
        specs: Vec<ChildSpec>,
    ) -> Result<Trunk, ActorProcessingErr> {
        let line = self.tree.insert(ROOT, ROOT);
        line.running(myself.get_cell(), 0);
        let options = ChildrenOptions { strategy: Strategy::RestForOne, ..ChildrenOptions::default() };
        let mut children = Children::new(&myself, ROOT, self.tree.clone(), options, RootMessage::Child);
        for spec in specs {
            children.start(spec).await?;
        }
        Ok(Trunk { children, _line: line })
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMessage>,
        message: RootMessage,
        trunk: &mut Trunk,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMessage::Orchestrator(reply) => {
                reply.send(trunk.children.get(ORCHESTRATOR).map(ActorRef::from)).ok();
            }
            RootMessage::Child(timer) => {
                let events = trunk.children.timer(timer).await;
                escalate(&myself, &events);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMessage>,
        event: SupervisionEvent,
        trunk: &mut Trunk,
    ) -> Result<(), ActorProcessingErr> {
        let events = trunk.children.handle(event).await;
        escalate(&myself, &events);
        Ok(())
    }

    async fn post_stop(&self, _myself: ActorRef<RootMessage>, trunk: &mut Trunk) -> Result<(), ActorProcessingErr> {
        trunk.children.stop_all().await;
        Ok(())
    }
}

/// The fall of a part. Without most of them the node cannot be: there is nobody above to hand the failure to, so it ends.
fn escalate(myself: &ActorRef<RootMessage>, events: &[ChildEvent]) {
    for event in events {
        match event {
            ChildEvent::Unavailable { id, reason } if id == CLEANER => {
                tracing::error!(
                    reason,
                    "the cleaner does not come back for now; nothing old is deleted, all else goes on"
                );
            }
            ChildEvent::Unavailable { id, reason } if id == WATCHER => {
                tracing::error!(
                    reason,
                    "the watcher does not come back for now; changed agents have no effect, all else goes on"
                );
            }
            ChildEvent::Unavailable { id, reason } => {
                tracing::error!(part = id, reason, "a part of the node does not come back; the node ends");
                myself.stop(Some(format!("{id}: {reason}")));
            }
            // It ends by itself only when another process has the node's name.
            ChildEvent::Ended { id, reason } if id == LEASE => {
                tracing::error!(reason, "the node has lost its place; it ends");
                myself.stop(Some(reason.clone()));
            }
            ChildEvent::Restarting { id, after, cause } => {
                tracing::error!(part = id, ?after, cause, "a part of the node fell; it is started again");
            }
            _ => {}
        }
    }
}
