//! What is asked of a supervisor by path: a restart that costs nothing. (An end to a life that does not answer: `attending.rs`.)

use super::*;

#[tokio::test(start_paused = true)]
async fn a_restart_that_is_asked_for_is_at_once_and_not_charged() {
    let office = Office::with(Strategy::OneForOne, &["a", "b"]).await;
    for restarts in 1..=5 {
        let begun = tokio::time::Instant::now();
        office.tree.restart("root/a", "a person").expect("it runs");
        let told = office.next().await;
        let (after, cause) = (Duration::ZERO, "a person".to_owned());
        assert_eq!(told, ChildEvent::Restarting { id: "a".into(), after, cause }, "{restarts}");
        assert_eq!(office.next().await, ChildEvent::Restarted { id: "a".into(), restarts });
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
    let falls = office.tree.ledger().of("root/a");
    assert_eq!((falls.len(), falls[4].cause.as_str(), falls[4].after_ms), (5, "a person", Some(0)));
    assert!(office.answers("b").await && office.tree.ledger().of("root/b").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_restart_brings_back_who_is_down_with_a_whole_budget() {
    let office = Office::open(Strategy::OneForOne).await;
    let worker = office.worker("a");
    worker.broken.store(true, Ordering::SeqCst);
    office.start(worker.spec()).await.expect("taken in");
    while !matches!(office.next().await, ChildEvent::Unavailable { .. }) {}
    assert!(!office.view("a").await.started, "it never came to a life");
    worker.broken.store(false, Ordering::SeqCst);
    office.tree.restart("root/a", "a person").expect("its supervisor lives");
    assert!(matches!(office.next().await, ChildEvent::Restarted { .. }));
    assert!(office.view("a").await.started);
    for _ in 0..3 {
        Fall::Panic.happen_to(&office, "a").await;
        assert!(matches!(office.next().await, ChildEvent::Restarting { .. }), "the budget is whole");
        assert!(matches!(office.next().await, ChildEvent::Restarted { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_under_rest_for_one_takes_those_along_that_stand_on_it() {
    let office = Office::with(Strategy::RestForOne, &["a", "b", "c"]).await;
    office.tree.restart("root/b", "a person").expect("it runs");
    let mut back = Vec::new();
    while back.len() < 2 {
        if let ChildEvent::Restarted { id, .. } = office.next().await {
            back.push(id);
        }
    }
    assert_eq!(back, ["b", "c"]);
    assert_eq!(office.states().await, "a running, b running, c running");
    assert_eq!(office.tree.restarts("root/a"), Some(0));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_supervisor_here_is_not_restarted() {
    let office = Office::with(Strategy::OneForOne, &["a"]).await;
    let cell = office.get("a").await.expect("it runs");
    let leaf = office.tree.insert("root/a/leaf", "leaf");
    leaf.reached_by(cell.into());
    let refused = office.tree.restart("root/a/leaf", "a person").expect_err("it lives once");
    assert_eq!(refused.to_string(), "the leaf at \"root/a/leaf\" is not started again by itself; it lives once");
    let missing = office.tree.restart("root/b", "a person").expect_err("nobody there");
    assert!(missing.to_string().contains("did you mean \"root/a\""), "{missing}");
}
