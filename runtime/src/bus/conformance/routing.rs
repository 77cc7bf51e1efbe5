//! Cases: which queues an event reaches, and what becomes of one that reaches none.
//!
//! Listed by [`super::cases`]; each answers what it saw wrong.

use futures::future::join_all;

use super::{
    BoxHarness, Options, Routing, Verdict, consume, declare, declare_q, drain, ensure, event, failed, nothing_more,
    publish, refused, same, until_depth,
};
use crate::bus::Error;

super::list![
    wildcards_route_as_amqp_defines_them,
    a_queue_gets_one_copy_however_many_bindings_match,
    a_second_declaration_replaces_the_bindings,
    a_declaration_that_only_takes_bindings_away_does,
    bindings_survive_a_crash,
    a_mandatory_event_without_a_queue_is_refused_and_counted,
    each_publisher_hears_of_its_own_event_among_many,
    an_optional_event_without_a_queue_is_fine,
    an_event_can_be_sent_to_a_queue_whatever_its_topic,
    a_queue_that_is_not_there_is_named,
];

const TABLE: [(&str, &[&str], &[&str]); 6] = [
    ("a.*", &["a.b"], &["a", "a.b.c"]),
    ("#", &["a", "a.b", "a.b.c"], &[]),
    ("a.#", &["a", "a.b", "a.b.c"], &["b", "b.a"]),
    ("#.c", &["a.b.c", "c"], &["a.b", "c.a"]),
    ("*.b.#", &["a.b", "a.b.c"], &["b", "a.c.b"]),
    ("a.b", &["a.b"], &["a", "a.b.c", "a.c"]),
];

async fn wildcards_route_as_amqp_defines_them(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    for (pattern, matching, others) in TABLE {
        declare(&*bus, "q", &[pattern]).await?;
        for topic in matching {
            let queues = bus.publish(event(topic, 5, 0)?, Routing::Mandatory).await.map_err(failed)?;
            same(&format!("queues for {topic} with {pattern}"), &queues, &1)?;
        }
        for topic in others {
            let lost = bus.publish(event(topic, 5, 0)?, Routing::Mandatory).await;
            refused(&format!("{topic} with {pattern}"), lost, |error| matches!(error, Error::Unroutable(_)))?;
        }
    }
    let all: usize = TABLE.iter().map(|(_, matching, _)| matching.len()).sum();
    until_depth(&*bus, "q", all as u64).await
}

async fn a_queue_gets_one_copy_however_many_bindings_match(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare(&*bus, "q", &["a.b", "a.*", "#"]).await?;
    declare(&*bus, "other", &["a.#"]).await?;
    let queues = bus.publish(event("a.b", 5, 1)?, Routing::Mandatory).await.map_err(failed)?;
    same("queues", &queues, &2)?;
    for queue in ["q", "other"] {
        let mut consumer = bus.consume(queue, 10).await.map_err(failed)?;
        same("copies", &drain(&mut consumer, 1).await?, &vec![1])?;
        nothing_more(&mut consumer).await?;
    }
    Ok(())
}

async fn a_second_declaration_replaces_the_bindings(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare(&*bus, "q", &["a", "b"]).await?;
    bus.publish(event("a", 5, 1)?, Routing::Mandatory).await.map_err(failed)?;
    declare(&*bus, "q", &["b", "c"]).await?;
    let lost = bus.publish(event("a", 5, 2)?, Routing::Mandatory).await;
    refused("an event at a binding that is gone", lost, |error| matches!(error, Error::Unroutable(_)))?;
    for (number, topic) in [(3, "b"), (4, "c")] {
        bus.publish(event(topic, 5, number)?, Routing::Mandatory).await.map_err(failed)?;
    }
    let mut consumer = consume(&*bus, 10).await?;
    same("events, the one from before among them", &drain(&mut consumer, 3).await?, &vec![1, 3, 4])
}

async fn a_declaration_that_only_takes_bindings_away_does(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare(&*bus, "q", &["a", "b", "c.#"]).await?;
    declare(&*bus, "q", &["a"]).await?;
    for topic in ["b", "c", "c.d"] {
        let lost = bus.publish(event(topic, 5, 1)?, Routing::Mandatory).await;
        refused("an event at a binding that is gone", lost, |error| matches!(error, Error::Unroutable(_)))?;
    }
    let queues = bus.publish(event("a", 5, 2)?, Routing::Mandatory).await.map_err(failed)?;
    same("queues that took the event of the binding that is left", &queues, &1)
}

async fn bindings_survive_a_crash(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare(&*bus, "q", &["x"]).await?;
    declare_q(&*bus).await?;
    drop(bus);
    let bus = harness.reopen().await?;
    publish(&*bus, 1).await?;
    let lost = bus.publish(event("x", 5, 2)?, Routing::Mandatory).await;
    refused("an event at a binding that was replaced", lost, |error| matches!(error, Error::Unroutable(_)))
}

async fn a_mandatory_event_without_a_queue_is_refused_and_counted(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    let lost = bus.publish(event("nobody.wants.this", 5, 1)?, Routing::Mandatory).await;
    refused(
        "a mandatory event without a queue",
        lost,
        |error| matches!(error, Error::Unroutable(topic) if topic == "nobody.wants.this"),
    )?;
    let health = bus.health().await.map_err(failed)?;
    same("unroutable events", &health.unroutable, &1)
}

/// Several publish one event after the other, every third for nobody: none of them is told of another's event.
async fn each_publisher_hears_of_its_own_event_among_many(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    let publishing = (0..32).map(|publisher| {
        let bus = &bus;
        async move {
            for number in 0..90 {
                let for_nobody = (publisher + number) % 3 == 0;
                let topic = if for_nobody { "nobody.wants.this" } else { "t" };
                let published = bus.publish(event(topic, 5, number)?, Routing::Mandatory).await;
                match (for_nobody, published) {
                    (false, Ok(1)) | (true, Err(Error::Unroutable(_))) => {}
                    (_, other) => return Err(format!("{publisher}'s event {number} at {topic}: {other:?}")),
                }
            }
            Ok(())
        }
    });
    join_all(publishing).await.into_iter().collect::<Verdict>()?;
    same("unroutable events", &bus.health().await.map_err(failed)?.unroutable, &960)?;
    until_depth(&*bus, "q", 1920).await
}

async fn an_optional_event_without_a_queue_is_fine(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    bus.publish(event("nobody.wants.this", 5, 1)?, Routing::Optional).await.map_err(failed)?;
    declare_q(&*bus).await?;
    bus.publish(event("t", 5, 2)?, Routing::Optional).await.map_err(failed)?;
    let mut consumer = consume(&*bus, 10).await?;
    same("events", &drain(&mut consumer, 1).await?, &vec![2])?;
    let health = bus.health().await.map_err(failed)?;
    same("unroutable events", &health.unroutable, &0)
}

async fn an_event_can_be_sent_to_a_queue_whatever_its_topic(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    let sent = event("some.other.topic", 5, 7)?;
    bus.send("q", sent.clone()).await.map_err(failed)?;
    let mut consumer = consume(&*bus, 10).await?;
    let delivery = super::next(&mut consumer).await?;
    ensure(*delivery.event == *sent, || format!("{:?} instead of {sent:?}", delivery.event))?;
    delivery.settle.ack();
    Ok(())
}

async fn a_queue_that_is_not_there_is_named(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    let named = |error: &Error| matches!(error, Error::NoQueue(queue) if queue == "nowhere");
    refused("sending to no queue", bus.send("nowhere", event("t", 5, 1)?).await, named)?;
    refused("consuming no queue", bus.consume("nowhere", 1).await, named)
}
