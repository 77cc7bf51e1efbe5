//! Rest for one: later children come down in reverse and come back in order.

use super::*;

fn diary_since(office: &Office, mark: usize) -> Vec<String> {
    office.diary().split_off(mark)
}

#[tokio::test(start_paused = true)]
async fn the_rest_comes_down_from_the_back_and_up_in_order() {
    let office = Office::with(Strategy::RestForOne, &["a", "b", "c", "d"]).await;
    let first = office.get("a").await;
    office.tell("b", WorkerMessage::Fail).await;
    assert!(matches!(office.next().await, ChildEvent::Restarting { id, .. } if id == "b"));
    for id in ["b", "c", "d"] {
        assert_eq!(office.next().await, ChildEvent::Restarted { id: id.into(), restarts: 1 });
    }
    assert_eq!(diary_since(&office, 4), ["d down", "c down", "b up", "c up", "d up"]);
    assert_eq!(office.get("a").await, first, "who was there before is not touched");
    assert!(office.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn a_child_is_not_started_before_those_that_stood_on_it_are_down() {
    let office = Office::with(Strategy::RestForOne, &["a"]).await;
    let long = Duration::from_secs(20);
    let spec = office.worker("b").spec().shutdown(Shutdown::Drain(long * 2));
    office.start(spec).await.expect("taken in");
    office.next().await;
    office.tell("b", WorkerMessage::Work(long)).await;
    office.tell("a", WorkerMessage::Fail).await;

    assert!(matches!(office.next().await, ChildEvent::Restarting { .. }));
    let fell = tokio::time::Instant::now();
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "a".into(), restarts: 1 });
    assert_eq!(fell.elapsed().as_secs(), long.as_secs(), "its wait was over long before");
    assert_eq!(diary_since(&office, 2), ["b did", "b down", "a up", "b up"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_drain_is_killed_and_the_recovery_goes_on() {
    let office = Office::with(Strategy::RestForOne, &["a"]).await;
    let spec = office.worker("b").spec().shutdown(Shutdown::Drain(Duration::from_secs(3)));
    office.start(spec).await.expect("taken in");
    office.next().await;
    office.tell("b", WorkerMessage::Work(PATIENCE)).await;
    office.tell("a", WorkerMessage::Fail).await;
    office.next().await;
    let fell = tokio::time::Instant::now();
    office.next().await;
    assert_eq!(fell.elapsed().as_secs(), 3);
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "b".into(), restarts: 1 });
    assert_eq!(diary_since(&office, 2), ["a up", "b up"], "a killed one writes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_second_fall_during_a_recovery_moves_it_to_the_front() {
    let office = Office::with(Strategy::RestForOne, &["a", "b", "c"]).await;
    office.tell("b", WorkerMessage::Fail).await;
    office.next().await;
    office.tell("a", WorkerMessage::Fail).await;
    assert!(matches!(office.next().await, ChildEvent::Restarting { id, .. } if id == "a"));
    for id in ["a", "b", "c"] {
        assert_eq!(office.next().await, ChildEvent::Restarted { id: id.into(), restarts: 1 });
    }
    assert_eq!(diary_since(&office, 3), ["c down", "a up", "b up", "c up"]);
    assert!(office.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_child_keeps_the_rest_down_until_it_is_reset() {
    let office = Office::with(Strategy::RestForOne, &["a"]).await;
    let worker = office.worker("b");
    office.start(worker.spec()).await.expect("taken in");
    office.start(office.worker("c").spec()).await.expect("taken in");
    office.start(office.worker("d").spec().restart(Restart::Temporary)).await.expect("taken in");
    for _ in 0..3 {
        office.next().await;
    }
    worker.broken.store(true, Ordering::SeqCst);
    office.tell("b", WorkerMessage::Fail).await;
    assert!(matches!(office.next().await, ChildEvent::Restarting { .. }));
    let drained = ChildEvent::Ended { id: "d".into(), reason: "ended: Drained".into() };
    assert_eq!(office.next().await, drained, "a temporary one has no second turn");
    for _ in 0..2 {
        assert!(matches!(office.next().await, ChildEvent::Restarting { .. }));
    }
    assert!(matches!(office.next().await, ChildEvent::Unavailable { .. }));
    assert!(office.is_quiet().await);
    assert_eq!(office.states().await, "a running, b unavailable, c waiting");
    assert_eq!(office.tree.get("root/c").map(|view| view.state), Some(ActorState::Waiting));

    worker.broken.store(false, Ordering::SeqCst);
    office.reset("b").await.expect("known");
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "b".into(), restarts: 4 });
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "c".into(), restarts: 1 });
    assert_eq!(office.states().await, "a running, b running, c running");
}

#[tokio::test(start_paused = true)]
async fn removing_the_one_that_is_down_lets_the_rest_up() {
    let office = Office::open(Strategy::RestForOne).await;
    let worker = office.worker("a");
    worker.broken.store(true, Ordering::SeqCst);
    office.start(worker.spec()).await.expect("taken in");
    assert!(matches!(office.next().await, ChildEvent::Restarting { .. }));
    office.start(office.worker("b").spec()).await.expect("taken in, but it waits");
    assert_eq!(office.states().await, "a restarting, b waiting");

    office.remove("a").await.expect("known");
    assert_eq!(office.next().await, ChildEvent::Ended { id: "a".into(), reason: "removed".into() });
    assert_eq!(office.next().await, ChildEvent::Started { id: "b".into() });
}

#[tokio::test(start_paused = true)]
async fn an_end_that_calls_for_no_restart_holds_up_nobody() {
    let office = Office::open(Strategy::RestForOne).await;
    office.start(office.worker("a").spec().restart(Restart::Transient)).await.expect("taken in");
    office.start(office.worker("b").spec()).await.expect("taken in");
    let (_, _, second) = (office.next().await, office.next().await, office.get("b").await);
    Fall::Normal.happen_to(&office, "a").await;
    assert!(matches!(office.next().await, ChildEvent::Ended { .. }));
    assert!(office.is_quiet().await);
    assert_eq!((office.states().await.as_str(), office.get("b").await), ("a stopped, b running", second));
}
