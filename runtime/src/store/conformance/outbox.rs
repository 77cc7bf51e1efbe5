//! What must be told is told until somebody says that it was.

use futures::future::try_join_all;

use super::sample::{LIFE, append, completion, task, tool_turn};
use super::{Case, Failed, Harness, Verdict, case, equal, open, reopen};
use crate::domain::ids::TaskId;
use crate::domain::step::StepStatus;
use crate::domain::task::TaskStatus;
use crate::store::{Append, Stores, TaskFilter};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("ends are pending in order until they are told", pending_then_told),
        case!("what is open is not pending, whatever has ended before or behind it", open_is_not_pending),
        case!("who ends a step is answered its place, alone and among others", places),
        case!("what is pending survives a crash", pending_survives),
        case!("saying twice that an end was told takes no later one", told_twice),
    ]
}

async fn ended(stores: &Stores) -> Result<TaskId, Failed> {
    let claim = task(stores, "writer").await?;
    stores.steps.complete(completion(claim, "writer", 0)?).await?;
    Ok(claim.task)
}

async fn pending(stores: &Stores, limit: usize) -> Result<(Vec<TaskId>, Vec<i64>), Failed> {
    Ok(stores.outbox.pending(LIFE, i64::MIN, limit).await?.into_iter().map(|told| (told.task, told.seq)).unzip())
}

async fn pending_then_told(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    equal("at first", &pending(&stores, 10).await?.0, &vec![])?;
    let mut tasks = Vec::new();
    for _ in 0..5 {
        tasks.push(ended(&stores).await?);
    }
    let (found, seqs) = pending(&stores, 10).await?;
    equal("in order", &found, &tasks)?;
    equal("at most three", &pending(&stores, 3).await?.0, &tasks[..3].to_vec())?;
    stores.outbox.told(vec![seqs[0], seqs[2]]).await?;
    equal("without what was told", &pending(&stores, 10).await?.0, &vec![tasks[1], tasks[3], tasks[4]])?;
    stores.outbox.told(vec![]).await?;
    stores.outbox.told(seqs).await?;
    equal("in the end", &pending(&stores, 10).await?.0, &vec![])
}

async fn open_is_not_pending(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut claims = Vec::new();
    for _ in 0..4 {
        claims.push(task(&stores, "writer").await?);
    }
    let park = Append { status: Some(StepStatus::Waiting), ..append(claims[1], 0, tool_turn()) };
    stores.journal.append(park).await?;
    equal("before any has ended", &pending(&stores, 10).await?.0, &vec![])?;
    stores.steps.complete(completion(claims[2], "writer", 0)?).await?;
    let (found, seqs) = pending(&stores, 10).await?;
    equal("one that was not the first", &found, &vec![claims[2].task])?;
    // It was accepted before the one that was read.
    stores.steps.complete(completion(claims[0], "writer", 0)?).await?;
    let mut found = pending(&stores, 10).await?.0;
    found.sort();
    let mut both = vec![claims[0].task, claims[2].task];
    both.sort();
    equal("both", &found, &both)?;
    stores.outbox.told(seqs).await?;
    let stores = reopen(harness, stores).await?;
    let (found, seqs) = pending(&stores, 10).await?;
    equal("the other", &found, &vec![claims[0].task])?;
    stores.outbox.told(seqs).await?;
    equal("in the end", &pending(&stores, 10).await?.0, &vec![])?;
    for (status, claim) in [(TaskStatus::Running, claims[3]), (TaskStatus::Waiting, claims[1])] {
        let listed = stores.tasks.tasks(&TaskFilter { status: Some(status), ..TaskFilter::default() }).await?;
        equal("what is open", &listed.iter().map(|task| task.id).collect::<Vec<_>>(), &vec![claim.task])?;
    }
    Ok(())
}

async fn places(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let end = async || -> Result<_, Failed> {
        let claim = task(&stores, "writer").await?;
        Ok((claim.task, stores.steps.complete(completion(claim, "writer", 0)?).await?))
    };
    let mut answered = vec![end().await?];
    answered.extend(try_join_all((0..20).map(|_| end())).await?);
    answered.sort_by_key(|(_, place)| *place);
    let (found, seqs) = pending(&stores, 100).await?;
    let seqs = seqs.into_iter().map(Some);
    equal("places", &answered, &found.into_iter().zip(seqs).collect())
}

async fn pending_survives(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let tasks = [ended(&stores).await?, ended(&stores).await?, ended(&stores).await?];
    let before = stores.outbox.pending(LIFE, i64::MIN, 10).await?;
    stores.outbox.told(vec![before[0].seq]).await?;
    let stores = reopen(harness, stores).await?;
    equal("after a crash", &stores.outbox.pending(LIFE, i64::MIN, 10).await?, &before[1..].to_vec())?;
    equal("tasks", &pending(&stores, 10).await?.0, &tasks[1..].to_vec())
}

async fn told_twice(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    ended(&stores).await?;
    let (_, first) = pending(&stores, 10).await?;
    stores.outbox.told(first.clone()).await?;
    let later = ended(&stores).await?;
    stores.outbox.told(first.clone()).await?;
    equal("the later end", &pending(&stores, 10).await?.0, &vec![later])?;

    let stores = reopen(harness, stores).await?;
    let (_, second) = pending(&stores, 10).await?;
    stores.outbox.told(second.clone()).await?;
    let stores = reopen(harness, stores).await?;
    let last = ended(&stores).await?;
    stores.outbox.told([first, second].concat()).await?;
    equal("after a restart", &pending(&stores, 10).await?.0, &vec![last])
}
