//! `troupe agents`: who there is, how they stand, a fresh start for one that gave up, a pause, and the end of a removed one's queue.
//!
//! Called by the command line; asks the admin API and prints. A name that is not there ends with exit code 3, a
//! queue that is still needed with 4.

use chrono::Utc;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use troupe_runtime::domain::agent::ExecutionMode;

use super::Error;
use super::age;
use super::exit::Exit;
use super::printer::Printer;
use super::sheet::Sheet;
use super::style::Style;
use super::table::{Column, Listing, Shown, at, plain, text_at};
use crate::client::{Client, items};

/// Verbs of `troupe agents`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List agents
    #[command(visible_alias = "list")]
    Ls(Filter),
    /// Show one agent with its instances, what they have in hand, and their falls
    #[command(visible_alias = "get")]
    Show {
        /// The agent's name
        name: String,
    },
    /// Start an agent's actors again, with a fresh restart budget; steps under way go on from their journals
    Restart {
        /// The agent's name
        name: String,
    },
    /// Let nothing more in; what is under way goes on, events wait, until `resume` or the node's end
    Pause {
        /// The agent's name
        name: String,
    },
    /// Let events in again
    Resume {
        /// The agent's name
        name: String,
    },
    /// Drop the queue of an agent that is gone from the configuration, once it is empty
    Drop {
        /// The agent's name
        name: String,
    },
}

/// Which agents.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only those in this status: starting, ready, busy, paused, unavailable, retired
    #[arg(long)]
    status: Option<String>,
    /// Only those with this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only those with this execution mode
    #[arg(long = "mode", alias = "execution-mode", value_enum)]
    mode: Option<Mode>,
}

/// An execution mode on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Autonomous,
    Collaborative,
    Continuous,
    Scheduled,
}

impl From<Mode> for ExecutionMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Autonomous => Self::Autonomous,
            Mode::Collaborative => Self::Collaborative,
            Mode::Continuous => Self::Continuous,
            Mode::Scheduled => Self::Scheduled,
        }
    }
}

const AGENTS: Listing = Listing {
    things: "agents",
    name: "name",
    columns: &[
        Column::new("NAME", "name", Shown::Plain),
        Column::new("TYPE", "type", Shown::Plain),
        Column::new("MODE", "execution_mode", Shown::Plain),
        Column::new("STATUS", "status", Shown::Plain),
        Column::new("SINCE", "since", Shown::Age),
        Column::new("INSTANCES", "instances", Shown::Count),
        Column::new("STEPS", "steps", Shown::Plain),
        Column::new("RESTARTS", "restarts", Shown::Plain),
        Column::wide("MODEL", "model", Shown::Plain),
        Column::wide("SUBSCRIPTIONS", "subscriptions", Shown::Plain),
        Column::wide("REASON", "reason", Shown::Plain),
        Column::wide("LAST ERROR", "last_error", Shown::Plain),
    ],
};

const INSTANCES: Listing = Listing {
    things: "instances",
    name: "path",
    columns: &[
        Column::new("PATH", "path", Shown::Plain),
        Column::new("STATUS", "status", Shown::Plain),
        Column::new("SINCE", "since", Shown::Age),
        Column::new("STEPS", "steps", Shown::Plain),
        Column::new("RESTARTS", "restarts", Shown::Plain),
        Column::new("LAST ERROR", "last_error", Shown::Plain),
    ],
};

const STEPS: Listing = Listing {
    things: "steps",
    name: "step_id",
    columns: &[
        Column::new("STEP", "step_id", Shown::Plain),
        Column::new("TASK", "task_id", Shown::Plain),
        Column::new("SINCE", "since", Shown::Age),
        Column::new("DOING", "doing", Shown::Plain),
    ],
};

/// The restart ledger, of one actor or of all instances of an agent.
pub(super) const FALLS: Listing = Listing {
    things: "falls",
    name: "path",
    columns: &[
        Column::new("AGO", "at", Shown::Age),
        Column::new("PATH", "path", Shown::Plain),
        Column::new("THEN", "then", Shown::Plain),
        Column::new("AFTER MS", "after_ms", Shown::Plain),
        Column::new("IN HAND", "steps_in_hand", Shown::Plain),
        Column::new("CAUSE", "cause", Shown::Plain),
        Column::wide("STEPS", "steps", Shown::Plain),
    ],
};

/// Does what the verb says.
pub async fn run(verb: Verb, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    match verb {
        Verb::Ls(filter) => {
            let mode = filter.mode.map(|mode| ExecutionMode::from(mode).to_string());
            let query = [("status", filter.status), ("type", filter.kind), ("execution_mode", mode)];
            let query: Vec<_> = query.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            let body = client.agents(&query).await?;
            printer.list(&AGENTS, &body, items(&body))?;
        }
        Verb::Show { name } => {
            let body = client.agent(&name).await?;
            printer.one(&body, &name, |style| sheet(&body, style))?;
        }
        Verb::Restart { name } => {
            client.act_on_agent(&name, "restart").await?;
            printer.note(&format!("agent {name} starts again; look with `troupe agents show {name}`"));
        }
        Verb::Pause { name } => {
            let agent = client.act_on_agent(&name, "pause").await?;
            let steps = at(&agent, "steps").and_then(Value::as_u64).unwrap_or_default();
            printer.note(&format!("agent {name} takes nothing more in; steps that go on: {steps}"));
        }
        Verb::Resume { name } => {
            client.act_on_agent(&name, "resume").await?;
            printer.note(&format!("agent {name} takes events in again"));
        }
        Verb::Drop { name } => {
            client.drop_agent(&name).await?;
            printer.note(&format!("the queue of agent {name} is dropped"));
        }
    }
    Ok(Exit::Ok)
}

fn sheet(agent: &Value, style: Style) -> String {
    let shown = |field: &str| at(agent, field).map(plain).unwrap_or_default();
    let since = at(agent, "since").and_then(Value::as_str).map(|then| age::since_text(then, Utc::now()));
    let instances = list(agent, "instances");
    let table = rows(&INSTANCES, instances);
    let in_hand: Vec<Value> = instances.iter().flat_map(|one| list(one, "current").iter().cloned()).collect();
    let failed_at = at(agent, "last_failure_at").and_then(Value::as_str).map(|then| age::since_text(then, Utc::now()));
    let failure = failed_at.map(|ago| format!("{} ({ago} ago)", shown("last_failure"))).unwrap_or_default();
    Sheet::new(style)
        .row("Name", &shown("name"))
        .row("Type", &shown("type"))
        .row("Mode", &shown("execution_mode"))
        .status("Status", text_at(agent, "status"), &since.map(|since| format!("for {since}")).unwrap_or_default())
        .row("Reason", &shown("reason"))
        .row("Model", &shown("model"))
        .row("Subscriptions", &shown("subscriptions").replace(',', "\n"))
        .row("Steps", &shown("steps"))
        .row("Restarts", &shown("restarts"))
        .row("Last error", &shown("last_error"))
        .row("Last failure", &failure)
        .row("Problems", &problems(agent))
        .row("Spec", &shown("spec_digest"))
        .part("Instances", &table)
        .part("In hand", &rows(&STEPS, &in_hand))
        .part("Falls", &rows(&FALLS, list(agent, "falls")))
        .finish()
}

/// A table of what a sheet has below it; nothing when there is nothing.
pub(super) fn rows(listing: &Listing, items: &[Value]) -> String {
    if items.is_empty() { String::new() } else { listing.render(items, true, Utc::now()) }
}

/// The list at a field.
pub(super) fn list<'a>(thing: &'a Value, field: &str) -> &'a [Value] {
    at(thing, field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What is wrong with the agent's file, a line each; the version before is served.
fn problems(agent: &Value) -> String {
    let lines = agent.get("problems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agent() -> Value {
        json!({
            "name": "researcher", "type": "assistant", "execution_mode": "autonomous", "status": "unavailable",
            "reason": "3 restarts within 60 s", "since": Utc::now(), "subscriptions": ["slack.events.command.research", "a.#"],
            "model": "scripted/demo", "spec_digest": "abc", "steps": 0, "restarts": 3, "last_error": null,
            "last_failure": "model: no answer", "last_failure_at": Utc::now(),
            "instances": [{
                "path": "root/x/researcher/0", "status": "unavailable", "since": Utc::now(), "steps": 1, "restarts": 3,
                "last_error": "boom", "current": [{"step_id": "s1", "task_id": "t1", "since": null, "doing": null}]
            }],
            "falls": [{
                "at": Utc::now(), "path": "root/x/researcher/0", "cause": "boom", "then": "unavailable", "after_ms": null,
                "steps": ["s1"], "steps_in_hand": 1
            }]
        })
    }

    #[test]
    fn the_sheet_says_why_an_agent_is_unavailable() {
        let sheet = sheet(&agent(), Style::PLAIN);
        assert!(sheet.contains("Status:         unavailable for 0s\n"), "{sheet}");
        assert!(sheet.contains("Reason:         3 restarts within 60 s\n"), "{sheet}");
        assert!(sheet.contains("Subscriptions:  slack.events.command.research\n                a.#\n"), "{sheet}");
        assert!(sheet.contains("root/x/researcher/0  unavailable  0s     1      3         boom"), "{sheet}");
        assert!(sheet.contains("Last failure:   model: no answer (0s ago)\n"), "{sheet}");
        assert!(sheet.contains("  s1    t1    -      -"), "{sheet}");
        assert!(sheet.contains("  0s   root/x/researcher/0  unavailable  -         1        boom   s1"), "{sheet}");
        assert!(!sheet.contains("Last error:") && !sheet.contains("Problems:"), "{sheet}");
    }

    #[test]
    fn the_sheet_says_that_the_file_is_broken() {
        let mut agent = agent();
        agent["problems"] = json!(["a.yaml:1:1: bad, worse", "a.yaml:2:1: name is missing"]);
        let sheet = sheet(&agent, Style::PLAIN);
        let lines = "Problems:       a.yaml:1:1: bad, worse\n                a.yaml:2:1: name is missing\n";
        assert!(sheet.contains(lines), "{sheet}");
    }

    #[test]
    fn the_table_has_the_contract_s_words() {
        let table = AGENTS.render(&[agent()], false, Utc::now());
        let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["researcher", "assistant", "autonomous", "unavailable", "0s", "1", "0", "3"]);
    }

    #[test]
    fn the_modes_are_the_domain_s() {
        let modes: Vec<ExecutionMode> = Mode::value_variants().iter().map(|mode| (*mode).into()).collect();
        assert_eq!(modes, ExecutionMode::ALL);
    }
}
