//! How steps ended: found by step, by agent and by time, page by page.

use chrono::{DateTime, TimeDelta, Utc};

use super::sample::{append, awkward, completion, failure, task, tool_turn};
use super::{Case, Failed, Harness, Verdict, case, equal, open, reopen, some};
use crate::domain::ids::StepId;
use crate::domain::journal::Act;
use crate::domain::outcome::Outcome;
use crate::domain::step::StepStatus;
use crate::store::{Claim, Completion, ResultFilter, ResultRow, Stores};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("a result is what the step ended with", whole),
        case!("results are newest first and filtered", filtered),
        case!("results have pages that neither overlap nor skip, whatever comes in between", pages),
        case!("results of many agents at once are in one order", of_all),
    ]
}

/// The time of the n-th millisecond of these cases, with more digits than a store keeps.
fn moment(millis: i64) -> DateTime<Utc> {
    DateTime::<Utc>::from_timestamp(1_760_000_000, 400_000).unwrap_or_default() + TimeDelta::milliseconds(millis)
}

/// The good end of a new task, at that time.
async fn ended(stores: &Stores, agent: &str, millis: i64) -> Result<Claim, Failed> {
    let claim = task(stores, agent).await?;
    let mut end = completion(claim, agent, 0)?;
    end.entry.at = moment(millis);
    stores.steps.complete(end).await?;
    Ok(claim)
}

async fn list(stores: &Stores, filter: &ResultFilter) -> Result<Vec<StepId>, Failed> {
    Ok(stores.results.results(filter).await?.into_iter().map(|result| result.step_id).collect())
}

async fn whole(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    stores.journal.append(append(claim, 0, tool_turn())).await?;
    equal("while it runs", &stores.results.result(claim.step).await?, &None)?;
    equal("a list while it runs", &list(&stores, &ResultFilter::default()).await?, &vec![])?;

    let end = completion(claim, "writer", 1)?;
    stores.steps.complete(end.clone()).await?;
    let accepted = some("the task", stores.tasks.task(claim.task).await?)?.created_at;
    let expected = ResultRow {
        step_id: claim.step,
        task_id: claim.task,
        agent: "writer".parse()?,
        status: StepStatus::Succeeded,
        attempt: 1,
        accepted_at: Some(accepted),
        ended_at: DateTime::from_timestamp_millis(end.entry.at.timestamp_millis()).unwrap_or_default(),
        outcome: end.outcome,
        usage: end.usage,
    };
    equal("its result", &stores.results.result(claim.step).await?.as_ref(), &Some(&expected))?;
    let stores = reopen(harness, stores).await?;
    equal("after a crash", &stores.results.result(claim.step).await?.as_ref(), &Some(&expected))?;
    equal("the list", &stores.results.results(&ResultFilter::default()).await?, &vec![expected])?;

    // An outcome that is not the last entry's own answer.
    let claim = task(&stores, "writer").await?;
    let outcome = Outcome::Failed { failure: failure() };
    let mut end = completion(claim, "writer", 0)?;
    end.entry.attempt = 3;
    end.entry.act = Act::AttemptFailed { failure: failure() };
    stores.steps.complete(Completion { outcome: outcome.clone(), ..end }).await?;
    let failed = some("the failure", stores.results.result(claim.step).await?)?;
    equal("how it ended", &(failed.status, failed.attempt, failed.outcome), &(StepStatus::Failed, 3, outcome))?;
    let other = crate::domain::ids::TaskId::derive("never", "writer").run(0).step(0);
    equal("of an unknown step", &stores.results.result(other).await?, &None)
}

async fn filtered(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let first = ended(&stores, "writer", 10).await?.step;
    let second = ended(&stores, "editor", 20).await?.step;
    // Written after the others, and ended before them: the order is that of the ends.
    let early = ended(&stores, "writer", 0).await?.step;
    let claim = task(&stores, "writer").await?;
    let mut end = completion(claim, "writer", 0)?;
    end.entry.at = moment(30);
    end.entry.act = Act::Cancelled { reason: awkward().to_string() };
    end.outcome = Outcome::Cancelled { reason: awkward().to_string() };
    stores.steps.complete(end).await?;
    let cancelled = claim.step;
    task(&stores, "writer").await?;

    let any = ResultFilter::default();
    let of = |agent: &str| Ok::<_, Failed>(ResultFilter { agent: Some(agent.parse()?), ..ResultFilter::default() });
    equal("all", &list(&stores, &any).await?, &vec![cancelled, second, first, early])?;
    equal("the writer's", &list(&stores, &of("writer")?).await?, &vec![cancelled, first, early])?;
    equal("the editor's", &list(&stores, &of("editor")?).await?, &vec![second])?;
    equal("a stranger's", &list(&stores, &of("nobody")?).await?, &vec![])?;
    for base in [any.clone(), of("writer")?] {
        let mine = |steps: Vec<StepId>| -> Vec<StepId> {
            steps.into_iter().filter(|step| base.agent.is_none() || *step != second).collect()
        };
        for (status, expected) in [
            (StepStatus::Running, vec![]),
            (StepStatus::Failed, vec![]),
            (StepStatus::Cancelled, vec![cancelled]),
            (StepStatus::Succeeded, vec![second, first, early]),
        ] {
            let filter = ResultFilter { status: Some(status), ..base.clone() };
            equal(status.as_str(), &list(&stores, &filter).await?, &mine(expected))?;
        }
        let since = ResultFilter { since: Some(moment(10)), ..base.clone() };
        equal("since, itself included", &list(&stores, &since).await?, &mine(vec![cancelled, second, first]))?;
        let until = ResultFilter { until: Some(moment(20)), ..base.clone() };
        equal("until, itself excluded", &list(&stores, &until).await?, &mine(vec![first, early]))?;
        let between = ResultFilter { since: Some(moment(1)), ..until };
        equal("between", &list(&stores, &between).await?, &mine(vec![first]))?;
        let never = ResultFilter { since: Some(moment(20)), until: Some(moment(10)), ..base.clone() };
        equal("an empty span", &list(&stores, &never).await?, &vec![])?;
        let ever =
            ResultFilter { since: Some(DateTime::<Utc>::MIN_UTC), until: Some(DateTime::<Utc>::MAX_UTC), ..base };
        equal(
            "ever",
            &list(&stores, &ever).await?.len(),
            &list(&stores, &ResultFilter { since: None, until: None, ..ever.clone() }).await?.len(),
        )?;
    }
    Ok(())
}

/// Eleven results at three times; while the pages are read, newer ones arrive.
async fn pages(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut expected = Vec::new();
    for number in 0..11 {
        let millis = number % 3;
        expected.push((millis, ended(&stores, "writer", millis).await?.step));
    }
    expected.sort_by_key(|(millis, step)| std::cmp::Reverse((*millis, step.0)));
    let expected: Vec<StepId> = expected.into_iter().map(|(_, step)| step).collect();
    for agent in [Some("writer".parse()?), None] {
        let until = Some(moment(100));
        let mut filter = ResultFilter { agent, until, limit: 4, ..ResultFilter::default() };
        let (mut found, mut sizes) = (Vec::new(), Vec::new());
        loop {
            let page = stores.results.results(&filter).await?;
            sizes.push(page.len());
            let Some(last) = page.last() else { break };
            filter.after = Some(last.place());
            found.extend(page.iter().map(|result| result.step_id));
            // Above the line that the first page was read from.
            ended(&stores, "writer", 200).await?;
        }
        equal("the pages", &sizes, &vec![4, 4, 3, 0])?;
        equal("the results", &found, &expected)?;
    }
    Ok(())
}

async fn of_all(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut expected = Vec::new();
    for number in 0..12 {
        let agent = ["a", "b", "writer", "z-9"][number % 4];
        expected.insert(0, ended(&stores, agent, number as i64).await?.step);
    }
    for limit in [1, 5, 12, 100] {
        let filter = ResultFilter { limit, ..ResultFilter::default() };
        let most: Vec<StepId> = expected.iter().take(limit).copied().collect();
        equal(&format!("at most {limit}"), &list(&stores, &filter).await?, &most)?;
    }
    equal("without a number", &list(&stores, &ResultFilter::default()).await?, &expected)
}
