//! Claims, fences, and how steps end.

use futures::future::join_all;

use super::sample::{LIFE, acceptance, accepted, append, completion, entry, failure, task, tool_turn};
use super::{Case, Failed, Harness, Verdict, case, conflict, ensure, equal, fenced, open, reopen, some};
use crate::domain::journal::Act;
use crate::domain::outcome::Outcome;
use crate::domain::step::{Epoch, Incarnation, StepStatus};
use crate::domain::task::TaskStatus;
use crate::store::{Claim, Completion, Step, Stores};

/// The life after [`LIFE`].
const NEXT: Incarnation = Incarnation(LIFE.0 + 1);

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a claim raises the epoch and changes the owner", claim),
        case!("a claim of what has changed or ended comes too late", claim_too_late),
        case!("of fifty claimers one wins", fifty_claimers),
        case!("claims are counted until the journal grows", claims_counted),
        case!("a completion is result, status and outbox at once", complete),
        case!("failed and cancelled steps end as they said", other_ends),
        case!("a completion under an old epoch changes nothing", complete_fenced),
        case!("a step ends once", complete_twice),
        case!("a completion behind a lost actor's entry is refused", complete_conflict),
        case!("completions of a batch are judged one by one", complete_mixed),
    ]
}

async fn step(stores: &Stores, claim: Claim) -> Result<Step, Failed> {
    let task = some("the task", stores.tasks.task(claim.task).await?)?;
    some("the step", task.steps.into_iter().find(|step| step.id == claim.step))
}

async fn claim(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let first = task(&stores, "writer").await?;
    let second = some("a claim", stores.steps.claim(first.step, first.epoch, NEXT).await?)?;
    equal("the claim", &second, &Claim { epoch: Epoch(2), ..first })?;
    let now = step(&stores, first).await?;
    equal("owner and epoch", &(now.owner, now.epoch, now.status), &(NEXT, Epoch(2), StepStatus::Running))?;
    equal("of the owner before", &stores.steps.owned(LIFE, 0, 10).await?, &Vec::new())?;
    stores.journal.append(append(second, 0, tool_turn())).await?;
    stores.steps.complete(completion(second, "writer", 1)?).await?;
    Ok(())
}

async fn claim_too_late(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let first = task(&stores, "writer").await?;
    let second = some("a claim", stores.steps.claim(first.step, first.epoch, NEXT).await?)?;
    equal("with an old epoch", &stores.steps.claim(first.step, first.epoch, NEXT).await?, &None)?;
    equal("with a future one", &stores.steps.claim(first.step, Epoch(9), NEXT).await?, &None)?;
    let nobody = task(&stores, "writer").await?.task.run(1).step(0);
    equal("of no step", &stores.steps.claim(nobody, Epoch(1), NEXT).await?, &None)?;
    stores.steps.complete(completion(second, "writer", 0)?).await?;
    equal("of an ended step", &stores.steps.claim(second.step, second.epoch, NEXT).await?, &None)
}

async fn fifty_claimers(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut held = task(&stores, "writer").await?;
    for _ in 0..4 {
        let race = (0..50).map(|number| stores.steps.claim(held.step, held.epoch, Incarnation(NEXT.0 + number)));
        let won: Vec<(i64, Claim)> = (0..)
            .zip(join_all(race).await.into_iter().collect::<Result<Vec<_>, _>>()?)
            .filter_map(|(number, claim)| Some((NEXT.0 + number, claim?)))
            .collect();
        let [(winner, claim)] = won.as_slice() else {
            return Err(Failed(format!("{} of 50 claimers won", won.len())));
        };
        equal("the epoch", &claim.epoch, &Epoch(held.epoch.0 + 1))?;
        equal("the owner", &step(&stores, *claim).await?.owner, &Incarnation(*winner))?;
        held = *claim;
    }
    Ok(())
}

async fn claims_counted(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut held = task(&stores, "writer").await?;
    let mut counted = vec![step(&stores, held).await?.claims];
    // Progress is one entry between two claims, however many: at the places marked, the journal grows first.
    for (grows, seq) in [(false, 0), (false, 0), (true, 0), (false, 0), (true, 1), (true, 2), (false, 0)] {
        if grows {
            stores.journal.append(append(held, seq, tool_turn())).await?;
        }
        held = some("a claim", stores.steps.claim(held.step, held.epoch, NEXT).await?)?;
        counted.push(step(&stores, held).await?.claims);
    }
    equal("claims", &counted, &vec![1, 2, 3, 1, 2, 1, 1, 2])
}

async fn complete(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let asked = acceptance("writer")?;
    let claim = accepted(&stores, asked.clone()).await?;
    stores.journal.append(append(claim, 0, tool_turn())).await?;
    let end = completion(claim, "writer", 1)?;
    let place = stores.steps.complete(end.clone()).await?;
    let stores = reopen(harness, stores).await?;

    let task = some("the task", stores.tasks.task(claim.task).await?)?;
    equal("status", &task.status, &TaskStatus::Succeeded)?;
    equal("outcome", &task.outcome, &Some(end.outcome.clone()))?;
    equal("usage", &task.usage, &end.usage)?;
    let ended = some("an end", task.ended_at)?;
    equal("ended at", &ended.timestamp_millis(), &end.entry.at.timestamp_millis())?;
    equal("the step", &step(&stores, claim).await?.status, &StepStatus::Succeeded)?;
    equal("entries", &stores.journal.entries(claim.step).await?, &vec![entry(0, tool_turn()), end.entry.clone()])?;
    equal("orphans", &stores.steps.orphans(0, 10).await?, &Vec::new())?;

    let pending = stores.outbox.pending(LIFE, i64::MIN, 10).await?;
    let told = some("an outbox row", pending.first())?;
    equal("rows", &pending.len(), &1)?;
    equal("whose", &(told.task, told.step, told.agent.as_str()), &(claim.task, claim.step, "writer"))?;
    equal("its place", &Some(told.seq), &place)?;
    equal("event", &told.event, &asked.event)?;
    equal("told outcome", &told.outcome, &end.outcome)?;
    equal("attempt", &told.attempt, &1)?;
    equal("told at", &told.at, &ended)
}

async fn other_ends(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let ends = [
        (Outcome::Failed { failure: failure() }, Act::AttemptFailed { failure: failure() }, TaskStatus::Failed),
        (
            Outcome::Cancelled { reason: "nobody waits".to_owned() },
            Act::Cancelled { reason: "nobody waits".to_owned() },
            TaskStatus::Cancelled,
        ),
        // An end that its last entry does not tell: the model's answer came, but too late.
        (Outcome::Failed { failure: failure() }, tool_turn(), TaskStatus::Failed),
        (Outcome::Succeeded { output: "made by a rule".to_owned() }, tool_turn(), TaskStatus::Succeeded),
    ];
    for (outcome, act, status) in ends {
        let claim = task(&stores, "writer").await?;
        let end = Completion { entry: entry(0, act), outcome, ..completion(claim, "writer", 0)? };
        stores.steps.complete(end.clone()).await?;
        let task = some("the task", stores.tasks.task(claim.task).await?)?;
        equal("status", &task.status, &status)?;
        equal("outcome", &task.outcome, &Some(end.outcome.clone()))?;
        equal("entries", &stores.journal.entries(claim.step).await?, &vec![end.entry.clone()])?;
        let told = some("an outbox row", stores.outbox.pending(LIFE, i64::MIN, 10).await?.pop())?;
        equal("told", &(told.step, told.outcome), &(claim.step, end.outcome))?;
    }
    Ok(())
}

async fn complete_fenced(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let old = task(&stores, "writer").await?;
    let new = some("a claim", stores.steps.claim(old.step, old.epoch, NEXT).await?)?;
    fenced("the old claim", &stores.steps.complete(completion(old, "writer", 0)?).await)?;
    let nobody = Claim { step: old.task.run(3).step(3), ..old };
    fenced("no step", &stores.steps.complete(completion(nobody, "writer", 0)?).await)?;
    equal("status", &step(&stores, new).await?.status, &StepStatus::Running)?;
    equal("entries", &stores.journal.entries(old.step).await?, &Vec::new())?;
    equal("outbox", &stores.outbox.pending(LIFE, i64::MIN, 10).await?, &Vec::new())?;
    stores.steps.complete(completion(new, "writer", 0)?).await?;
    Ok(())
}

async fn complete_twice(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    let race = (0..20).map(|_| completion(claim, "writer", 0)).collect::<Result<Vec<_>, _>>()?;
    let results = join_all(race.into_iter().map(|end| stores.steps.complete(end))).await;
    equal("winners", &results.iter().filter(|result| result.is_ok()).count(), &1)?;
    for result in results.iter().filter(|result| result.is_err()) {
        fenced("a second end", result)?;
    }
    fenced("a late end", &stores.steps.complete(completion(claim, "writer", 1)?).await)?;
    equal("outbox rows", &stores.outbox.pending(LIFE, i64::MIN, 10).await?.len(), &1)?;
    equal("entries", &stores.journal.entries(claim.step).await?.len(), &1)
}

async fn complete_conflict(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    stores.journal.append(append(claim, 0, tool_turn())).await?;
    stores.journal.append(append(claim, 1, tool_turn())).await?;
    for taken in [0, 1] {
        conflict("a taken place", &stores.steps.complete(completion(claim, "writer", taken)?).await)?;
    }
    equal("status", &step(&stores, claim).await?.status, &StepStatus::Running)?;
    stores.steps.complete(completion(claim, "writer", 2)?).await?;
    Ok(())
}

async fn complete_mixed(harness: &mut dyn Harness) -> Verdict {
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
    let ends = claims.iter().map(|held| completion(*held, "writer", 0)).collect::<Result<Vec<_>, _>>()?;
    let results = join_all(ends.into_iter().map(|end| stores.steps.complete(end))).await;
    for (number, result) in results.iter().enumerate() {
        match number % 3 {
            0 => ensure(result.is_ok(), format!("a good end: {result:?}"))?,
            1 => fenced("an old claim", result)?,
            _ => conflict("a taken place", result)?,
        }
    }
    equal("outbox rows", &stores.outbox.pending(LIFE, i64::MIN, 10).await?.len(), &3)
}
