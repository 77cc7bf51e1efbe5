//! The lives that can be asked whether they get on, and giving up on one that does not answer.
//!
//! Called by whoever looks after them (the vitals, in `actors`). A routine with a mailbox can be pinged, whatever its messages
//! are; an actor of ractor's knows only messages of its own. Nothing here waits: an answer comes, or does not, to the one who asked.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{ActorState, Node, Tree};
use crate::supervision::mailbox::AnyMailbox;
use crate::supervision::reach::Reach;
use crate::supervision::wake::Wake;

/// One running life with a mailbox, for whoever asks how it is.
#[derive(Debug, Clone)]
pub struct Life {
    /// Where it stands.
    pub path: String,
    mailbox: Arc<dyn AnyMailbox>,
}

impl Life {
    /// Which life it is; no two of this process are alike.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.mailbox.life()
    }

    /// Asks whether it is there: by what its answer comes, once it comes back for its next message. `None` when it has ended or is
    /// being brought down; an answer that is dropped says that it has ended meanwhile.
    #[must_use]
    pub fn ping(&self) -> Option<oneshot::Receiver<()>> {
        self.mailbox.ping()
    }
}

impl Tree {
    /// Every life of a kind that runs, has a mailbox, and has a supervisor that starts it again.
    #[must_use]
    pub fn lives(&self, kind: &str) -> Vec<Life> {
        let nodes = self.nodes();
        let runs = |node: &&Node| node.kind == kind && node.state == ActorState::Running && node.ask.is_some();
        let running = nodes.iter().filter(|(_, node)| runs(node));
        let life = |(path, node): (&String, &Node)| {
            let mailbox = node.reach.as_ref().and_then(Reach::mailbox)?.clone();
            Some(Life { path: path.clone(), mailbox })
        };
        running.filter_map(life).collect()
    }

    /// This life does not answer: its supervisor cuts it off, counts that as a fall, and does what it does about falls.
    pub fn give_up_on(&self, life: &Life, cause: &str) {
        let ask = self.nodes().get(&life.path).and_then(|node| node.ask.clone());
        if let Some(ask) = ask {
            ask(Wake::GiveUp { life: life.number(), cause: self.cause(cause) });
        }
    }
}
