//! Appending under a fence, and reading a journal back.

use futures::future::join_all;

use super::sample::{LIFE, append, completion, entry, every_act, task, tool_result, tool_turn};
use super::{Case, Harness, Verdict, case, conflict, ensure, equal, fenced, open, reopen, some};
use crate::domain::journal::Entry;
use crate::domain::step::{Incarnation, StepStatus};
use crate::domain::task::TaskStatus;
use crate::store::{Append, Claim};

/// The life after [`LIFE`].
const NEXT: Incarnation = Incarnation(LIFE.0 + 1);

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("entries of every kind come back in order, the result last", round_trip),
        case!("a place in the journal is taken once", taken_place),
        case!("a place that many want goes to one", many_want_one_place),
        case!("an append under an old epoch changes nothing", append_fenced),
        case!("an append to an ended step is fenced", append_after_the_end),
        case!("appends of a batch are judged one by one", append_mixed),
        case!("attempts are written with the entry that begins one", attempts),
        case!("a parked step waits and is nobody's orphan", parked),
        case!("an append does not end a step", no_end_by_append),
        case!("journals of different steps are apart", apart),
    ]
}

async fn round_trip(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    let mut expected: Vec<Entry> = Vec::new();
    for (seq, act) in (0..).zip(every_act()) {
        stores.journal.append(append(claim, seq, act.clone())).await?;
        expected.push(entry(seq, act));
        equal("entries", &stores.journal.entries(claim.step).await?, &expected)?;
    }
    let end = completion(claim, "writer", expected.len() as u32)?;
    stores.steps.complete(end.clone()).await?;
    expected.push(end.entry);
    equal("with the result", &stores.journal.entries(claim.step).await?, &expected)?;
    let stores = reopen(harness, stores).await?;
    equal("after a crash", &stores.journal.entries(claim.step).await?, &expected)
}

async fn taken_place(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    stores.journal.append(append(claim, 0, tool_turn())).await?;
    let late = Append { attempts: Some(3), status: Some(StepStatus::Waiting), ..append(claim, 0, tool_result()) };
    conflict("a second entry", &stores.journal.append(late).await)?;
    equal("entries", &stores.journal.entries(claim.step).await?, &vec![entry(0, tool_turn())])?;
    let task = some("the task", stores.tasks.task(claim.task).await?)?;
    equal("attempts", &task.steps.first().map(|step| step.attempts), &Some(1))?;
    equal("status", &task.status, &TaskStatus::Running)
}

async fn many_want_one_place(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    let race = (0..20).map(|_| stores.journal.append(append(claim, 0, tool_turn())));
    let results = join_all(race).await;
    equal("winners", &results.iter().filter(|result| result.is_ok()).count(), &1)?;
    for result in results.iter().filter(|result| result.is_err()) {
        conflict("a loser", result)?;
    }
    equal("entries", &stores.journal.entries(claim.step).await?.len(), &1)
}

async fn append_fenced(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let old = task(&stores, "writer").await?;
    stores.journal.append(append(old, 0, tool_turn())).await?;
    let new = some("a claim", stores.steps.claim(old.step, old.epoch, NEXT).await?)?;
    let late = Append { attempts: Some(2), status: Some(StepStatus::Waiting), ..append(old, 1, tool_result()) };
    fenced("the old claim", &stores.journal.append(late).await)?;
    // Even where the place is taken: who is fenced must hear that first.
    fenced("the old claim again", &stores.journal.append(append(old, 0, tool_result())).await)?;
    let nobody = Claim { step: old.task.run(3).step(3), ..old };
    fenced("no step", &stores.journal.append(append(nobody, 0, tool_turn())).await)?;
    let task = some("the task", stores.tasks.task(old.task).await?)?;
    equal("attempts", &task.steps.first().map(|step| step.attempts), &Some(1))?;
    stores.journal.append(append(new, 1, tool_result())).await?;
    let expected = vec![entry(0, tool_turn()), entry(1, tool_result())];
    equal("entries", &stores.journal.entries(old.step).await?, &expected)
}

async fn append_after_the_end(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    stores.steps.complete(completion(claim, "writer", 0)?).await?;
    fenced("after the end", &stores.journal.append(append(claim, 1, tool_turn())).await)?;
    equal("entries", &stores.journal.entries(claim.step).await?.len(), &1)
}

async fn append_mixed(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut claims = Vec::new();
    for number in 0..9 {
        let held = task(&stores, "writer").await?;
        if number % 3 == 1 {
            some("a claim", stores.steps.claim(held.step, held.epoch, NEXT).await?)?;
        }
        if number % 3 == 2 {
            stores.journal.append(append(held, 0, tool_turn())).await?;
        }
        claims.push(held);
    }
    let results = join_all(claims.iter().map(|held| stores.journal.append(append(*held, 0, tool_result())))).await;
    for (number, (result, held)) in results.iter().zip(&claims).enumerate() {
        let entries = stores.journal.entries(held.step).await?;
        match number % 3 {
            0 => ensure(result.is_ok() && entries == [entry(0, tool_result())], format!("a good entry: {result:?}"))?,
            1 => fenced("an old claim", result)?,
            _ => conflict("a taken place", result)?,
        }
    }
    Ok(())
}

async fn attempts(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    let other = task(&stores, "writer").await?;
    for (seq, begun, expected) in [(0, None, 1), (1, Some(2), 2), (2, None, 2), (3, Some(3), 3)] {
        stores.journal.append(Append { attempts: begun, ..append(claim, seq, tool_turn()) }).await?;
        let task = some("the task", stores.tasks.task(claim.task).await?)?;
        equal("attempts", &task.steps.first().map(|step| step.attempts), &Some(expected))?;
        equal("status", &task.status, &TaskStatus::Running)?;
    }
    let other = some("the other task", stores.tasks.task(other.task).await?)?;
    equal("of another step", &other.steps.first().map(|step| step.attempts), &Some(1))
}

async fn parked(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    let park = Append { status: Some(StepStatus::Waiting), ..append(claim, 0, tool_turn()) };
    stores.journal.append(park).await?;
    let stores = reopen(harness, stores).await?;
    let task = some("the task", stores.tasks.task(claim.task).await?)?;
    equal("status", &task.status, &TaskStatus::Waiting)?;
    equal("orphans", &stores.steps.orphans(0, 10).await?, &Vec::new())?;
    equal("a claim", &stores.steps.claim(claim.step, claim.epoch, NEXT).await?, &None)?;
    fenced("an append", &stores.journal.append(append(claim, 1, tool_turn())).await)?;
    fenced("an end", &stores.steps.complete(completion(claim, "writer", 1)?).await)
}

async fn no_end_by_append(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    for end in [StepStatus::Succeeded, StepStatus::Failed, StepStatus::Cancelled] {
        let refused = stores.journal.append(Append { status: Some(end), ..append(claim, 0, tool_turn()) }).await;
        ensure(refused.is_err(), format!("an append made the step {end}, and it has no result"))?;
    }
    equal("entries", &stores.journal.entries(claim.step).await?, &Vec::new())
}

async fn apart(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (one, two) = (task(&stores, "writer").await?, task(&stores, "writer").await?);
    stores.journal.append(append(one, 0, tool_turn())).await?;
    stores.journal.append(append(two, 0, tool_result())).await?;
    equal("of one", &stores.journal.entries(one.step).await?, &vec![entry(0, tool_turn())])?;
    equal("of two", &stores.journal.entries(two.step).await?, &vec![entry(0, tool_result())])
}
