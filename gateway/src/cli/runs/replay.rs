//! `troupe runs replay`: a journal folded once more, by the node that has it or from a recording without any node.
//!
//! Called by [`super::run`]. What does not fit ends with exit code 3, and with the number of the entry when it is one.

use std::io::Read as _;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::super::Error;
use super::super::exit::Exit;
use super::super::printer::{Format, Printer};
use super::super::table::{at, grid, plain, text_at};
use super::entries;
use crate::client::Client;
use crate::recording;

/// Largest recording that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Standard input instead of a file.
const STDIN: &str = "-";

/// What to replay.
#[derive(Debug, Args)]
pub struct Replay {
    /// A run's id, or a task's: then its latest run; or a recording: a file, or - for standard input
    #[arg(value_name = "RUN|FILE")]
    what: String,
    /// Check that the replay comes to the stored outcome
    #[arg(long)]
    verify: bool,
}

/// Replays and prints; `client` is asked for when there is a node to ask.
pub(super) async fn run(
    replay: Replay,
    client: impl FnOnce() -> Result<Client, Error>,
    printer: &mut Printer,
) -> Result<Exit, Error> {
    let Replay { what, verify } = replay;
    let report = if is_id(&what) { client()?.replay_run(&what).await? } else { of_file(&what)? };
    let lines = entries(&report);
    match printer.format() {
        Format::Json | Format::Yaml => printer.document(&report)?,
        Format::Name => {
            lines.iter().try_for_each(|line| printer.line(&at(line, "seq").map(plain).unwrap_or_default()))?;
        }
        Format::Table | Format::Wide if lines.is_empty() => printer.note("no entry could be replayed"),
        Format::Table | Format::Wide => printer.line(&render(&lines))?,
    }
    judge(&report, verify, printer)
}

/// Ends with 3 when something does not fit. An outcome that differs is nobody's business who did not ask for it.
fn judge(report: &Value, verify: bool, printer: &mut Printer) -> Result<Exit, Error> {
    let number = at(report, "finding.entry");
    if let Some(why) = at(report, "finding.why").filter(|_| verify || number.is_some() || entries(report).is_empty()) {
        let entry = number.map(|number| format!("entry {number}: ")).unwrap_or_default();
        let message = format!("{entry}{}", plain(why));
        return Err(Error::Said { exit: Exit::NotFound, message });
    }
    if verify {
        let count = entries(report).len();
        let fit = if count == 1 { "1 entry fits".to_owned() } else { format!("{count} entries fit") };
        printer.note(&match at(report, "outcome_digest") {
            Some(digest) => format!("{fit}; the outcome is the stored one, digest {}", plain(digest)),
            None => format!("{fit}; the run has not ended"),
        });
        if report["masked"] == json!(true) {
            printer.note("secrets are masked in this recording: its requests and keys were not compared");
        }
    }
    Ok(Exit::Ok)
}

/// Whether it can be the beginning of an id; anything else is a file.
fn is_id(what: &str) -> bool {
    let digits = what.chars().filter(|c| *c != '-').collect::<String>();
    (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn of_file(path: &str) -> Result<Value, Error> {
    let unread = |error: std::io::Error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Error };
        Error::Said { exit, message: format!("{path} is no id, and cannot be read as a recording: {error}") }
    };
    let mut bytes = Vec::new();
    if path == STDIN {
        std::io::stdin().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unread)?;
    } else {
        let file = std::fs::File::open(Path::new(path)).map_err(unread)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unread)?;
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("{path} is larger than the {FILE_BYTES_MAX} bytes that are read");
        return Err(Error::Said { exit: Exit::Error, message });
    }
    Ok(json!(recording::read(&bytes).replayed()))
}

fn render(lines: &[Value]) -> String {
    let rows = lines.iter().map(|line| {
        let number = |field: &str| at(line, field).map(plain).unwrap_or_default();
        let tokens = |field: &str| at(line, field).and_then(Value::as_u64).unwrap_or_default();
        let copied = if line["copied"] == json!(true) { " (copied)" } else { "" };
        vec![
            number("seq"),
            number("attempt"),
            format!("{}{copied}", text_at(line, "kind").replace('_', " ")),
            text_at(line, "phase").to_owned(),
            number("turns"),
            (tokens("usage.input_tokens") + tokens("usage.output_tokens")).to_string(),
            format!("{:.6}", tokens("usage.cost_microusd") as f64 / 1e6),
        ]
    });
    let head = ["SEQ", "ATTEMPT", "KIND", "THEN", "TURNS", "TOKENS", "COST USD"].map(str::to_owned).to_vec();
    grid(head, rows)
}

#[cfg(test)]
mod tests {
    use super::super::super::printer::tests::captured;
    use super::*;

    fn report(finding: &Value) -> Value {
        let line = |seq: u32, kind: &str, phase: &str, copied: bool| {
            json!({"seq": seq, "attempt": 1, "kind": kind, "phase": phase, "turns": 1, "copied": copied,
                "usage": {"input_tokens": 10, "output_tokens": 5, "cost_microusd": 7}})
        };
        json!({
            "verified": finding.is_null(), "masked": false, "outcome_digest": "0ff1ce", "finding": finding,
            "entries": [line(0, "model_result", "acting", true), line(1, "tool_result", "thinking", false)],
        })
    }

    fn judged(finding: &Value, verify: bool) -> Result<String, (u8, String)> {
        let (mut printer, _, err) = captured(Format::Table);
        match judge(&report(finding), verify, &mut printer) {
            Ok(_) => Ok(err.text()),
            Err(error) => Err((error.exit().code(), error.to_string())),
        }
    }

    #[test]
    fn the_table_tells_what_the_run_had_come_to() {
        let expected = "\
SEQ  ATTEMPT  KIND                   THEN      TURNS  TOKENS  COST USD
0    1        model result (copied)  acting    1      15      0.000007
1    1        tool result            thinking  1      15      0.000007";
        assert_eq!(render(&entries(&report(&Value::Null))), expected);
    }

    #[test]
    fn what_does_not_fit_ends_with_3_and_the_number_of_the_entry() {
        assert_eq!(
            judged(&Value::Null, true),
            Ok("2 entries fit; the outcome is the stored one, digest 0ff1ce\n".into())
        );
        assert_eq!(judged(&Value::Null, false), Ok(String::new()));
        let entry = json!({"entry": 2, "why": "this tool_result does not fit a step that is Thinking: x"});
        for verify in [true, false] {
            let said = "entry 2: this tool_result does not fit a step that is Thinking: x".to_owned();
            assert_eq!(judged(&entry, verify), Err((3, said)));
        }
        let outcome = json!({"entry": null, "why": "another outcome"});
        assert_eq!(judged(&outcome, true), Err((3, "another outcome".into())));
        assert_eq!(judged(&outcome, false), Ok(String::new()));
    }

    #[test]
    fn what_is_no_id_is_a_file() {
        for id in ["018f", "0190A0-0", "0190a000-0000-7000-8000-00000000000f"] {
            assert!(is_id(id), "{id}");
        }
        for file in ["run.json", "-", "./018f", "", "018f.json"] {
            assert!(!is_id(file), "{file}");
        }
        let error = of_file("no-such-file.json").unwrap_err();
        assert_eq!(error.exit().code(), 3);
    }
}
