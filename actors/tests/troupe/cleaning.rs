//! What becomes of what is old: it goes, what is open stays, and a cleaner in trouble is nobody else's trouble.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::json;
use tempfile::TempDir;
use troupe_actors::cleaner;
use troupe_actors::lease;
use troupe_actors::stage::Options;
use troupe_runtime::domain::agent::ExecutionMode;
use troupe_runtime::domain::chat::Usage;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::journal::{Act, Entry};
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::domain::topic::Topic;
use troupe_runtime::store::{Acceptance, Accepted, Append, Claim, Completion};
use troupe_runtime::supervision::ActorState;

use crate::fallible::{FallibleNodes, FallibleRetention};
use crate::house::{House, PATIENCE, Puppet, options, says, spec, until, wants};

const DAY: Duration = Duration::from_hours(24);
/// Ends of each age.
const MANY: usize = 7;

/// A node that deletes often and little at a time.
fn tidy() -> Options {
    let (every, pause) = (Duration::from_millis(40), Duration::from_millis(1));
    let cleaner = cleaner::Options { keep: DAY * 5, keep_results: DAY * 10, every, batch: 2, pause };
    Options { cleaner, ..options() }
}

async fn house(puppet: Arc<Puppet>) -> (House, Arc<FallibleRetention>) {
    let mut retention = None;
    let house = House::open_on(TempDir::new().unwrap(), vec![(spec("keeper"), puppet)], tidy(), |ports| {
        let of_house = FallibleRetention::before(ports);
        of_house.is_away.store(true, Ordering::SeqCst);
        retention = Some(of_house);
    });
    (house.await, retention.unwrap())
}

/// A step of this node that nobody works on; with an entry.
async fn begun(house: &House) -> Claim {
    let stores = &house.troupe.ports().stores;
    let agent = "keeper".parse().unwrap();
    let spec_digest = house.troupe.agent("keeper").await.unwrap().spec_digest.into();
    let event = Arc::new(Event::new(Topic::agent_task(&agent), "/test", json!({"input": "long ago"})));
    let owner = house.troupe.lease().incarnation();
    let acceptance = Acceptance { agent, mode: ExecutionMode::Autonomous, spec_digest, event, owner };
    let Accepted::New(claim) = stores.tasks.accept(acceptance).await.unwrap() else { panic!("it is new") };
    let entry = entry(0, "hm", Duration::ZERO);
    stores.journal.append(Append { claim, entry, attempts: None, status: None }).await.unwrap();
    claim
}

/// One that ended so long ago.
async fn ended(house: &House, age: Duration) -> TaskId {
    let claim = begun(house).await;
    let completion = Completion {
        claim,
        agent: "keeper".parse().unwrap(),
        entry: entry(1, "done", age),
        outcome: Outcome::Succeeded { output: "done".into() },
        usage: Usage::default(),
    };
    house.troupe.ports().stores.steps.complete(completion).await.unwrap();
    claim.task
}

fn entry(seq: u32, text: &str, age: Duration) -> Entry {
    let act = json!({"kind": "model_result", "completion": {
        "text": text, "finish": "stop", "provider": "p", "model": "m", "usage": {"input_tokens": 1, "output_tokens": 1},
    }});
    let act: Act = serde_json::from_value(act).unwrap();
    Entry { seq, attempt: 1, at: Utc::now() - TimeDelta::from_std(age).unwrap(), act }
}

/// Entries of a task that there still are; none when the task is gone too.
async fn left(house: &House, task: TaskId) -> Option<usize> {
    let stores = &house.troupe.ports().stores;
    stores.tasks.task(task).await.unwrap()?;
    Some(stores.journal.entries(task.run(0).step(0)).await.unwrap().len())
}

async fn asked_again(retention: &FallibleRetention, times: u32) {
    let before = retention.asked();
    until(|| async { retention.asked() >= before + times }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_batch_by_batch_and_what_is_open_or_young_stays() {
    let puppet = Puppet::held(|_| says("at last"));
    let (house, retention) = house(puppet.clone()).await;
    let open = house.ask("keeper", "think").await;
    puppet.called(1).await;
    let mut tasks = Vec::new();
    for age in [DAY * 11, DAY * 6, DAY * 4] {
        for _ in 0..MANY {
            tasks.push(ended(&house, age).await);
        }
    }
    let stores = &house.troupe.ports().stores;
    let own = house.troupe.lease().incarnation();
    until(|| async { stores.outbox.pending(own, i64::MIN, 1).await.unwrap().is_empty() }).await;
    retention.is_away.store(false, Ordering::SeqCst);
    until(|| async { retention.gone.load(Ordering::SeqCst) as usize == 3 * MANY }).await;
    // Whole rounds later nothing else has gone.
    asked_again(&retention, 6).await;
    for (place, task) in tasks.into_iter().enumerate() {
        let expected = [None, Some(1), Some(2)][place / MANY];
        assert_eq!(left(&house, task).await, expected, "the {place}th");
    }
    assert_eq!(left(&house, open).await, Some(0));
    puppet.gate.add_permits(1);
    assert_eq!(house.ended(open).await.status, TaskStatus::Succeeded);
    let metrics = house.troupe.ports().metrics.render();
    let rows = |part: &str| {
        let name = format!("troupe_cleaned_rows_total{{part=\"{part}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("no {name}: {metrics}"))
    };
    // Of a journal the entry before its end; of a task itself, its step and its result.
    assert_eq!((rows("journals"), rows("tasks")), ("14", "21"));
    assert!(metrics.contains("\ntroupe_cleaned_timestamp_seconds "), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retention_that_fails_is_asked_again_and_harms_nobody() {
    let (house, retention) = house(Puppet::new(|_| says("here"))).await;
    let old = ended(&house, DAY * 11).await;
    asked_again(&retention, 4).await;
    let task = house.ask("keeper", "are you there?").await;
    assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded);
    assert_eq!(left(&house, old).await, Some(2));
    assert!(!house.troupe.ports().metrics.render().contains("\ntroupe_cleaned_timestamp"), "nothing was done yet");
    retention.is_away.store(false, Ordering::SeqCst);
    until(|| async { left(&house, old).await.is_none() }).await;
    let cleaner = house.troupe.tree().get("root/cleaner").unwrap();
    assert_eq!((cleaner.state, cleaner.restarts), (ActorState::Running, 0), "a failure is no fall");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleaner_that_stays_down_takes_nobody_with_it() {
    let (house, retention) = house(Puppet::new(|_| says("here"))).await;
    retention.panics.store(true, Ordering::SeqCst);
    let state = || house.troupe.tree().get("root/cleaner").map(|cleaner| cleaner.state);
    until(|| async { state() == Some(ActorState::Unavailable) }).await;
    let task = house.ask("keeper", "and you?").await;
    assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded);
    for path in ["root/lease", "root/orchestrator", "root/relay"] {
        assert_eq!(house.troupe.tree().restarts(path), Some(0), "{path}");
    }
    assert!(!house.over.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_lease_deletes_nothing() {
    let (ttl, renew_every, look_every) =
        (Duration::from_millis(800), Duration::from_millis(40), Duration::from_millis(5));
    let lease = lease::Options { node: "test".into(), ttl, renew_every, look_every };
    let options = Options { lease, ..tidy() };
    let mut tampered = None;
    let cast = vec![(spec("keeper"), Puppet::new(|_| wants("clock", json!({}))))];
    let house = House::open_on(TempDir::new().unwrap(), cast, options, |ports| {
        tampered = Some((FallibleNodes::before(ports), FallibleRetention::before(ports)));
    });
    let (house, (nodes, retention)) = (house.await, tampered.unwrap());
    asked_again(&retention, 3).await;
    nodes.silent.store(true, Ordering::SeqCst);
    let refused = || nodes.refused.load(Ordering::SeqCst);
    until(|| async { house.troupe.lease().own().is_none() }).await;
    // What was begun at the last moment ends.
    let before = refused();
    until(|| async { refused() >= before + 2 }).await;
    let (asked, before) = (retention.asked(), refused());
    until(|| async { refused() >= before + 6 }).await;
    assert_eq!(retention.asked(), asked);
    nodes.silent.store(false, Ordering::SeqCst);
    asked_again(&retention, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_does_not_wait_for_its_cleaner() {
    let (house, retention) = house(Puppet::new(|_| says("here"))).await;
    retention.hangs.store(true, Ordering::SeqCst);
    asked_again(&retention, 1).await;
    let begun = std::time::Instant::now();
    house.troupe.drain(PATIENCE).await;
    tokio::time::timeout(PATIENCE, house.over).await.expect("the node ends").unwrap();
    assert!(begun.elapsed() < PATIENCE / 2, "it took {:?}", begun.elapsed());
}
