//! `troupe results`: how steps ended, by agent and time, with what they said, used and cost.
//!
//! Called by the command line; asks the admin API and prints. A result that is not there ends with exit code 3.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::Error;
use super::age;
use super::exit::Exit;
use super::printer::Printer;
use super::sheet::Sheet;
use super::style::Style;
use super::table::{Column, Listing, Shown, at, plain, text_at};
use super::tasks::{ending, moment, usage};
use crate::client::{Client, items};

/// Verbs of `troupe results`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List results, newest first
    #[command(visible_alias = "list")]
    Ls(Filter),
    /// Show one result with its answer
    #[command(visible_alias = "get")]
    Show {
        /// The id of the step, its run or its task, or the beginning of it
        id: String,
    },
}

/// Which results.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only those of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only those that ended so
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Only those that ended at or after then: a span (1h) or a time (2026-01-31T09:00:00Z)
    #[arg(long, value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Only those that ended before then, written alike
    #[arg(long, value_parser = moment)]
    until: Option<DateTime<Utc>>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,
}

/// How a step can end.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    Succeeded,
    Failed,
    Cancelled,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

const RESULTS: Listing = Listing {
    things: "results",
    name: "step_id",
    columns: &[
        Column::new("TASK", "task_id", Shown::Plain),
        Column::new("AGENT", "agent", Shown::Plain),
        Column::new("STATUS", "status", Shown::Plain),
        Column::new("AGE", "ended_at", Shown::Age),
        Column::new("MS", "duration_ms", Shown::Plain),
        Column::new("COST USD", "cost_usd", Shown::Plain),
        Column::new("SAID", "said", Shown::Plain),
        Column::wide("STEP", "step_id", Shown::Plain),
        Column::wide("ATTEMPT", "attempt", Shown::Plain),
        Column::wide("TOKENS IN", "usage.input_tokens", Shown::Plain),
        Column::wide("TOKENS OUT", "usage.output_tokens", Shown::Plain),
        Column::wide("ENDED", "ended_at", Shown::Plain),
    ],
};

/// Does what the verb says.
pub async fn run(verb: Verb, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    match verb {
        Verb::Ls(filter) => {
            let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
            let query = [
                ("agent", filter.agent),
                ("status", filter.status.map(|status| status.as_str().to_owned())),
                ("since", filter.since.map(time)),
                ("until", filter.until.map(time)),
                ("cursor", filter.cursor),
                ("limit", Some(filter.limit.to_string())),
            ];
            let query: Vec<_> = query.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            let body = client.results(&query).await?;
            let rows: Vec<Value> = items(&body).iter().map(with_words).collect();
            printer.list(&RESULTS, &body, &rows)?;
            printer.more(&body);
        }
        Verb::Show { id } => {
            let body = client.result(&id).await?;
            printer.one(&body, text_at(&body, "step_id"), |style| sheet(&body, style))?;
        }
    }
    Ok(Exit::Ok)
}

/// The result with what its outcome says under one name, whichever outcome it is.
fn with_words(result: &Value) -> Value {
    let mut result = result.clone();
    result["said"] = Value::from(ending(&result));
    result
}

fn sheet(result: &Value, style: Style) -> String {
    let shown = |field: &str| at(result, field).map(plain).unwrap_or_default();
    let took = at(result, "duration_ms").and_then(Value::as_u64).map(std::time::Duration::from_millis);
    let ended = at(result, "ended_at").and_then(Value::as_str);
    let ended = ended.map(|then| format!("{then} ({} ago)", age::since_text(then, Utc::now())));
    let head = if text_at(result, "status") == "succeeded" { "Answer" } else { "Reason" };
    Sheet::new(style)
        .row("Step", &shown("step_id"))
        .row("Task", &shown("task_id"))
        .row("Agent", &shown("agent"))
        .status(
            "Status",
            text_at(result, "status"),
            &took.map(|took| format!("in {}", age::exact(took))).unwrap_or_default(),
        )
        .row("Ended", &ended.unwrap_or_default())
        .row("Attempt", &shown("attempt"))
        .row("Usage", &usage(result))
        .part(head, &ending(result))
        .finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> Value {
        json!({
            "step_id": "018f-s", "task_id": "018f-t", "agent": "researcher", "status": "succeeded", "attempt": 2,
            "accepted_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:01.250Z", "duration_ms": 1250,
            "outcome": {"status": "succeeded", "output": "because\nof that"}, "cost_usd": 0.0015,
            "usage": {"input_tokens": 120, "output_tokens": 30, "cost_microusd": 1500}
        })
    }

    #[test]
    fn the_table_has_what_was_said_on_one_line() {
        let failed = json!({"status": "failed", "outcome": {"failure": {"reason": "turns", "message": "12 used"}}});
        let table = RESULTS.render(&[with_words(&result()), with_words(&failed)], false, Utc::now());
        let rows: Vec<&str> = table.lines().collect();
        assert!(rows[0].starts_with("TASK") && rows[0].ends_with("SAID"), "{table}");
        assert!(rows[1].starts_with("018f-t") && rows[1].ends_with("1250  0.0015    because of that"), "{table}");
        assert!(rows[2].ends_with("turns: 12 used"), "{table}");
        assert_eq!(RESULTS.name_of(&result()), "018f-s");
    }

    #[test]
    fn the_sheet_has_time_usage_and_answer() {
        let sheet = sheet(&result(), Style::PLAIN);
        assert!(sheet.contains("Status:         succeeded in 1.2 s\n"), "{sheet}");
        assert!(sheet.contains("Usage:          120 tokens in, 30 out, $0.001500\n"), "{sheet}");
        assert!(sheet.contains("Attempt:        2\n"), "{sheet}");
        assert!(sheet.contains("\nAnswer\n  because\n  of that\n"), "{sheet}");
    }

    #[test]
    fn the_statuses_are_those_that_steps_end_in() {
        use troupe_runtime::domain::step::StepStatus;
        let ours: Vec<&str> = Status::value_variants().iter().map(|status| status.as_str()).collect();
        let ends: Vec<&str> =
            StepStatus::ALL.into_iter().filter(|status| status.is_terminal()).map(StepStatus::as_str).collect();
        assert_eq!(ours, ends);
    }
}
