//! What happens to a task when things go right.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use troupe_actors::registry::{AgentFilter, AgentStatus};
use troupe_actors::troupe::{Error, Submission};
use troupe_runtime::domain::agent::ExecutionMode;
use troupe_runtime::domain::chat::Message;
use troupe_runtime::domain::event::Priority;
use troupe_runtime::domain::journal::Act;
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::domain::topic::REPLY_QUEUE;

use crate::fallible::FallibleTasks;
use crate::house::{House, Puppet, options, says, spec, until, wants};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_answered_with_a_tool_in_between() {
    let puppet = Puppet::new(|messages| match messages.last() {
        Some(Message::Tool { content, .. }) => says(&format!("it is {content}")),
        _ => wants("clock", json!({})),
    });
    let house = House::open(vec![(spec("timekeeper"), puppet.clone())]).await;
    let task = house.ask("timekeeper", "what time is it?").await;
    let ended = house.ended(task).await;
    assert_eq!(ended.status, TaskStatus::Succeeded);
    assert!(matches!(&ended.outcome, Some(Outcome::Succeeded { output }) if output.starts_with("it is ")));
    assert_eq!((puppet.calls(), ended.usage.tokens(), ended.steps[0].attempts), (2, 10, 1));
    let entries = house.troupe.ports().stores.journal.entries(ended.steps[0].id).await.unwrap();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry.act.kind()).collect();
    assert_eq!(kinds, ["model_result", "tool_result", "model_result"]);
}

/// Whoever waited for the commit of the one before would come too late for the transaction that begins with it.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_is_sent_to_the_store_while_it_still_accepts_what_came_before() {
    let puppet = Puppet::new(|messages| says(messages[0].text()));
    let mut tasks = None;
    let tamper = |ports: &mut _| tasks = Some(FallibleTasks::held(ports));
    let house =
        House::open_on(tempfile::tempdir().unwrap(), vec![(spec("eager"), puppet.clone())], options(), tamper).await;
    let tasks = tasks.unwrap();
    let mut asked = Vec::new();
    for n in 1..=3 {
        asked.push(house.ask("eager", &n.to_string()).await);
        until(|| async { tasks.asked.load(Ordering::SeqCst) == n }).await;
    }
    assert_eq!(puppet.calls(), 0);
    tasks.gate.add_permits(3);
    for task in asked {
        assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded);
    }
    assert_eq!((puppet.calls(), tasks.asked.load(Ordering::SeqCst)), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_task_is_told_to_the_bus() {
    let house = House::open(vec![(spec("teller"), Puppet::new(|_| says("told")))]).await;
    let mut replies = house.troupe.ports().bus.consume(REPLY_QUEUE, 8).await.unwrap();
    let task = house.ask("teller", "tell").await;
    let delivery = replies.next(1).await.remove(0);
    assert_eq!(delivery.event.topic.as_str(), "agent.output.teller");
    assert_eq!(delivery.event.data.value()["task_id"], json!(task));
    assert_eq!(delivery.event.data.value()["output"], "told");
    delivery.settle.ack();
    until(|| async {
        house
            .troupe
            .ports()
            .stores
            .outbox
            .pending(house.troupe.lease().incarnation(), i64::MIN, 10)
            .await
            .unwrap()
            .is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_is_one_task() {
    let puppet = Puppet::new(|_| says("once"));
    let house = House::open(vec![(spec("keeper"), puppet.clone())]).await;
    let submission =
        |text: &str| Submission { input: json!(text), idempotency_key: Some("k1".into()), ..Submission::default() };
    let first = house.troupe.submit("keeper", submission("a")).await.unwrap();
    house.ended(first).await;
    let second = house.troupe.submit("keeper", submission("a")).await.unwrap();
    assert_eq!(first, second);
    assert!(matches!(house.troupe.submit("keeper", submission("b")).await, Err(Error::KeyReused(_))));
    let after = house.ask("keeper", "another").await;
    house.ended(after).await;
    assert_eq!(puppet.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_agent_is_refused_with_the_nearest_name() {
    let house = House::open(vec![(spec("researcher"), Puppet::new(|_| says("x")))]).await;
    let error = house.troupe.submit("reseacher", Submission::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no agent reseacher; did you mean researcher?");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_round_over_the_instances_and_the_registry_shows_it() {
    let puppet = Puppet::held(|_| says("done"));
    let mut spec = spec("pair");
    spec.instances = 2;
    let house = House::open(vec![(spec, puppet.clone())]).await;
    let mut tasks = Vec::new();
    for n in 0..4 {
        tasks.push(house.ask("pair", &format!("{n}")).await);
    }
    puppet.called(4).await;
    let view = house.troupe.agent("pair").await.unwrap();
    assert_eq!((view.status, view.steps), (AgentStatus::Busy, 4));
    assert_eq!(view.instances.iter().map(|instance| instance.steps).collect::<Vec<_>>(), [2, 2]);
    let steps = house.troupe.tree().list().into_iter().filter(|actor| actor.kind == "step").count();
    assert_eq!(steps, 4);
    puppet.gate.add_permits(4);
    for task in tasks {
        house.ended(task).await;
    }
    until(|| async { house.troupe.agent("pair").await.unwrap().status == AgentStatus::Ready }).await;
    let busy = AgentFilter { status: Some("busy".into()), ..AgentFilter::default() };
    assert!(house.troupe.agents(busy).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continuous_agent_works_one_by_one_in_order() {
    let puppet = Puppet::held(|messages| says(messages[0].text()));
    let mut spec = spec("support");
    spec.execution_mode = ExecutionMode::Continuous;
    spec.runs_as = ExecutionMode::Continuous;
    let house = House::open(vec![(spec, puppet.clone())]).await;
    let mut tasks = Vec::new();
    for n in 0..3 {
        tasks.push(house.ask("support", &format!("{n}")).await);
    }
    for task in tasks {
        puppet.gate.add_permits(1);
        house.ended(task).await;
    }
    assert_eq!(puppet.calls(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_stays_on_the_bus_and_the_urgent_goes_first() {
    let puppet = Puppet::held(|messages| says(messages[0].text()));
    let mut spec = spec("narrow");
    spec.execution_mode = ExecutionMode::Continuous;
    spec.runs_as = ExecutionMode::Continuous;
    let house = House::open(vec![(spec, puppet.clone())]).await;
    let first = house.ask("narrow", "first").await;
    puppet.called(1).await;
    let mut tasks = Vec::new();
    for priority in [1_u8, 9, 5] {
        let submission = Submission {
            input: json!(priority),
            priority: Priority::try_from(priority).unwrap(),
            ..Submission::default()
        };
        tasks.push(house.troupe.submit("narrow", submission).await.unwrap());
    }
    assert_eq!(house.troupe.in_hand(), 1);
    puppet.gate.add_permits(1);
    house.ended(first).await;
    for called in 2..=4 {
        puppet.called(called).await;
        puppet.gate.add_permits(1);
    }
    let mut ended = Vec::new();
    for task in &tasks {
        ended.push(house.ended(*task).await.ended_at.unwrap());
    }
    assert!(ended[1] < ended[2] && ended[2] < ended[0], "9, then 5, then 1: {ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_end_once_each() {
    let puppet = Puppet::new(|messages| says(messages[0].text()));
    let mut spec = spec("crowd");
    spec.instances = 3;
    let house = House::open(vec![(spec, puppet.clone())]).await;
    let asked = futures::future::join_all((0..300).map(|n| {
        let house = &house;
        async move { house.ask("crowd", &format!("{n}")).await }
    }))
    .await;
    assert_eq!(asked.iter().collect::<HashSet<_>>().len(), 300);
    for task in asked {
        assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded);
    }
    assert_eq!(puppet.calls(), 300);
    until(|| async { house.troupe.in_hand() == 0 }).await;
    house.troupe.drain(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_whose_rule_is_ask_parks_the_task() {
    let puppet = Puppet::new(|_| wants("clock", json!({})));
    let mut spec = spec("asker");
    spec.permissions = vec![troupe_runtime::domain::agent::Permission {
        tool: "clock".into(),
        rule: troupe_runtime::domain::agent::Rule::Ask,
    }];
    let house = House::open(vec![(spec, puppet.clone())]).await;
    let task = house.ask("asker", "may I?").await;
    let parked = house.ended(task).await;
    assert_eq!(parked.status, TaskStatus::Waiting);
    let entries = house.troupe.ports().stores.journal.entries(parked.steps[0].id).await.unwrap();
    assert!(matches!(entries.last().unwrap().act, Act::ClarificationRaised { .. }));
}
