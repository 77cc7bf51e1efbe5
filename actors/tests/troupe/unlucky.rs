//! What happens to a task when the store is slow, unreadable in places, or holds what nobody can work on.

use std::sync::atomic::Ordering;

use serde_json::json;
use troupe_runtime::domain::chat::Message;
use troupe_runtime::domain::outcome::{Outcome, Reason};
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::store::TaskFilter;

use crate::fallible::{FallibleJournal, FallibleTasks};
use crate::house::{House, Puppet, options, says, spec, until, wants};

fn clock_then(
    answer: &'static str,
) -> impl Fn(&[Message]) -> Result<troupe_runtime::domain::chat::Completion, troupe_runtime::model::Error> {
    move |messages| match messages.last() {
        Some(Message::Tool { .. }) => says(answer),
        _ => wants("clock", json!({})),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_a_fallen_actor_that_comes_late_is_shut_out() {
    let puppet = Puppet::new(clock_then("done"));
    let mut journal = None;
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_on(dir, vec![(spec("late"), puppet)], options(), |ports| {
        journal = Some(FallibleJournal::before(ports));
    });
    let house = house.await;
    let journal = journal.unwrap();
    journal.is_slow.store(true, Ordering::SeqCst);
    let task = house.ask("late", "go").await;
    until(|| async { journal.waits.load(Ordering::SeqCst) }).await;
    house.troupe.tree().kill("root/orchestrator/autonomous/late/0").unwrap();
    until(|| async { house.troupe.agent("late").await.unwrap().restarts == 1 }).await;
    let step = task.run(0).step(0);
    // The next life is past its look at the journal once it has raised the epoch, or asked the model again.
    until(|| async {
        let task = house.troupe.ports().stores.tasks.task(task).await.unwrap().unwrap();
        task.steps[0].epoch.0 > 1 || !house.troupe.ports().stores.journal.entries(step).await.unwrap().is_empty()
    })
    .await;
    journal.slow.add_permits(1);
    let ended = house.ended(task).await;
    assert_eq!((ended.status, ended.steps[0].attempts, ended.steps[0].epoch.0), (TaskStatus::Succeeded, 1, 2));
    until(|| async { journal.late.lock().unwrap().is_some() }).await;
    let late = journal.late.lock().unwrap().clone().unwrap();
    assert!(matches!(late, Err(troupe_runtime::store::Error::Fenced(_))), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_journal_cannot_be_read_is_blocked_and_not_tried_for_ever() {
    let puppet = Puppet::held(|_| says("never"));
    let house = House::open(vec![(spec("illegible"), puppet.clone())]).await;
    let task = house.ask("illegible", "go").await;
    puppet.called(1).await;
    let dir = house.crash().await;
    let cast = vec![(spec("illegible"), puppet)];
    let house = House::open_on(dir, cast, options(), |ports| {
        FallibleJournal::before(ports).unreadable.store(true, Ordering::SeqCst);
    });
    let house = house.await;
    until(|| async {
        let found = house.troupe.ports().stores.tasks.tasks(&TaskFilter::default()).await.unwrap();
        found[0].status.is_terminal()
    })
    .await;
    let ended = house.troupe.ports().stores.tasks.task(task).await.unwrap().unwrap();
    assert!(
        matches!(&ended.outcome, Some(Outcome::Failed { failure }) if failure.reason == Reason::Blocked),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_take_up_stands_in_nobody_s_way_and_is_not_worn_out() {
    let options = || troupe_actors::stage::Options { orphans_max: 2, claims_max: 2, ..options() };
    let (gone, stays) = (Puppet::held(|_| says("back")), Puppet::held(|_| says("here")));
    let cast = vec![(spec("gone"), gone.clone()), (spec("stays"), stays.clone())];
    let house = House::open_with(tempfile::tempdir().unwrap(), cast, options()).await;
    let mut orphans = Vec::new();
    for n in 0..3 {
        orphans.push(house.ask("gone", &format!("{n}")).await);
    }
    gone.called(3).await;
    let illegible = house.ask("stays", "illegible").await;
    stays.called(1).await;
    let task = house.ask("stays", "and you?").await;
    stays.called(2).await;
    let dir = house.crash().await;

    stays.gate.add_permits(100);
    let cast = vec![(spec("stays"), stays)];
    let mut tasks = None;
    let house =
        House::open_on(dir, cast, options(), |ports| tasks = Some(FallibleTasks::before(ports, illegible))).await;
    assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded);
    let tasks = tasks.unwrap();
    until(|| async { tasks.tried.load(Ordering::SeqCst) >= 7 }).await;
    drop(tasks);
    let dir = house.crash().await;

    gone.gate.add_permits(100);
    let house = House::open_with(dir, vec![(spec("gone"), gone)], options()).await;
    for task in orphans {
        assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded, "no claim has worn it out");
    }
}
