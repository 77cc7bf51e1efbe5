//! How agents share the node: places, order, and what one of them may not do to the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use troupe_actors::stage::Options;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::fork::{Cut, ForkedFrom};
use troupe_runtime::domain::ids::{TaskId, new_event_id};
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::store::{Fork, NOBODY};

use crate::fallible::FallibleSteps;
use crate::house::{House, Puppet, options, says, spec, until};

#[tokio::test(flavor = "multi_thread")]
async fn idle_agents_take_no_places_from_busy_ones() {
    let cast = (0..4).map(|n| (spec(&format!("agent-{n}")), Puppet::new(|_| says("here"))));
    let options = Options { steps_max: 2, ..options() };
    let house = House::open_with(tempfile::tempdir().unwrap(), cast.collect(), options).await;
    for n in [0, 1, 2, 3, 2, 1, 0] {
        let task = house.ask(&format!("agent-{n}"), "are you there?").await;
        assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded, "agent-{n}");
    }
    house.troupe.drain(Duration::from_secs(5)).await;
}

/// Steps that are accepted and wait for a place.
fn waiting(house: &House) -> usize {
    let actors = house.troupe.tree().list();
    actors.into_iter().filter(|actor| actor.step.as_deref() == Some("waits for a place")).count()
}

/// Twice as many tasks as an agent of four places can do at a time; four call their model then, and one waits for a place.
async fn crowd(house: &House, busy: &Puppet) -> Vec<TaskId> {
    let mut tasks = Vec::new();
    for _ in 0..8 {
        tasks.push(house.ask("busy", "are you there?").await);
    }
    busy.called(4).await;
    until(|| async { waiting(house) == 1 }).await;
    tasks
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_steps_are_accepted_ahead_and_wait_for_a_place() {
    let busy = Puppet::held(|_| says("here"));
    let options = Options { steps_per_instance_max: 4, ..options() };
    let looks = options.lease.look_every * 5;
    let house = House::open_with(tempfile::tempdir().unwrap(), vec![(spec("busy"), busy.clone())], options).await;
    let tasks = crowd(&house, &busy).await;
    let waiting = || waiting(&house);
    let more = until(|| async { house.troupe.in_hand() > 5 || busy.calls() > 4 });
    assert!(tokio::time::timeout(looks, more).await.is_err(), "four places, one ahead of them, the rest is the bus's");
    // Who has made its last call leaves its place, and the one behind it follows.
    busy.gate.add_permits(1);
    busy.called(5).await;
    until(|| async { waiting() == 1 }).await;

    // A drain does not wait for those that wait; it charges them nothing either.
    house.troupe.drain(Duration::from_millis(200)).await;
    house.over.await.unwrap();
    house.troupe.ports().close().await;
    let dir = house.dir;
    drop(house.troupe);
    let house = House::open_in(dir, vec![(spec("busy"), Puppet::new(|_| says("here")))]).await;
    for task in tasks {
        let task = house.ended(task).await;
        assert_eq!((task.status, task.steps[0].attempts), (TaskStatus::Succeeded, 1), "{task:?}");
    }
    house.troupe.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_free_before_the_end_is_committed_and_a_slot_after_it() {
    let busy = Puppet::held(|_| says("here"));
    let options = Options { steps_per_instance_max: 4, ..options() };
    let looks = options.lease.look_every * 5;
    let mut steps = None;
    let house = House::open_on(tempfile::tempdir().unwrap(), vec![(spec("busy"), busy.clone())], options, |ports| {
        steps = Some(FallibleSteps::before(ports));
    });
    let (house, steps) = (house.await, steps.unwrap());
    let tasks = crowd(&house, &busy).await;
    let waiting = || waiting(&house);
    // One answers, and its end is a transaction that takes its time: the one behind it calls meanwhile.
    steps.is_slow.store(true, Ordering::SeqCst);
    busy.gate.add_permits(1);
    until(|| async { steps.waiting.load(Ordering::SeqCst) == 1 }).await;
    busy.called(5).await;
    let more = until(|| async { house.troupe.in_hand() != 5 || waiting() > 0 });
    assert!(tokio::time::timeout(looks, more).await.is_err(), "what is not committed takes up its slot");
    steps.slow.add_permits(1);
    until(|| async { house.troupe.in_hand() == 5 && waiting() == 1 }).await;
    busy.gate.add_permits(tasks.len());
    for task in tasks {
        assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded);
    }
    house.troupe.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_waits_for_a_free_place() {
    let busy = Puppet::held(|_| says("here"));
    let options = Options { steps_max: 1, ..options() };
    let looks = options.lease.look_every * 10;
    let house = House::open_with(tempfile::tempdir().unwrap(), vec![(spec("busy"), busy.clone())], options).await;
    let first = house.ask("busy", "are you there?").await;
    busy.called(1).await;
    let stores = &house.troupe.ports().stores;
    let task = stores.tasks.task(first).await.unwrap().unwrap();
    let asked = stores.tasks.event(first).await.unwrap().unwrap();
    let fork = Fork {
        agent: task.agent,
        mode: task.execution_mode,
        spec_digest: task.spec_digest.as_str().into(),
        event: Arc::new(Event { id: new_event_id(), ..asked }),
        from: ForkedFrom { task_id: first, run_id: first.run(0), step_no: 0, entry: 0 },
        cut: Cut { entry: 0, kept: Vec::new() },
    };
    let id = stores.tasks.fork(fork).await.unwrap();
    assert!(tokio::time::timeout(looks, busy.called(2)).await.is_err(), "there is no place for it");
    let waits = stores.tasks.task(id).await.unwrap().unwrap();
    assert_eq!((waits.steps[0].owner, waits.steps[0].claims), (NOBODY, 0), "and no claim is charged");
    busy.gate.add_permits(2);
    for task in [first, id] {
        assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded);
    }
    house.troupe.drain(Duration::from_secs(5)).await;
}
