//! `troupe runs fork`: a new task that keeps what a run had done before a place, and goes on from there.
//!
//! Called by [`super::run`]. The fork is named before it is asked for (an idempotency key), so a call that broke may be made
//! again; with `--key` also by somebody else. Its id is all that stands on stdout.

use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};
use troupe_runtime::domain::ids::new_event_id;

use super::super::age;
use super::super::ask::{self, AskOptions, WAIT_DEFAULT_TEXT};
use super::super::exit::Exit;
use super::super::printer::Printer;
use super::super::table::{at, text_at};
use super::super::{Error, counted};
use crate::client::Client;

/// What to fork, and where.
#[derive(Debug, Args)]
pub struct Fork {
    /// The run's id, or a task's: then its latest run
    #[arg(value_name = "RUN")]
    id: String,
    /// Go on from this step, counted from 0: in a run of one step from this turn (TURN in `runs journal`)
    #[arg(long, value_name = "N", required_unless_present = "from_entry", conflicts_with = "from_entry")]
    from_step: Option<u32>,
    /// Go on from this entry (SEQ in `runs journal`), inside a turn too
    #[arg(long, value_name = "SEQ")]
    from_entry: Option<u32>,
    /// Have the fork do something otherwise; may be repeated
    #[arg(
        help = "Have the fork do something otherwise: model, max_output_tokens, instructions, limits.turns, limits.tokens, \
                limits.cost_usd, limits.timeout; may be repeated",
        long,
        value_name = "KEY=VALUE",
        value_parser = pair
    )]
    set: Vec<(String, String)>,
    /// The same key for the same run is the same fork
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// Wait for the answer and print it; at most so long (30s, 5m), 10m when not told
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "SPAN", value_parser = age::parse)]
    #[arg(default_missing_value = WAIT_DEFAULT_TEXT)]
    wait: Option<Duration>,
}

/// Asks and prints; waits when told to.
pub(super) async fn run(fork: Fork, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    let key = fork.key.clone().unwrap_or_else(new_event_id);
    let body = body(&fork)?;
    let options = AskOptions::new(printer.is_live());
    let made = ask::patiently(&options, || client.fork_run(&fork.id, &body, &key)).await?;
    let id = text_at(&made, "id").to_owned();
    if let Some(limit) = fork.wait {
        printer.note(&said(&made));
        let task = ask::wait(client, &id, limit, &options, printer).await?;
        return ask::tell(&id, task.as_ref(), limit, printer);
    }
    printer.one(&made, &id, |_| id.clone())?;
    printer.note(&said(&made));
    Ok(Exit::Ok)
}

fn body(fork: &Fork) -> Result<Value, Error> {
    let mut set = Map::new();
    for (key, value) in &fork.set {
        if set.insert(key.clone(), json!(value)).is_some() {
            return Err(Error::Said { exit: Exit::Usage, message: format!("--set {key} is given twice") });
        }
    }
    let mut body = json!({"set": set});
    match (fork.from_step, fork.from_entry) {
        (Some(step), _) => body["from_step"] = json!(step),
        (None, entry) => body["from_entry"] = json!(entry),
    }
    Ok(body)
}

/// What was kept, in a sentence.
fn said(made: &Value) -> String {
    let steps = at(made, "steps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let kept = steps.iter().filter_map(|step| at(step, "copied").and_then(Value::as_u64)).sum::<u64>();
    let kept = if kept == 0 {
        "keeps nothing".to_owned()
    } else {
        format!("keeps {} without asking again", counted(kept as usize, "entry", "entries"))
    };
    let (run, id) = (text_at(made, "forked_from.run_id"), text_at(made, "id"));
    format!("a fork of run {run}; it {kept}; look with `troupe tasks show {id}`")
}

/// `key=value`; the value may hold anything.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write key=value, as model=small".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fork(set: &[&str], step: Option<u32>, entry: Option<u32>) -> Fork {
        let set = set.iter().map(|text| pair(text).unwrap()).collect();
        Fork { id: "018f".into(), from_step: step, from_entry: entry, set, key: None, wait: None }
    }

    #[test]
    fn the_body_says_the_place_and_what_changes() {
        let asked = body(&fork(&["model=a=b", "limits.turns=3"], Some(2), None)).unwrap();
        assert_eq!(asked, json!({"from_step": 2, "set": {"model": "a=b", "limits.turns": "3"}}));
        assert_eq!(body(&fork(&[], None, Some(4))).unwrap(), json!({"from_entry": 4, "set": {}}));
        let twice = body(&fork(&["model=a", "model=b"], Some(0), None)).unwrap_err();
        assert_eq!((twice.exit(), twice.to_string().as_str()), (Exit::Usage, "--set model is given twice"));
        for bad in ["model", "=x", " =x", ""] {
            assert!(pair(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_note_says_what_is_kept() {
        let made = |copied: u32| json!({"id": "t", "forked_from": {"run_id": "r"}, "steps": [{"copied": copied}]});
        let note = "a fork of run r; it keeps 2 entries without asking again; look with `troupe tasks show t`";
        assert_eq!(said(&made(2)), note);
        assert!(said(&made(1)).contains("1 entry"), "{}", said(&made(1)));
        assert!(said(&made(0)).contains("keeps nothing;"));
    }
}
