//! What happens to a task when the store is slow, unreadable in places, or holds what nobody can work on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use troupe_actors::registry::AgentStatus;
use troupe_actors::stage::Options;
use troupe_actors::troupe::Submission;
use troupe_runtime::bus::Routing;
use troupe_runtime::domain::agent::ExecutionMode;
use troupe_runtime::domain::answer::Answered;
use troupe_runtime::domain::chat::{Completion, Message};
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::outcome::{Outcome, Reason};
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::domain::topic::{REPLY_QUEUE, Topic};
use troupe_runtime::model;
use troupe_runtime::store::TaskFilter;

use crate::fallible::{FallibleJournal, FallibleTasks};
use crate::house::{House, PATIENCE, PAYLOAD_BYTES_MAX, Puppet, options, says, spec, until, wants};

fn clock_then(answer: &'static str) -> impl Fn(&[Message]) -> Result<Completion, model::Error> {
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
async fn an_entry_whose_commit_was_not_answered_is_found_and_costs_no_attempt() {
    let puppet = Puppet::new(clock_then("done"));
    let mut journal = None;
    let dir = tempfile::tempdir().unwrap();
    let house = House::open_on(dir, vec![(spec("doubter"), puppet.clone())], options(), |ports| {
        journal = Some(FallibleJournal::before(ports));
    });
    let house = house.await;
    journal.unwrap().is_mute.store(true, Ordering::SeqCst);
    let task = house.ask("doubter", "go").await;
    let ended = house.ended(task).await;
    assert_eq!((ended.status, ended.steps[0].attempts, puppet.calls()), (TaskStatus::Succeeded, 1, 2));
    let entries = house.troupe.ports().stores.journal.entries(ended.steps[0].id).await.unwrap();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry.act.kind()).collect();
    assert_eq!(kinds, ["model_result", "tool_result", "model_result"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_outlasts_a_step_costs_no_attempt() {
    let puppet = Puppet::new(clock_then("done"));
    let mut journal = None;
    let (dir, cast) = (tempfile::tempdir().unwrap(), vec![(spec("patient"), puppet.clone())]);
    let options = Options { record_for: Duration::from_millis(50), ..options() };
    let house = House::open_on(dir, cast, options, |ports| journal = Some(FallibleJournal::before(ports))).await;
    let journal = journal.unwrap();
    journal.is_away.store(true, Ordering::SeqCst);
    let task = house.ask("patient", "go").await;
    // What it had in hand is lost with it, so it asks again when it is taken up from its empty journal.
    puppet.called(2).await;
    journal.is_away.store(false, Ordering::SeqCst);
    let ended = house.ended(task).await;
    assert_eq!((ended.status, ended.steps[0].attempts), (TaskStatus::Succeeded, 1));
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
async fn what_a_step_used_is_told_also_when_it_is_given_up() {
    let options = || Options { claims_max: 1, ..options() };
    let cast = || vec![(spec("unlucky"), Puppet::new(|_| wants("wait", json!({"seconds": 20}))))];
    let house = House::open_with(tempfile::tempdir().unwrap(), cast(), options()).await;
    let task = house.ask("unlucky", "go").await;
    house.journal_grows_to(task, 1).await;
    let house = House::open_with(house.crash().await, cast(), options()).await;
    let ended = house.ended(task).await;
    assert!(matches!(&ended.outcome, Some(Outcome::Failed { failure }) if failure.reason == Reason::CrashLoop));
    assert_eq!((ended.usage.input_tokens, ended.usage.output_tokens), (3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_larger_than_the_store_keeps_ends_the_step_and_is_not_paid_for_again() {
    let huge = "a".repeat(PAYLOAD_BYTES_MAX);
    let (last, first) = (huge.clone(), huge);
    // As the last word, which is the result, and as one on the way.
    let puppets =
        [Puppet::new(move |_| says(&last)), Puppet::new(move |_| wants("clock", json!({"zone": first.as_str()})))];
    for (puppet, name) in puppets.into_iter().zip(["last", "first"]) {
        let house = House::open(vec![(spec(name), puppet.clone())]).await;
        let ended = house.ended(house.ask(name, "go").await).await;
        let Some(Outcome::Failed { failure }) = &ended.outcome else { panic!("{name}: {:?}", ended.status) };
        assert_eq!((failure.reason, failure.retryable), (Reason::TooLarge, false), "{failure}");
        assert!(failure.message.contains("store.payload_bytes_max"), "{failure}");
        assert_eq!((puppet.calls(), ended.usage.input_tokens), (1, 3), "{name}: what was used is told");
    }
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
    let (cast, absent) = (vec![(spec("stays"), stays)], vec![spec("gone")]);
    let mut tasks = None;
    let tamper = |ports: &mut _| tasks = Some(FallibleTasks::before(ports, illegible));
    let house = House::open_without(dir, cast, absent, options(), tamper).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_an_instance_had_goes_to_the_next_one_that_lives() {
    let puppet = Puppet::held(|messages| says(messages[0].text()));
    let mut spec = spec("pair");
    (spec.instances, spec.restart.max) = (2, 1);
    let house = House::open(vec![(spec, puppet.clone())]).await;
    let tasks = [house.ask("pair", "a").await, house.ask("pair", "b").await];
    puppet.called(2).await;
    let path = |n: usize| format!("root/orchestrator/autonomous/pair/{n}");
    let instance = |n: usize| {
        let house = &house;
        async move { house.troupe.agent("pair").await.unwrap().instances[n].clone() }
    };
    // The first one falls for good while the second one is down for a moment.
    house.troupe.tree().kill(&path(0)).unwrap();
    until(|| async { instance(0).await.restarts == 1 && instance(0).await.status == AgentStatus::Busy }).await;
    house.troupe.tree().kill(&path(1)).unwrap();
    until(|| async { instance(1).await.status == AgentStatus::Starting }).await;
    house.troupe.tree().kill(&path(0)).unwrap();
    until(|| async { instance(0).await.status == AgentStatus::Unavailable }).await;
    puppet.gate.add_permits(100);
    for task in tasks {
        assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_steps_that_nobody_works_on() {
    let puppet = Puppet::held(|_| says("never"));
    let mut spec = spec("fallen");
    spec.restart.max = 0;
    let house = House::open(vec![(spec, puppet.clone())]).await;
    house.ask("fallen", "go").await;
    puppet.called(1).await;
    house.troupe.tree().kill("root/orchestrator/autonomous/fallen/0").unwrap();
    until(|| async { house.troupe.agent("fallen").await.unwrap().status == AgentStatus::Unavailable }).await;
    let begun = std::time::Instant::now();
    house.troupe.drain(PATIENCE).await;
    assert!(begun.elapsed() < PATIENCE / 2, "it waited for {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continuous_agent_finishes_what_it_had_before_it_takes_the_next() {
    let ordered = || {
        let mut spec = spec("orderly");
        (spec.execution_mode, spec.runs_as) = (ExecutionMode::Continuous, ExecutionMode::Continuous);
        vec![(spec, Puppet::held(|messages| says(messages[0].text())))]
    };
    let cast = ordered();
    let puppet = cast[0].1.clone();
    let house = House::open(cast).await;
    let first = house.ask("orderly", "first").await;
    puppet.called(1).await;
    let second = house.ask("orderly", "second").await;
    let dir = house.crash().await;

    let cast = ordered();
    let puppet = cast[0].1.clone();
    let house = House::open_in(dir, cast).await;
    puppet.called(1).await;
    // Pools, too, have lives.
    house.troupe.tree().kill("root/orchestrator/continuous").unwrap();
    puppet.called(2).await;
    let early = house.troupe.wait(second, std::time::Duration::from_millis(100)).await.unwrap();
    assert!(early.is_none(), "the next one waits on the bus: {early:?}");
    puppet.gate.add_permits(100);
    let (first, second) = (house.ended(first).await, house.ended(second).await);
    assert!(first.ended_at.unwrap() <= second.created_at, "{first:?} {second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_for_the_bus_is_told_in_short_and_holds_up_nobody() {
    let puppet = Puppet::new(|messages| match messages[0].text() {
        "much" => says(&"\u{1}".repeat(400_000)),
        _ => says("little"),
    });
    let house = House::open(vec![(spec("wordy"), puppet)]).await;
    let much = house.ask("wordy", "much").await;
    let little = house.ask("wordy", "less").await;
    let bus = house.troupe.ports().bus.clone();
    let mut replies = bus.consume(REPLY_QUEUE, 10).await.unwrap();
    let mut told = std::collections::BTreeMap::new();
    until(|| {
        while let Some(delivery) = replies.deliveries.try_recv() {
            told.insert(delivery.event.subject.clone().unwrap(), delivery.event.data.value()["output"].clone());
            delivery.settle.ack();
        }
        let all = told.len() == 2;
        async move { all }
    })
    .await;
    assert_eq!(told[&little.to_string()], "little");
    let short = told[&much.to_string()].as_str().unwrap();
    assert!(short.starts_with('\u{1}') && short.ends_with(&format!("troupe tasks show {much}]")), "{}", short.len());
    assert!(matches!(&house.ended(much).await.outcome, Some(Outcome::Succeeded { output }) if output.len() == 400_000));
    let outbox = &house.troupe.ports().stores.outbox;
    until(|| async { outbox.pending(house.troupe.lease().incarnation(), i64::MIN, 10).await.unwrap().is_empty() })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_question_that_fills_its_event_is_told() {
    let house = House::open(vec![(spec("loaded"), Puppet::new(|messages| says(&messages[0].text()[..10])))]).await;
    let mut replies = house.troupe.ports().bus.consume(REPLY_QUEUE, 10).await.unwrap();
    // As large as the bus takes it.
    let mut spare = 200;
    let task = loop {
        let input = json!("q".repeat(1024 * 1024 - spare));
        if let Ok(task) = house.troupe.submit("loaded", Submission { input, ..Submission::default() }).await {
            break task;
        }
        spare += 20;
    };
    assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded);
    let told = tokio::time::timeout(PATIENCE, replies.deliveries.recv()).await.expect("it is told").unwrap();
    let answer = told.event.data.read::<Answered>().unwrap();
    assert_eq!(answer.outcome, Outcome::Succeeded { output: "q".repeat(10) });
    assert!(house.troupe.ports().bus.dead_letters(10, None).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_bus_will_never_take_is_a_dead_letter_and_holds_up_nobody() {
    let puppet = Puppet::new(|messages| says(&messages[0].text()[..10]));
    let options = || troupe_actors::stage::Options { relay_batch: 2, ..options() };
    let house = House::open_with(tempfile::tempdir().unwrap(), vec![(spec("loaded"), puppet)], options()).await;
    // Who asks fills the event that names him: nothing can be shortened in it.
    let (bus, agent) = (house.troupe.ports().bus.clone(), "loaded".parse().unwrap());
    let mut heavy = Vec::new();
    for n in 0..3 {
        let asker = format!("/{n}/{}", "a".repeat(1024 * 1024 - 600));
        let question = Event::new(Topic::agent_task(&agent), asker, json!("a question that is light"));
        heavy.push(TaskId::derive(&question.id, agent.as_str()));
        bus.publish(Arc::new(question), Routing::Mandatory).await.unwrap();
    }
    for task in heavy {
        assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded);
    }
    let light = house.ask("loaded", "light as a feather").await;
    house.ended(light).await;
    let ports = house.troupe.ports();
    until(|| async {
        ports.stores.outbox.pending(house.troupe.lease().incarnation(), i64::MIN, 10).await.unwrap().is_empty()
    })
    .await;
    let letters = ports.bus.dead_letters(10, None).await.unwrap();
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().all(|letter| letter.cause == "untold" && letter.last_error.contains("event_bytes_max")));
}
