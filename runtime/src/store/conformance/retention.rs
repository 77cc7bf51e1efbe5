//! Deleting what is old, and nothing else.
//!
//! The age of an end is the time of its last entry, which a case chooses; what is kept is for the database's clock to
//! say, which no case can move.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;

use super::cell::{Cell, Raw};
use super::sample::{LIFE, acceptance, accepted, append, completion, task, tool_turn, turn};
use super::{Case, Failed, Harness, Verdict, case, ensure, equal, open, reopen};
use crate::domain::ids::TaskId;
use crate::domain::journal::Entry;
use crate::domain::step::StepStatus;
use crate::domain::task::TaskStatus;
use crate::store::retention::KEEP_MIN;
use crate::store::{Accepted, Append, Claim, Cleaned, Completion, ReplyState, Stores, TaskFilter};

/// What everything is kept for here; ends are younger or older by minutes.
const KEEP: Duration = KEEP_MIN;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("the entries of old ends go, their results stay", journals),
        case!("old tasks go with all that is theirs, and younger ones stay", tasks),
        case!("what runs or waits stays whatever its age", open_stays),
        case!("an end that was not told stays", untold_stays),
        case!("cleaning goes batch by batch until nothing is left", batches),
        case!("many may clean at once", at_once),
        case!("what is deleted may come again as new", again),
    ]
}

/// A step that ended so long ago, with two entries before its end; told, or not.
async fn ended(stores: &Stores, agent: &str, age: TimeDelta, told: bool) -> Result<Claim, Failed> {
    let claim = task(stores, agent).await?;
    stores.journal.append(append(claim, 0, tool_turn())).await?;
    stores.journal.append(append(claim, 1, tool_turn())).await?;
    end(stores, claim, agent, Utc::now() - age, told).await?;
    Ok(claim)
}

async fn end(stores: &Stores, claim: Claim, agent: &str, at: DateTime<Utc>, told: bool) -> Verdict {
    let entry = Entry { seq: 2, attempt: 1, at, act: turn("It is noon.") };
    stores.steps.complete(Completion { entry, ..completion(claim, agent, 2)? }).await?;
    if told {
        tell(stores).await?;
    }
    Ok(())
}

async fn tell(stores: &Stores) -> Verdict {
    let pending = stores.outbox.pending(LIFE, i64::MIN, 1000).await?;
    Ok(stores.outbox.told(pending.iter().map(|told| told.seq).collect()).await?)
}

fn old() -> TimeDelta {
    TimeDelta::seconds(KEEP.as_secs() as i64) + TimeDelta::minutes(10)
}

fn young() -> TimeDelta {
    TimeDelta::seconds(KEEP.as_secs() as i64) - TimeDelta::minutes(10)
}

async fn entries(stores: &Stores, claim: Claim) -> Result<Vec<u32>, Failed> {
    Ok(stores.journal.entries(claim.step).await?.iter().map(|entry| entry.seq).collect())
}

async fn listed(stores: &Stores) -> Result<Vec<TaskId>, Failed> {
    Ok(stores.tasks.tasks(&TaskFilter::default()).await?.iter().map(|task| task.id).collect())
}

const fn cleaned(things: u64, rows: u64) -> Cleaned {
    Cleaned { things, rows, more: false }
}

async fn journals(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let longer = KEEP + Duration::from_hours(1);
    equal("of nothing", &stores.retention.clean_journals(longer, 10).await?, &cleaned(0, 0))?;
    let old = [ended(&stores, "writer", old(), true).await?, ended(&stores, "editor", old(), true).await?];
    let young = ended(&stores, "writer", young(), true).await?;
    let before = stores.tasks.task(old[0].task).await?;
    equal("deleted", &stores.retention.clean_journals(KEEP, 10).await?, &cleaned(2, 4))?;
    for claim in old {
        equal("of an old end", &entries(&stores, claim).await?, &vec![2])?;
    }
    equal("of a young end", &entries(&stores, young).await?, &vec![0, 1, 2])?;
    // How it ended, what was asked and what it used is there as before.
    equal("the task", &stores.tasks.task(old[0].task).await?, &before)?;
    equal("tasks", &listed(&stores).await?.len(), &3)?;
    let stores = reopen(harness, stores).await?;
    equal("once more", &stores.retention.clean_journals(KEEP, 10).await?, &cleaned(0, 0))?;
    // Kept for less, the younger one is old too.
    let less = KEEP.saturating_sub(Duration::from_mins(20));
    equal("with less to keep", &stores.retention.clean_journals(less, 10).await?, &cleaned(1, 2))
}

async fn tasks(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (gone, bare) = (ended(&stores, "writer", old(), true).await?, ended(&stores, "editor", old(), true).await?);
    let stays = ended(&stores, "writer", young(), true).await?;
    for claim in [gone, stays] {
        equal("a reply", &stores.replies.begin(claim.task).await?, &ReplyState::Clear)?;
    }
    stores.retention.clean_journals(KEEP, 10).await?;
    // Task, step, result, and the reply of one of them.
    equal("deleted", &stores.retention.clean_tasks(KEEP, 10).await?, &cleaned(2, 7))?;
    for claim in [gone, bare] {
        equal("the task", &stores.tasks.task(claim.task).await?, &None)?;
        equal("its event", &stores.tasks.event(claim.task).await?, &None)?;
        equal("its entries", &entries(&stores, claim).await?, &vec![])?;
        equal("its result", &stores.results.result(claim.step).await?, &None)?;
        equal("its reply", &stores.replies.reply(claim.task).await?, &None)?;
    }
    equal("the tasks", &listed(&stores).await?, &vec![stays.task])?;
    equal("its entries", &entries(&stores, stays).await?, &vec![0, 1, 2])?;
    ensure(stores.replies.reply(stays.task).await?.is_some(), "the reply of the younger one is gone")?;
    equal("once more", &stores.retention.clean_tasks(KEEP, 10).await?, &cleaned(0, 0))?;
    // Entries that are still there go along.
    let less = KEEP.saturating_sub(Duration::from_mins(20));
    equal("with less to keep", &stores.retention.clean_tasks(less, 10).await?, &cleaned(1, 6))
}

async fn open_stays(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (runs, waits) = (task(&stores, "writer").await?, task(&stores, "writer").await?);
    for claim in [runs, waits] {
        stores.journal.append(append(claim, 0, tool_turn())).await?;
    }
    let park = Append { status: Some(StepStatus::Waiting), ..append(waits, 1, tool_turn()) };
    stores.journal.append(park).await?;
    // The statement itself looks: these have a result that is old, and are open again at the moment of deletion.
    let reopened = [ended(&stores, "writer", old(), true).await?, ended(&stores, "writer", old(), true).await?];
    for (claim, status) in reopened.iter().zip(["running", "waiting"]) {
        let cell = Cell::status(claim.step);
        let taken = harness.poke(&cell, &Raw::Text(status.as_bytes().to_vec())).await.map_err(Failed)?;
        ensure(taken, format!("a step does not take the status {status}"))?;
    }
    let stores = reopen(harness, stores).await?;
    for _ in 0..2 {
        equal("entries", &stores.retention.clean_journals(KEEP, 10).await?, &cleaned(0, 0))?;
        equal("tasks", &stores.retention.clean_tasks(KEEP, 10).await?, &cleaned(0, 0))?;
    }
    equal("of the running one", &entries(&stores, runs).await?, &vec![0])?;
    equal("of the waiting one", &entries(&stores, waits).await?, &vec![0, 1])?;
    for claim in reopened {
        equal("of one that is open again", &entries(&stores, claim).await?, &vec![0, 1, 2])?;
    }
    equal("the tasks", &listed(&stores).await?.len(), &4)
}

async fn untold_stays(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = ended(&stores, "writer", old(), false).await?;
    equal("entries", &stores.retention.clean_journals(KEEP, 10).await?, &cleaned(0, 0))?;
    equal("tasks", &stores.retention.clean_tasks(KEEP, 10).await?, &cleaned(0, 0))?;
    equal("its entries", &entries(&stores, claim).await?, &vec![0, 1, 2])?;
    equal("to be told", &stores.outbox.pending(LIFE, i64::MIN, 10).await?.len(), &1)?;
    tell(&stores).await?;
    equal("told", &stores.retention.clean_tasks(KEEP, 10).await?.things, &1)?;
    equal("the tasks", &listed(&stores).await?, &vec![])
}

async fn batches(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut claims = Vec::new();
    for number in 0..10 {
        let claim = task(&stores, ["writer", "editor", "singer"][number % 3]).await?;
        stores.journal.append(append(claim, 0, tool_turn())).await?;
        stores.journal.append(append(claim, 1, tool_turn())).await?;
        claims.push(claim);
    }
    // Some of them within the same millisecond.
    let first = Utc::now() - old();
    for (number, claim) in claims.iter().enumerate() {
        let at = first + TimeDelta::milliseconds(number as i64 / 4);
        end(&stores, *claim, ["writer", "editor", "singer"][number % 3], at, true).await?;
    }
    let (mut steps, mut rows, mut calls) = (0, 0, 0);
    loop {
        let cleaned = stores.retention.clean_journals(KEEP, 3).await?;
        ensure(cleaned.things <= 4, format!("a batch of {} steps", cleaned.things))?;
        (steps, rows, calls) = (steps + cleaned.things, rows + cleaned.rows, calls + 1);
        if !cleaned.more {
            break;
        }
        ensure(calls < 10, "it does not come to an end")?;
    }
    equal("steps and rows", &(steps, rows), &(10, 20))?;
    let mut gone = 0;
    for _ in 0..10 {
        let cleaned = stores.retention.clean_tasks(KEEP, 3).await?;
        ensure(cleaned.things <= 3, format!("a batch of {} tasks", cleaned.things))?;
        gone += cleaned.things;
        if !cleaned.more {
            break;
        }
    }
    equal("tasks", &(gone, listed(&stores).await?.len()), &(10, 0))
}

async fn at_once(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    for _ in 0..6 {
        ended(&stores, "writer", old(), true).await?;
    }
    let young = ended(&stores, "writer", young(), true).await?;
    let work = async || {
        let mut deleted = (0, 0);
        for _ in 0..4 {
            deleted.0 += stores.retention.clean_journals(KEEP, 2).await?.things;
            deleted.1 += stores.retention.clean_tasks(KEEP, 2).await?.things;
        }
        Ok::<_, Failed>(deleted)
    };
    let all = join_all((0..4).map(|_| work())).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let tasks: u64 = all.iter().map(|deleted| deleted.1).sum();
    // Whatever they left to one another, the next one finds.
    let rest = stores.retention.clean_tasks(KEEP, 10).await?.things;
    equal("tasks, each deleted by one", &(tasks + rest), &6)?;
    equal("the tasks", &listed(&stores).await?, &vec![young.task])
}

async fn again(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let asked = acceptance("writer")?;
    let claim = accepted(&stores, asked.clone()).await?;
    let old = Utc::now() - old();
    end(&stores, claim, "writer", old, true).await?;
    equal("before", &stores.tasks.accept(asked.clone()).await?, &Accepted::Duplicate(claim.task))?;
    equal("deleted", &stores.retention.clean_tasks(KEEP, 10).await?.things, &1)?;
    equal("after", &stores.tasks.accept(asked).await?, &Accepted::New(claim))?;
    let task = stores.tasks.task(claim.task).await?;
    equal("the new task", &task.map(|task| (task.status, task.outcome)), &Some((TaskStatus::Running, None)))
}
