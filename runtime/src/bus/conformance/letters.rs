//! Cases: burying, listing, replaying and purging dead letters.
//!
//! Listed by [`super::cases`]; each answers what it saw wrong.

use chrono::{SubsecRound as _, Utc};

use super::{
    BoxHarness, Options, Verdict, consume, declare_q, ensure, event, failed, next, nothing_more, refused, same,
    until_depth,
};
use crate::bus::{Bus, DeadLetter, Error};

super::list![
    the_same_letter_twice_is_one,
    letters_are_listed_newest_first_page_by_page,
    a_page_goes_on_after_its_last_letter_was_purged,
    a_replay_is_a_new_event_in_the_same_trace,
    a_replay_to_a_queue_that_is_gone_keeps_the_letter,
    a_purged_letter_is_gone,
    letters_survive_a_crash,
];

fn letter(id: &str, queue: &str) -> Result<DeadLetter, String> {
    let event = event("t", 7, 1)?;
    Ok(DeadLetter {
        id: id.to_owned(),
        queue: queue.to_owned(),
        event: (*event).clone(),
        cause: "model_unavailable".to_owned(),
        attempts: 3,
        first_error: "first".to_owned(),
        last_error: "last".to_owned(),
        at: Utc::now().trunc_subsecs(3),
    })
}

async fn ids(bus: &dyn Bus, limit: usize, before: Option<&str>) -> Result<Vec<String>, String> {
    let letters = bus.dead_letters(limit, before).await.map_err(failed)?;
    Ok(letters.into_iter().map(|letter| letter.id).collect())
}

async fn bury(bus: &dyn Bus, count: usize) -> Verdict {
    for n in 0..count {
        bus.bury(letter(&format!("letter-{n}"), "q")?).await.map_err(failed)?;
    }
    Ok(())
}

async fn the_same_letter_twice_is_one(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    let buried = letter("one", "q")?;
    bus.bury(buried.clone()).await.map_err(failed)?;
    bus.bury(DeadLetter { last_error: "again".to_owned(), ..buried.clone() }).await.map_err(failed)?;
    same("letters", &bus.health().await.map_err(failed)?.dead_letters, &1)?;
    let found = bus.dead_letter("one").await.map_err(failed)?;
    same("letter", &found, &Some(buried))?;
    same("letter that is not there", &bus.dead_letter("two").await.map_err(failed)?, &None)
}

async fn letters_are_listed_newest_first_page_by_page(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    bury(&*bus, 5).await?;
    same("first page", &ids(&*bus, 2, None).await?, &vec!["letter-4".to_owned(), "letter-3".to_owned()])?;
    let second = ids(&*bus, 2, Some("letter-3")).await?;
    same("second page", &second, &vec!["letter-2".to_owned(), "letter-1".to_owned()])?;
    same("third page", &ids(&*bus, 2, Some("letter-1")).await?, &vec!["letter-0".to_owned()])?;
    same("after the last", &ids(&*bus, 2, Some("letter-0")).await?, &vec![])
}

async fn a_page_goes_on_after_its_last_letter_was_purged(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    bury(&*bus, 4).await?;
    bus.purge("letter-2").await.map_err(failed)?;
    let rest = ids(&*bus, 10, Some("letter-2")).await?;
    same("second page", &rest, &vec!["letter-1".to_owned(), "letter-0".to_owned()])
}

async fn a_replay_is_a_new_event_in_the_same_trace(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    declare_q(&*bus).await?;
    let mut buried = letter("one", "q")?;
    buried.event.retrycount = 4;
    let old = buried.event.clone();
    bus.bury(buried).await.map_err(failed)?;
    let Some(new) = bus.replay("one").await.map_err(failed)? else { return Err("there was no letter".to_owned()) };
    ensure(new.id != old.id && new.traceparent != old.traceparent, || format!("{new:?} is the old event"))?;
    same("cause", &new.causationid, &Some(old.id))?;
    same("trace", &new.traceparent.trace_id(), &old.traceparent.trace_id())?;
    same("retrycount", &new.retrycount, &0)?;
    same("what it says", &(&new.topic, &new.data, new.priority), &(&old.topic, &old.data, old.priority))?;
    let mut consumer = consume(&*bus, 1).await?;
    let delivery = next(&mut consumer).await?;
    same("delivered", &(&delivery.event.id, delivery.retrycount), &(&new.id, 0))?;
    delivery.settle.ack();
    same("letter", &bus.dead_letter("one").await.map_err(failed)?, &None)?;
    same("second replay", &bus.replay("one").await.map_err(failed)?, &None)?;
    nothing_more(&mut consumer).await?;
    until_depth(&*bus, "q", 0).await
}

async fn a_replay_to_a_queue_that_is_gone_keeps_the_letter(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    bus.bury(letter("one", "nowhere")?).await.map_err(failed)?;
    refused("a replay to no queue", bus.replay("one").await, |error| matches!(error, Error::NoQueue(_)))?;
    same("letters", &ids(&*bus, 10, None).await?, &vec!["one".to_owned()])
}

async fn a_purged_letter_is_gone(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    bury(&*bus, 2).await?;
    same("purged", &bus.purge("letter-0").await.map_err(failed)?, &true)?;
    same("purged again", &bus.purge("letter-0").await.map_err(failed)?, &false)?;
    same("letters", &ids(&*bus, 10, None).await?, &vec!["letter-1".to_owned()])
}

async fn letters_survive_a_crash(mut harness: BoxHarness) -> Verdict {
    let bus = harness.open(Options::default()).await?;
    let buried = letter("one", "q")?;
    bus.bury(buried.clone()).await.map_err(failed)?;
    drop(bus);
    let bus = harness.reopen().await?;
    same("letter", &bus.dead_letter("one").await.map_err(failed)?, &Some(buried))
}
