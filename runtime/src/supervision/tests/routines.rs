//! Children that are routines: the same falls, the same restarts, the same ends as actors have.

use tokio::sync::oneshot;

use super::*;

/// A routine that does nothing but wait for its fall.
#[derive(Clone)]
struct Chore {
    id: &'static str,
    diary: Diary,
    /// How its present life is told to fall.
    order: Arc<std::sync::Mutex<Option<oneshot::Sender<Fall>>>>,
}

/// Writes into the diary when a life is over, however that came.
struct Witness(Chore);

impl Chore {
    fn new(id: &'static str, office: &Office) -> Self {
        Self { id, diary: office.diary.clone(), order: Arc::default() }
    }

    fn write(&self, what: &str) {
        self.diary.lock().expect("the diary").push(format!("{} {what}", self.id));
    }

    fn spec(&self) -> ChildSpec {
        let chore = self.clone();
        ChildSpec::new(self.id, "chore", move |context| {
            let life = chore.clone().life();
            async move { Ok(context.run(life)) }
        })
        .backoff(BackoffOptions { jitter: 0.0, ..BackoffOptions::default() })
        .revive_after(None)
    }

    fn life(self) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send + 'static {
        let (order, told) = oneshot::channel();
        *self.order.lock().expect("the order") = Some(order);
        async move {
            self.write("up");
            let _witness = Witness(self);
            match told.await? {
                Fall::Panic => panic!("tripped"),
                Fall::Err => Err("on purpose".into()),
                Fall::Normal => Ok(()),
                Fall::Kill => std::future::pending().await,
            }
        }
    }

    fn falls(&self, fall: Fall, office: &Office) {
        if fall == Fall::Kill {
            return office.tree.kill(&format!("root/{}", self.id)).expect("it runs");
        }
        let order = self.order.lock().expect("the order").take().expect("a life");
        order.send(fall).expect("it listens");
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.write("gone");
    }
}

async fn with_chore(office: &Office, restart: Restart) -> Chore {
    let chore = Chore::new("chore", office);
    office.start(chore.spec().restart(restart)).await.expect("taken in");
    assert_eq!(office.next().await, ChildEvent::Started { id: "chore".into() });
    chore
}

#[tokio::test(start_paused = true)]
async fn a_routine_falls_and_comes_back_as_an_actor_does() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for fall in Fall::ALL {
            let case = format!("{restart:?} × {fall:?}");
            let office = Office::with(Strategy::OneForOne, &["sibling"]).await;
            let sibling = office.get("sibling").await;
            let chore = with_chore(&office, restart).await;
            chore.falls(fall, &office);
            let told = if fall == Fall::Normal { "ended" } else { fall.cause() };
            if restart == Restart::Permanent || restart == Restart::Transient && fall != Fall::Normal {
                let after = Duration::from_millis(500);
                let restarting = ChildEvent::Restarting { id: "chore".into(), after, cause: told.into() };
                assert_eq!(office.next().await, restarting, "{case}");
                assert_eq!(office.next().await, ChildEvent::Restarted { id: "chore".into(), restarts: 1 }, "{case}");
                assert_eq!(office.view("chore").await.state, ActorState::Running, "{case}");
            } else {
                let ended = ChildEvent::Ended { id: "chore".into(), reason: told.into() };
                assert_eq!(office.next().await, ended, "{case}");
            }
            assert_eq!(office.get("sibling").await, sibling, "{case}: the same life");
            assert!(office.is_quiet().await, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_routine_is_given_up_like_an_actor_and_the_ledger_has_its_falls() {
    let office = Office::open(Strategy::OneForOne).await;
    let chore = with_chore(&office, Restart::Permanent).await;
    for _ in 0..3 {
        chore.falls(Fall::Panic, &office);
        assert!(matches!(office.next().await, ChildEvent::Restarting { .. }));
        assert!(matches!(office.next().await, ChildEvent::Restarted { .. }));
    }
    chore.falls(Fall::Err, &office);
    let given_up = office.next().await;
    assert!(
        matches!(&given_up, ChildEvent::Unavailable { reason, .. } if reason.contains("on purpose")),
        "{given_up:?}"
    );
    let seen = office.tree.get("root/chore").expect("it stays in the tree");
    assert_eq!((seen.state, seen.last_error.as_deref()), (ActorState::Unavailable, Some("on purpose")));
    assert_eq!(office.tree.ledger().of("root/chore").len(), 4);

    office.reset("chore").await.expect("it is known");
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "chore".into(), restarts: 4 });
}

#[tokio::test(start_paused = true)]
async fn a_routine_is_started_again_by_an_operator_without_a_charge() {
    let office = Office::open(Strategy::OneForOne).await;
    let _chore = with_chore(&office, Restart::Permanent).await;
    assert!(office.tree.lives("chore").is_empty(), "nobody can ask a routine how it is");
    office.tree.restart("root/chore", "a test asks").expect("it is known");
    let (after, cause) = (Duration::ZERO, "a test asks".to_owned());
    assert_eq!(office.next().await, ChildEvent::Restarting { id: "chore".into(), after, cause });
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "chore".into(), restarts: 1 });
    assert_eq!(office.diary(), ["chore up", "chore gone", "chore up"]);
    assert!(office.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn a_routine_that_is_removed_is_cut_off_whatever_its_patience() {
    let office = Office::open(Strategy::OneForOne).await;
    let chore = Chore::new("chore", &office);
    office.start(chore.spec().shutdown(Shutdown::Drain(PATIENCE * 2))).await.expect("taken in");
    assert_eq!(office.next().await, ChildEvent::Started { id: "chore".into() });
    office.remove("chore").await.expect("it is known");
    assert_eq!(office.next().await, ChildEvent::Ended { id: "chore".into(), reason: "killed".into() });
    assert_eq!(office.tree.get("root/chore"), None);
    let _second = with_chore(&office, Restart::Permanent).await;
    assert!(office.is_quiet().await, "the second of that name has nothing to do with the end of the first");
}

#[tokio::test(start_paused = true)]
async fn when_all_are_stopped_a_routine_is_gone_before_the_answer() {
    let office = Office::open(Strategy::OneForOne).await;
    let _chore = with_chore(&office, Restart::Permanent).await;
    // Until it runs there is nothing of it that could go.
    while office.diary().is_empty() {
        tokio::task::yield_now().await;
    }
    office.ask(BossMessage::StopAll).await;
    assert_eq!(office.diary(), ["chore up", "chore gone"]);
}

#[tokio::test(start_paused = true)]
async fn a_routine_goes_with_its_supervisor_however_that_ends() {
    let office = Office::open(Strategy::OneForOne).await;
    let _chore = with_chore(&office, Restart::Permanent).await;
    while office.diary().is_empty() {
        tokio::task::yield_now().await;
    }
    office.boss.kill();
    while office.diary().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(office.diary(), ["chore up", "chore gone"]);
    assert_eq!(office.tree.get("root/chore"), None);
}

#[tokio::test(start_paused = true)]
async fn a_routine_has_its_place_in_the_order() {
    let office = Office::with(Strategy::RestForOne, &["a"]).await;
    let _chore = with_chore(&office, Restart::Permanent).await;
    office.start(office.worker("c").spec()).await.expect("taken in");
    assert_eq!(office.next().await, ChildEvent::Started { id: "c".into() });
    office.tell("a", WorkerMessage::Fail).await;
    for (id, restarts) in [("a", 1), ("chore", 1), ("c", 1)] {
        loop {
            match office.next().await {
                ChildEvent::Restarting { .. } => {}
                event => break assert_eq!(event, ChildEvent::Restarted { id: id.into(), restarts }),
            }
        }
    }
    let ends: Vec<String> = office.diary().into_iter().filter(|line| !line.ends_with("up")).collect();
    assert_eq!(ends, ["c down", "chore gone"]);
}
