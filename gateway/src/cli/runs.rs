//! `troupe runs`: how a run stands, what happened inside it, and whether that fits; from the journal that recovery uses.
//!
//! Called by the command line; asks the admin API and prints. A replay of a recording asks nobody. A run that is not there,
//! or whose journal does not fit, ends with exit code 3.

mod fork;
mod replay;
mod show;

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::Value;

use super::exit::Exit;
use super::printer::{Format, Printer};
use super::sheet::safe;
use super::table::{at, grid, one_line, plain, text_at};
use super::tasks::{latest_run, whole};
use super::{Error, Global, reach};
use crate::client::{self, Client};
use crate::recording;

/// Characters of an entry's text in the table.
const WHAT_CHARS_MAX: usize = 80;

/// Verbs of `troupe runs`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show how a run stands: status, attempts, usage, cost, the spec that it pins
    #[command(visible_alias = "get")]
    Show {
        /// The run's id, or a task's: then its latest run
        id: String,
    },
    /// Print the journal of a run: every model call, tool call and failure that is on record
    #[command(
        after_help = "With -o json it is a recording: all that a replay needs, one entry a line, a checksum each.\n\n\
        Example: troupe runs journal 018f -o json > run.json && troupe runs replay --verify run.json"
    )]
    Journal {
        /// The run's id, or a task's: then its latest run
        id: String,
    },
    /// Fold the journal of a run once more, entry by entry, without any model or tool
    #[command(
        after_help = "With --verify it ends with 0 when every entry fits and the outcome is the stored one, with 3 and the\n\
        number of the entry when one is damaged or does not fit. A recording needs no node and no network.\n\n\
        Examples:\n  troupe runs replay 018f\n  troupe runs replay --verify 018f\n  troupe runs replay --verify run.json"
    )]
    Replay(replay::Replay),
    /// Make a new task that keeps what a run had done before a place, and goes on from there
    #[command(
        after_help = "What is kept is neither asked nor called again and costs nothing. Calls of tools behind the place are made\n\
        anew, under keys of their own, whatever they do. The original stays as it is; nobody is sent a reply.\n\n\
        Examples:\n  troupe runs fork 018f --from-step 2 --set model=small\n  troupe runs fork 018f --from-entry 3 --wait"
    )]
    Fork(fork::Fork),
}

/// Does what the verb says.
pub async fn run(verb: Verb, global: &Global, printer: &mut Printer) -> Result<Exit, Error> {
    match verb {
        Verb::Show { id } => show::run(&id, &reach::client(global)?, printer).await,
        Verb::Journal { id } => {
            let body = journal_of(&reach::client(global)?, &id).await?;
            print(&body, printer)
        }
        Verb::Fork(fork) => fork::run(fork, &reach::client(global)?, printer).await,
        Verb::Replay(replay) => replay::run(replay, || reach::client(global), printer).await,
    }
}

fn print(body: &Value, printer: &mut Printer) -> Result<Exit, Error> {
    let entries = entries(body);
    match printer.format() {
        Format::Json => printer.line(&recording::text(body))?,
        Format::Yaml => printer.document(body)?,
        Format::Name => {
            entries.iter().try_for_each(|entry| printer.line(&at(entry, "seq").map(plain).unwrap_or_default()))?;
        }
        Format::Table | Format::Wide if entries.is_empty() => printer.note("no entries yet"),
        format @ (Format::Table | Format::Wide) => {
            let copied = at(body, "brief.copied").and_then(Value::as_u64).unwrap_or_default();
            printer.line(&render(&entries, copied, format == Format::Wide))?;
        }
    }
    Ok(Exit::Ok)
}

/// The journal of the run, or of the latest run of the task, that `id` names.
pub async fn journal_of(client: &Client, id: &str) -> Result<Value, client::Error> {
    let missing = match client.journal(id).await {
        Err(client::Error::Refused(problem)) if matches!(problem.status, 400 | 404) => problem,
        other => return other,
    };
    // Most ids at hand are tasks'.
    match client.task(id, Duration::ZERO).await {
        Ok(body) => match latest_run(whole(&body)) {
            Some(run) => client.journal(&run).await,
            None => Err(client::Error::Refused(missing)),
        },
        Err(_) => Err(client::Error::Refused(missing)),
    }
}

/// The entries of a journal, whether they stand in one list or under the steps of the run.
#[must_use]
pub fn entries(body: &Value) -> Vec<Value> {
    if let Some(list) = body.as_array() {
        return list.clone();
    }
    if let Some(list) = body.get("entries").and_then(Value::as_array) {
        return list.clone();
    }
    let steps = body.get("steps").and_then(Value::as_array);
    steps.map(|steps| steps.iter().flat_map(entries).collect()).unwrap_or_default()
}

/// How many model calls are on record.
#[must_use]
pub fn turns(entries: &[Value]) -> usize {
    entries.iter().filter(|entry| text_at(entry, "kind") == "model_result").count()
}

/// The journal as a table, its first entries marked as `copied` by a fork; `wide` does not cut what was said.
#[must_use]
pub fn render(entries: &[Value], copied: u64, wide: bool) -> String {
    let start = entries.first().and_then(time);
    let mut answers = 0_usize;
    let rows = entries.iter().map(|entry| {
        answers += turns(std::slice::from_ref(entry));
        let kept =
            if at(entry, "seq").and_then(Value::as_u64).is_some_and(|seq| seq < copied) { " (copied)" } else { "" };
        let after = start.zip(time(entry)).map(|(start, at)| format!("+{} ms", (at - start).num_milliseconds()));
        let what = if wide { one_line(&what(entry), usize::MAX) } else { one_line(&what(entry), WHAT_CHARS_MAX) };
        vec![
            at(entry, "seq").map(plain).unwrap_or_default(),
            answers.saturating_sub(1).to_string(),
            at(entry, "attempt").map(plain).unwrap_or_default(),
            after.unwrap_or_default(),
            format!("{}{kept}", text_at(entry, "kind").replace('_', " ")),
            what,
            tokens(entry),
        ]
    });
    let head = ["SEQ", "TURN", "ATTEMPT", "AT", "KIND", "WHAT", "TOKENS"].map(str::to_owned).to_vec();
    grid(head, rows)
}

/// What an entry records, in a few words.
#[must_use]
pub fn what(entry: &Value) -> String {
    let text = |field: &str| text_at(entry, field).to_owned();
    let said = match text_at(entry, "kind") {
        "model_result" => {
            let calls = at(entry, "completion.tool_calls").and_then(Value::as_array);
            let wanted: Vec<String> = calls.into_iter().flatten().map(call).collect();
            let answer = text("completion.text");
            if wanted.is_empty() { answer } else { format!("{answer} → {}", wanted.join(", ")) }
        }
        "tool_intent" => format!("{} is about to be called", text("tool")),
        "tool_result" => {
            let mark = if entry.get("is_error") == Some(&Value::Bool(true)) { " failed" } else { "" };
            format!("{}{mark}: {}", text("tool"), text("content"))
        }
        "clarification_raised" => text("clarification.guidance"),
        "clarification_answered" => at(entry, "answer").map(plain).unwrap_or_default(),
        "attempt_failed" => format!("{}: {}", text("failure.reason"), text("failure.message")),
        "cancelled" => text("reason"),
        _ => entry.to_string(),
    };
    safe(said.trim())
}

fn call(call: &Value) -> String {
    format!("{}({})", text_at(call, "name"), at(call, "arguments").map(ToString::to_string).unwrap_or_default())
}

fn tokens(entry: &Value) -> String {
    let number = |field: &str| at(entry, field).and_then(Value::as_u64);
    match (number("completion.usage.input_tokens"), number("completion.usage.output_tokens")) {
        (Some(input), Some(output)) => format!("{input} + {output}"),
        _ => String::new(),
    }
}

fn time(entry: &Value) -> Option<DateTime<Utc>> {
    text_at(entry, "at").parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_runtime::domain::chat::{Completion, Finish, ToolCall, Usage};
    use troupe_runtime::domain::journal::{Act, Entry};
    use troupe_runtime::domain::outcome::{Failure, Reason};

    use super::*;

    /// Entries as the API writes them: the domain's own form.
    fn journal() -> Vec<Value> {
        let completion = |text: &str, tool_calls: Vec<ToolCall>| Completion {
            text: text.into(),
            finish: if tool_calls.is_empty() { Finish::Stop } else { Finish::ToolCalls },
            tool_calls,
            usage: Usage { input_tokens: 12, output_tokens: 3, cost_microusd: 0 },
            provider: "scripted".into(),
            model: "demo".into(),
            request_id: None,
        };
        let wait = ToolCall { id: "c1".into(), name: "wait".into(), arguments: json!({"seconds": 0.6}) };
        let failure = Failure { reason: Reason::Model, message: "503".into(), retryable: true };
        let acts = [
            Act::AttemptFailed { failure },
            Act::ModelResult { completion: completion("", vec![wait]), request: None },
            Act::ToolResult {
                call_id: "c1".into(),
                tool: "wait".into(),
                content: "no\nsuch host".into(),
                is_error: true,
            },
            Act::ModelResult { completion: completion("All is well.", vec![]), request: None },
        ];
        let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let entry = |(n, act)| Entry {
            seq: n,
            attempt: 1 + n.min(1),
            at: start + Duration::from_millis(u64::from(n) * 250),
            act,
        };
        (0..).zip(acts).map(|pair| serde_json::to_value(entry(pair)).unwrap()).collect()
    }

    #[test]
    fn a_journal_reads_from_top_to_bottom() {
        let expected = "\
SEQ  TURN  ATTEMPT  AT       KIND                     WHAT                       TOKENS
0    0     1        +0 ms    attempt failed (copied)  model: 503
1    0     2        +250 ms  model result             → wait({\"seconds\":0.6})    12 + 3
2    0     2        +500 ms  tool result              wait failed: no such host
3    1     2        +750 ms  model result             All is well.               12 + 3";
        assert_eq!(render(&journal(), 1, false), expected);
        assert_eq!(turns(&journal()), 2);
    }

    #[test]
    fn entries_are_found_in_every_shape() {
        let journal = journal();
        assert_eq!(entries(&json!(journal)), journal);
        assert_eq!(entries(&json!({"run": "r", "entries": journal})), journal);
        assert_eq!(entries(&json!({"steps": [{"entries": journal}]})), journal);
        assert!(entries(&json!({})).is_empty());
    }

    #[test]
    fn long_answers_are_cut_unless_wide() {
        let entry = json!({"seq": 0, "kind": "cancelled", "reason": "x".repeat(500)});
        assert!(!render(std::slice::from_ref(&entry), 0, false).contains(&"x".repeat(100)));
        assert!(render(&[entry], 0, true).contains(&"x".repeat(500)));
    }
}
