//! The reply sender as an actor: started by the root after everything that it needs, messaged by nobody.
//!
//! Owns the consumer of the reply queue. Its handler is the sender's loop; when that ends with an error the root starts
//! it again, and what it held is handed out anew.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use ractor_cluster_derive::RactorMessage;
use tokio_util::sync::CancellationToken;
use troupe_runtime::ports::Ports;
use troupe_runtime::supervision::{ChildContext, ChildSpec, Shutdown};

use super::StartError;
use crate::slack::reply::{ReplyOptions, ReplySender, ReplyStats};

/// How long replies under way may take when the node stops.
const GRACE: Duration = Duration::from_secs(5);

/// The child that the root starts last.
pub(super) fn child(
    options: ReplyOptions,
    ports: &Arc<Ports>,
    stats: &Arc<ReplyStats>,
    drain: &CancellationToken,
) -> Result<ChildSpec, StartError> {
    let (bus, replies) = (ports.bus.clone(), ports.stores.replies.clone());
    let (stats, drain) = (stats.clone(), drain.clone());
    let make = move || {
        let sender = ReplySender::new(bus.clone(), replies.clone(), options.clone());
        sender.map(|sender| sender.counting_in(stats.clone()))
    };
    // Made once here, so that an option that cannot work is an error at start and not a restart loop.
    make().map_err(|error| StartError::Slack(error.to_string()))?;
    let start = move |context: ChildContext| {
        let (sender, drain) = (make(), drain.clone());
        async move {
            let sender = sender.map_err(|error| SpawnErr::StartupFailed(error.into()))?;
            context.spawn(ReplyActor, Sender { sender: Some(sender), drain }).await
        }
    };
    Ok(ChildSpec::new("replies", "reply sender", start).shutdown(Shutdown::Drain(GRACE)))
}

/// The one message: begin.
#[derive(Debug, RactorMessage)]
struct Begin;

struct ReplyActor;

/// The sender until it begins, and what ends it.
struct Sender {
    sender: Option<ReplySender>,
    drain: CancellationToken,
}

impl Actor for ReplyActor {
    type Msg = Begin;
    type State = Sender;
    type Arguments = Sender;

    async fn pre_start(&self, myself: ActorRef<Begin>, sender: Sender) -> Result<Sender, ActorProcessingErr> {
        myself.cast(Begin)?;
        Ok(sender)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Begin>,
        Begin: Begin,
        state: &mut Sender,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(sender) = state.sender.take() {
            sender.run(state.drain.clone()).await?;
        }
        Ok(())
    }
}
