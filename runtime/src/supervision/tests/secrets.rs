//! What is told of a fall holds no secret, whoever is told and however it fell.

use super::*;
use crate::clock::SystemClock;
use crate::secret::Secrets;

const SECRET: &str = "hunter2\"hunter2";

/// An office whose tree knows the secret.
async fn discreet() -> Office {
    let secrets = Secrets::new([("KEY".to_owned(), SECRET.to_owned())]);
    secrets.get("KEY").expect("it is set");
    let tree = Tree::of_node(Arc::new(SystemClock), secrets.redactor(), LedgerOptions::default());
    Office::open_under(tree, ChildrenOptions::default()).await
}

impl Office {
    /// Everything that can be known of the fall that comes next.
    async fn told_of(&self, id: &str) -> String {
        let (event, path) = (self.next().await, format!("root/{id}"));
        let (shown, falls) = (self.tree.get(&path), self.tree.ledger().of(&path));
        assert!(shown.is_some() && !falls.is_empty(), "{event:?}");
        format!("{event:?} {:?} {shown:?} {falls:?}", self.view(id).await)
    }
}

#[track_caller]
fn holds(told: &str) {
    assert!(told.contains("***") && !told.contains("hunter2"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_quotes_a_secret_is_told_without_any_part_of_it() {
    let office = discreet().await;
    // The last one would be cut in the middle of the secret.
    let edge = format!("{}{SECRET}", "x".repeat(CAUSE_CHARS_MAX - "hunter2".len()));
    for (id, text) in [("a", format!("no door for {SECRET}")), ("b", format!("no key is {SECRET:?}")), ("c", edge)] {
        office.start(office.worker(id).spec()).await.expect("taken in");
        assert_eq!(office.next().await, ChildEvent::Started { id: id.to_owned() });
        office.tell(id, WorkerMessage::Panic(text)).await;
        holds(&office.told_of(id).await);
        assert!(matches!(office.next().await, ChildEvent::Restarted { .. }), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_routine_that_falls_over_a_secret_is_told_without_it() {
    let office = discreet().await;
    let panics =
        ChildSpec::new("a", "chore", |context| async { Ok(context.run(async { panic!("no key is {SECRET:?}") })) });
    let errs = ChildSpec::new("b", "chore", |context| async { Ok(context.run(async { Err(SECRET.into()) })) });
    for (id, spec) in [("a", panics), ("b", errs)] {
        office.start(spec.budget(RestartBudget { max: 0, ..RestartBudget::default() })).await.expect("taken in");
        assert_eq!(office.next().await, ChildEvent::Started { id: id.to_owned() });
        holds(&office.told_of(id).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_over_a_secret_is_told_without_it() {
    let office = discreet().await;
    let errs = ChildSpec::new::<_, _, ActorCell>("a", "worker", |_| async {
        Err(ractor::SpawnErr::StartupFailed(SECRET.into()))
    });
    let panics = ChildSpec::new::<_, _, ActorCell>("b", "worker", |_| async { panic!("no key is {SECRET:?}") });
    for (id, spec) in [("a", errs), ("b", panics)] {
        office.start(spec.budget(RestartBudget { max: 0, ..RestartBudget::default() })).await.expect("taken in");
        holds(&office.told_of(id).await);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_a_restart_or_gives_an_actor_up_may_quote_a_secret_in_vain() {
    let office = discreet().await;
    office.start(office.worker("a").spec()).await.expect("taken in");
    office.next().await;
    office.tree.restart("root/a", &format!("{SECRET} has leaked")).expect("it can be");
    let told = office.told_of("a").await;
    holds(&told);
    assert!(matches!(office.next().await, ChildEvent::Restarted { .. }));
    office.start(attending::keeper("b", &office)).await.expect("taken in");
    office.next().await;
    let lives = office.tree.lives("keeper");
    office.tree.give_up_on(&lives[0], &format!("no answer to {SECRET}"));
    holds(&office.told_of("b").await);
}
