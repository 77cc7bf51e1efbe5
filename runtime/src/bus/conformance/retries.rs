//! Cases: what becomes of events that fail, with waits of a few hundredths of a second.
//!
//! Listed by [`super::cases`]; each answers what it saw wrong.

use std::time::{Duration, Instant};

use super::{
    BoxHarness, Options, Verdict, consume, declare_q, drain, ensure, failed, next, nothing_more, number, publish, same,
    until_depth,
};

super::list![
    a_failed_event_comes_back_after_the_ladder_s_waits,
    the_event_of_a_used_up_ladder_is_a_dead_letter,
    a_rejected_event_is_a_dead_letter_at_once,
    a_failing_event_does_not_hold_up_the_others,
    waits_survive_a_crash,
    a_failed_event_that_succeeds_is_gone,
];

const LADDER: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(60), Duration::from_millis(40)];

fn with_ladder(ladder: &[Duration]) -> Options {
    Options { retry_ladder: ladder.to_vec(), ..Options::default() }
}

async fn a_failed_event_comes_back_after_the_ladder_s_waits(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(with_ladder(&LADDER)).await?;
    declare_q(&*bus).await?;
    publish(&*bus, 1).await?;
    let mut consumer = consume(&*bus, 1).await?;
    for (retrycount, wait) in LADDER.iter().enumerate() {
        let delivery = next(&mut consumer).await?;
        same("retrycount", &(delivery.retrycount as usize), &retrycount)?;
        let since = Instant::now();
        delivery.settle.retry("not yet").await.map_err(failed)?;
        let again = next(&mut consumer).await?;
        ensure(since.elapsed() >= *wait, || format!("back after {:?} instead of {wait:?}", since.elapsed()))?;
        same("retrycount", &(again.retrycount as usize), &(retrycount + 1))?;
        // Dropped: an event handed back has not failed, so that its count stays.
    }
    let last = next(&mut consumer).await?;
    same("retrycount at the end of the ladder", &(last.retrycount as usize), &LADDER.len())
}

async fn the_event_of_a_used_up_ladder_is_a_dead_letter(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(with_ladder(&LADDER[..2])).await?;
    declare_q(&*bus).await?;
    let event = super::event("t", 5, 1)?;
    bus.publish(event.clone(), super::Routing::Mandatory).await.map_err(failed)?;
    let mut consumer = consume(&*bus, 1).await?;
    for attempt in 1..=3 {
        next(&mut consumer).await?.settle.retry(&format!("error {attempt}")).await.map_err(failed)?;
    }
    nothing_more(&mut consumer).await?;
    until_depth(&*bus, "q", 0).await?;
    let letters = bus.dead_letters(10, None).await.map_err(failed)?;
    let [letter] = letters.as_slice() else { return Err(format!("{} letters instead of 1", letters.len())) };
    same("queue", &letter.queue.as_str(), &"q")?;
    same("cause", &letter.cause.as_str(), &"retries")?;
    same("attempts", &letter.attempts, &3)?;
    same("first error", &letter.first_error.as_str(), &"error 1")?;
    same("last error", &letter.last_error.as_str(), &"error 3")?;
    same("event", &letter.event.id, &event.id)?;
    same("trace", &letter.event.traceparent, &event.traceparent)?;
    same("data", &letter.event.data, &event.data)
}

async fn a_rejected_event_is_a_dead_letter_at_once(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(with_ladder(&LADDER)).await?;
    declare_q(&*bus).await?;
    publish(&*bus, 1).await?;
    publish(&*bus, 2).await?;
    let mut consumer = consume(&*bus, 1).await?;
    next(&mut consumer).await?.settle.reject(&"long ".repeat(1000)).await.map_err(failed)?;
    same("the next", &drain(&mut consumer, 1).await?, &vec![2])?;
    let letters = bus.dead_letters(10, None).await.map_err(failed)?;
    let [letter] = letters.as_slice() else { return Err(format!("{} letters instead of 1", letters.len())) };
    same("cause", &letter.cause.as_str(), &"rejected")?;
    same("attempts", &letter.attempts, &1)?;
    same("characters of the error", &letter.last_error.chars().count(), &2000)?;
    same("first error", &letter.first_error, &letter.last_error)
}

async fn a_failing_event_does_not_hold_up_the_others(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(with_ladder(&[Duration::from_hours(1)])).await?;
    declare_q(&*bus).await?;
    for n in 0..5 {
        publish(&*bus, n).await?;
    }
    let mut consumer = consume(&*bus, 1).await?;
    next(&mut consumer).await?.settle.retry("later").await.map_err(failed)?;
    same("the others", &drain(&mut consumer, 4).await?, &vec![1, 2, 3, 4])?;
    until_depth(&*bus, "q", 1).await
}

async fn waits_survive_a_crash(mut harness: BoxHarness) -> Verdict {
    let wait = Duration::from_millis(150);
    let bus = harness.open(with_ladder(&[wait, wait])).await?;
    declare_q(&*bus).await?;
    publish(&*bus, 1).await?;
    let mut consumer = consume(&*bus, 1).await?;
    let delivery = next(&mut consumer).await?;
    let since = Instant::now();
    delivery.settle.retry("before the crash").await.map_err(failed)?;
    drop((consumer, bus));
    let bus = harness.reopen().await?;
    let mut consumer = consume(&*bus, 1).await?;
    let again = next(&mut consumer).await?;
    ensure(since.elapsed() >= wait, || format!("back after {:?} instead of {wait:?}", since.elapsed()))?;
    same("retrycount", &again.retrycount, &1)?;
    again.settle.reject("after the crash").await.map_err(failed)?;
    let letters = bus.dead_letters(1, None).await.map_err(failed)?;
    let errors = letters.first().map(|letter| (letter.first_error.as_str(), letter.last_error.as_str()));
    same("errors", &errors, &Some(("before the crash", "after the crash")))
}

async fn a_failed_event_that_succeeds_is_gone(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(with_ladder(&[Duration::from_millis(1)])).await?;
    declare_q(&*bus).await?;
    publish(&*bus, 1).await?;
    let mut consumer = consume(&*bus, 1).await?;
    next(&mut consumer).await?.settle.retry("once").await.map_err(failed)?;
    let again = next(&mut consumer).await?;
    same("event", &number(&again.event), &1)?;
    again.settle.ack();
    until_depth(&*bus, "q", 0).await?;
    drop((consumer, bus));
    let bus = harness.reopen().await?;
    nothing_more(&mut consume(&*bus, 1).await?).await?;
    same("letters", &bus.health().await.map_err(failed)?.dead_letters, &0)
}
