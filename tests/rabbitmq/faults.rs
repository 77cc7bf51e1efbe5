//! What a broker does to its users: it is killed, it closes connections and channels, it runs short of memory, it is not there.
//!
//! Each case has a vhost of its own and answers what it measured, or what it saw wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::{LocalBoxFuture, join_all};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use troupe_runtime::bus::rabbitmq::{Options, RabbitBus};
use troupe_runtime::bus::{Bus, Connection, Consumer, Delivery, Error, QueueSpec, Routing};
use troupe_runtime::domain::event::Event;
use troupe_tests::rabbitmq::RabbitMq;

/// How long a case waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Queues that are declared beside the one that is asked for.
const OTHERS: usize = 60;
/// Publishers of a load; each has one event under way.
const PUBLISHERS: usize = 32;

/// What a case measured, or saw wrong.
pub(crate) type Outcome = Result<String, String>;
/// A case, on a broker and a vhost of its own.
pub(crate) type Run = for<'a> fn(&'a mut RabbitMq, String) -> LocalBoxFuture<'a, Outcome>;

/// Every case.
pub(crate) const CASES: [(&str, Run); 8] = [
    ("a_broker_that_is_killed_loses_nothing_that_it_confirmed", |broker, url| Box::pin(killed(broker, url))),
    ("connections_that_are_closed_by_force_come_back", |broker, url| Box::pin(closed(broker, url))),
    ("a_channel_that_the_broker_closes_is_opened_anew", |broker, url| Box::pin(channel_closed(broker, url))),
    ("a_queue_that_is_deleted_is_made_again", |broker, url| Box::pin(deleted(broker, url))),
    ("a_broker_short_of_memory_is_seen_and_goes_on_by_itself", |broker, url| Box::pin(short_of_memory(broker, url))),
    ("a_bus_opens_without_its_broker", |broker, url| Box::pin(not_there(broker, url))),
    ("a_frozen_broker_is_noticed_by_its_heartbeat", |broker, url| Box::pin(frozen(broker, url))),
    ("a_queue_made_in_another_way_is_named", |broker, url| Box::pin(misdeclared(broker, url))),
];

/// Opens a bus.
pub(crate) fn open(url: &str, options: Options) -> Result<Arc<RabbitBus>, String> {
    RabbitBus::open(&url.into(), options).map_err(failed)
}

/// An error of the bus where there should be none.
pub(crate) fn failed(error: impl std::fmt::Display) -> String {
    format!("the bus refused: {error}")
}

/// The queue `q` that gets everything at `t`.
pub(crate) fn queue(single_active_consumer: bool) -> QueueSpec {
    let bindings = vec!["t".parse().unwrap()];
    QueueSpec { name: "q".to_owned(), bindings, single_active_consumer }
}

/// An event at `t` that carries a number.
pub(crate) fn event(number: u64) -> Arc<Event> {
    Arc::new(Event::new("t".parse().unwrap(), "/faults", json!({ "number": number })))
}

fn ensure(fact: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if fact { Ok(()) } else { Err(what()) }
}

/// Waits until the bus says this of its connection; answers how long that took.
async fn until_connection(bus: &RabbitBus, what: &str, so: impl Fn(&Connection) -> bool) -> Result<Duration, String> {
    let (begun, mut last) = (Instant::now(), None);
    while begun.elapsed() < PATIENCE {
        last = bus.health().await.map_err(failed)?.connection;
        if last.as_ref().is_some_and(&so) {
            return Ok(begun.elapsed());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err(format!("waited {PATIENCE:?} in vain for a connection that is {what}: {last:?}"))
}

/// Waits for the next delivery.
async fn next(consumer: &mut Consumer) -> Result<Delivery, String> {
    match timeout(PATIENCE, consumer.deliveries.recv()).await {
        Ok(Some(delivery)) => Ok(delivery),
        Ok(None) => Err("the consumer has ended".to_owned()),
        Err(_) => Err(format!("no delivery within {PATIENCE:?}")),
    }
}

/// Publishers that do not give up, and a consumer that acknowledges everything.
struct Load {
    enough: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    publishing: Vec<JoinHandle<BTreeSet<String>>>,
    consuming: JoinHandle<BTreeMap<String, usize>>,
}

impl Load {
    async fn begin(bus: &Arc<RabbitBus>) -> Result<Self, String> {
        bus.declare(queue(false)).await.map_err(failed)?;
        let mut consumer = bus.consume("q", 100).await.map_err(failed)?;
        let (enough, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let publishing = (0..PUBLISHERS).map(|_| {
            let (bus, enough, refused) = (bus.clone(), enough.clone(), refused.clone());
            tokio::spawn(async move {
                let mut confirmed = BTreeSet::new();
                while !enough.load(Ordering::Relaxed) {
                    let event = event(confirmed.len() as u64);
                    // The same event again until it is confirmed, as whoever publishes does.
                    while bus.publish(event.clone(), Routing::Mandatory).await.is_err() {
                        refused.fetch_add(1, Ordering::Relaxed);
                        sleep(Duration::from_millis(20)).await;
                    }
                    confirmed.insert(event.id.clone());
                }
                confirmed
            })
        });
        let publishing = publishing.collect();
        let consuming = tokio::spawn(async move {
            let mut seen = BTreeMap::new();
            loop {
                // The whole consumer is asked: its guard must live as long as this does.
                let deliveries = consumer.next(100).await;
                if deliveries.is_empty() {
                    return seen;
                }
                for delivery in deliveries {
                    *seen.entry(delivery.event.id.clone()).or_default() += 1;
                    delivery.settle.ack();
                }
            }
        });
        Ok(Self { enough, refused, publishing, consuming })
    }

    /// Ends the load; everything that was confirmed must have been delivered.
    async fn end(self, bus: &Arc<RabbitBus>) -> Outcome {
        self.enough.store(true, Ordering::Relaxed);
        let confirmed: BTreeSet<String> =
            join_all(self.publishing).await.into_iter().flat_map(Result::unwrap_or_default).collect();
        let begun = Instant::now();
        loop {
            let health = bus.health().await.map_err(failed)?;
            if health.depths == [("q".to_owned(), 0)] {
                break;
            }
            ensure(begun.elapsed() < PATIENCE, || format!("the queue does not run empty: {health:?}"))?;
            sleep(Duration::from_millis(20)).await;
        }
        bus.close().await;
        let seen = self.consuming.await.map_err(|error| error.to_string())?;
        let lost = confirmed.iter().filter(|id| !seen.contains_key(*id)).count();
        let again: usize = seen.values().map(|times| times - 1).sum();
        let unconfirmed = seen.keys().filter(|id| !confirmed.contains(*id)).count();
        ensure(lost == 0, || format!("{lost} of {} confirmed events were never delivered", confirmed.len()))?;
        ensure(confirmed.len() > PUBLISHERS, || format!("only {} events were published at all", confirmed.len()))?;
        Ok(format!(
            "{} confirmed, 0 lost, {again} delivered again, {unconfirmed} delivered without a confirm, {} publishes refused",
            confirmed.len(),
            self.refused.load(Ordering::Relaxed)
        ))
    }
}

async fn killed(broker: &mut RabbitMq, url: String) -> Outcome {
    let bus = open(&url, Options::default())?;
    let load = Load::begin(&bus).await?;
    let mut backs = Vec::new();
    for _ in 0..2 {
        sleep(Duration::from_secs(1)).await;
        broker.crash();
        until_connection(&bus, "away", |connection| connection.state == "away").await?;
        broker.resume().await;
        backs.push(until_connection(&bus, "connected", Connection::is_well).await?);
    }
    sleep(Duration::from_secs(1)).await;
    let seen = load.end(&bus).await?;
    Ok(format!("killed twice; connected {backs:.1?} after it answered again; {seen}"))
}

async fn closed(broker: &mut RabbitMq, url: String) -> Outcome {
    let bus = open(&url, Options::default())?;
    let load = Load::begin(&bus).await?;
    let mut backs = Vec::new();
    for round in 1..=3 {
        sleep(Duration::from_millis(300)).await;
        broker.control(&["close_all_connections", "--global", "a test"]);
        let lost = move |connection: &Connection| connection.lost >= 2 * round && connection.is_well();
        backs.push(until_connection(&bus, "lost and back", lost).await?);
    }
    let seen = load.end(&bus).await?;
    Ok(format!("closed three times; back {backs:.1?} later; {seen}"))
}

/// The broker closes a channel whose deliveries are held for longer than its `consumer_timeout`, and leaves the connection.
async fn channel_closed(broker: &mut RabbitMq, url: String) -> Outcome {
    let patience = |milliseconds: u64, tick: u64| {
        format!(
            "application:set_env(rabbit, consumer_timeout, {milliseconds}), application:set_env(rabbit, channel_tick_interval, {tick})."
        )
    };
    broker.control(&["eval", &patience(1_000, 200)]);
    let seen = held_too_long(&url).await;
    broker.control(&["eval", &patience(1_800_000, 60_000)]);
    seen
}

async fn held_too_long(url: &str) -> Outcome {
    let bus = open(url, Options::default())?;
    bus.declare(queue(false)).await.map_err(failed)?;
    for number in 0..3 {
        bus.publish(event(number), Routing::Mandatory).await.map_err(failed)?;
    }
    let mut consumer = bus.consume("q", 10).await.map_err(failed)?;
    let begun = Instant::now();
    let (held, late) = (next(&mut consumer).await?, next(&mut consumer).await?);
    // What the broker hands out again is seen as that, and comes on a new channel of the same connection.
    let mut again = next(&mut consumer).await?;
    while again.event.data.value()["number"] != 0 {
        again = next(&mut consumer).await?;
    }
    ensure(again.redelivered, || "an event of a closed channel is not marked as redelivered".to_owned())?;
    let after = begun.elapsed();
    // The old deliveries are nobody's any more: to acknowledge one must not touch what came since.
    held.settle.ack();
    let refused = late.settle.retry("too late").await;
    ensure(matches!(refused, Err(Error::Unavailable(_))), || format!("a stale delivery was settled: {refused:?}"))?;
    drop(again);
    drop(consumer);
    let mut consumer = bus.consume("q", 10).await.map_err(failed)?;
    let mut numbers = BTreeSet::new();
    while numbers.len() < 3 {
        let delivery = next(&mut consumer).await?;
        numbers.insert(delivery.event.data.value()["number"].as_u64());
        delivery.settle.ack();
    }
    let lost = bus.health().await.map_err(failed)?.connection.map(|connection| connection.lost);
    ensure(lost == Some(0), || format!("{lost:?} connections were lost, not the channel alone"))?;
    bus.close().await;
    Ok(format!("its events came again {after:.1?} after they had been handed out; the connection stayed"))
}

async fn deleted(broker: &mut RabbitMq, url: String) -> Outcome {
    let bus = open(&url, Options::default())?;
    bus.declare(queue(false)).await.map_err(failed)?;
    let mut consumer = bus.consume("q", 10).await.map_err(failed)?;
    bus.publish(event(1), Routing::Mandatory).await.map_err(failed)?;
    next(&mut consumer).await?.settle.ack();
    let vhost = url.rsplit('/').next().unwrap_or_default().to_owned();
    broker.control(&["delete_queue", "q", "--vhost", &vhost]);
    let begun = Instant::now();
    while let Err(error) = bus.publish(event(2), Routing::Mandatory).await {
        ensure(begun.elapsed() < PATIENCE, || format!("the queue does not come back: {error}"))?;
        sleep(Duration::from_millis(20)).await;
    }
    let back = begun.elapsed();
    let delivery = next(&mut consumer).await?;
    ensure(delivery.event.data.value()["number"] == 2, || format!("{:?} came", delivery.event.data))?;
    delivery.settle.ack();
    bus.close().await;
    Ok(format!("made again, bound and consumed {back:.1?} after it was deleted"))
}

async fn short_of_memory(broker: &mut RabbitMq, url: String) -> Outcome {
    let options = Options { publish_timeout: Duration::from_secs(1), ..Options::default() };
    let bus = open(&url, options)?;
    bus.declare(queue(false)).await.map_err(failed)?;
    bus.publish(event(1), Routing::Mandatory).await.map_err(failed)?;
    broker.alarm(true);
    let begun = Instant::now();
    let refused = bus.publish(event(2), Routing::Mandatory).await;
    ensure(matches!(refused, Err(Error::Unavailable(_))), || format!("published during the alarm: {refused:?}"))?;
    let first = begun.elapsed();
    ensure(first < Duration::from_secs(3), || format!("the first publish was refused after {first:?}"))?;
    let seen = until_connection(&bus, "blocked", |connection| connection.blocked.is_some()).await? + first;
    ensure(seen < Duration::from_secs(5), || format!("the alarm was reported after {seen:?}"))?;
    let begun = Instant::now();
    let refused = bus.publish(event(3), Routing::Mandatory).await;
    let at_once = begun.elapsed();
    ensure(refused.is_err() && at_once < Duration::from_millis(200), || {
        format!("a known alarm refuses after {at_once:?}: {refused:?}")
    })?;
    // Consuming and acknowledging go on: they have a connection of their own.
    let mut consumer = bus.consume("q", 10).await.map_err(failed)?;
    next(&mut consumer).await?.settle.ack();
    broker.alarm(false);
    let back = until_connection(&bus, "unblocked", Connection::is_well).await?;
    bus.publish(event(4), Routing::Mandatory).await.map_err(failed)?;
    // What was sent into the alarm may come too.
    while next(&mut consumer).await?.event.data.value()["number"] != 4 {}
    bus.close().await;
    Ok(format!("reported {seen:.1?} after it began, refused at once from then on; well {back:.1?} after its end"))
}

async fn not_there(broker: &mut RabbitMq, url: String) -> Outcome {
    broker.crash();
    let seen = async {
        let bus = open(&url, Options::default())?;
        let begun = Instant::now();
        let declared = bus.declare(queue(false)).await;
        ensure(matches!(declared, Err(Error::Deferred(_))), || format!("declared without a broker: {declared:?}"))?;
        // Others that are declared before it or after it, whichever comes: time in which it is not there yet.
        for number in 0..OTHERS {
            let (name, bindings) = (format!("other-{number}"), vec!["other".parse().unwrap()]);
            let declared = bus.declare(QueueSpec { name, bindings, single_active_consumer: false }).await;
            ensure(declared.is_err(), || "declared without a broker".to_owned())?;
        }
        let mut consumer = bus.consume("q", 10).await.map_err(failed)?;
        let published = bus.publish(event(1), Routing::Mandatory).await;
        ensure(matches!(published, Err(Error::Unavailable(_))), || format!("published to nobody: {published:?}"))?;
        let unknown = bus.consume("other", 1).await.map(drop);
        ensure(matches!(unknown, Err(Error::Unavailable(_))), || format!("consumed from nobody: {unknown:?}"))?;
        let letters = bus.dead_letters(1, None).await;
        ensure(matches!(letters, Err(Error::Unavailable(_))), || format!("letters of nobody: {letters:?}"))?;
        let told = begun.elapsed();
        until_connection(&bus, "away", |connection| connection.state == "away" && connection.error.is_some()).await?;
        // The whole time: between the connection and the declaration nobody must hear that there is no such queue.
        let publishing = async {
            let begun = Instant::now();
            loop {
                match (bus.publish(event(2), Routing::Mandatory).await, bus.send("q", event(2)).await) {
                    (Ok(_), Ok(())) => return Ok(Instant::now()),
                    (Ok(_) | Err(Error::Unavailable(_)), Ok(()) | Err(Error::Unavailable(_))) => {}
                    other => return Err(format!("before the queue is made: {other:?}")),
                }
                ensure(begun.elapsed() < PATIENCE, || "what was declared is not made".to_owned())?;
                sleep(Duration::from_millis(1)).await;
            }
        };
        let coming = async {
            broker.resume().await;
            let back = until_connection(&bus, "connected", Connection::is_well).await?;
            Ok::<_, String>((back, Instant::now()))
        };
        let (published, back) = tokio::join!(publishing, coming);
        let (back, connected) = back?;
        let made = published?.saturating_duration_since(connected);
        next(&mut consumer).await?.settle.ack();
        bus.close().await;
        Ok(format!(
            "five answers within {told:.1?} without it; connected {back:.1?} and declared {made:.1?} after it was there"
        ))
    };
    seen.await
}

async fn frozen(broker: &mut RabbitMq, url: String) -> Outcome {
    let options = Options { heartbeat: Duration::from_secs(2), ..Options::default() };
    let bus = open(&url, options)?;
    bus.declare(queue(false)).await.map_err(failed)?;
    bus.publish(event(1), Routing::Mandatory).await.map_err(failed)?;
    broker.freeze();
    let noticed = until_connection(&bus, "lost", |connection| connection.lost >= 2).await;
    broker.thaw();
    let noticed = noticed?;
    let back = until_connection(&bus, "connected", Connection::is_well).await?;
    let mut consumer = bus.consume("q", 10).await.map_err(failed)?;
    next(&mut consumer).await?.settle.ack();
    bus.close().await;
    Ok(format!("heartbeats of 2 s: noticed after {noticed:.1?}, back {back:.1?} after it went on"))
}

async fn misdeclared(_broker: &mut RabbitMq, url: String) -> Outcome {
    let bus = open(&url, Options::default())?;
    bus.declare(queue(false)).await.map_err(failed)?;
    let refused = bus.declare(queue(true)).await;
    let told = match refused {
        Err(error @ Error::Misdeclared { .. }) => error.to_string(),
        other => return Err(format!("declared with other arguments: {other:?}")),
    };
    ensure(told.starts_with("q is not") && told.contains("rabbitmqctl delete_queue q"), || told.clone())?;
    // The refusal closed a channel, and nothing else.
    bus.publish(event(1), Routing::Mandatory).await.map_err(failed)?;
    bus.close().await;
    Ok(told)
}
