//! Spent budgets, starts that fail, and the way back.

use super::*;

async fn spend_the_budget(office: &Office, id: &str) {
    for _ in 0..3 {
        office.tell(id, WorkerMessage::Fail).await;
        assert!(matches!(office.next().await, ChildEvent::Restarting { .. }));
        assert!(matches!(office.next().await, ChildEvent::Restarted { .. }));
    }
    office.tell(id, WorkerMessage::Fail).await;
}

const SPENT: &str = "more than 3 restarts within 60 s, last: on purpose";

#[tokio::test(start_paused = true)]
async fn over_budget_it_is_unavailable_and_a_reset_brings_it_back() {
    let office = Office::with(Strategy::OneForOne, &["a", "sibling"]).await;
    spend_the_budget(&office, "a").await;
    assert_eq!(office.next().await, ChildEvent::Unavailable { id: "a".into(), reason: SPENT.into() });
    assert!(office.is_quiet().await, "it stays down");
    assert!(office.answers("sibling").await);

    let seen = office.tree.get("root/a").expect("visible");
    assert_eq!((seen.state, seen.last_error.as_deref()), (ActorState::Unavailable, Some("on purpose")));
    let view = office.view("a").await;
    assert_eq!((view.state, view.reason.as_deref(), view.starts_in_ms), (ActorState::Unavailable, Some(SPENT), None));
    assert!(office.get("a").await.is_none());

    office.reset("a").await.expect("known");
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "a".into(), restarts: 4 });
    assert!(office.answers("a").await);
    spend_the_budget(&office, "a").await;
    assert_eq!(office.next().await, ChildEvent::Unavailable { id: "a".into(), reason: SPENT.into() }, "a whole budget");
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_child_is_tried_again_after_a_while_if_the_spec_says_so() {
    let office = Office::open(Strategy::OneForOne).await;
    let pause = Duration::from_mins(5);
    office.start(office.worker("a").spec().revive_after(Some(pause))).await.expect("taken in");
    office.next().await;
    spend_the_budget(&office, "a").await;
    assert!(matches!(office.next().await, ChildEvent::Unavailable { .. }));

    let fell = tokio::time::Instant::now();
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "a".into(), restarts: 4 });
    assert_eq!(fell.elapsed().as_secs(), pause.as_secs());
    office.tell("a", WorkerMessage::Fail).await;
    let after = Duration::from_millis(500);
    assert_eq!(office.next().await, ChildEvent::Restarting { id: "a".into(), after, cause: "on purpose".into() });
}

#[tokio::test(start_paused = true)]
async fn a_pre_start_that_always_fails_ends_unavailable_and_harms_nobody() {
    let office = Office::with(Strategy::OneForOne, &["sibling"]).await;
    let worker = office.worker("a");
    worker.broken.store(true, Ordering::SeqCst);
    office.start(worker.spec()).await.expect("taken in all the same");
    for millis in [500, 1_000, 2_000] {
        let (after, cause) = (Duration::from_millis(millis), "did not start: no coffee".to_owned());
        assert_eq!(office.next().await, ChildEvent::Restarting { id: "a".into(), after, cause });
    }
    let reason = "more than 3 restarts within 60 s, last: did not start: no coffee".to_owned();
    assert_eq!(office.next().await, ChildEvent::Unavailable { id: "a".into(), reason });
    assert!(office.is_quiet().await);
    assert_eq!(worker.starts.load(Ordering::SeqCst), 4, "the first start and three more");
    assert!(office.answers("sibling").await);

    worker.broken.store(false, Ordering::SeqCst);
    office.reset("a").await.expect("known");
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "a".into(), restarts: 4 });
    assert!(office.answers("a").await);
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_that_does_not_start_is_forgotten() {
    let office = Office::open(Strategy::OneForOne).await;
    let worker = office.worker("a");
    worker.broken.store(true, Ordering::SeqCst);
    office.start(worker.spec().restart(Restart::Temporary)).await.expect("taken in");
    let reason = "did not start: no coffee".to_owned();
    assert_eq!(office.next().await, ChildEvent::Ended { id: "a".into(), reason });
    assert_eq!((office.states().await, office.tree.list()), (String::new(), vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_start_function_may_panic_hang_or_forget_to_link() {
    let office = Office::with(Strategy::OneForOne, &["sibling"]).await;
    let stray: Arc<std::sync::Mutex<Option<ActorCell>>> = Arc::default();
    let (worker, kept) = (office.worker("unlinked"), Arc::clone(&stray));
    let specs = [
        (
            ChildSpec::new::<_, _, ActorCell>("panics", "worker", |_| async { panic!("no such tool") }),
            "start function panicked: no such tool",
        ),
        (
            ChildSpec::new::<_, _, ActorCell>("hangs", "worker", |_| std::future::pending()),
            "did not start within 5000 ms",
        ),
        (
            ChildSpec::new("unlinked", "worker", move |_| {
                let (worker, kept) = (worker.clone(), Arc::clone(&kept));
                async move {
                    let (actor, _) = Actor::spawn(None, worker, ()).await?;
                    *kept.lock().expect("stray") = Some(actor.get_cell());
                    Ok(actor.get_cell())
                }
            }),
            "start function did not link the actor to its supervisor",
        ),
    ];
    for (spec, expected) in specs {
        let none = RestartBudget { max: 0, ..RestartBudget::default() };
        office.start(spec.budget(none)).await.expect("taken in");
        let ChildEvent::Unavailable { reason, .. } = office.next().await else { panic!("no restart is granted") };
        assert_eq!(reason, format!("more than 0 restarts within 60 s, last: {expected}"));
        assert!(office.answers("sibling").await);
    }
    let stray = stray.lock().expect("stray").clone().expect("it was spawned");
    stray.wait(Some(PATIENCE)).await.expect("a stray actor is killed");
}

#[tokio::test(start_paused = true)]
async fn refusals_say_what_is_wrong() {
    let office = Office::with(Strategy::OneForOne, &["a", "b", "c"]).await;
    assert!(matches!(office.start(office.worker("a").spec()).await, Err(ChildrenError::Duplicate { .. })));
    for bad in ["", "a//b", "/a", "a\nb"] {
        assert!(matches!(office.start(office.worker(bad).spec()).await, Err(ChildrenError::BadId(_))), "{bad:?}");
    }
    office.start(office.worker("support:C42:1700.5").spec()).await.expect("punctuation is fine");
    assert!(matches!(office.start(office.worker("e").spec()).await, Err(ChildrenError::Full { limit: 4, .. })));
    assert!(matches!(office.reset("z").await, Err(ChildrenError::Unknown { .. })));
    let unknown = office.remove("z").await.expect_err("unknown");
    assert_eq!(unknown.to_string(), "root has no child \"z\"");
}
