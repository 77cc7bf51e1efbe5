//! Cases: removing a queue, and keeping one that somebody needs.
//!
//! Listed by [`super::cases`]; each answers what it saw wrong.

use std::time::Duration;

use super::{
    BoxHarness, Options, Routing, Verdict, consume, declare, declare_q, drain, event, failed, next, nothing_more,
    publish, refused, same, until_depth,
};
use crate::bus::{Bus, Error};

super::list![
    an_empty_queue_is_removed_and_nothing_leads_there,
    a_queue_that_holds_events_is_kept_as_it_is,
    an_event_that_is_handed_out_or_waits_for_its_retry_keeps_the_queue,
    a_queue_that_is_consumed_is_kept,
    a_removed_queue_may_be_made_again,
    a_removed_queue_stays_removed_over_a_crash,
    a_queue_without_bindings_keeps_what_it_has_and_gets_nothing,
];

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::NoQueue(queue) if queue == "q")
}

fn keeps(error: &Error) -> bool {
    matches!(error, Error::Kept { queue, .. } if queue == "q")
}

async fn is_unroutable(bus: &dyn Bus) -> Verdict {
    let lost = bus.publish(event("t", 5, 0)?, Routing::Mandatory).await;
    refused("an event that nothing leads anywhere", lost, |error| matches!(error, Error::Unroutable(_)))
}

async fn an_empty_queue_is_removed_and_nothing_leads_there(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    declare(&*bus, "other", &["other"]).await?;
    publish(&*bus, 1).await?;
    let mut consumer = consume(&*bus, 1).await?;
    drain(&mut consumer, 1).await?;
    drop(consumer);
    until_depth(&*bus, "q", 0).await?;
    bus.remove_queue("q").await.map_err(failed)?;
    is_unroutable(&*bus).await?;
    refused("sending to it", bus.send("q", event("t", 5, 1)?).await, is_gone)?;
    refused("consuming it", bus.consume("q", 1).await, is_gone)?;
    refused("removing it again", bus.remove_queue("q").await, is_gone)?;
    let depths = bus.health().await.map_err(failed)?.depths;
    same("queues that are left", &depths, &vec![("other".to_owned(), 0)])
}

async fn a_queue_that_holds_events_is_kept_as_it_is(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    for number in [1, 2] {
        publish(&*bus, number).await?;
    }
    until_depth(&*bus, "q", 2).await?;
    let says_how_many = |error: &Error| keeps(error) && error.to_string().contains("2 events");
    refused("removing a queue with events", bus.remove_queue("q").await, says_how_many)?;
    publish(&*bus, 3).await?;
    let mut consumer = consume(&*bus, 10).await?;
    same("events", &drain(&mut consumer, 3).await?, &vec![1, 2, 3])
}

async fn an_event_that_is_handed_out_or_waits_for_its_retry_keeps_the_queue(mut harness: BoxHarness) -> Verdict {
    let options = Options { retry_ladder: vec![Duration::from_millis(500)], ..Options::default() };
    let bus = harness.open(options).await?;
    declare_q(&*bus).await?;
    publish(&*bus, 1).await?;
    let mut consumer = consume(&*bus, 1).await?;
    let delivery = next(&mut consumer).await?;
    refused("removing it while its event is handed out", bus.remove_queue("q").await, keeps)?;
    delivery.settle.retry("not now").await.map_err(failed)?;
    drop(consumer);
    refused("removing it while its event waits", bus.remove_queue("q").await, keeps)?;
    let mut consumer = consume(&*bus, 1).await?;
    same("events", &drain(&mut consumer, 1).await?, &vec![1])?;
    drop(consumer);
    until_depth(&*bus, "q", 0).await?;
    bus.remove_queue("q").await.map_err(failed)
}

async fn a_queue_that_is_consumed_is_kept(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    let mut consumer = consume(&*bus, 1).await?;
    refused("removing it", bus.remove_queue("q").await, keeps)?;
    publish(&*bus, 1).await?;
    same("events", &drain(&mut consumer, 1).await?, &vec![1])
}

async fn a_removed_queue_may_be_made_again(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    for round in 0..3 {
        declare_q(&*bus).await?;
        publish(&*bus, round).await?;
        let mut consumer = consume(&*bus, 1).await?;
        same("events", &drain(&mut consumer, 1).await?, &vec![round])?;
        nothing_more(&mut consumer).await?;
        drop(consumer);
        until_depth(&*bus, "q", 0).await?;
        bus.remove_queue("q").await.map_err(failed)?;
    }
    is_unroutable(&*bus).await
}

async fn a_removed_queue_stays_removed_over_a_crash(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    declare(&*bus, "other", &["other"]).await?;
    bus.remove_queue("q").await.map_err(failed)?;
    drop(bus);
    let bus = harness.reopen().await?;
    is_unroutable(&*bus).await?;
    refused("consuming it", bus.consume("q", 1).await, is_gone)?;
    let queues = bus.publish(event("other", 5, 1)?, Routing::Mandatory).await.map_err(failed)?;
    same("queues that took the event of another", &queues, &1)
}

async fn a_queue_without_bindings_keeps_what_it_has_and_gets_nothing(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    publish(&*bus, 1).await?;
    declare(&*bus, "q", &[]).await?;
    is_unroutable(&*bus).await?;
    refused("removing it", bus.remove_queue("q").await, keeps)?;
    declare_q(&*bus).await?;
    publish(&*bus, 2).await?;
    let mut consumer = consume(&*bus, 10).await?;
    same("events", &drain(&mut consumer, 2).await?, &vec![1, 2])
}
