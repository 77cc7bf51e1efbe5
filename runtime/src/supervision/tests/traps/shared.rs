//! What all actors of a process share: groups, spans, the panic strategy, who may be known to other nodes.

use ractor::pg;
use tracing::Instrument as _;

use super::*;

/// Says in which span it works.
struct Witness(mpsc::UnboundedSender<Option<tracing::Id>>);

impl Actor for Witness {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Nothing>, _: Nothing, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.0.send(tracing::Span::current().id())?;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_left_at_the_end_and_its_changes_come_among_the_ends() {
    let group = || "traps-group".to_owned();
    let mut pair = pair().await;
    pg::monitor(group(), pair.parent.get_cell());
    pg::join(group(), vec![pair.child.get_cell()]);
    assert_eq!(pair.told.recv().await.as_deref(), Some("something else"), "an event that is about no child's life");
    assert_eq!(pg::get_members(&group()).len(), 1);
    pair.child.kill();
    let told = [pair.told.recv().await, pair.told.recv().await].map(Option::unwrap_or_default);
    assert!(told.contains(&"killed".to_owned()) && told.contains(&"something else".to_owned()), "{told:?}");
    assert!(pg::get_members(&group()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_handler_does_not_work_in_the_span_of_whoever_sent() {
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry());
    let (tell, mut seen) = mpsc::unbounded_channel();
    let (witness, _) = Actor::spawn(None, Witness(tell), ()).await.expect("a witness");
    let span = tracing::info_span!("sender");
    assert!(span.id().is_some(), "there is a span to be seen");
    async { witness.cast(Nothing).expect("sent") }.instrument(span.clone()).await;
    let worked_in = seen.recv().await.expect("it says so");
    assert_ne!(worked_in, span.id(), "a context travels in the message, not behind it");
}

#[tokio::test(start_paused = true)]
async fn an_actor_of_ours_is_known_to_no_other_node() {
    let pair = pair().await;
    assert!(!pair.child.get_cell().supports_remoting(), "which is decided by the type of its messages");
}

#[test]
fn a_panic_unwinds() {
    const { assert!(cfg!(panic = "unwind"), "with another strategy the first panic of an actor ends the node") }
}
