//! The node's lease: renews it, lets go of it, and begins another life of the node when somebody has ended this one.
//!
//! ```text
//!  held ──(not renewed in time)──► lapsed ──(renewed)──► held        nothing is begun meanwhile, nothing is lost
//!    └──────────────┬────────────────┘
//!                   ├─ taken over ──► it falls, and everything after it; its next life resumes as another incarnation
//!                   └─ superseded ──► it ends, and the node with it: another process has the name
//! ```
//!
//! Started by the root before everything else (rest for one), messaged by its own timer only. It owns the node's [`Hold`],
//! which it alone writes. When it falls by itself its next life goes on renewing; a node that is taken over more often
//! than its restart budget allows is frozen more than it lives, and ends. When the node leaves, the lease is what is
//! given back last: by then nothing is in hand any more, and others may take over at once.

pub(crate) mod hold;
pub(crate) mod options;

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use ractor_cluster_derive::RactorMessage;
use tokio::time::Instant;
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::store::{self, Renewal};
use troupe_runtime::supervision::{ChildContext, ChildSpec, Restart, Shutdown};

pub use self::hold::Hold;
use self::hold::Standing;
pub use self::options::Options;
use crate::stage::Stage;

/// Its segment in the tree.
pub(crate) const LEASE: &str = "lease";
/// The wait before a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long giving the lease back may take when the node leaves; else it runs out by itself.
const RELEASE: Duration = Duration::from_secs(2);

/// The one message: renew.
#[derive(Debug, Clone, Copy, RactorMessage)]
pub struct Renew;

/// The lease's actor.
pub struct Lease {
    stage: Arc<Stage>,
}

/// Why a life of it ends.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the lease of incarnation {0} had run out and the node was taken over; it goes on as another incarnation")]
    TakenOver(Incarnation),
    #[error("another process has started as node {0:?}")]
    Superseded(String),
}

impl Lease {
    /// How the root starts it. An end of its own is the node's end.
    pub(crate) fn child(stage: &Arc<Stage>) -> ChildSpec {
        let stage = stage.clone();
        ChildSpec::new(LEASE, LEASE, move |context| Self::start(stage.clone(), context))
            .restart(Restart::Transient)
            .shutdown(Shutdown::Drain(RELEASE))
            .revive_after(None)
    }

    async fn start(stage: Arc<Stage>, context: ChildContext) -> Result<ActorCell, SpawnErr> {
        context.spawn(Self { stage }, ()).await
    }

    /// Renews the lease once; says so when it lapses meanwhile.
    async fn renew(&self, own: Incarnation) -> Result<Result<(), Ended>, store::Error> {
        let (lease, options) = (&self.stage.lease, &self.stage.options.lease);
        let (asked, was_held) = (Instant::now(), lease.own().is_some());
        let mut asking = self.stage.ports.stores.nodes.renew(own, options.ttl);
        let mut said = !was_held;
        let renewal = loop {
            tokio::select! {
                renewal = &mut asking => break renewal?,
                () = lease.lapsed(), if !said => {
                    tracing::warn!(incarnation = %own, ttl = ?options.ttl, "the node's lease has lapsed; nothing is begun until it is renewed");
                    said = true;
                }
            }
        };
        match renewal {
            Renewal::Held => {
                if !lease.renewed(own, asked, options.ttl) {
                    tracing::info!(incarnation = %own, "the node's lease is held again; it goes on with what it has in hand");
                    self.stage.relay.look();
                }
                Ok(Ok(()))
            }
            Renewal::TakenOver => {
                lease.over(own);
                Ok(Err(Ended::TakenOver(own)))
            }
            Renewal::Superseded => Ok(Err(self.superseded(own))),
        }
    }

    /// Begins another life of the node.
    async fn resume(&self, former: Incarnation) -> Result<Result<(), Ended>, store::Error> {
        let options = &self.stage.options.lease;
        let asked = Instant::now();
        let Some(own) = self.stage.ports.stores.nodes.resume(former, options.ttl).await? else {
            return Ok(Err(self.superseded(former)));
        };
        self.stage.lease.renewed(own, asked, options.ttl);
        tracing::warn!(%former, incarnation = %own, "the node goes on as another incarnation");
        Ok(Ok(()))
    }

    fn superseded(&self, own: Incarnation) -> Ended {
        self.stage.lease.superseded(own);
        Ended::Superseded(self.stage.options.lease.node.clone())
    }
}

impl Actor for Lease {
    type Msg = Renew;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Renew>, (): ()) -> Result<(), ActorProcessingErr> {
        // What was in hand is others' by now, or waits to be taken up like theirs. Now, while nobody else lives.
        if let Standing::Over(_) = self.stage.lease.standing() {
            self.stage.in_hand.clear();
        }
        myself.cast(Renew)?;
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<Renew>, Renew: Renew, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let (begun, every) = (Instant::now(), self.stage.options.lease.renew_every);
        let done = match self.stage.lease.standing() {
            Standing::Until { own, .. } => self.renew(own).await,
            Standing::Over(former) => self.resume(former).await,
            Standing::Superseded(own) => Ok(Err(self.superseded(own))),
        };
        let wait = match done {
            Ok(Ok(())) => every.saturating_sub(begun.elapsed()),
            Ok(Err(taken_over @ Ended::TakenOver(_))) => return Err(taken_over.into()),
            Ok(Err(ended @ Ended::Superseded(_))) => {
                tracing::error!(%ended, "this one ends; give every process a name of its own (TROUPE_NODE_NAME)");
                myself.stop(Some(ended.to_string()));
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(%error, lease = self.stage.lease.word(), "the node's lease could not be renewed");
                AGAIN.min(every)
            }
        };
        drop(myself.send_after(wait, || Renew));
        Ok(())
    }

    async fn post_stop(&self, _myself: ActorRef<Renew>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let own = self.stage.lease.incarnation();
        match self.stage.ports.stores.nodes.release(own).await {
            Ok(()) => tracing::info!(incarnation = %own, "the node has given its lease back"),
            Err(error) => tracing::warn!(%error, "the lease could not be given back; it runs out by itself"),
        }
        Ok(())
    }
}
