//! `troupe runs show`: one run on a sheet.
//!
//! Called by [`super::run`]; asks the admin API, which knows a run by its own, its step's or its task's id.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::super::Error;
use super::super::age;
use super::super::exit::Exit;
use super::super::printer::Printer;
use super::super::sheet::Sheet;
use super::super::style::Style;
use super::super::table::{Column, Listing, Shown, at, plain, text_at};
use super::super::tasks::{ending, forked_from, usage};
use crate::client::Client;

const STEPS: Listing = Listing {
    things: "steps",
    name: "id",
    columns: &[
        Column::new("STEP", "step_no", Shown::Plain),
        Column::new("STATUS", "status", Shown::Plain),
        Column::new("ATTEMPTS", "attempts", Shown::Plain),
        Column::new("EPOCH", "epoch", Shown::Plain),
        Column::new("STEP ID", "id", Shown::Plain),
    ],
};

/// Asks and prints.
pub(super) async fn run(id: &str, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    let run = client.run(id).await?;
    printer.one(&run, text_at(&run, "run_id"), |style| sheet(&run, style))?;
    Ok(Exit::Ok)
}

fn sheet(run: &Value, style: Style) -> String {
    let shown = |field: &str| at(run, field).map(plain).unwrap_or_default();
    let time = |field: &str| text_at(run, field).parse::<DateTime<Utc>>().ok();
    let took = time("created_at").zip(time("ended_at")).and_then(|(from, to)| (to - from).to_std().ok());
    let took = took.map(|took| format!("in {}", age::exact(took))).unwrap_or_default();
    let steps = run.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
    let table = if steps.is_empty() { String::new() } else { STEPS.render(&steps, true, Utc::now()) };
    let failed = matches!(text_at(run, "status"), "failed" | "blocked");
    Sheet::new(style)
        .row("Run", &shown("run_id"))
        .row("Task", &shown("task_id"))
        .row("Agent", &shown("agent"))
        .status("Status", text_at(run, "status"), &took)
        .row("Forked from", &forked_from(run))
        .row("Attempts", &shown("attempts"))
        .row("Usage", &usage(run))
        .row("Spec", &shown("spec_digest"))
        .row("Outcome digest", &shown("outcome_digest"))
        .row("Trace", &shown("trace_id"))
        .part("Question", &shown("input"))
        .part("Steps", &table)
        .part(if failed { "Failure" } else { "Answer" }, &ending(run))
        .finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_sheet_tells_what_a_run_is_and_what_it_came_to() {
        let run = json!({
            "run_id": "r", "task_id": "t", "agent": "researcher", "status": "complete", "attempts": 2,
            "spec_digest": "5bec", "outcome_digest": "0ff1ce", "trace_id": "0af7", "input": "why?",
            "created_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:01.250Z",
            "outcome": {"status": "succeeded", "output": "because"},
            "usage": {"input_tokens": 120, "output_tokens": 30, "cost_microusd": 1500},
            "steps": [{"id": "s", "step_no": 0, "status": "succeeded", "attempts": 2, "epoch": 1}],
        });
        let sheet = sheet(&run, Style::PLAIN);
        assert!(sheet.contains("Status:         complete in 1.2 s\n"), "{sheet}");
        assert!(sheet.contains("Spec:           5bec\nOutcome digest: 0ff1ce\n"), "{sheet}");
        assert!(sheet.contains("  0     succeeded  2         1      s\n"), "{sheet}");
        assert!(sheet.ends_with("Answer\n  because\n"), "{sheet}");
    }

    #[test]
    fn a_blocked_run_says_why() {
        let failure = json!({"reason": "blocked", "message": "entry 3 does not fit", "retryable": false});
        let run = json!({"run_id": "r", "status": "blocked", "outcome": {"status": "failed", "failure": failure}});
        assert!(sheet(&run, Style::PLAIN).ends_with("Failure\n  blocked: entry 3 does not fit\n"));
    }
}
