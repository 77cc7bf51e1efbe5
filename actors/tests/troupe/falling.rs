//! What happens to a task when things fall.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use troupe_actors::registry::AgentStatus;
use troupe_runtime::domain::chat::Message;
use troupe_runtime::domain::outcome::{Outcome, Reason};
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::model::{ModelOptions, Models};
use troupe_runtime::secret::{ExposeSecret as _, Secrets};
use troupe_runtime::supervision::CAUSE_CHARS_MAX;

use crate::house::{House, Puppet, is_down, options, refuses, says, spec, until, wants};

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_model_gets_two_more_attempts_with_a_fresh_context() {
    let seen = std::sync::Arc::new(AtomicU32::new(0));
    let puppet = {
        let seen = seen.clone();
        Puppet::new(move |messages| {
            if let Some(Message::Tool { .. }) = messages.last() {
                return is_down();
            }
            assert_eq!(messages.len(), 1, "a fresh context holds the question only");
            if seen.fetch_add(1, Ordering::SeqCst) < 2 { wants("clock", json!({})) } else { says("at last") }
        })
    };
    let house = House::open(vec![(spec("stubborn"), puppet.clone())]).await;
    let task = house.ask("stubborn", "try").await;
    let ended = house.ended(task).await;
    assert_eq!((ended.status, ended.steps[0].attempts), (TaskStatus::Succeeded, 3));
    assert_eq!(puppet.calls(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_attempts_left_fails_into_the_dead_letters_and_can_be_replayed() {
    let mended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let puppet = {
        let mended = mended.clone();
        Puppet::new(move |_| if mended.load(Ordering::SeqCst) { says("mended") } else { is_down() })
    };
    let house = House::open(vec![(spec("doomed"), puppet.clone()), (spec("neighbour"), Puppet::new(|_| says("fine")))]);
    let house = house.await;
    let task = house.ask("doomed", "try").await;
    let ended = house.ended(task).await;
    assert!(matches!(&ended.outcome, Some(Outcome::Failed { failure }) if failure.reason == Reason::Model));
    assert_eq!(puppet.calls(), 3);
    let bus = &house.troupe.ports().bus;
    until(|| async { !bus.dead_letters(10, None).await.unwrap().is_empty() }).await;
    let letter = bus.dead_letters(10, None).await.unwrap().remove(0);
    assert_eq!((letter.cause.as_str(), letter.attempts, letter.queue.as_str()), ("model", 3, "agent.input.doomed"));
    let neighbour = house.ask("neighbour", "and you?").await;
    assert_eq!(house.ended(neighbour).await.status, TaskStatus::Succeeded);

    mended.store(true, Ordering::SeqCst);
    let event = bus.replay(&letter.id).await.unwrap().unwrap();
    assert_eq!(event.traceparent.trace_id(), letter.event.traceparent.trace_id());
    let again = troupe_runtime::domain::ids::TaskId::derive(&event.id, "doomed");
    assert_eq!(house.ended(again).await.status, TaskStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanent_failure_is_not_tried_again() {
    let puppet = Puppet::new(|_| refuses());
    let house = House::open(vec![(spec("refused"), puppet.clone())]).await;
    let task = house.ask("refused", "try").await;
    let ended = house.ended(task).await;
    assert_eq!((ended.status, puppet.calls(), ended.steps[0].attempts), (TaskStatus::Failed, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_panics_charges_its_attempts_and_nobody_else() {
    let puppet = Puppet::new(|messages| match messages[0].text() {
        "poison" => panic!("swallowed poison"),
        _ => says("alive"),
    });
    let house = House::open(vec![(spec("taster"), puppet.clone())]).await;
    let poison = house.ask("taster", "poison").await;
    let bread = house.ask("taster", "bread").await;
    assert_eq!(house.ended(bread).await.status, TaskStatus::Succeeded);
    let ended = house.ended(poison).await;
    let Some(Outcome::Failed { failure }) = &ended.outcome else { panic!("{ended:?}") };
    assert_eq!(failure.reason, Reason::Crash);
    assert!(failure.message.contains("swallowed poison"), "{failure}");
    assert_eq!(puppet.calls(), 4);
    let view = house.troupe.agent("taster").await.unwrap();
    assert_eq!((view.restarts, view.instances[0].restarts), (0, 0), "the agent actor did not fall");
}

/// Whether any file of a folder holds a text.
fn is_in_a_file(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().flatten().any(|entry| match entry.path() {
        path if path.is_dir() => is_in_a_file(&path, text),
        path => fs::read(path).unwrap().windows(text.len()).any(|part| part == text.as_bytes()),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_panics_with_a_secret_in_its_mouth_leaves_no_part_of_it_anywhere() {
    let secrets = Secrets::new([("KEY".to_owned(), "hunter2-hunter2".to_owned())]);
    let key = secrets.get("KEY").unwrap();
    let puppet =
        Puppet::new(move |messages| panic!("{} does not open with {}", messages[0].text(), key.expose_secret()));
    let cast = vec![(spec("smith"), puppet)];
    let of_models = ModelOptions::default();
    let house = House::open_on(tempfile::tempdir().unwrap(), cast, options(), |ports| {
        ports.models = Models::new(secrets, Models::client(&of_models).unwrap(), of_models).unwrap();
    })
    .await;
    // The second one would be cut in the middle of the secret.
    for door in ["a door".to_owned(), "x".repeat(CAUSE_CHARS_MAX - " does not open with hunter2-".len())] {
        let task = house.ask("smith", &door).await;
        let ended = house.ended(task).await;
        let Some(Outcome::Failed { failure }) = &ended.outcome else { panic!("{ended:?}") };
        assert_eq!(failure.message, format!("{door} does not open with ***"));
    }
    let bus = house.troupe.ports().bus.clone();
    until(|| async { bus.dead_letters(10, None).await.unwrap().len() == 2 }).await;
    let shown = format!("{:?} {:?}", bus.dead_letters(10, None).await, house.troupe.agent("smith").await);
    assert!(shown.contains("does not open") && !shown.contains("hunter2"), "{shown}");
    drop(bus);
    let dir = house.crash().await;
    assert!(is_in_a_file(dir.path(), "does not open with ***"), "the search is blind");
    assert!(!is_in_a_file(dir.path(), "hunter2"), "the journal, its outcome, and what the bus was told of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_too_long_fails_with_its_own_reason() {
    let puppet = Puppet::held(|_| says("never"));
    let mut spec = spec("slow");
    spec.limits.timeout = Duration::from_millis(50);
    let house = House::open(vec![(spec, puppet)]).await;
    let task = house.ask("slow", "hurry").await;
    let ended = house.ended(task).await;
    assert!(matches!(&ended.outcome, Some(Outcome::Failed { failure }) if failure.reason == Reason::Timeout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_actor_is_restarted_and_its_step_goes_on_from_the_journal() {
    let puppet = Puppet::new(|messages| match messages.last() {
        Some(Message::Tool { .. }) => says("went on"),
        _ => wants("wait", json!({"seconds": 1})),
    });
    let house = House::open(vec![(spec("phoenix"), puppet.clone())]).await;
    let task = house.ask("phoenix", "go").await;
    house.journal_grows_to(task, 1).await;
    house.troupe.tree().kill("root/orchestrator/autonomous/phoenix/0").unwrap();
    let ended = house.ended(task).await;
    assert_eq!((ended.status, ended.steps[0].attempts), (TaskStatus::Succeeded, 1));
    assert_eq!(puppet.calls(), 2, "the first turn is in the journal and is not asked for again");
    assert_eq!(house.troupe.agent("phoenix").await.unwrap().restarts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_over_its_restart_budget_is_unavailable_until_it_is_reset() {
    let puppet = Puppet::new(|_| says("back"));
    let mut fragile = spec("fragile");
    fragile.restart.max = 0;
    let house = House::open(vec![(fragile, puppet), (spec("sturdy"), Puppet::new(|_| says("here")))]).await;
    house.troupe.tree().kill("root/orchestrator/autonomous/fragile/0").unwrap();
    until(|| async { house.troupe.agent("fragile").await.unwrap().status == AgentStatus::Unavailable }).await;
    let view = house.troupe.agent("fragile").await.unwrap();
    assert!(view.reason.is_some(), "{view:?}");
    let waits = house.ask("fragile", "are you there?").await;
    let neighbour = house.ask("sturdy", "and you?").await;
    assert_eq!(house.ended(neighbour).await.status, TaskStatus::Succeeded);
    assert!(house.troupe.wait(waits, Duration::from_millis(50)).await.unwrap().is_none(), "it stays on the bus");
    house.troupe.restart(&"fragile".parse().unwrap()).await.unwrap();
    assert_eq!(house.ended(waits).await.status, TaskStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_any_actor_loses_no_work() {
    for path in [
        "root/orchestrator",
        "root/orchestrator/autonomous",
        "root/orchestrator/autonomous/unshaken/inbox",
        "root/orchestrator/recovery",
        "root/relay",
        "root/cleaner",
    ] {
        let puppet = Puppet::held(|messages| says(messages[0].text()));
        let house = House::open(vec![(spec("unshaken"), puppet.clone())]).await;
        let before = house.ask("unshaken", "before").await;
        puppet.called(1).await;
        house.troupe.tree().kill(path).unwrap();
        let after = house.ask("unshaken", "after").await;
        puppet.gate.add_permits(100);
        for task in [before, after] {
            assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded, "after the fall of {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_finishes_what_it_had_and_repeats_no_journaled_call() {
    let mind = |messages: &[Message]| match messages.last() {
        Some(Message::Tool { .. }) => says("finished"),
        _ => wants("wait", json!({"seconds": 1})),
    };
    let puppet = Puppet::new(mind);
    let house = House::open(vec![(spec("survivor"), puppet.clone())]).await;
    let mut tasks = Vec::new();
    for n in 0..5 {
        tasks.push(house.ask("survivor", &format!("{n}")).await);
    }
    for task in &tasks {
        house.journal_grows_to(*task, 1).await;
    }
    assert_eq!(puppet.calls(), 5);
    let dir = house.crash().await;
    let again = Puppet::new(mind);
    let house = House::open_in(dir, vec![(spec("survivor"), again.clone())]).await;
    for task in tasks {
        let ended = house.ended(task).await;
        assert_eq!((ended.status, ended.steps[0].attempts), (TaskStatus::Succeeded, 1));
        assert_eq!(ended.steps[0].epoch.0, 2);
    }
    assert_eq!(again.calls(), 5, "one further turn each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_a_step_finish_its_entry_and_the_next_life_goes_on() {
    let mind = |messages: &[Message]| match messages.last() {
        Some(Message::Tool { .. }) => says("finished"),
        _ => wants("clock", json!({})),
    };
    let puppet = Puppet::held(mind);
    let house = House::open(vec![(spec("calm"), puppet.clone())]).await;
    let task = house.ask("calm", "go").await;
    puppet.called(1).await;
    let troupe = house.troupe.clone();
    let drain = tokio::spawn(async move { troupe.drain(Duration::from_secs(10)).await });
    puppet.gate.add_permits(1);
    drain.await.unwrap();
    let step = task.run(0).step(0);
    assert_eq!(house.troupe.ports().stores.journal.entries(step).await.unwrap().len(), 1);
    let dir = house.crash().await;
    let house = House::open_in(dir, vec![(spec("calm"), Puppet::new(mind))]).await;
    let ended = house.ended(task).await;
    assert_eq!((ended.status, ended.steps[0].attempts), (TaskStatus::Succeeded, 1));
}
