//! While the process lives: which way events go, in what order, how long anybody waits, and what is refused.

use futures::future::join_all;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_well_gets_everything_and_the_disk_nothing() {
    let house = House::open(options()).await;
    assert_eq!(house.publish_all(0..3).await, [Taken::Published(1); 3]);
    assert_eq!(house.spool.counts().spooled.load(Ordering::Relaxed), 0);
    let stray = house.spool.publish(event("nobody", 1), Stray::Bury).await;
    assert!(matches!(stray, Err(Error::Bus(bus::Error::Unroutable(topic))) if topic == "nobody"));
    house.bus.is(Mood::QueueFull);
    let full = house.publish(9).await;
    assert!(matches!(full, Err(Error::Bus(bus::Error::QueueFull { .. }))), "the publisher's to know: {full:?}");
    assert_eq!(house.spool.report().events, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_full_queue_is_joined_by_nobody_who_can_wait_elsewhere() {
    let house = House::open(options()).await;
    house.bus.is(Mood::Away);
    house.publish_all(0..3).await;
    house.until("a failed try", |report| report.bus_error.is_some()).await;
    assert!(house.spool.has_room("q").is_ok(), "a bus that is away has queues with room");
    house.bus.is(Mood::QueueFull);
    house.until("a full queue", |report| report.bus_error.as_deref().is_some_and(|why| why.contains("holds"))).await;
    assert!(matches!(house.spool.has_room("q"), Err(bus::Error::QueueFull { queue, limit: 0 }) if queue == "q"));
    assert!(house.spool.has_room("another").is_ok());
    house.bus.is(Mood::Well);
    house.empty().await;
    assert!(house.spool.has_room("q").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_costs_no_event_and_no_order() {
    let house = House::open(options()).await;
    let mut consumer = house.bus.consumer().await;
    house.publish_all(0..10).await;
    house.bus.is(Mood::Away);
    assert_eq!(house.publish_all(10..60).await, [Taken::Spooled; 50]);
    house.until("a failed try", |report| report.bus_error.is_some()).await;
    let report = house.spool.report();
    assert_eq!((report.events, report.bus_error.as_deref()), (50, Some("the bus does not answer: away")));
    assert!(report.bytes > 0 && report.oldest.is_some() && report.stuck_seconds.is_some());
    house.bus.is(Mood::Well);
    house.publish_all(60..200).await;
    house.empty().await;
    assert_eq!(house.publish(200).await.unwrap(), Taken::Published(1));
    assert_eq!(first_seen(&delivered(&mut consumer, 201).await), (0..=200).collect::<Vec<_>>());
    let counts = house.spool.counts();
    assert_eq!(counts.spooled.load(Ordering::Relaxed), counts.drained.load(Ordering::Relaxed));
    assert_eq!((house.spool.report().bytes, house.spool.report().bus_error), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_event_finds_out_nobody_else_waits_for() {
    let house = House::open(Options { publish_timeout: PATIENCE * 4, ..options() }).await;
    house.bus.is(Mood::Silent);
    let silent = join_all((0..50).map(|number| house.publish(number)));
    let another = async {
        house.bus.has_begun(50).await;
        house.bus.is(Mood::Away);
        house.publish(50).await
    };
    let (silent, another) = timeout(PATIENCE, async { tokio::join!(silent, another) }).await.unwrap();
    assert!(silent.into_iter().chain([another]).all(|taken| matches!(taken, Ok(Taken::Spooled))));
    // Nor for a bus that is known to be sick, however patient the limit.
    house.bus.is(Mood::Silent);
    timeout(PATIENCE, house.publish_all(51..100)).await.unwrap();
    house.bus.is(Mood::Well);
    let mut consumer = house.bus.consumer().await;
    house.empty().await;
    assert_eq!(first_seen(&delivered(&mut consumer, 100).await).len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_bus_is_given_up_after_the_limit() {
    let house = House::open(options()).await;
    house.bus.is(Mood::Silent);
    let begun = Instant::now();
    assert_eq!(house.publish(0).await.unwrap(), Taken::Spooled);
    assert!(begun.elapsed() >= options().publish_timeout, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_doubt_an_event_is_published_again_under_its_own_id() {
    let house = House::open(options()).await;
    let mut consumer = house.bus.consumer().await;
    house.bus.is(Mood::Doubtful);
    assert_eq!(house.publish_all(0..4).await, [Taken::Spooled; 4]);
    house.bus.is(Mood::Well);
    house.empty().await;
    house.publish(4).await.unwrap();
    let order = delivered(&mut consumer, 5).await;
    assert!(order.len() > 5, "the first was already there: {order:?}");
    assert_eq!(first_seen(&order), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_refuses_what_it_cannot_keep_and_loses_nothing_of_the_rest() {
    let house = House::open(Options { bytes_max: 2_000, ..options() }).await;
    let mut consumer = house.bus.consumer().await;
    house.bus.is(Mood::Away);
    let mut taken = 0;
    let refused = loop {
        match house.publish(taken).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    let text = refused.to_string();
    assert!(text.contains("away") && text.contains("spool.bytes_max = 2000"), "{text}");
    assert!(refused.fault().is_transient() && taken > 1);
    assert!(house.spool.report().append_error.is_some());
    house.bus.is(Mood::Well);
    house.empty().await;
    assert_eq!(house.publish(taken).await.unwrap(), Taken::Published(1));
    assert_eq!(first_seen(&delivered(&mut consumer, taken + 1).await), (0..=taken).collect::<Vec<_>>());
    assert_eq!(house.spool.counts().failed.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_disk_is_named_and_a_well_bus_takes_over() {
    let house = House::open(options()).await;
    house.bus.is(Mood::Away);
    let away = house.dir.path().join("elsewhere");
    std::fs::rename(house.path(), &away).unwrap();
    let text = house.publish(0).await.unwrap_err().to_string();
    assert!(text.contains("away") && text.contains("the spool cannot be written"), "{text}");
    house.bus.is(Mood::Well);
    assert_eq!(house.publish(1).await.unwrap(), Taken::Published(1));
    std::fs::rename(&away, house.path()).unwrap();
    house.bus.is(Mood::Away);
    assert_eq!(house.publish(2).await.unwrap(), Taken::Spooled);
    assert_eq!(house.spool.report().append_error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_bus_is_not_kept_for_it() {
    let house = House::open(Options { event_bytes_max: 400, ..options() }).await;
    house.bus.is(Mood::Away);
    let mut large = Event::clone(&event("t.here", 0));
    large.data = json!("x".repeat(500)).into();
    let refused = house.spool.publish(Arc::new(large), Stray::Bury).await;
    assert!(matches!(refused, Err(Error::Bus(bus::Error::TooLarge { limit: 400, .. }))), "{refused:?}");
    assert_eq!(house.spool.report().events, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_wants_when_its_turn_comes_is_let_go_or_buried() {
    let house = House::open(options()).await;
    house.bus.is(Mood::Away);
    for (number, stray) in [(1, Stray::Drop), (2, Stray::Bury)] {
        assert_eq!(house.spool.publish(event("nobody", number), stray).await.unwrap(), Taken::Spooled);
    }
    house.publish(3).await.unwrap();
    house.bus.is(Mood::Well);
    house.empty().await;
    let letters = house.bus.dead_letters(10, None).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].event.id.as_str(), letters[0].cause.as_str()), ("event-2", "unroutable"));
    let counts = house.spool.counts();
    let counts = [&counts.drained, &counts.dropped, &counts.buried].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts, [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_comes_a_little_later_than_the_bus_is_waited_for() {
    let house = House::open(Options { settle: PATIENCE, ..options() }).await;
    house.bus.is(Mood::Away);
    assert_eq!(house.spool.publish(event("late.comer", 1), Stray::Drop).await.unwrap(), Taken::Spooled);
    house.bus.is(Mood::Well);
    house
        .until("a queue that is missing", |report| report.bus_error.as_deref().is_some_and(|e| e.ends_with("yet")))
        .await;
    let bindings = vec!["late.#".parse().unwrap()];
    let queue = bus::QueueSpec { name: "late".to_owned(), bindings, single_active_consumer: false };
    house.bus.declare(queue).await.unwrap();
    house.empty().await;
    let delivery = house.bus.consume("late", 1).await.unwrap().next(1).await.remove(0);
    assert_eq!(delivery.event.id, "event-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steady_load_finds_its_way_back_to_the_bus() {
    let house = House::open(Options { window: 64, ..Options::default() }).await;
    house.bus.is(Mood::Away);
    house.publish_all(0..100).await;
    house.bus.is(Mood::Well);
    let begun = Instant::now();
    // Eight publishers, each with the next event as soon as the one before is answered: the disk is never idle.
    let publisher = |n: u64| {
        let house = &house;
        async move {
            for number in (0..).map(|i| 1_000 + n * 100_000 + i) {
                if house.publish(number).await.unwrap() == Taken::Published(1) {
                    return number - 1_000 - n * 100_000;
                }
            }
            0
        }
    };
    let spooled: u64 = timeout(PATIENCE, join_all((0..8).map(publisher))).await.unwrap().into_iter().sum();
    println!("back to the bus after {:?} and {spooled} more spooled events", begun.elapsed());
    house.empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_drains_a_thousand_events_a_second_and_more() {
    const EVENTS: u64 = 5_000;
    let house = House::open(Options::default()).await;
    house.bus.is(Mood::Away);
    let begun = Instant::now();
    for first in (0..EVENTS).step_by(100) {
        join_all((first..first + 100).map(|number| house.publish(number))).await;
    }
    let written = begun.elapsed();
    house.bus.is(Mood::Well);
    let begun = Instant::now();
    house.empty().await;
    let drained = begun.elapsed();
    let rate = |time: Duration| EVENTS as f64 / time.as_secs_f64();
    println!("{EVENTS} events: {:.0}/s into the spool, {:.0}/s out of it", rate(written), rate(drained));
    assert!(rate(drained) >= 1_000.0, "{drained:?} for {EVENTS} events");
}
