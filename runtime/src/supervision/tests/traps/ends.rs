//! How lives end, and what is left of them for whoever is told.

use ractor::ActorRuntime;

use super::*;

/// Of an end: how it is told, whether a state comes with it, and the reason.
fn legacy(event: &SupervisionEvent) -> Option<(&'static str, bool, Option<String>)> {
    match event {
        SupervisionEvent::ActorTerminated(_, state, reason) => Some(("terminated", state.is_some(), reason.clone())),
        SupervisionEvent::ActorFailed(_, error) => Some(("failed", false, Some(error.to_string()))),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_starts_a_fallen_actor_again() {
    let mut pair = pair().await;
    pair.child.kill();
    assert_eq!(pair.told.recv().await.as_deref(), Some("killed"));
    assert!(tokio::time::timeout(PATIENCE, pair.told.recv()).await.is_err(), "nothing follows by itself");
    assert_eq!((pair.parent.get_children().len(), pair.child.get_status()), (0, ActorStatus::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_state_is_left_by_a_clean_end_only() {
    for (fall, told, with_state, reason) in [
        (Fall::Normal, "terminated", true, Some("home time")),
        (Fall::Kill, "terminated", false, Some("killed")),
        (Fall::Panic, "failed", false, Some("tripped")),
        (Fall::Err, "failed", false, Some("on purpose")),
    ] {
        let (parent, mut heard) = listener(legacy).await;
        let (child, _) = parent.spawn_linked(None, Worker::new("a", &Diary::default()), ()).await.expect("a child");
        match fall {
            Fall::Panic => child.cast(WorkerMessage::Panic("tripped".into())).expect("sent"),
            Fall::Err => child.cast(WorkerMessage::Fail).expect("sent"),
            Fall::Kill => child.kill(),
            Fall::Normal => child.stop(Some("home time".into())),
        }
        let (how, state, why) = heard.recv().await.expect("told");
        assert_eq!((how, state, why.as_deref()), (told, with_state, reason), "{fall:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_is_spawned_at_once_and_does_not_start_takes_messages_and_tells_nobody() {
    let mut pair = pair().await;
    let broken = Worker::new("b", &pair.diary);
    broken.broken.store(true, Ordering::SeqCst);
    let spawned = ActorRuntime::spawn_linked_instant(None, broken, (), pair.parent.get_cell());
    let (actor, started) = spawned.expect("it seems to be there");
    actor.cast(WorkerMessage::Work(Duration::ZERO)).expect("and takes messages");
    assert!(started.await.expect("no panic").is_err(), "only the handle knows");
    pair.child.stop(None);
    assert_eq!(pair.told.recv().await.as_deref(), Some("ended"), "the next event is about the other child");
    assert_eq!(*pair.diary.lock().expect("the diary"), ["a up", "a down"]);
}
