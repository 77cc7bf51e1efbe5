//! Accepting, and finding again what was accepted.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use futures::future::join_all;

use super::sample::{LIFE, acceptance, accepted, append, awkward, completion, task, tool_turn};
use super::{Case, Failed, Harness, Verdict, case, ensure, equal, open, reopen, some};
use crate::domain::chat::Usage;
use crate::domain::event::Event;
use crate::domain::ids::{TaskId, new_event_id};
use crate::domain::step::{Epoch, StepStatus};
use crate::domain::task::TaskStatus;
use crate::store::{Acceptance, Accepted, Claim, Step, TaskFilter};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a new event becomes a running task under derived ids", new_task),
        case!("an event that was accepted before changes nothing", duplicate),
        case!("an event that arrives many times at once is accepted once", many_at_once),
        case!("what was accepted survives a crash", accepted_survives),
        case!("an event comes back as it was", event_round_trip),
        case!("nobody finds what nobody accepted", unknown),
        case!("the usage of an open task is that of its journal", open_usage),
        case!("lists are newest first and filtered", lists_filter),
        case!("lists have pages that neither overlap nor skip", lists_page),
        case!("an id is found by its first digits", find),
    ]
}

async fn new_task(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let before = Utc::now() - TimeDelta::milliseconds(1);
    let asked = acceptance("writer")?;
    let claim = accepted(&stores, asked.clone()).await?;
    let id = TaskId::derive(&asked.event.id, "writer");
    equal("the claim", &claim, &Claim { task: id, step: id.run(0).step(0), epoch: Epoch(1) })?;

    let task = some("the task", stores.tasks.task(id).await?)?;
    equal("id", &task.id, &id)?;
    equal("agent", &task.agent, &asked.agent)?;
    equal("mode", &task.execution_mode, &asked.mode)?;
    equal("status", &task.status, &TaskStatus::Running)?;
    equal("event id", &task.event_id, &asked.event.id)?;
    equal("topic", &task.topic.as_str(), &asked.event.topic.as_str())?;
    equal("input", &task.input.as_str(), &"What is the time?")?;
    equal("trace", &task.traceparent, &asked.event.traceparent)?;
    equal("priority", &task.priority, &asked.event.priority)?;
    equal("spec", &task.spec_digest.as_str(), &"d1")?;
    equal("end", &(task.ended_at, task.outcome, task.usage), &(None, None, Usage::default()))?;
    ensure(task.created_at >= before && task.created_at <= Utc::now(), format!("made at {}", task.created_at))?;
    let step = Step {
        id: claim.step,
        run: id.run(0),
        run_no: 0,
        step_no: 0,
        status: StepStatus::Running,
        owner: LIFE,
        epoch: Epoch(1),
        attempts: 1,
        claims: 1,
        copied: 0,
    };
    equal("steps", &task.steps, &vec![step])
}

async fn duplicate(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let asked = acceptance("writer")?;
    let claim = accepted(&stores, asked.clone()).await?;
    let before = stores.tasks.task(claim.task).await?;
    let again = Acceptance { owner: crate::domain::step::Incarnation(8), spec_digest: "d2".into(), ..asked.clone() };
    equal("the second time", &stores.tasks.accept(again.clone()).await?, &Accepted::Duplicate(claim.task))?;
    equal("the task", &stores.tasks.task(claim.task).await?, &before)?;

    stores.steps.complete(completion(claim, "writer", 0)?).await?;
    equal("after the end", &stores.tasks.accept(again).await?, &Accepted::Duplicate(claim.task))?;
    // The same event for another agent is another task.
    accepted(&stores, Acceptance { agent: "editor".parse()?, ..asked }).await?;
    Ok(())
}

async fn many_at_once(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let asked: Vec<Acceptance> = (0..8).map(|_| acceptance("writer")).collect::<Result<_, _>>()?;
    let arrivals = (0..8).flat_map(|_| &asked).map(|asked| stores.tasks.accept(asked.clone()));
    let answers = join_all(arrivals).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    for asked in &asked {
        let id = TaskId::derive(&asked.event.id, "writer");
        let new = answers.iter().filter(|answer| matches!(answer, Accepted::New(claim) if claim.task == id)).count();
        let old = answers.iter().filter(|answer| **answer == Accepted::Duplicate(id)).count();
        equal("new and duplicate", &(new, old), &(1, 7))?;
    }
    equal("tasks", &stores.tasks.tasks(&TaskFilter::default()).await?.len(), &8)?;
    equal("steps", &stores.steps.orphans(0, 100).await?.len(), &8)
}

async fn accepted_survives(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let asked = acceptance("writer")?;
    let claim = accepted(&stores, asked.clone()).await?;
    let before = stores.tasks.task(claim.task).await?;
    let stores = reopen(harness, stores).await?;
    equal("the task", &stores.tasks.task(claim.task).await?, &before)?;
    equal("the event", &stores.tasks.event(claim.task).await?.as_ref(), &Some(&*asked.event))?;
    equal("a second delivery", &stores.tasks.accept(asked).await?, &Accepted::Duplicate(claim.task))
}

async fn event_round_trip(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut asked = acceptance("writer")?;
    let event = Event {
        id: "not ours: '\"\\ \u{1F3AD}".to_owned(),
        subject: Some("C42:1700.5".to_owned()),
        priority: 9.try_into()?,
        retrycount: 3,
        causationid: Some(new_event_id()),
        data: awkward().into(),
        ..(*asked.event).clone()
    };
    asked.event = Arc::new(event.clone());
    let claim = accepted(&stores, asked).await?;
    equal("the event", &stores.tasks.event(claim.task).await?, &Some(event.clone()))?;
    let task = some("the task", stores.tasks.task(claim.task).await?)?;
    equal("its id", &task.event_id, &event.id)?;
    equal("its priority", &task.priority, &event.priority)?;
    equal("the input", &task.input, &event.input())
}

async fn unknown(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    let other = TaskId::derive("never", "writer");
    equal("a task", &stores.tasks.task(other).await?, &None)?;
    equal("an event", &stores.tasks.event(other).await?, &None)?;
    equal("entries", &stores.journal.entries(other.run(0).step(0)).await?, &Vec::new())?;
    // A step's id is no task's id.
    equal("a step as a task", &stores.tasks.task(TaskId(claim.step.0)).await?, &None)
}

async fn open_usage(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    stores.journal.append(append(claim, 0, tool_turn())).await?;
    stores.journal.append(append(claim, 1, tool_turn())).await?;
    let open = some("the task", stores.tasks.task(claim.task).await?)?;
    equal("usage so far", &open.usage, &Usage { input_tokens: 22, output_tokens: 6, cost_microusd: 10 })?;
    stores.steps.complete(completion(claim, "writer", 2)?).await?;
    let ended = some("the task", stores.tasks.task(claim.task).await?)?;
    equal("usage in the end", &ended.usage, &completion(claim, "writer", 2)?.usage)
}

async fn lists_filter(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let first = task(&stores, "writer").await?;
    let second = task(&stores, "editor").await?;
    let third = task(&stores, "writer").await?;
    let parked = task(&stores, "writer").await?;
    stores.steps.complete(completion(first, "writer", 0)?).await?;
    let park = crate::store::Append { status: Some(StepStatus::Waiting), ..append(parked, 0, tool_turn()) };
    stores.journal.append(park).await?;

    let list = async |filter: TaskFilter| -> Result<Vec<TaskId>, Failed> {
        Ok(stores.tasks.tasks(&filter).await?.into_iter().map(|task| task.id).collect())
    };
    let any = TaskFilter::default();
    let (writer, editor) = (Some("writer".parse()?), Some("editor".parse()?));
    let all = vec![parked.task, third.task, second.task, first.task];
    equal("all", &list(any.clone()).await?, &all)?;
    let of = TaskFilter { agent: writer.clone(), ..any.clone() };
    equal("of writer", &list(of).await?, &vec![parked.task, third.task, first.task])?;
    for (status, expected) in [
        (TaskStatus::Received, vec![]),
        (TaskStatus::Running, vec![third.task, second.task]),
        (TaskStatus::Waiting, vec![parked.task]),
        (TaskStatus::Succeeded, vec![first.task]),
        (TaskStatus::Failed, vec![]),
        (TaskStatus::Cancelled, vec![]),
    ] {
        let filter = TaskFilter { status: Some(status), ..any.clone() };
        equal(status.as_str(), &list(filter.clone()).await?, &expected)?;
        let of_editor: Vec<TaskId> = expected.into_iter().filter(|task| *task == second.task).collect();
        equal("of editor", &list(TaskFilter { agent: editor.clone(), ..filter }).await?, &of_editor)?;
    }
    let later = Some(Utc::now() + TimeDelta::hours(1));
    equal("of the future", &list(TaskFilter { since: later, ..any.clone() }).await?, &vec![])?;
    let earlier = Some(Utc::now() - TimeDelta::hours(1));
    equal("of the last hour", &list(TaskFilter { since: earlier, ..any }).await?, &all)
}

async fn lists_page(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut expected = Vec::new();
    for _ in 0..7 {
        expected.insert(0, task(&stores, "writer").await?.task);
    }
    for status in [None, Some(TaskStatus::Running)] {
        let mut filter = TaskFilter { limit: 3, status, ..TaskFilter::default() };
        let (mut found, mut sizes) = (Vec::new(), Vec::new());
        loop {
            let page = stores.tasks.tasks(&filter).await?;
            sizes.push(page.len());
            let Some(last) = page.last() else { break };
            filter.before = Some(last.place);
            found.extend(page.iter().map(|task| task.id));
        }
        equal("the pages", &sizes, &vec![3, 3, 1, 0])?;
        equal("the tasks", &found, &expected)?;
    }
    Ok(())
}

async fn find(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(task(&stores, "writer").await?.task);
    }
    for id in &tasks {
        for text in [id.to_string(), id.0.simple().to_string(), id.to_string().to_uppercase()] {
            equal("a whole id", &stores.tasks.find(&text, 10).await?, &vec![*id])?;
        }
        // Past the time, which they may share, ids differ: 30 of 32 digits are enough.
        equal("a prefix", &stores.tasks.find(&id.0.simple().to_string()[..30], 10).await?, &vec![*id])?;
        ensure(stores.tasks.find(&id.to_string()[..6], 10).await?.contains(id), "an odd prefix does not find it")?;
    }
    equal("at most", &stores.tasks.find("", 2).await?.len(), &2)?;
    for nothing in ["ffffffff-f", "xyz", "0190%", &"0".repeat(33)] {
        equal(nothing, &stores.tasks.find(nothing, 10).await?, &vec![])?;
    }
    Ok(())
}
