//! ractor's traps, pinned: what this module is built around, and what a release of ractor may change under it.
//!
//! A test that fails here after a new release of ractor says that a trap was mended or has moved: read what stands on it,
//! then change both. Here is what supervisors stand on; [`queues`], [`calls`], [`ends`] and [`shared`] have the rest,
//! and [`factory`] why we have pools of our own.

use ractor::ActorStatus;

use super::*;
use crate::secret::Redactor;

mod calls;
mod ends;
mod factory;
mod queues;
mod shared;

/// A parent as ractor gives it, with the default `handle_supervisor_evt`.
struct NaiveParent;

/// A parent that only passes on what it is told, in the words of a test.
struct Listener<T> {
    tell: mpsc::UnboundedSender<T>,
    words: fn(&SupervisionEvent) -> Option<T>,
}

#[derive(RactorMessage)]
struct Nothing;

impl Actor for NaiveParent {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Actor for Listener<T> {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Nothing>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let Some(told) = (self.words)(&event) {
            self.tell.send(told)?;
        }
        Ok(())
    }
}

/// A listener, and what it is told.
async fn listener<T: Send + Sync + 'static>(
    words: fn(&SupervisionEvent) -> Option<T>,
) -> (ActorRef<Nothing>, mpsc::UnboundedReceiver<T>) {
    let (tell, told) = mpsc::unbounded_channel();
    (Actor::spawn(None, Listener { tell, words }, ()).await.expect("a parent").0, told)
}

/// An event as a supervisor of ours reads it.
fn read(event: &SupervisionEvent) -> String {
    match (event, Exit::of(event, &Redactor::default())) {
        (SupervisionEvent::ActorStarted(_), _) => "started".to_owned(),
        (_, Some((_, exit))) => exit.to_string(),
        _ => "something else".to_owned(),
    }
}

struct Pair {
    parent: ActorRef<Nothing>,
    child: ActorRef<WorkerMessage>,
    told: mpsc::UnboundedReceiver<String>,
    diary: Diary,
}

/// A listener and a worker linked to it, once the listener knows of it.
async fn pair() -> Pair {
    let (parent, mut told) = listener(|event| Some(read(event))).await;
    let diary = Diary::default();
    let (child, _) = parent.spawn_linked(None, Worker::new("a", &diary), ()).await.expect("a child");
    assert_eq!(told.recv().await.as_deref(), Some("started"));
    Pair { parent, child, told, diary }
}

#[tokio::test(start_paused = true)]
async fn by_default_a_parent_stops_when_any_child_ends_and_takes_the_others_along() {
    let (parent, _) = Actor::spawn(None, NaiveParent, ()).await.expect("a parent");
    let diary = Diary::default();
    let (child, _) = parent.spawn_linked(None, Worker::new("a", &diary), ()).await.expect("a child");
    let (sibling, _) = parent.spawn_linked(None, Worker::new("b", &diary), ()).await.expect("a sibling");
    child.stop(None);
    parent.wait(Some(PATIENCE)).await.expect("the parent is gone");
    sibling.wait(Some(PATIENCE)).await.expect("the sibling too");
    assert_eq!(*diary.lock().expect("the diary"), ["a up", "b up", "a down"], "the sibling without its post_stop");
}

#[tokio::test(start_paused = true)]
async fn a_failed_pre_start_emits_no_supervision_event() {
    let mut pair = pair().await;
    let broken = Worker::new("b", &pair.diary);
    broken.broken.store(true, Ordering::SeqCst);
    let failed = pair.parent.spawn_linked(None, broken, ()).await;
    assert!(failed.is_err(), "only the caller learns of it");
    pair.child.stop(None);
    assert_eq!(pair.told.recv().await.as_deref(), Some("ended"), "the next event is about the other child");
}

#[tokio::test(start_paused = true)]
async fn post_stop_runs_after_stop_and_drain_only() {
    for (fall, told, says_goodbye) in [
        (Fall::Panic, "tripped", false),
        (Fall::Err, "on purpose", false),
        (Fall::Kill, "killed", false),
        (Fall::Normal, "ended: Drained", true),
    ] {
        let mut pair = pair().await;
        match fall {
            Fall::Panic => pair.child.cast(WorkerMessage::Panic("tripped".into())).expect("sent"),
            Fall::Err => pair.child.cast(WorkerMessage::Fail).expect("sent"),
            Fall::Kill => pair.child.kill(),
            Fall::Normal => pair.child.drain().expect("sent"),
        }
        assert_eq!(pair.told.recv().await.as_deref(), Some(told), "{fall:?}");
        let goodbye = pair.diary.lock().expect("the diary").last().is_some_and(|line| line == "a down");
        assert_eq!(goodbye, says_goodbye, "{fall:?}");
        assert_eq!(pair.parent.get_status(), ActorStatus::Running, "{fall:?}: an overridden handler saves the parent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_stops_gracefully_kills_its_children_in_the_middle_of_their_work() {
    let pair = pair().await;
    pair.child.cast(WorkerMessage::Work(Duration::from_secs(1))).expect("sent");
    tokio::task::yield_now().await;
    let begun = tokio::time::Instant::now();
    pair.parent.stop(None);
    pair.child.wait(Some(PATIENCE)).await.expect("gone");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(*pair.diary.lock().expect("the diary"), ["a up"], "neither done nor stopped in order");
}

#[tokio::test(start_paused = true)]
async fn a_stop_drops_the_queue_and_a_drain_handles_it() {
    for (drain, done) in [(false, 1), (true, 5)] {
        let mut pair = pair().await;
        for _ in 0..5 {
            pair.child.cast(WorkerMessage::Work(Duration::from_secs(1))).expect("Ok means queued");
        }
        tokio::task::yield_now().await;
        if drain {
            pair.child.drain().expect("sent");
        } else {
            pair.child.stop(None);
        }
        pair.told.recv().await;
        let did = pair.diary.lock().expect("the diary").iter().filter(|line| *line == "a did").count();
        assert_eq!(did, done, "drain: {drain}");
        assert!(pair.child.cast(WorkerMessage::Fail).is_err(), "and then it takes nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_cuts_an_await_off_and_a_stop_waits_for_the_handler() {
    for (kill, took) in [(true, Duration::ZERO), (false, Duration::from_secs(1))] {
        let pair = pair().await;
        pair.child.cast(WorkerMessage::Work(Duration::from_secs(1))).expect("sent");
        tokio::task::yield_now().await;
        let begun = tokio::time::Instant::now();
        if kill {
            pair.child.kill();
        } else {
            pair.child.stop(None);
        }
        pair.child.wait(Some(PATIENCE)).await.expect("gone");
        assert_eq!(begun.elapsed(), took, "kill: {kill}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_and_wait_does_not_wait() {
    let pair = pair().await;
    pair.child.cast(WorkerMessage::Work(Duration::from_secs(1))).expect("sent");
    tokio::task::yield_now().await;
    pair.child.stop(None);
    let begun = tokio::time::Instant::now();
    assert!(pair.child.stop_and_wait(None, Some(PATIENCE)).await.is_err(), "its port is taken once");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    pair.child.wait(Some(PATIENCE)).await.expect("gone");
    assert_eq!(begun.elapsed(), Duration::from_secs(1), "`wait` does");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_times_out_is_handled_all_the_same() {
    let pair = pair().await;
    pair.child.cast(WorkerMessage::Work(Duration::from_secs(5))).expect("sent");
    let answer = pair.child.call(WorkerMessage::Ping, Some(Duration::from_secs(1))).await.expect("sent");
    assert!(matches!(answer, ractor::rpc::CallResult::Timeout));
    // The reply has nobody to go to, which this worker's `?` makes a fall of: a late answer must not be an error.
    pair.child.wait(Some(PATIENCE)).await.expect("gone");
    assert_eq!(*pair.diary.lock().expect("the diary"), ["a up", "a did"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_actor_falls_is_answered_at_once() {
    let pair = pair().await;
    pair.child.cast(WorkerMessage::Work(Duration::from_secs(5))).expect("sent");
    let asked = pair.child.clone();
    let call = tokio::spawn(async move { asked.call(WorkerMessage::Ping, None).await });
    tokio::task::yield_now().await;
    pair.child.kill();
    let answer = tokio::time::timeout(PATIENCE, call).await.expect("without a limit of its own").expect("no panic");
    assert!(!matches!(answer, Ok(ractor::rpc::CallResult::Success(()))));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_free_again_when_the_supervisor_is_told() {
    let mut pair = pair().await;
    let name = || Some("traps-name".to_owned());
    let spawn = || pair.parent.spawn_linked(name(), Worker::new("b", &pair.diary), ());
    let (named, _) = spawn().await.expect("a named child");
    assert!(spawn().await.is_err(), "names are one flat space for the process");
    named.kill();
    loop {
        if pair.told.recv().await.expect("the parent lives") == "killed" {
            break;
        }
    }
    let spawn = pair.parent.spawn_linked(name(), Worker::new("b", &pair.diary), ());
    spawn.await.expect("the name is free").0.kill();
}
