//! Which task, run or step somebody means: an id, or as much of its beginning as is unique.
//!
//! Ids below a task are derived from it and share its first 48 bits, so a run or a step is found through the tasks
//! that begin alike; the store needs no index of them.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_runtime::domain::ids::{RunId, StepId, TaskId};
use troupe_runtime::store::{Step, Task};
use uuid::Uuid;

use super::Admin;
use super::problem::{Class, Problem};
use super::recent::Submitted;
use super::verb::clipped;

/// Digits that a task shares with its runs and steps.
const SHARED_DIGITS: usize = 12;
/// Tasks of one millisecond that are looked at for a run or a step.
const ALIKE_MAX: usize = 256;

/// A task, as far as it has come.
pub(super) enum Known {
    /// A pool has accepted it.
    Stored(Box<Task>),
    /// It was submitted here and waits on the bus.
    Received(Submitted),
}

impl Known {
    pub(super) const fn id(&self) -> TaskId {
        match self {
            Self::Stored(task) => task.id,
            Self::Received(submitted) => submitted.id,
        }
    }
}

/// The one task that is meant.
pub(super) async fn task(admin: &Admin, id: &str) -> Result<Known, Problem> {
    let missing = || Problem::not_found(format!("there is no task {}", clipped(id)));
    let digits = digits(id).ok_or_else(missing)?;
    one_task(admin, id, &digits).await?.ok_or_else(missing)
}

/// A run: its task, its number, and the one step that was meant, if one was.
pub(super) struct Found {
    pub(super) task: Box<Task>,
    pub(super) run: RunId,
    pub(super) step: Option<StepId>,
}

impl Found {
    /// The steps that are meant, in order.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        let meant = |step: &&Step| step.run == self.run && self.step.is_none_or(|id| id == step.id);
        self.task.steps.iter().filter(meant)
    }
}

/// The run that is meant by the id of a run, a step or a task (then the task's latest).
pub(super) async fn run(admin: &Admin, id: &str) -> Result<Found, Problem> {
    let missing = || Problem::not_found(format!("there is no run {}", clipped(id)));
    let digits = digits(id).ok_or_else(missing)?;
    match one_task(admin, id, &digits).await? {
        Some(Known::Stored(task)) => {
            let run = task.steps.last().map_or_else(|| task.id.run(0), |step| step.run);
            return Ok(Found { task, run, step: None });
        }
        Some(Known::Received(_)) => {
            return Err(Problem::not_found(format!("task {} waits on the bus; it has no run yet", clipped(id))));
        }
        None => {}
    }
    let mut found = Vec::new();
    for candidate in admin.stores().tasks.find(&digits[..digits.len().min(SHARED_DIGITS)], ALIKE_MAX).await? {
        let Some(task) = admin.stores().tasks.task(candidate).await? else { continue };
        found.extend(within(&task, &digits));
    }
    let ids = found.iter().map(|found| found.step.map_or(found.run.0, |step| step.0));
    let ids: Vec<Uuid> = ids.collect();
    match found.pop() {
        Some(only) if found.is_empty() => Ok(only),
        Some(_) => Err(ambiguous(id, ids)),
        None => Err(missing()),
    }
}

/// Runs and steps of a task whose id begins so.
fn within(task: &Task, digits: &str) -> Vec<Found> {
    let begins = |id: Uuid| id.simple().to_string().starts_with(digits);
    let runs: BTreeSet<RunId> = task.steps.iter().map(|step| step.run).filter(|run| begins(run.0)).collect();
    let steps = task.steps.iter().filter(|step| begins(step.id.0)).map(|step| (step.run, Some(step.id)));
    let meant: Vec<_> = runs.into_iter().map(|run| (run, None)).chain(steps).collect();
    meant.into_iter().map(|(run, step)| Found { task: Box::new(task.clone()), run, step }).collect()
}

/// The task whose id begins so; an error when there are several.
async fn one_task(admin: &Admin, id: &str, digits: &str) -> Result<Option<Known>, Problem> {
    let max = admin.options().candidates_max;
    let stored = admin.stores().tasks.find(digits, max + 1).await?;
    let waiting = admin.shared.recent.find(digits);
    let all: BTreeSet<TaskId> = stored.iter().copied().chain(waiting.iter().map(|task| task.id)).collect();
    if all.len() > 1 {
        return Err(ambiguous(id, all.into_iter().take(max).map(|id| id.0)));
    }
    if let Some(task) = stored.first() {
        return Ok(admin.stores().tasks.task(*task).await?.map(|task| Known::Stored(Box::new(task))));
    }
    let Some(submitted) = waiting.into_iter().next() else { return Ok(None) };
    // It may have been accepted between the two looks.
    let stored = admin.stores().tasks.task(submitted.id).await?;
    Ok(Some(stored.map_or(Known::Received(submitted), |task| Known::Stored(Box::new(task)))))
}

fn ambiguous(id: &str, candidates: impl IntoIterator<Item = Uuid>) -> Problem {
    let candidates: Vec<Value> = candidates.into_iter().map(|id| Value::from(id.hyphenated().to_string())).collect();
    let detail = format!("{} is the beginning of several ids; write more of it", clipped(id));
    Problem::new(Class::Conflict, detail).with("candidates", candidates)
}

/// The hex digits of an id or its beginning, lower case; `None` when it cannot be one.
fn digits(id: &str) -> Option<String> {
    let digits: String = id.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    let good = (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_hex_digits_whatever_its_hyphens() {
        assert_eq!(digits("0190A0-0"), Some("0190a00".to_owned()));
        for bad in ["", "-", "xyz", "é", "0190a000-0000-7000-8000-00000000000f0"] {
            assert_eq!(digits(bad), None, "{bad}");
        }
    }
}
