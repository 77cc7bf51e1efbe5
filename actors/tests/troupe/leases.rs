//! What happens to a task when the node's lease lapses, is taken over, or is another's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use troupe_actors::lease;
use troupe_actors::stage::Options;
use troupe_runtime::domain::agent::ExecutionMode;
use troupe_runtime::domain::chat::Message;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::domain::topic::Topic;
use troupe_runtime::store::{Acceptance, Accepted, Renewal, Step};

use crate::fallible::FallibleNodes;
use crate::house::{House, PATIENCE, Puppet, options, says, spec, until, wants};

/// Longer than a test.
const LONG: Duration = Duration::from_mins(10);
/// Renewals that fail while a test watches that nothing happens.
const WATCHED: u32 = 6;

fn short() -> Options {
    let (ttl, look_every) = (Duration::from_millis(800), Duration::from_millis(20));
    let renew_every = Duration::from_millis(60);
    let lease = lease::Options { node: "test".into(), ttl, renew_every, look_every };
    Options { lease, ..options() }
}

/// A house of one agent whose renewals can be silenced.
async fn house(puppet: &Arc<Puppet>) -> (House, Arc<FallibleNodes>) {
    let mut nodes = None;
    let cast = vec![(spec("tenant"), puppet.clone())];
    let house = House::open_on(TempDir::new().unwrap(), cast, short(), |ports| {
        nodes = Some(FallibleNodes::before(ports));
    });
    (house.await, nodes.unwrap())
}

/// The database is away for renewals, until the node has let go.
async fn lapse(house: &House, nodes: &FallibleNodes) {
    nodes.silent.store(true, Ordering::SeqCst);
    until(|| async { house.troupe.lease().own().is_none() }).await;
}

/// Some time passes, measured in renewals that fail.
async fn watch(nodes: &FallibleNodes) {
    let seen = nodes.refused.load(Ordering::SeqCst);
    until(|| async { nodes.refused.load(Ordering::SeqCst) >= seen + WATCHED }).await;
}

async fn step(house: &House, task: TaskId) -> Step {
    house.troupe.ports().stores.tasks.task(task).await.unwrap().unwrap().steps.remove(0)
}

fn clock_then(answer: &'static str) -> Arc<Puppet> {
    Puppet::held(move |messages| match messages.last() {
        Some(Message::Tool { .. }) => says(answer),
        _ => wants("clock", json!({})),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapse_pauses_everything_and_loses_no_answer_that_was_paid_for() {
    let puppet = clock_then("went on");
    let (house, nodes) = house(&puppet).await;
    let task = house.ask("tenant", "go").await;
    puppet.called(1).await;
    lapse(&house, &nodes).await;
    puppet.gate.add_permits(1);
    let second = house.ask("tenant", "and you?").await;
    watch(&nodes).await;
    assert_eq!((puppet.calls(), house.troupe.lease().word()), (1, "lapsed"), "nothing is begun");
    assert!(house.troupe.ports().stores.journal.entries(task.run(0).step(0)).await.unwrap().is_empty());
    assert!(house.troupe.wait(second, Duration::ZERO).await.unwrap().is_none(), "nothing is accepted");

    nodes.silent.store(false, Ordering::SeqCst);
    puppet.gate.add_permits(100);
    for task in [task, second] {
        let ended = house.ended(task).await;
        assert_eq!((ended.status, ended.steps[0].attempts), (TaskStatus::Succeeded, 1));
        assert_eq!((ended.steps[0].epoch.0, ended.steps[0].owner), (1, house.troupe.lease().incarnation()));
    }
    assert_eq!((puppet.calls(), house.troupe.lease().lapses()), (4, 1), "two turns each, none twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_taken_over_goes_on_as_another_and_its_steps_from_their_journals() {
    let puppet = clock_then("went on");
    let (house, nodes) = house(&puppet).await;
    let task = house.ask("tenant", "go").await;
    puppet.gate.add_permits(1);
    puppet.called(2).await;
    let first = house.troupe.lease().incarnation();
    lapse(&house, &nodes).await;
    let other = house.troupe.ports().stores.nodes.start("other", LONG).await.unwrap();
    until(|| async { house.troupe.ports().stores.nodes.end_expired(other).await.unwrap() == [first] }).await;
    nodes.silent.store(false, Ordering::SeqCst);

    // The answer of the second turn was on its way: that call is made again, the first one is not.
    puppet.called(3).await;
    let now = house.troupe.lease().held().await;
    assert!(now > other, "{now} after {other}");
    assert_eq!((step(&house, task).await.owner, step(&house, task).await.epoch.0), (now, 2));
    assert_eq!(house.troupe.tree().get("root/lease").unwrap().restarts, 1);
    puppet.gate.add_permits(100);
    let ended = house.ended(task).await;
    assert_eq!((ended.status, ended.steps[0].attempts, puppet.calls()), (TaskStatus::Succeeded, 1, 3));
    let next = house.ask("tenant", "and now?").await;
    assert_eq!(house.ended(next).await.status, TaskStatus::Succeeded, "it serves again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_name_is_taken_ends_and_takes_nothing_back() {
    let puppet = clock_then("never");
    let (house, _nodes) = house(&puppet).await;
    let task = house.ask("tenant", "go").await;
    puppet.called(1).await;
    let nodes = house.troupe.ports().stores.nodes.clone();
    let second = nodes.start("test", LONG).await.unwrap();
    tokio::time::timeout(PATIENCE, house.over).await.expect("the node ends").unwrap();
    assert!(house.troupe.lease().is_superseded());
    assert_eq!(nodes.renew(second, LONG).await.unwrap(), Renewal::Held, "the second is left alone");
    let orphans = house.troupe.ports().stores.steps.orphans(0, 10).await.unwrap();
    assert_eq!(orphans.iter().map(|orphan| orphan.task).collect::<Vec<_>>(), [task]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_another_node_is_taken_over_when_that_node_is_gone_and_not_before() {
    let puppet = Puppet::new(|_| says("taken over"));
    let (house, _nodes) = house(&puppet).await;
    let stores = house.troupe.ports().stores.clone();
    let (leaves, runs_out) = (stores.nodes.start("leaves", LONG).await.unwrap(), short().lease.ttl * 2);
    let runs_out = stores.nodes.start("runs-out", runs_out).await.unwrap();
    let mut tasks = Vec::new();
    for owner in [leaves, runs_out] {
        tasks.push(foreign(&house, owner).await);
    }
    // A step of its own is done in the meantime: it has looked, more than once.
    let own = house.ask("tenant", "mine").await;
    house.ended(own).await;
    assert_eq!(step(&house, tasks[0]).await.owner, leaves);
    stores.nodes.release(leaves).await.unwrap();
    for task in tasks {
        let ended = house.ended(task).await;
        assert_eq!((ended.status, ended.steps[0].owner), (TaskStatus::Succeeded, house.troupe.lease().incarnation()));
        assert_eq!(ended.steps[0].epoch.0, 2);
    }
    assert_eq!(stores.nodes.renew(runs_out, LONG).await.unwrap(), Renewal::TakenOver);
}

/// A task that another node has accepted.
async fn foreign(house: &House, owner: Incarnation) -> TaskId {
    let stores = &house.troupe.ports().stores;
    let agent = "tenant".parse().unwrap();
    let spec_digest = house.troupe.agent("tenant").await.unwrap().spec_digest.into();
    let event = Arc::new(Event::new(Topic::agent_task(&agent), "/test", json!({"input": "theirs"})));
    let acceptance = Acceptance { agent, mode: ExecutionMode::Autonomous, spec_digest, event, owner };
    match stores.tasks.accept(acceptance).await.unwrap() {
        Accepted::New(claim) => claim.task,
        Accepted::Duplicate(task) => panic!("{task} is new"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_gives_its_lease_back() {
    let (house, _nodes) = house(&Puppet::new(|_| says("done"))).await;
    let own = house.troupe.lease().held().await;
    house.troupe.drain(PATIENCE).await;
    let nodes = &house.troupe.ports().stores.nodes;
    assert_eq!(nodes.renew(own, LONG).await.unwrap(), Renewal::TakenOver);
}
