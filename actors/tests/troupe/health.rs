//! A troupe that looks after itself: what it knows of its agents, whom it starts again, what it leaves in peace.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use troupe_actors::registry::{AgentFilter, AgentStatus, AgentView};
use troupe_actors::roster::Member;
use troupe_actors::stage::Options;
use troupe_actors::troupe::Troupe;
use troupe_actors::vitals;
use troupe_runtime::bus::QueueSpec;
use troupe_runtime::domain::agent::AgentSpec;
use troupe_runtime::domain::chat::Message;
use troupe_runtime::domain::journal::Act;
use troupe_runtime::domain::outcome::{Outcome, Reason};
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::supervision::Then;

use crate::house::{House, PATIENCE, Puppet, member, open_ports, options, says, spec, until, wants};

fn path(agent: &str) -> String {
    format!("root/orchestrator/autonomous/{agent}/0")
}

async fn view(house: &House, agent: &str) -> AgentView {
    house.troupe.agent(agent).await.unwrap()
}

async fn stands(house: &House, agent: &str, status: AgentStatus) -> AgentView {
    until(|| async { house.troupe.agent(agent).await.is_ok_and(|view| view.status == status) }).await;
    view(house, agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_says_since_when_an_agent_stands_so_and_what_it_has_in_hand() {
    let puppet = Puppet::held(|_| says("done"));
    let house = House::open(vec![(spec("worker"), puppet.clone())]).await;
    let ready = stands(&house, "worker", AgentStatus::Ready).await;
    let asked = Utc::now();
    let task = house.ask("worker", "go").await;
    puppet.called(1).await;
    let busy = stands(&house, "worker", AgentStatus::Busy).await;
    assert!(busy.since >= asked && busy.since > ready.since, "{busy:?} {ready:?}");
    let current = &busy.instances[0].current;
    assert_eq!((current.len(), current[0].task_id.as_str()), (1, task.to_string().as_str()));
    assert_eq!(current[0].doing.as_deref(), Some("attempt 1, turn 1: asks the model"));
    assert_eq!(view(&house, "worker").await.since, busy.since, "it has not changed");
    let filter = |status: &str| AgentFilter { status: Some(status.into()), ..AgentFilter::default() };
    assert_eq!(house.troupe.agents(filter("busy")).await.unwrap().len(), 1);
    assert_eq!(house.troupe.agents(filter("ready")).await.unwrap().len(), 0);
    puppet.gate.add_permits(1);
    house.ended(task).await;
    let again = stands(&house, "worker", AgentStatus::Ready).await;
    assert!(again.since > busy.since && again.instances[0].current.is_empty(), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fall_is_in_the_ledger_with_its_cause_and_what_was_in_hand() {
    let puppet = Puppet::held(|_| says("done"));
    let mut fragile = spec("fragile");
    fragile.restart.max = 1;
    let house = House::open(vec![(fragile, puppet.clone())]).await;
    let task = house.ask("fragile", "go").await;
    puppet.called(1).await;
    house.troupe.tree().kill(&path("fragile")).unwrap();
    puppet.called(2).await;
    house.troupe.tree().kill(&path("fragile")).unwrap();
    stands(&house, "fragile", AgentStatus::Unavailable).await;
    let falls = house.troupe.tree().ledger().of(&path("fragile"));
    let told: Vec<_> = falls.iter().map(|fall| (fall.cause.as_str(), fall.then, fall.steps.as_slice())).collect();
    let steps = [task.run(0).step(0).to_string()];
    assert_eq!(told, [("killed", Then::Restarted, &steps[..]), ("killed", Then::Unavailable, &steps[..])]);

    // An operator's restart brings it back, its work with it, and is no fall of its own.
    puppet.gate.add_permits(100);
    house.troupe.restart(&"fragile".parse().unwrap()).await.unwrap();
    assert_eq!(house.ended(task).await.steps[0].attempts, 1);
    // One that runs is started again, too, whatever its budget.
    for restarts in 3..8 {
        house.troupe.restart(&"fragile".parse().unwrap()).await.unwrap();
        until(|| async { view(&house, "fragile").await.instances[0].restarts == restarts }).await;
    }
    let falls = house.troupe.tree().ledger().of(&path("fragile"));
    let last = falls.last().unwrap();
    assert_eq!((last.cause.as_str(), last.after_ms), ("an operator asked for it", Some(0)));
    // The pool is another actor, and the ledger outlives it.
    house.troupe.tree().kill("root/orchestrator/autonomous").unwrap();
    until(|| async { !house.troupe.tree().ledger().of("root/orchestrator/autonomous").is_empty() }).await;
    assert_eq!(house.troupe.tree().ledger().of(&path("fragile")).len(), falls.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_finishes_what_it_has_and_takes_nothing_in_until_it_is_resumed() {
    let puppet = Puppet::held(|messages| says(messages[0].text()));
    let house = House::open(vec![(spec("calm"), puppet.clone()), (spec("other"), Puppet::new(|_| says("fine")))]).await;
    let name = "calm".parse().unwrap();
    let first = house.ask("calm", "first").await;
    puppet.called(1).await;
    let before = Utc::now();
    house.troupe.pause(&name, true).await.unwrap();
    let paused = view(&house, "calm").await;
    assert_eq!((paused.status, paused.steps), (AgentStatus::Paused, 1));
    assert!(paused.since >= before);
    puppet.gate.add_permits(1);
    assert_eq!(house.ended(first).await.status, TaskStatus::Succeeded);

    let second = house.ask("calm", "second").await;
    assert_eq!(house.ended(house.ask("other", "and you?").await).await.status, TaskStatus::Succeeded);
    house.troupe.tree().kill("root/orchestrator/autonomous").unwrap();
    until(|| async { house.troupe.tree().restarts("root/orchestrator/autonomous") == Some(1) }).await;
    stands(&house, "calm", AgentStatus::Paused).await;
    let early = house.troupe.wait(second, Duration::from_millis(100)).await.unwrap();
    assert!(early.is_none(), "it stays on the bus, over a fall of the pool too: {early:?}");

    puppet.gate.add_permits(1);
    let before = Utc::now();
    house.troupe.pause(&name, false).await.unwrap();
    assert_eq!(house.ended(second).await.status, TaskStatus::Succeeded);
    assert!(stands(&house, "calm", AgentStatus::Ready).await.since >= before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_be_made_ready_says_why_is_tried_again_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Arc::new(open_ports(&dir).await);
    let well = member(&ports, spec("well"), Puppet::new(|_| says("fine")));
    // Lacks a model for ever: tried within its budget, then left alone.
    let mut hopeless = spec("hopeless");
    hopeless.restart.max = 1;
    // Was not ready at the start, and is when it is tried again.
    let late = member(&ports, spec("late"), Puppet::new(|_| says("unused"))).spec;
    let members = vec![
        well,
        Member { spec: Arc::new(hopeless), served: Err("no model".into()) },
        Member { spec: late, served: Err("not yet".into()) },
    ];
    let (troupe, over) = Troupe::start_prepared(ports, members, options(), Vec::new()).await.unwrap();
    let house = House { troupe, over, dir };
    let sick = stands(&house, "hopeless", AgentStatus::Unavailable).await;
    assert!(sick.reason.as_deref().is_some_and(|reason| reason.contains("names no model")), "{sick:?}");
    assert_eq!(house.ended(house.ask("well", "and you?").await).await.status, TaskStatus::Succeeded);
    until(|| async {
        let view = view(&house, "hopeless").await;
        assert_eq!(view.status, AgentStatus::Unavailable, "also while it is tried again");
        view.reason.is_some_and(|reason| reason.starts_with("more than 1 restarts"))
    })
    .await;
    stands(&house, "late", AgentStatus::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_hundreds_of_pings_is_left_in_peace() {
    let puppet = Puppet::held(|_| says("at last"));
    let often = vitals::Options { every: Duration::from_millis(5), timeout: Duration::from_secs(1), misses_max: 1 };
    let options = Options { vitals: often, ..options() };
    let house = House::open_with(tempfile::tempdir().unwrap(), vec![(spec("thinker"), puppet.clone())], options).await;
    let task = house.ask("thinker", "go").await;
    puppet.called(1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    puppet.gate.add_permits(1);
    let ended = house.ended(task).await;
    assert_eq!((ended.status, ended.steps[0].attempts, puppet.calls()), (TaskStatus::Succeeded, 1, 1));
    assert_eq!(view(&house, "thinker").await.restarts, 0);
    assert!(house.troupe.tree().ledger().of(&path("thinker")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_come_back_is_an_alarm_once_for_each_time() {
    let mut fragile = spec("fragile");
    fragile.restart.max = 0;
    let often = vitals::Options { every: Duration::from_millis(20), ..vitals::Options::default() };
    let options = Options { vitals: often, ..options() };
    let cast = vec![(fragile, Puppet::new(|_| says("here")))];
    let house = House::open_with(tempfile::tempdir().unwrap(), cast, options).await;
    let bus = house.troupe.ports().bus.clone();
    let bindings = vec!["monitor.alert.critical".parse().unwrap()];
    bus.declare(QueueSpec { name: "alarms".into(), bindings, single_active_consumer: false }).await.unwrap();
    let mut alarms = bus.consume("alarms", 10).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        stands(&house, "fragile", AgentStatus::Ready).await;
        house.troupe.tree().kill(&path("fragile")).unwrap();
        let alarm = tokio::time::timeout(PATIENCE, alarms.deliveries.recv()).await.unwrap().unwrap();
        let event = alarm.event.clone();
        assert_eq!(
            (&event.data.value()["agent"], &event.data.value()["path"]),
            (&json!("fragile"), &json!(path("fragile")))
        );
        assert_eq!(
            (&event.data.value()["alert"], &event.data.value()["cause"]),
            (&json!("agent_unavailable"), &json!("killed"))
        );
        ids.push(event.id.clone());
        alarm.settle.ack();
        house.troupe.restart(&"fragile".parse().unwrap()).await.unwrap();
    }
    assert_ne!(ids[0], ids[1]);
    assert!(alarms.deliveries.try_recv().is_none(), "told once each");
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_ends_in_the_dead_letters_while_its_neighbours_work() {
    let puppet = Puppet::new(|messages| match messages.last() {
        Some(Message::Tool { .. }) => says("done"),
        _ if messages[0].text() == "poison" => panic!("swallowed poison"),
        _ => wants("clock", json!({})),
    });
    let house = House::open(vec![(spec("taster"), puppet), (spec("other"), Puppet::new(|_| says("fine")))]).await;
    let mut poison = Vec::new();
    let mut bread = Vec::new();
    for n in 0..10 {
        poison.push(house.ask("taster", "poison").await);
        bread.push(house.ask("taster", &format!("bread {n}")).await);
        bread.push(house.ask("other", &format!("{n}")).await);
    }
    for task in bread {
        let ended = house.ended(task).await;
        assert_eq!((ended.status, ended.steps[0].attempts), (TaskStatus::Succeeded, 1));
    }
    for task in &poison {
        let ended = house.ended(*task).await;
        assert_eq!(ended.steps[0].attempts, 3);
        assert!(matches!(&ended.outcome, Some(Outcome::Failed { failure }) if failure.reason == Reason::Crash));
    }
    let bus = &house.troupe.ports().bus;
    until(|| async { bus.dead_letters(100, None).await.unwrap().len() == poison.len() }).await;
    for letter in bus.dead_letters(100, None).await.unwrap() {
        assert_eq!((letter.cause.as_str(), letter.attempts), ("crash", 3));
        assert!(letter.last_error.contains("swallowed poison"), "{}", letter.last_error);
    }
    let view = view(&house, "taster").await;
    assert_eq!((view.status, view.restarts), (AgentStatus::Ready, 0), "no actor but the steps' fell");
    assert!(view.last_failure.is_some_and(|failure| failure.contains("swallowed poison")));
}

/// A call that stops getting on, and the options under which that is noticed at once.
async fn stalling(name: &str, call: &'static str, retries: u32) -> (House, Arc<Puppet>) {
    let puppet = Puppet::held(move |messages| match messages.last() {
        Some(Message::Tool { .. }) => says("done"),
        _ if call == "model" => says("done"),
        _ => wants("wait", json!({"seconds": 3})),
    });
    let spec = AgentSpec { retries, ..spec(name) };
    let options = Options { stalled_after: Duration::from_millis(200), ..options() };
    let house = House::open_with(tempfile::tempdir().unwrap(), vec![(spec, puppet.clone())], options).await;
    (house, puppet)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_get_on_is_cut_off_and_costs_an_attempt() {
    // Its own timeout (1 s in this house) comes on top.
    let (house, puppet) = stalling("stuck", "model", 2).await;
    let task = house.ask("stuck", "go").await;
    puppet.called(2).await;
    // The call of the first attempt is gone; the second one's goes through.
    puppet.gate.add_permits(1);
    let ended = house.ended(task).await;
    assert_eq!((ended.status, ended.steps[0].attempts), (TaskStatus::Succeeded, 2));
    let entries = house.troupe.ports().stores.journal.entries(ended.steps[0].id).await.unwrap();
    let Act::AttemptFailed { failure } = &entries[0].act else { panic!("{entries:?}") };
    assert_eq!((failure.reason, failure.retryable), (Reason::Stalled, true));
    assert_eq!(failure.message, "the model made no progress for 1.2s (steps.stalled_after)");
    assert_eq!(view(&house, "stuck").await.restarts, 0, "the agent actor is well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_every_attempt_stalls_ends_in_the_dead_letters() {
    let (house, puppet) = stalling("stuck", "model", 1).await;
    let task = house.ask("stuck", "go").await;
    let ended = house.ended(task).await;
    assert!(matches!(&ended.outcome, Some(Outcome::Failed { failure }) if failure.reason == Reason::Stalled));
    assert_eq!((puppet.calls(), ended.steps[0].attempts), (2, 2));
    let bus = &house.troupe.ports().bus;
    until(|| async { bus.dead_letters(10, None).await.unwrap().first().is_some_and(|l| l.cause == "stalled") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_says_that_it_lives_is_waited_for() {
    // Between two signs of life of `wait` is a second.
    let options = Options { stalled_after: Duration::from_millis(2_500), ..options() };
    let puppet = Puppet::new(|messages| match messages.last() {
        Some(Message::Tool { .. }) => says("waited"),
        _ => wants("wait", json!({"seconds": 4})),
    });
    let house = House::open_with(tempfile::tempdir().unwrap(), vec![(spec("waits"), puppet)], options).await;
    let ended = house.ended(house.ask("waits", "go").await).await;
    assert_eq!((ended.status, ended.steps[0].attempts), (TaskStatus::Succeeded, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_tool_is_cut_off_and_an_attempt_is_charged() {
    let (house, puppet) = stalling("silent", "tool", 0).await;
    puppet.gate.add_permits(10);
    let ended = house.ended(house.ask("silent", "go").await).await;
    let Some(Outcome::Failed { failure }) = &ended.outcome else { panic!("{ended:?}") };
    assert_eq!(failure.reason, Reason::Stalled);
    assert_eq!(failure.message, "tool wait made no progress for 200ms (steps.stalled_after)");
}
