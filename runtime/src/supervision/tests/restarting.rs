//! The matrix of falls and restart kinds; waits; counters; what the tree shows meanwhile.

use super::*;

#[tokio::test(start_paused = true)]
async fn every_fall_with_every_kind_spares_parent_and_sibling() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for fall in Fall::ALL {
            let case = format!("{restart:?} × {fall:?}");
            let office = Office::with(Strategy::OneForOne, &["sibling"]).await;
            let sibling = office.get("sibling").await;
            office.start(office.worker("a").spec().restart(restart)).await.expect("taken in");
            assert_eq!(office.next().await, ChildEvent::Started { id: "a".into() }, "{case}");

            fall.happen_to(&office, "a").await;
            let wanted_back = match restart {
                Restart::Permanent => true,
                Restart::Transient => fall != Fall::Normal,
                Restart::Temporary => false,
            };
            if wanted_back {
                let after = Duration::from_millis(500);
                let restarting = ChildEvent::Restarting { id: "a".into(), after, cause: fall.cause().into() };
                assert_eq!(office.next().await, restarting, "{case}");
                assert_eq!(office.next().await, ChildEvent::Restarted { id: "a".into(), restarts: 1 }, "{case}");
                assert!(office.answers("a").await, "{case}: a new life answers");
            } else {
                assert_eq!(
                    office.next().await,
                    ChildEvent::Ended { id: "a".into(), reason: fall.cause().into() },
                    "{case}"
                );
                assert!(office.get("a").await.is_none(), "{case}");
            }
            let kept = office.tree.get("root/a").map(|view| view.state);
            match (wanted_back, restart) {
                (true, _) => assert_eq!(kept, Some(ActorState::Running), "{case}"),
                (false, Restart::Temporary) => assert_eq!(kept, None, "{case}: forgotten"),
                (false, _) => assert_eq!(kept, Some(ActorState::Stopped), "{case}"),
            }
            assert_eq!(office.get("sibling").await, sibling, "{case}: the same life");
            assert!(office.answers("sibling").await, "{case}");
            assert!(office.is_quiet().await, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waits_double_and_are_really_waited() {
    let office = Office::with(Strategy::OneForOne, &["a"]).await;
    for millis in [500, 1_000, 2_000] {
        office.tell("a", WorkerMessage::Fail).await;
        let after = Duration::from_millis(millis);
        assert_eq!(office.next().await, ChildEvent::Restarting { id: "a".into(), after, cause: "on purpose".into() });
        let fell = tokio::time::Instant::now();
        assert_eq!(office.view("a").await.starts_in_ms, Some(millis));
        assert!(matches!(office.next().await, ChildEvent::Restarted { .. }));
        let waited = fell.elapsed();
        assert!(waited >= after && waited < after + Duration::from_millis(10), "{waited:?} for {after:?}");
    }
    assert_eq!(office.view("a").await.restarts, 3);
    assert_eq!(office.tree.restarts("root/a"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn default_jitter_stays_in_its_bounds() {
    let office = Office::open(Strategy::OneForOne).await;
    office.start(office.worker("a").spec().backoff(BackoffOptions::default())).await.expect("taken in");
    office.next().await;
    for exact in [500, 1_000, 2_000] {
        office.tell("a", WorkerMessage::Fail).await;
        let ChildEvent::Restarting { after, .. } = office.next().await else { panic!("it comes back") };
        let bounds = Duration::from_millis(exact * 8 / 10)..=Duration::from_millis(exact * 12 / 10);
        assert!(bounds.contains(&after), "{after:?} not in {bounds:?}");
        office.next().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_healthy_life_gives_budget_and_first_wait_back() {
    let office = Office::with(Strategy::OneForOne, &["a"]).await;
    for round in 0..8 {
        office.tell("a", WorkerMessage::Fail).await;
        let first = Duration::from_millis(500);
        let back = ChildEvent::Restarting { id: "a".into(), after: first, cause: "on purpose".into() };
        assert_eq!(office.next().await, back, "round {round}");
        office.next().await;
        tokio::time::advance(Duration::from_secs(61)).await;
    }
    assert_eq!(office.view("a").await.restarts, 8, "more than the budget, but never within the window");
}

#[tokio::test(start_paused = true)]
async fn the_tree_shows_the_fall_and_its_cause_cut_to_size() {
    let office = Office::with(Strategy::OneForOne, &["a"]).await;
    office.tell("a", WorkerMessage::Panic("ß".repeat(10_000))).await;
    office.next().await;
    let view = office.tree.get("root/a").expect("visible while it is down");
    assert_eq!((view.state, view.restarts), (ActorState::Restarting, 0));
    assert_eq!(view.last_error.map(|cause| cause.chars().count()), Some(CAUSE_CHARS_MAX));
    assert!(matches!(office.tree.kill("root/a"), Err(KillError::NotRunning { .. })), "nothing to kill");

    office.next().await;
    let view = office.tree.get("root/a").expect("visible");
    assert_eq!((view.state, view.restarts), (ActorState::Running, 1));
    assert!(view.last_error.is_some(), "the cause stays readable after the restart");
}

#[tokio::test(start_paused = true)]
async fn a_timer_of_the_past_starts_nothing() {
    let office = Office::with(Strategy::OneForOne, &["a"]).await;
    office.tell("a", WorkerMessage::Fail).await;
    office.next().await;
    office.reset("a").await.expect("known");
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "a".into(), restarts: 1 }, "at once");
    tokio::time::advance(Duration::from_millis(300)).await;
    office.tell("a", WorkerMessage::Fail).await;
    office.next().await;
    let fell = tokio::time::Instant::now();
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "a".into(), restarts: 2 });
    assert!(fell.elapsed() >= Duration::from_millis(500), "the timer of the wait that was cut short came at 200 ms");
    assert!(office.is_quiet().await);

    for parent in ["root", "elsewhere"] {
        let timer = ChildTimer { parent: parent.into(), id: "a".into(), wake: Wake::Wait(u64::MAX) };
        office.boss.cast(BossMessage::Child(timer)).expect("the boss lives");
    }
    assert!(office.is_quiet().await, "made-up timers too");
}
