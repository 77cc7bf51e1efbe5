//! Cases: what is too large or too much, and backlogs that no memory holds.
//!
//! Listed by [`super::cases`]; each answers what it saw wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use super::{
    BoxHarness, Options, Routing, Verdict, consume, declare, declare_q, drain, event, failed, next, number, publish,
    publish_at, refused, same, until_depth,
};
use crate::bus::Error;
use crate::domain::event::Event;

super::list![
    an_event_that_is_too_large_is_refused,
    a_full_queue_refuses_until_there_is_room,
    a_refused_event_is_in_no_queue_at_all,
    a_backlog_larger_than_memory_keeps_its_order,
    a_backlog_larger_than_memory_survives_drops_and_retries,
    many_publishers_at_once_lose_nothing,
];

async fn an_event_that_is_too_large_is_refused(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options { event_bytes_max: 2000, ..Options::default() }).await?;
    declare_q(&*bus).await?;
    let large = Event::new("t".parse().map_err(failed)?, "/conformance", json!("x".repeat(2000)));
    let too_large = |error: &Error| matches!(error, Error::TooLarge { bytes: 2001.., limit: 2000 });
    refused("2000 bytes and more", bus.publish(Arc::new(large.clone()), Routing::Optional).await, too_large)?;
    refused("2000 bytes and more", bus.send("q", Arc::new(large)).await, too_large)?;
    publish(&*bus, 1).await?;
    until_depth(&*bus, "q", 1).await
}

async fn a_full_queue_refuses_until_there_is_room(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options { queue_events_max: 3, ..Options::default() }).await?;
    declare_q(&*bus).await?;
    for n in 0..3 {
        publish(&*bus, n).await?;
    }
    let fourth = bus.publish(event("t", 5, 3)?, Routing::Mandatory).await;
    refused("a fourth event", fourth, |error| matches!(error, Error::QueueFull { queue, limit: 3 } if queue == "q"))?;
    let mut consumer = consume(&*bus, 1).await?;
    drain(&mut consumer, 1).await?;
    until_depth(&*bus, "q", 2).await?;
    publish(&*bus, 4).await?;
    same("events", &drain(&mut consumer, 3).await?, &vec![1, 2, 4])
}

async fn a_refused_event_is_in_no_queue_at_all(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options { queue_events_max: 1, ..Options::default() }).await?;
    declare(&*bus, "q", &["t"]).await?;
    declare(&*bus, "other", &["t", "x"]).await?;
    bus.publish(event("x", 5, 0)?, Routing::Mandatory).await.map_err(failed)?;
    let second = bus.publish(event("t", 5, 1)?, Routing::Mandatory).await;
    refused("an event for a full queue", second, |error| matches!(error, Error::QueueFull { .. }))?;
    until_depth(&*bus, "q", 0).await?;
    until_depth(&*bus, "other", 1).await
}

/// Limits that a handful of events exceeds.
fn small() -> Options {
    Options { index_events_max: 8, cache_bytes_max: 1500, ..Options::default() }
}

async fn a_backlog_larger_than_memory_keeps_its_order(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(small()).await?;
    declare_q(&*bus).await?;
    let mut expected = Vec::new();
    for n in 0..120 {
        let priority = (n * 7 % 10) as u8;
        publish_at(&*bus, priority, n).await?;
        expected.push((9 - priority, n));
    }
    expected.sort_unstable();
    let expected: Vec<usize> = expected.into_iter().map(|(_, n)| n).collect();
    let mut consumer = consume(&*bus, 3).await?;
    same("order", &drain(&mut consumer, 60).await?, &expected[..60].to_vec())?;
    // With a prefetch of 3, three more are handed out already; what comes now is the best of what is left.
    for n in [120, 121] {
        publish_at(&*bus, 9, n).await?;
    }
    let mut rest = drain(&mut consumer, 62).await?;
    rest.retain(|n| *n < 120);
    same("order of the rest", &rest, &expected[60..].to_vec())?;
    until_depth(&*bus, "q", 0).await
}

async fn a_backlog_larger_than_memory_survives_drops_and_retries(mut harness: BoxHarness) -> Verdict {
    let ladder = vec![Duration::from_millis(5); 3];
    let bus = harness.open(Options { retry_ladder: ladder, ..small() }).await?;
    declare_q(&*bus).await?;
    for n in 0..60 {
        publish_at(&*bus, (n % 3) as u8, n).await?;
    }
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut done = Vec::new();
    let mut consumer = consume(&*bus, 5).await?;
    while done.len() < 60 {
        let delivery = next(&mut consumer).await.map_err(|error| format!("after {done:?}: {error}"))?;
        let n = number(&delivery.event);
        let times = seen.entry(n).and_modify(|times| *times += 1).or_insert(1);
        match (n % 4, *times) {
            (1, 1) => drop(delivery),
            (2, 1 | 2) => delivery.settle.retry("again").await.map_err(failed)?,
            _ => {
                done.push(n);
                delivery.settle.ack();
            }
        }
        if n % 10 == 9 {
            drop(consumer);
            consumer = consume(&*bus, 5).await?;
        }
    }
    done.sort_unstable();
    same("each once", &done, &(0..60).collect())?;
    until_depth(&*bus, "q", 0).await
}

async fn many_publishers_at_once_lose_nothing(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options { index_events_max: 50, cache_bytes_max: 8192, ..Options::default() }).await?;
    declare_q(&*bus).await?;
    let publishing = join_all((0..400).map(|n| publish_at(&*bus, (n % 10) as u8, n)));
    let mut consumer = consume(&*bus, 16).await?;
    let (published, drained) = tokio::join!(publishing, drain(&mut consumer, 400));
    published.into_iter().collect::<Result<Vec<()>, String>>()?;
    let mut drained = drained?;
    drained.sort_unstable();
    same("each once", &drained, &(0..400).collect())?;
    until_depth(&*bus, "q", 0).await
}
