//! `troupe tasks`: what was asked, how it stands, how it ended.
//!
//! Called by the command line; asks the admin API and prints. A task that is not there ends with exit code 3.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use serde_json::Value;
use troupe_runtime::domain::task::TaskStatus;

use super::Error;
use super::age;
use super::exit::Exit;
use super::printer::Printer;
use super::sheet::Sheet;
use super::style::Style;
use super::table::{Column, Listing, Shown, at, plain, text_at};
use crate::client::{Client, items};

/// Verbs of `troupe tasks`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List tasks, newest first
    #[command(visible_alias = "list")]
    Ls(Filter),
    /// Show one task with its steps and its answer
    #[command(visible_alias = "get")]
    Show {
        /// The task's id, or the beginning of it
        id: String,
    },
}

/// Which tasks.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only those in this status: received, running, waiting, succeeded, failed, cancelled
    #[arg(long)]
    status: Option<TaskStatus>,
    /// Only those of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only those since then: a span (1h) or a time (2026-01-31T09:00:00Z)
    #[arg(long, value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,
}

const TASKS: Listing = Listing {
    things: "tasks",
    name: "id",
    columns: &[
        Column::new("ID", "id", Shown::Plain),
        Column::new("AGENT", "agent", Shown::Plain),
        Column::new("STATUS", "status", Shown::Plain),
        Column::new("AGE", "created_at", Shown::Age),
        Column::new("INPUT", "input", Shown::Plain),
        Column::wide("MODE", "execution_mode", Shown::Plain),
        Column::wide("PRIORITY", "priority", Shown::Plain),
        Column::wide("TOPIC", "topic", Shown::Plain),
        Column::wide("TOKENS IN", "usage.input_tokens", Shown::Plain),
        Column::wide("TOKENS OUT", "usage.output_tokens", Shown::Plain),
    ],
};

const STEPS: Listing = Listing {
    things: "steps",
    name: "id",
    columns: &[
        Column::new("RUN", "run_no", Shown::Plain),
        Column::new("STEP", "step_no", Shown::Plain),
        Column::new("STATUS", "status", Shown::Plain),
        Column::new("ATTEMPTS", "attempts", Shown::Plain),
        Column::new("EPOCH", "epoch", Shown::Plain),
        Column::new("RUN ID", "run", Shown::Plain),
    ],
};

/// Does what the verb says.
pub async fn run(verb: Verb, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    match verb {
        Verb::Ls(filter) => {
            let since = filter.since.map(|since| since.to_rfc3339_opts(SecondsFormat::Millis, true));
            let query = [
                ("status", filter.status.map(|status| status.to_string())),
                ("agent", filter.agent),
                ("since", since),
                ("cursor", filter.cursor),
                ("limit", Some(filter.limit.to_string())),
            ];
            let query: Vec<_> = query.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            let body = client.tasks(&query).await?;
            printer.list(&TASKS, &body, items(&body))?;
            printer.more(&body);
        }
        Verb::Show { id } => {
            let body = client.task(&id, Duration::ZERO).await?;
            let task = whole(&body);
            printer.one(&body, text_at(task, "id"), |style| sheet(task, style))?;
        }
    }
    Ok(Exit::Ok)
}

/// The task in an answer that may put it under `task`.
#[must_use]
pub fn whole(body: &Value) -> &Value {
    body.get("task").filter(|task| task.is_object()).unwrap_or(body)
}

/// How a task stands; a word that this client does not know counts as running.
#[must_use]
pub fn status(task: &Value) -> TaskStatus {
    text_at(task, "status").parse().unwrap_or(TaskStatus::Running)
}

/// The steps of a task, whether they stand under it or under its runs.
#[must_use]
pub fn steps(task: &Value) -> Vec<Value> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let direct = list(task, "steps");
    if direct.is_empty() { list(task, "runs").iter().flat_map(|run| list(run, "steps")).collect() } else { direct }
}

/// The id of a task's latest run.
#[must_use]
pub fn latest_run(task: &Value) -> Option<String> {
    let of_steps = || steps(task).last().map(|step| text_at(step, "run").to_owned());
    let of_runs = || Some(text_at(task.get("runs")?.as_array()?.last()?, "id").to_owned());
    of_steps().or_else(of_runs).filter(|id| !id.is_empty())
}

/// What a finished task has to say: its answer, or why there is none.
#[must_use]
pub fn ending(task: &Value) -> String {
    let failure = at(task, "outcome.failure");
    let said = at(task, "outcome.output").or_else(|| at(task, "outcome.reason")).map(plain);
    said.or_else(|| failure.map(|failure| format!("{}: {}", text_at(failure, "reason"), text_at(failure, "message"))))
        .unwrap_or_default()
}

/// A point in time on the command line: a time, or a span before now.
pub(super) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = text.parse::<DateTime<Utc>>() {
        return Ok(time);
    }
    age::parse(text).map(|span| Utc::now() - span)
}

fn sheet(task: &Value, style: Style) -> String {
    let shown = |field: &str| at(task, field).map(plain).unwrap_or_default();
    let now = Utc::now();
    let time =
        |field: &str| at(task, field).and_then(Value::as_str).and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let asked = time("created_at").map(|then| format!("{} ({} ago)", shown("created_at"), age::since(then, now)));
    let took = time("created_at").zip(time("ended_at")).and_then(|(from, to)| (to - from).to_std().ok());
    let steps = steps(task);
    let table = if steps.is_empty() { String::new() } else { STEPS.render(&steps, true, now) };
    let head = match status(task) {
        TaskStatus::Succeeded => "Answer",
        TaskStatus::Failed => "Failure",
        _ => "Reason",
    };
    Sheet::new(style)
        .row("Task", &shown("id"))
        .row("Agent", &shown("agent"))
        .status(
            "Status",
            text_at(task, "status"),
            &took.map(|took| format!("in {}", age::exact(took))).unwrap_or_default(),
        )
        .row("Asked", &asked.unwrap_or_default())
        .row("Forked from", &forked_from(task))
        .row("Topic", &shown("topic"))
        .row("Event", &shown("event_id"))
        .row("Priority", &shown("priority"))
        .row("Usage", &usage(task))
        .row("Trace", shown("traceparent").split('-').nth(1).unwrap_or_default())
        .part("Question", &shown("input"))
        .part("Steps", &table)
        .part(head, &ending(task))
        .finish()
}

/// Of what it is a fork, and where it left it; nothing when it is none.
pub(super) fn forked_from(task: &Value) -> String {
    let from = |field: &str| at(task, &format!("forked_from.{field}")).map(plain).unwrap_or_default();
    let (run, entry) = (from("run_id"), from("entry"));
    if run.is_empty() { String::new() } else { format!("run {run}, at entry {entry}") }
}

/// Tokens in and out, and the cost where the price is known.
pub(super) fn usage(task: &Value) -> String {
    let number = |field: &str| at(task, field).and_then(Value::as_u64).unwrap_or_default();
    let (input, output) = (number("usage.input_tokens"), number("usage.output_tokens"));
    if input + output == 0 {
        return String::new();
    }
    let cost = number("usage.cost_microusd");
    let cost = if cost == 0 { String::new() } else { format!(", ${}.{:06}", cost / 1_000_000, cost % 1_000_000) };
    format!("{input} tokens in, {output} out{cost}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task() -> Value {
        json!({
            "id": "018f0000-0000-7000-8000-000000000001", "agent": "researcher", "execution_mode": "autonomous",
            "status": "succeeded", "event_id": "e1", "topic": "agent.task.researcher", "input": "why?",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "priority": 0,
            "created_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:01.250Z",
            "outcome": {"status": "succeeded", "output": "because\nof that"},
            "usage": {"input_tokens": 120, "output_tokens": 30, "cost_microusd": 1500},
            "steps": [{"id": "s", "run": "r", "run_no": 0, "step_no": 0, "status": "succeeded", "attempts": 1, "epoch": 2}]
        })
    }

    #[test]
    fn the_sheet_has_question_steps_and_answer() {
        let sheet = sheet(&task(), Style::PLAIN);
        assert!(sheet.contains("Status:         succeeded in 1.2 s\n"), "{sheet}");
        assert!(sheet.contains("Usage:          120 tokens in, 30 out, $0.001500\n"), "{sheet}");
        assert!(sheet.contains("Trace:          0af7651916cd43dd8448eb211c80319c\n"), "{sheet}");
        assert!(sheet.contains("\nAnswer\n  because\n  of that\n"), "{sheet}");
        assert!(sheet.contains("  0    0     succeeded  1         2      r\n"), "{sheet}");
    }

    #[test]
    fn a_fork_says_of_what() {
        let mut task = task();
        assert!(!sheet(&task, Style::PLAIN).contains("Forked"));
        task["forked_from"] = json!({"task_id": "t", "run_id": "r0", "step_no": 0, "entry": 4});
        assert!(sheet(&task, Style::PLAIN).contains("Forked from:    run r0, at entry 4\n"));
    }

    #[test]
    fn a_failure_says_its_reason() {
        let failed = json!({"status": "failed", "outcome": {"status": "failed", "failure": {"reason": "turns", "message": "12 turns used", "retryable": false}}});
        assert_eq!(ending(&failed), "turns: 12 turns used");
        assert!(sheet(&failed, Style::PLAIN).contains("\nFailure\n  turns: 12 turns used\n"));
        let cancelled = json!({"status": "cancelled", "outcome": {"status": "cancelled", "reason": "by U1"}});
        assert_eq!(ending(&cancelled), "by U1");
    }

    #[test]
    fn the_latest_run_is_found_in_both_shapes() {
        assert_eq!(latest_run(&task()).as_deref(), Some("r"));
        let nested = json!({"runs": [{"id": "r0", "steps": []}, {"id": "r1", "steps": []}]});
        assert_eq!(latest_run(&nested).as_deref(), Some("r1"));
        let deeper = json!({"runs": [{"id": "r0", "steps": [{"run": "r0"}]}]});
        assert_eq!(latest_run(&deeper).as_deref(), Some("r0"));
        assert_eq!(latest_run(&json!({})), None);
    }

    #[test]
    fn a_moment_is_a_span_or_a_time() {
        assert_eq!(moment("2026-01-01T00:00:00Z").unwrap().timestamp(), 1_767_225_600);
        assert!((Utc::now() - moment("1h").unwrap()).num_minutes().abs_diff(60) <= 1);
        assert!(moment("yesterday").is_err());
    }
}
