//! The reply sender as an actor: started by the root after everything that it needs, messaged by nobody.
//!
//! Owns the tokio task in which the sender works, and with it the consumer of the reply queue. When the sender ends with
//! an error the root starts the next life, and what it held is handed out anew.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use ractor_cluster_derive::RactorMessage;
use tokio::task::JoinHandle;
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
            context.spawn(ReplyActor, (sender, drain)).await
        }
    };
    Ok(ChildSpec::new("replies", "reply sender", start).shutdown(Shutdown::Drain(GRACE * 2)))
}

/// What the actor is told by the tokio task that sends.
#[derive(Debug, RactorMessage)]
enum ReplyMessage {
    /// The sender has ended, with this error or because it was told to.
    Ended(Option<String>),
}

struct ReplyActor;

/// A sender at work, and how to end it.
struct Sending {
    stop: CancellationToken,
    work: JoinHandle<()>,
}

impl Actor for ReplyActor {
    type Msg = ReplyMessage;
    type State = Sending;
    type Arguments = (ReplySender, CancellationToken);

    /// The sender works in a tokio task of its own, so that the actor hears at once when it is to stop.
    async fn pre_start(
        &self,
        myself: ActorRef<ReplyMessage>,
        (sender, drain): (ReplySender, CancellationToken),
    ) -> Result<Sending, ActorProcessingErr> {
        let stop = drain.child_token();
        let until = stop.clone();
        let work = tokio::spawn(async move {
            let ended = sender.run(until).await.err().map(|error| error.to_string());
            // An actor that is gone needs no news.
            myself.cast(ReplyMessage::Ended(ended)).ok();
        });
        Ok(Sending { stop, work })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ReplyMessage>,
        ReplyMessage::Ended(error): ReplyMessage,
        _state: &mut Sending,
    ) -> Result<(), ActorProcessingErr> {
        // An error is a fall, and the root starts the next life; an end that was asked for leaves the actor idle.
        error.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn post_stop(&self, _myself: ActorRef<ReplyMessage>, state: &mut Sending) -> Result<(), ActorProcessingErr> {
        state.stop.cancel();
        if tokio::time::timeout(GRACE, &mut state.work).await.is_err() {
            tracing::warn!("replies under way were cut off; they are looked for before they are sent again");
        }
        Ok(())
    }
}

/// However the actor ends, its sender does not outlive it.
impl Drop for Sending {
    fn drop(&mut self) {
        self.stop.cancel();
        self.work.abort();
    }
}
