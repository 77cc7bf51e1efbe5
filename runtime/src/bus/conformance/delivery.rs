//! Cases: durability, order, prefetch, redelivery, several consumers.
//!
//! Listed by [`super::cases`]; each answers what it saw wrong.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{
    BoxHarness, Options, QueueSpec, Verdict, consume, declare_q, drain, ensure, failed, next, nothing_more, number,
    numbers, publish, publish_at, same, take, until_depth,
};

super::list![
    a_confirmed_event_survives_a_crash,
    an_acknowledgement_is_final,
    higher_priorities_go_first_and_older_events_before_younger_ones,
    an_urgent_event_overtakes_what_was_not_handed_out,
    an_event_that_has_waited_goes_before_a_more_urgent_one,
    events_published_without_waiting_in_between_keep_their_order,
    prefetch_bounds_what_is_unsettled,
    a_dropped_delivery_returns_to_its_place,
    a_dropped_consumer_returns_what_it_held,
    a_crash_returns_what_was_in_flight,
    two_consumers_share,
    a_single_active_consumer_hands_over_in_order,
    consumers_that_come_and_go_lose_nothing,
];

async fn a_confirmed_event_survives_a_crash(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    for n in 0..20 {
        publish(&*bus, n).await?;
    }
    drop(bus);
    let bus = harness.reopen().await?;
    until_depth(&*bus, "q", 20).await?;
    let mut consumer = consume(&*bus, 10).await?;
    same("events after the crash", &drain(&mut consumer, 20).await?, &(0..20).collect())
}

async fn an_acknowledgement_is_final(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    for n in 0..10 {
        publish(&*bus, n).await?;
    }
    let mut consumer = consume(&*bus, 4).await?;
    drain(&mut consumer, 7).await?;
    until_depth(&*bus, "q", 3).await?;
    drop((consumer, bus));
    let bus = harness.reopen().await?;
    let mut consumer = consume(&*bus, 10).await?;
    same("events after the crash", &drain(&mut consumer, 3).await?, &vec![7, 8, 9])?;
    nothing_more(&mut consumer).await?;
    until_depth(&*bus, "q", 0).await
}

async fn higher_priorities_go_first_and_older_events_before_younger_ones(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    let mut expected = Vec::new();
    for n in 0..60 {
        // Every priority, in no order: 7 and 10 have no common factor.
        let priority = (n * 7 % 10) as u8;
        publish_at(&*bus, priority, n).await?;
        expected.push((9 - priority, n));
    }
    expected.sort_unstable();
    let mut consumer = consume(&*bus, 3).await?;
    same("order", &drain(&mut consumer, 60).await?, &expected.into_iter().map(|(_, n)| n).collect())
}

async fn an_urgent_event_overtakes_what_was_not_handed_out(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    for n in 0..5 {
        publish_at(&*bus, 0, n).await?;
    }
    let mut consumer = consume(&*bus, 2).await?;
    let held = take(&mut consumer, 2).await?;
    publish_at(&*bus, 9, 100).await?;
    for delivery in held {
        delivery.settle.ack();
    }
    same("order", &drain(&mut consumer, 4).await?, &vec![100, 2, 3, 4])
}

async fn an_event_that_has_waited_goes_before_a_more_urgent_one(mut harness: BoxHarness) -> Verdict {
    let aging = Duration::from_millis(5);
    let bus = harness.open(Options { aging, index_events_max: 4, ..Options::default() }).await?;
    declare_q(&*bus).await?;
    for n in 0..6 {
        publish_at(&*bus, (n % 2) as u8, n).await?;
    }
    let waited = Instant::now();
    // Until they have waited for more than nine priorities are worth.
    while waited.elapsed() < aging * 12 {
        until_depth(&*bus, "q", 6).await?;
    }
    for n in [10, 11] {
        publish_at(&*bus, 9, n).await?;
    }
    let mut consumer = consume(&*bus, 1).await?;
    let order = drain(&mut consumer, 8).await?;
    same("the last", &order[6..].to_vec(), &vec![10, 11])?;
    // Those of one priority stay in their order, however close the priorities have come.
    let of = |odd| order.iter().copied().filter(|n| *n < 10 && n % 2 == odd).collect::<Vec<_>>();
    same("the lesser ones", &(of(0), of(1)), &(vec![0, 2, 4], vec![1, 3, 5]))
}

async fn events_published_without_waiting_in_between_keep_their_order(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    let mut consumer = consume(&*bus, 50).await?;
    let publishing = join_all((0..300).map(|n| publish(&*bus, n)));
    let (published, drained) = tokio::join!(publishing, drain(&mut consumer, 300));
    published.into_iter().collect::<Result<Vec<()>, String>>()?;
    same("order", &drained?, &(0..300).collect())
}

async fn prefetch_bounds_what_is_unsettled(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    for n in 0..8 {
        publish(&*bus, n).await?;
    }
    let mut consumer = consume(&*bus, 3).await?;
    let mut held = take(&mut consumer, 3).await?;
    nothing_more(&mut consumer).await?;
    held.swap_remove(1).settle.ack();
    same("the next one", &number(&next(&mut consumer).await?.event), &3)?;
    Ok(())
}

async fn a_dropped_delivery_returns_to_its_place(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    for n in 0..4 {
        publish(&*bus, n).await?;
    }
    let mut consumer = consume(&*bus, 1).await?;
    let first = next(&mut consumer).await?;
    ensure(!first.redelivered && first.retrycount == 0, || "a first delivery is marked as a second".to_owned())?;
    drop(first);
    let again = next(&mut consumer).await?;
    same("the dropped one, before younger ones", &number(&again.event), &0)?;
    ensure(again.redelivered && again.retrycount == 0, || {
        format!("redelivered {}, retrycount {} after a drop", again.redelivered, again.retrycount)
    })?;
    again.settle.ack();
    same("the rest", &drain(&mut consumer, 3).await?, &vec![1, 2, 3])
}

async fn a_dropped_consumer_returns_what_it_held(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    for n in 0..6 {
        publish(&*bus, n).await?;
    }
    let mut consumer = consume(&*bus, 4).await?;
    let held = take(&mut consumer, 2).await?;
    drop((held, consumer));
    let mut consumer = consume(&*bus, 10).await?;
    let all = take(&mut consumer, 6).await?;
    same("events", &numbers(&all), &(0..6).collect())?;
    ensure(all[0].redelivered && all[1].redelivered, || "what was held is not marked as redelivered".to_owned())?;
    ensure(!all[5].redelivered, || "what nobody was given is marked as redelivered".to_owned())
}

async fn a_crash_returns_what_was_in_flight(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    for n in 0..3 {
        publish(&*bus, n).await?;
    }
    let mut consumer = consume(&*bus, 2).await?;
    let held = take(&mut consumer, 2).await?;
    drop((held, consumer, bus));
    let bus = harness.reopen().await?;
    let mut consumer = consume(&*bus, 5).await?;
    let all = take(&mut consumer, 3).await?;
    same("events", &numbers(&all), &vec![0, 1, 2])?;
    ensure(all[0].redelivered && all[1].redelivered, || "what was in flight is not marked as redelivered".to_owned())
}

async fn two_consumers_share(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    let (mut one, mut two) = (consume(&*bus, 5).await?, consume(&*bus, 5).await?);
    for n in 0..10 {
        publish(&*bus, n).await?;
    }
    let (one, two) = (take(&mut one, 5).await?, take(&mut two, 5).await?);
    let mut all = [numbers(&one), numbers(&two)].concat();
    all.sort_unstable();
    same("both together", &all, &(0..10).collect())
}

async fn a_single_active_consumer_hands_over_in_order(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    let bindings = vec!["t".parse().map_err(failed)?];
    bus.declare(QueueSpec { name: "q".to_owned(), bindings, single_active_consumer: true }).await.map_err(failed)?;
    let (mut active, mut standby) = (consume(&*bus, 2).await?, consume(&*bus, 2).await?);
    for n in 0..6 {
        publish(&*bus, n).await?;
    }
    same("the active one's", &drain(&mut active, 2).await?, &vec![0, 1])?;
    let held = take(&mut active, 2).await?;
    nothing_more(&mut standby).await?;
    drop((held, active));
    let taken_over = take(&mut standby, 2).await?;
    same("what the other takes over", &numbers(&taken_over), &vec![2, 3])?;
    ensure(taken_over[0].redelivered, || "what was taken over is not marked as redelivered".to_owned())?;
    for delivery in taken_over {
        delivery.settle.ack();
    }
    same("the rest", &drain(&mut standby, 2).await?, &vec![4, 5])
}

async fn consumers_that_come_and_go_lose_nothing(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    for n in 0..50 {
        publish(&*bus, n).await?;
    }
    let mut done = Vec::new();
    for round in 0..25 {
        let mut consumer = consume(&*bus, 1 + round % 7).await?;
        for delivery in take(&mut consumer, (1 + round % 7).min(50 - done.len())).await? {
            if number(&delivery.event) % 3 == round % 3 && done.len() < 40 {
                done.push(number(&delivery.event));
                delivery.settle.ack();
            }
        }
    }
    let mut consumer = consume(&*bus, 10).await?;
    done.extend(drain(&mut consumer, 50 - done.len()).await?);
    done.sort_unstable();
    same("each once", &done, &(0..50).collect())?;
    until_depth(&*bus, "q", 0).await
}
