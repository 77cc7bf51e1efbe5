//! How ends come to the bus: by memory while there is room, from the outbox otherwise, and each of them.

use std::collections::BTreeMap;

use futures::future::join_all;
use troupe_actors::stage::Options;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::topic::REPLY_QUEUE;

use crate::house::{House, Puppet, options, says, spec, until};

/// The outbox holds nothing any more.
async fn all_told(house: &House) {
    let outbox = &house.troupe.ports().stores.outbox;
    let own = house.troupe.lease().incarnation();
    until(|| async { outbox.pending(own, i64::MIN, 10).await.unwrap().is_empty() }).await;
}

/// How often each task was answered, once there are as many answers as tasks.
async fn answers(house: &House, tasks: &[TaskId]) -> BTreeMap<String, usize> {
    let mut replies = house.troupe.ports().bus.consume(REPLY_QUEUE, 64).await.unwrap();
    let mut answers = BTreeMap::new();
    while answers.len() < tasks.len() {
        for delivery in replies.next(64).await {
            *answers.entry(delivery.event.subject.clone().unwrap()).or_default() += 1;
            delivery.settle.ack();
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_memory_is_told_once_and_is_not_read_again() {
    // No sweep of its own during the test.
    let options = Options { sweep_every: std::time::Duration::from_secs(600), ..options() };
    let agents = vec![(spec("teller"), Puppet::new(|_| says("told")))];
    let house = House::open_with(tempfile::tempdir().unwrap(), agents, options).await;
    let tasks = join_all((0..200).map(|_| house.ask("teller", "tell"))).await;
    let answers = answers(&house, &tasks).await;
    assert!(answers.values().all(|times| *times == 1), "{answers:?}");
    all_told(&house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_memory_has_no_room_for_is_read_from_the_outbox() {
    let narrow = Options { relay_queue: 1, relay_window: 2, relay_batch: 3, ..options() };
    let agents = vec![(spec("teller"), Puppet::new(|_| says("told")))];
    let house = House::open_with(tempfile::tempdir().unwrap(), agents, narrow).await;
    let tasks = join_all((0..200).map(|_| house.ask("teller", "tell"))).await;
    assert_eq!(answers(&house, &tasks).await.len(), tasks.len());
    all_told(&house).await;
}
