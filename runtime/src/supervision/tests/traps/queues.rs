//! What waits for an actor, in which order it is taken, and what becomes of it at the end.

use tokio::sync::oneshot;

use super::*;

/// Writes down what it is given, in the order in which it is given.
struct Notary(mpsc::UnboundedSender<String>);

#[derive(RactorMessage)]
enum NotaryMessage {
    /// A handler that lasts until it is released.
    Hold(oneshot::Receiver<()>),
    Note(u32),
}

impl Notary {
    fn write(&self, line: impl Into<String>) {
        self.0.send(line.into()).expect("somebody reads");
    }
}

impl Actor for Notary {
    type Msg = NotaryMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<NotaryMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<NotaryMessage>,
        message: NotaryMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NotaryMessage::Hold(until) => drop(until.await),
            NotaryMessage::Note(number) => self.write(format!("note {number}")),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<NotaryMessage>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if Exit::of(&event, &Redactor::default()).is_some() {
            self.write("an end");
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<NotaryMessage>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.write("stopped");
        Ok(())
    }
}

/// A notary who is held up, with two notes and then the end of a child waiting; what it will have written.
async fn held_up() -> (ActorRef<NotaryMessage>, oneshot::Sender<()>, mpsc::UnboundedReceiver<String>) {
    let (write, written) = mpsc::unbounded_channel();
    let (notary, _) = Actor::spawn(None, Notary(write), ()).await.expect("a notary");
    let (child, _) = notary.spawn_linked(None, Worker::new("a", &Diary::default()), ()).await.expect("a child");
    let (release, held) = oneshot::channel();
    notary.cast(NotaryMessage::Hold(held)).expect("sent");
    for number in [1, 2] {
        notary.cast(NotaryMessage::Note(number)).expect("sent");
    }
    child.kill();
    child.wait(Some(PATIENCE)).await.expect("gone");
    // Everybody else rests by then: the event is where it waits.
    tokio::time::sleep(Duration::from_secs(1)).await;
    (notary, release, written)
}

async fn all(mut written: mpsc::UnboundedReceiver<String>) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = written.recv().await {
        lines.push(line);
    }
    lines
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_after_the_handler_that_runs() {
    let (_notary, release, mut written) = held_up().await;
    assert!(written.try_recv().is_err(), "the child has been gone for a while");
    release.send(()).expect("it waits");
    assert_eq!(written.recv().await.as_deref(), Some("an end"), "so a supervisor awaits nothing long");
}

#[tokio::test(start_paused = true)]
async fn an_end_goes_before_messages_that_came_earlier_and_messages_keep_their_order() {
    let (notary, release, written) = held_up().await;
    release.send(()).expect("it waits");
    notary.drain().expect("sent");
    notary.wait(Some(PATIENCE)).await.expect("gone");
    drop(notary);
    assert_eq!(all(written).await, ["an end", "note 1", "note 2", "stopped"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_goes_before_everything_that_waits_and_nothing_of_it_is_handled() {
    let (notary, release, written) = held_up().await;
    notary.stop(None);
    release.send(()).expect("it waits");
    notary.wait(Some(PATIENCE)).await.expect("gone");
    drop(notary);
    assert_eq!(all(written).await, ["stopped"], "a supervisor that is stopped hears of no end any more");
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_has_no_end_of_its_own() {
    let (notary, release, _written) = held_up().await;
    for number in 0..100_000 {
        notary.cast(NotaryMessage::Note(number)).expect("whoever wants a limit counts, as our mailbox does");
    }
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn a_fall_drops_the_queue_although_every_cast_was_taken() {
    for fall in [Fall::Panic, Fall::Err, Fall::Kill] {
        let mut pair = pair().await;
        match fall {
            Fall::Panic => pair.child.cast(WorkerMessage::Panic("tripped".into())).expect("sent"),
            _ => pair.child.cast(WorkerMessage::Fail).expect("sent"),
        }
        for _ in 0..100 {
            pair.child.cast(WorkerMessage::Work(Duration::ZERO)).expect("Ok means queued");
        }
        if fall == Fall::Kill {
            pair.child.kill();
        }
        pair.told.recv().await;
        assert_eq!(*pair.diary.lock().expect("the diary"), ["a up"], "{fall:?}: none of a hundred is handled");
    }
}
