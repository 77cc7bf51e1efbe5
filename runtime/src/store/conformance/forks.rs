//! Forks: made whole or not at all, of nobody's until they are claimed, and apart from what they were made of.

use std::sync::Arc;

use futures::future::join_all;

use super::cell::{Cell, Raw};
use super::sample::{LIFE, acceptance, append, awkward, completion, noise, task, tool_result, tool_turn, turn};
use super::{Case, Failed, Harness, Verdict, case, conflict, ensure, equal, fenced, open, reopen, some};
use crate::domain::chat::Usage;
use crate::domain::event::Event;
use crate::domain::fork::{Cut, ForkedFrom};
use crate::domain::ids::TaskId;
use crate::domain::journal::Entry;
use crate::domain::step::Epoch;
use crate::domain::task::TaskStatus;
use crate::store::{Append, Claim, Error, Fork, NOBODY, Step, Stores};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a fork is a task of nobody's with what it took over, and the original stays", made),
        case!("a fork goes on under a claim, and counts only what it used itself", goes_on),
        case!("the same fork a second time changes nothing", again),
        case!("a fork is asked for by many at once and made once", at_once),
        case!("a fork survives a crash whole", survives),
        case!("a fork of nothing has an empty journal", empty),
        case!("what lies before a damaged entry can be read", before_damage),
    ]
}

/// Three entries of a run that has ended, and a fork that takes over the first two.
async fn original(stores: &Stores) -> Result<(Claim, Fork), Failed> {
    let claim = task(stores, "writer").await?;
    stores.journal.append(append(claim, 0, tool_turn())).await?;
    // One that is packed, where that pays.
    let large = turn(&(noise(1000) + &"once more, ".repeat(2000)));
    stores.journal.append(append(claim, 1, large)).await?;
    stores.journal.append(append(claim, 2, tool_result())).await?;
    stores.steps.complete(completion(claim, "writer", 3)?).await?;
    let mut kept = stores.journal.entries(claim.step).await?;
    kept.truncate(2);
    Ok((claim, fork(claim, kept)?))
}

fn fork(of: Claim, kept: Vec<Entry>) -> Result<Fork, Failed> {
    let asked = acceptance("writer")?;
    let event = Event { data: awkward().into(), ..(*asked.event).clone() };
    let from = ForkedFrom { task_id: of.task, run_id: of.task.run(0), step_no: 0, entry: 2 };
    let (event, cut) = (Arc::new(event), Cut { entry: 2, kept });
    Ok(Fork { agent: asked.agent, mode: asked.mode, spec_digest: "d2".into(), event, from, cut })
}

/// The claim of whoever takes the fork up first.
async fn taken_up(stores: &Stores, id: TaskId) -> Result<Claim, Failed> {
    some("a claim", stores.steps.claim(id.run(0).step(0), Epoch(0), LIFE).await?)
}

async fn made(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (claim, fork) = original(&stores).await?;
    let before = (stores.tasks.task(claim.task).await?, stores.journal.entries(claim.step).await?);
    let id = stores.tasks.fork(fork.clone()).await?;
    equal("its id", &id, &TaskId::derive(&fork.event.id, "writer"))?;
    let made = some("the fork", stores.tasks.task(id).await?)?;
    equal("of what", &made.forked_from, &Some(fork.from))?;
    equal("status and spec", &(made.status, made.spec_digest.as_str()), &(TaskStatus::Running, "d2"))?;
    equal("what it used", &made.usage, &Usage::default())?;
    equal("its event", &stores.tasks.event(id).await?.as_ref(), &Some(&*fork.event))?;
    let step = Step {
        id: id.run(0).step(0),
        run: id.run(0),
        run_no: 0,
        step_no: 0,
        status: crate::domain::step::StepStatus::Running,
        owner: NOBODY,
        epoch: Epoch(0),
        attempts: 1,
        claims: 0,
        copied: 2,
    };
    equal("its step", &made.steps, &vec![step.clone()])?;
    equal("its entries", &stores.journal.entries(step.id).await?, &fork.cut.kept)?;
    let orphans = stores.steps.orphans(i64::MIN, 10).await?;
    equal("nobody's", &orphans.iter().map(|orphan| &orphan.step).collect::<Vec<_>>(), &vec![&step])?;
    let after = (stores.tasks.task(claim.task).await?, stores.journal.entries(claim.step).await?);
    equal("the original", &after, &before)?;
    equal("it is none", &after.0.and_then(|task| task.forked_from), &None)
}

async fn goes_on(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (_, fork) = original(&stores).await?;
    let id = stores.tasks.fork(fork).await?;
    let nobody = Claim { task: id, step: id.run(0).step(0), epoch: Epoch(0) };
    let claim = taken_up(&stores, id).await?;
    equal("its claim", &claim, &Claim { epoch: Epoch(1), ..nobody })?;
    fenced("of nobody's", &stores.journal.append(append(nobody, 2, tool_result())).await)?;
    conflict("at a copied place", &stores.journal.append(append(claim, 1, tool_result())).await)?;
    stores.journal.append(Append { attempts: Some(2), ..append(claim, 2, tool_turn()) }).await?;
    let open = some("the fork", stores.tasks.task(id).await?)?;
    let own = Usage { input_tokens: 11, output_tokens: 3, cost_microusd: 5 };
    equal("what it used", &open.usage, &own)?;
    equal("claims and attempts", &(open.steps[0].claims, open.steps[0].attempts), &(1, 2))?;
    stores.steps.complete(completion(claim, "writer", 3)?).await?;
    let ended = some("the fork", stores.tasks.task(id).await?)?;
    equal("status", &(ended.status, ended.steps[0].copied), &(TaskStatus::Succeeded, 2))?;
    equal("entries", &stores.journal.entries(claim.step).await?.len(), &4)?;
    let told = stores.outbox.pending(LIFE, i64::MIN, 10).await?;
    ensure(told.iter().any(|told| told.task == id), "the end of the fork is not to be told")
}

async fn again(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (_, fork) = original(&stores).await?;
    let id = stores.tasks.fork(fork.clone()).await?;
    let claim = taken_up(&stores, id).await?;
    let before = (stores.tasks.task(id).await?, stores.journal.entries(claim.step).await?);
    let other = Fork { spec_digest: "d3".into(), cut: Cut { entry: 0, kept: Vec::new() }, ..fork.clone() };
    for fork in [fork.clone(), other] {
        equal("its id", &stores.tasks.fork(fork).await?, &id)?;
        let now = (stores.tasks.task(id).await?, stores.journal.entries(claim.step).await?);
        equal("the fork", &now, &before)?;
    }
    let asked = crate::store::Acceptance { event: fork.event, ..acceptance("writer")? };
    equal("its event", &stores.tasks.accept(asked).await?, &crate::store::Accepted::Duplicate(id))
}

async fn at_once(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (claim, one) = original(&stores).await?;
    let two = fork(claim, Vec::new())?;
    let asked = (0..8).flat_map(|_| [&one, &two]).map(|fork| stores.tasks.fork(fork.clone()));
    let ids = join_all(asked).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    ensure(ids[0] != ids[1], "two forks are one")?;
    ensure(ids.chunks(2).all(|pair| pair == &ids[..2]), "one fork is many")?;
    equal("steps", &stores.steps.orphans(i64::MIN, 100).await?.len(), &2)?;
    for (id, entries) in [(ids[0], 2), (ids[1], 0)] {
        equal("entries", &stores.journal.entries(id.run(0).step(0)).await?.len(), &entries)?;
    }
    Ok(())
}

async fn survives(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (_, fork) = original(&stores).await?;
    let id = stores.tasks.fork(fork.clone()).await?;
    let before = stores.tasks.task(id).await?;
    let stores = reopen(harness, stores).await?;
    equal("the fork", &stores.tasks.task(id).await?, &before)?;
    equal("its entries", &stores.journal.entries(id.run(0).step(0)).await?, &fork.cut.kept)?;
    equal("nobody's", &stores.steps.orphans(i64::MIN, 10).await?.len(), &1)
}

async fn empty(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (claim, _) = original(&stores).await?;
    let id = stores.tasks.fork(fork(claim, Vec::new())?).await?;
    let claim = taken_up(&stores, id).await?;
    equal("entries", &stores.journal.entries(claim.step).await?, &Vec::new())?;
    stores.journal.append(append(claim, 0, tool_turn())).await?;
    let task = some("the fork", stores.tasks.task(id).await?)?;
    equal("copied and claims", &(task.steps[0].copied, task.steps[0].claims), &(0, 1))
}

async fn before_damage(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    for seq in 0..4 {
        stores.journal.append(append(claim, seq, tool_result())).await?;
    }
    let entries = stores.journal.entries(claim.step).await?;
    harness.poke(&Cell::entry(claim.step, 2), &Raw::Text(b"{".to_vec())).await.map_err(Failed)?;
    let Err(Error::Corrupt(damage)) = stores.journal.entries(claim.step).await else {
        return ensure(false, "a damaged entry was read");
    };
    equal("where", &damage.entry, &Some(2))?;
    for (seq, found) in [(0, 0), (1, 1), (2, 2)] {
        equal("before it", &stores.journal.entries_before(claim.step, seq).await?, &entries[..found].to_vec())?;
    }
    let behind = stores.journal.entries_before(claim.step, 3).await;
    ensure(matches!(behind, Err(Error::Corrupt(_))), "a damaged entry was read among others")
}
