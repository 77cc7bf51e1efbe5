//! `troupe agents`: who there is, how they stand, and a fresh start for one that gave up.
//!
//! Called by the command line; asks the admin API and prints. A name that is not there ends with exit code 3.

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
    /// Show one agent with its instances
    #[command(visible_alias = "get")]
    Show {
        /// The agent's name
        name: String,
    },
    /// Start an agent's instances again, with a fresh restart budget
    Restart {
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
        Column::new("STEPS", "steps", Shown::Plain),
        Column::new("RESTARTS", "restarts", Shown::Plain),
        Column::new("LAST ERROR", "last_error", Shown::Plain),
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
            client.restart_agent(&name).await?;
            printer.note(&format!("agent {name} starts again; look with `troupe agents show {name}`"));
        }
    }
    Ok(Exit::Ok)
}

fn sheet(agent: &Value, style: Style) -> String {
    let shown = |field: &str| at(agent, field).map(plain).unwrap_or_default();
    let since = at(agent, "since").and_then(Value::as_str).map(|then| age::since_text(then, Utc::now()));
    let instances = agent.get("instances").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let table = if instances.is_empty() { String::new() } else { INSTANCES.render(instances, true, Utc::now()) };
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
        .row("Spec", &shown("spec_digest"))
        .part("Instances", &table)
        .finish()
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
            "instances": [{"path": "root/x/researcher/0", "status": "unavailable", "steps": 0, "restarts": 3, "last_error": "boom"}]
        })
    }

    #[test]
    fn the_sheet_says_why_an_agent_is_unavailable() {
        let sheet = sheet(&agent(), Style::PLAIN);
        assert!(sheet.contains("Status:         unavailable for 0s\n"), "{sheet}");
        assert!(sheet.contains("Reason:         3 restarts within 60 s\n"), "{sheet}");
        assert!(sheet.contains("Subscriptions:  slack.events.command.research\n                a.#\n"), "{sheet}");
        assert!(sheet.contains("root/x/researcher/0  unavailable  0      3         boom"), "{sheet}");
        assert!(!sheet.contains("Last error:"), "{sheet}");
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
