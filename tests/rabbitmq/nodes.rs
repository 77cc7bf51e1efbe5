//! Two nodes on one broker: what one declares the other knows, letters are everybody's, one active consumer is one in all; the
//! ladder of production, timed; messages of strangers.

use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::time::{sleep, timeout};
use troupe_runtime::bus::rabbitmq::Options;
use troupe_runtime::bus::{Bus, DeadLetter, QueueSpec, Routing};
use troupe_tests::rabbitmq::RabbitMq;

use crate::faults::{Outcome, Run, event, failed, open, queue};

const PATIENCE: Duration = Duration::from_secs(60);

/// Every case.
pub(crate) const CASES: [(&str, Run); 6] = [
    ("what_one_node_declares_the_other_knows", |_, url| Box::pin(declared_elsewhere(url))),
    ("a_single_active_consumer_is_one_over_all_nodes", |_, url| Box::pin(single_active(url))),
    ("a_letter_is_every_node_s_and_ends_for_all", |_, url| Box::pin(letters(url))),
    ("many_queues_share_as_many_connections_as_they_need", |broker, url| Box::pin(many_queues(broker, url))),
    ("a_message_that_is_no_event_becomes_a_dead_letter", |broker, url| Box::pin(stranger(broker, url))),
    ("an_event_that_always_fails_comes_after_1_2_4_8_16_s", |_, url| Box::pin(ladder(url))),
];

async fn declared_elsewhere(url: String) -> Outcome {
    let (one, two) = (open(&url, Options::default())?, open(&url, Options::default())?);
    let spec = |patterns: &[&str]| QueueSpec {
        name: "q".to_owned(),
        bindings: patterns.iter().map(|pattern| pattern.parse().unwrap()).collect(),
        single_active_consumer: false,
    };
    one.declare(spec(&["t", "old.*"])).await.map_err(failed)?;
    one.publish(event(1), Routing::Mandatory).await.map_err(failed)?;
    let mut consumer = two.consume("q", 10).await.map_err(failed)?;
    let delivery = timeout(PATIENCE, consumer.deliveries.recv()).await.ok().flatten().ok_or("nothing came")?;
    delivery.settle.ack();
    // The other node replaces bindings that it never made itself.
    two.declare(spec(&["t", "new.*"])).await.map_err(failed)?;
    let mut old = (*event(2)).clone();
    old.topic = "old.one".parse().unwrap();
    let lost = one.publish(old.clone().into(), Routing::Mandatory).await;
    if lost.is_ok() {
        return Err("a binding that another node replaced is still there".to_owned());
    }
    old.topic = "new.one".parse().unwrap();
    one.publish(old.into(), Routing::Mandatory).await.map_err(failed)?;
    drop(timeout(PATIENCE, consumer.deliveries.recv()).await.ok().flatten().ok_or("nothing came at the new binding")?);
    one.close().await;
    two.close().await;
    Ok("bindings of another node are used and replaced".to_owned())
}

async fn single_active(url: String) -> Outcome {
    let (one, two) = (open(&url, Options::default())?, open(&url, Options::default())?);
    one.declare(queue(true)).await.map_err(failed)?;
    let mut active = one.consume("q", 2).await.map_err(failed)?;
    one.publish(event(0), Routing::Mandatory).await.map_err(failed)?;
    let first = timeout(PATIENCE, active.deliveries.recv()).await.ok().flatten().ok_or("nothing came")?;
    let mut standby = two.consume("q", 2).await.map_err(failed)?;
    for number in 1..6 {
        two.publish(event(number), Routing::Mandatory).await.map_err(failed)?;
    }
    first.settle.ack();
    let second = timeout(PATIENCE, active.deliveries.recv()).await.ok().flatten().ok_or("nothing came")?;
    if timeout(Duration::from_millis(300), standby.deliveries.recv()).await.is_ok() {
        return Err("the standby was served beside the active one".to_owned());
    }
    let begun = Instant::now();
    drop((second, active));
    one.close().await;
    let mut taken_over = Vec::new();
    while taken_over.len() < 5 {
        let delivery = timeout(PATIENCE, standby.deliveries.recv()).await.ok().flatten().ok_or("nothing came")?;
        taken_over.push(delivery.event.data.value()["number"].as_u64().unwrap_or_default());
        delivery.settle.ack();
    }
    let took = begun.elapsed();
    if taken_over != [1, 2, 3, 4, 5] {
        return Err(format!("taken over as {taken_over:?}"));
    }
    two.close().await;
    Ok(format!("the other node took over in order, {took:.1?} after the first had closed"))
}

async fn letters(url: String) -> Outcome {
    let (one, two) = (open(&url, Options::default())?, open(&url, Options::default())?);
    one.declare(queue(false)).await.map_err(failed)?;
    let buried = DeadLetter {
        id: "letter".to_owned(),
        queue: "q".to_owned(),
        event: (*event(1)).clone(),
        cause: "a test".to_owned(),
        attempts: 1,
        first_error: "first".to_owned(),
        last_error: "last".to_owned(),
        at: Utc::now(),
    };
    one.bury(buried.clone()).await.map_err(failed)?;
    let begun = Instant::now();
    while two.dead_letter("letter").await.map_err(failed)?.is_none() {
        if begun.elapsed() > PATIENCE {
            return Err("the other node does not see the letter".to_owned());
        }
        sleep(Duration::from_millis(2)).await;
    }
    two.bury(buried).await.map_err(failed)?;
    let replayed = two.replay("letter").await.map_err(failed)?;
    let begun = Instant::now();
    while one.health().await.map_err(failed)?.dead_letters > 0 {
        if begun.elapsed() > PATIENCE {
            return Err("a letter that another node has replayed is still there".to_owned());
        }
        sleep(Duration::from_millis(2)).await;
    }
    let mut consumer = one.consume("q", 1).await.map_err(failed)?;
    let delivery = timeout(PATIENCE, consumer.deliveries.recv()).await.ok().flatten().ok_or("nothing came")?;
    if replayed.as_ref().map(|event| &event.id) != Some(&delivery.event.id) {
        return Err(format!("{replayed:?} was replayed, {:?} came", delivery.event));
    }
    delivery.settle.ack();
    one.close().await;
    two.close().await;
    Ok("buried by one, replayed by the other, gone for both".to_owned())
}

async fn many_queues(broker: &RabbitMq, url: String) -> Outcome {
    let bus = open(&url, Options { queues_per_connection: 2, ..Options::default() })?;
    let mut consumers = Vec::new();
    for number in 0..5 {
        let name = format!("q{number}");
        let spec = QueueSpec { name: name.clone(), ..queue(false) };
        bus.declare(spec).await.map_err(failed)?;
        consumers.push(bus.consume(&name, 1).await.map_err(failed)?);
    }
    for round in 0..2 {
        let queues = bus.publish(event(round), Routing::Mandatory).await.map_err(failed)?;
        if queues != 5 {
            return Err(format!("{queues} queues took the event"));
        }
        for consumer in &mut consumers {
            // The last round's may come again: its acknowledgement can be lost with its connection.
            let mut came = u64::MAX;
            while came != round {
                let delivery =
                    timeout(PATIENCE, consumer.deliveries.recv()).await.ok().flatten().ok_or("nothing came")?;
                came = delivery.event.data.value()["number"].as_u64().unwrap_or_default();
                delivery.settle.ack();
            }
        }
        if round == 0 {
            // Three that consume, one that publishes.
            broker.control(&["close_all_connections", "--global", "a test"]);
            let begun = Instant::now();
            loop {
                let connection = bus.health().await.map_err(failed)?.connection.ok_or("no connection is told of")?;
                if connection.lost == 4 && connection.is_well() {
                    break;
                }
                if begun.elapsed() > PATIENCE {
                    return Err(format!("{connection:?}"));
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
    }
    bus.close().await;
    Ok("five queues on three connections, each served again after all were closed".to_owned())
}

async fn stranger(broker: &RabbitMq, url: String) -> Outcome {
    let bus = open(&url, Options::default())?;
    bus.declare(queue(false)).await.map_err(failed)?;
    let mut consumer = bus.consume("q", 10).await.map_err(failed)?;
    let vhost = url.rsplit('/').next().unwrap_or_default();
    let exchange = format!("rabbit_misc:r(<<\"{vhost}\">>, exchange, <<>>)");
    broker.control(&["eval", &format!("rabbit_basic:publish({exchange}, <<\"q\">>, [], <<\"no event at all\">>).")]);
    bus.publish(event(1), Routing::Mandatory).await.map_err(failed)?;
    let delivery = timeout(PATIENCE, consumer.deliveries.recv()).await.ok().flatten().ok_or("nothing came")?;
    if delivery.event.data.value()["number"] != 1 {
        return Err(format!("{:?} was handed out", delivery.event));
    }
    delivery.settle.ack();
    let begun = Instant::now();
    let letter = loop {
        if let Some(letter) = bus.dead_letters(10, None).await.map_err(failed)?.pop() {
            break letter;
        }
        if begun.elapsed() > PATIENCE {
            return Err("no dead letter".to_owned());
        }
        sleep(Duration::from_millis(5)).await;
    };
    if letter.cause != "unreadable" || letter.event.data.value()["body"] != "no event at all" || letter.queue != "q" {
        return Err(format!("{letter:?}"));
    }
    while bus.health().await.map_err(failed)?.depths != [("q".to_owned(), 0)] {
        sleep(Duration::from_millis(5)).await;
    }
    bus.close().await;
    Ok("shown as a dead letter, and out of the way".to_owned())
}

async fn ladder(url: String) -> Outcome {
    let bus = open(&url, Options::default())?;
    bus.declare(queue(false)).await.map_err(failed)?;
    let mut consumer = bus.consume("q", 1).await.map_err(failed)?;
    bus.publish(event(1), Routing::Mandatory).await.map_err(failed)?;
    let mut waits = Vec::new();
    let mut since = None;
    for retrycount in 0..=5 {
        let delivery = timeout(PATIENCE, consumer.deliveries.recv()).await.ok().flatten().ok_or("nothing came")?;
        waits.extend(since.map(|since: Instant| since.elapsed()));
        if delivery.retrycount != retrycount {
            return Err(format!("delivery {retrycount} says retrycount {}", delivery.retrycount));
        }
        since = Some(Instant::now());
        delivery.settle.retry(&format!("error {retrycount}")).await.map_err(failed)?;
    }
    let letter = bus.dead_letters(1, None).await.map_err(failed)?.pop().ok_or("no dead letter after six deliveries")?;
    let promised = [1, 2, 4, 8, 16].map(Duration::from_secs);
    for (wait, promised) in waits.iter().zip(promised) {
        if *wait < promised || *wait > promised.mul_f64(1.1) {
            return Err(format!("waited {waits:?}"));
        }
    }
    if (letter.attempts, letter.first_error.as_str(), letter.last_error.as_str()) != (6, "error 0", "error 5") {
        return Err(format!("{letter:?}"));
    }
    bus.close().await;
    Ok(format!("came back after {waits:.3?}, then a dead letter of 6 attempts"))
}
