//! `troupe actors`: the live tree, what there is to know of one actor, and the switches that kill and restart.
//!
//! Called by the command line; asks the admin API and prints. A path that is not there ends with exit code 3. A watch
//! goes on over a node that is away for a moment, and ends with Ctrl-C or after `--count` pictures.

use std::time::Duration;

use chrono::Utc;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::Error;
use super::age;
use super::agents::{FALLS, list, rows};
use super::exit::Exit;
use super::printer::{Format, Printer};
use super::sheet::Sheet;
use super::style::Style;
use super::table::{Column, Listing, Shown, at, plain, text_at};
use super::tree;
use crate::client::{Client, items};

/// Verbs of `troupe actors`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Draw the live tree
    Tree(Drawing),
    /// List every actor
    #[command(visible_alias = "list")]
    Ls,
    /// Show one actor with its falls
    Inspect {
        /// The actor's path, as `actors ls` shows it
        path: String,
    },
    /// Cut an actor off, as a crash would; its supervisor starts it again
    Kill {
        /// The actor's path, as `actors ls` shows it
        path: String,
    },
    /// Have an actor started again at once, without a charge to its restart budget
    Restart {
        /// The actor's path, as `actors ls` shows it
        path: String,
    },
}

/// Whether the tree is drawn once or again and again.
#[derive(Debug, Args)]
pub struct Drawing {
    /// Draw it again and again, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// How often it is drawn again
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = age::parse, requires = "watch")]
    every: Duration,
    /// End after so many pictures
    #[arg(short = 'n', long, requires = "watch")]
    count: Option<u64>,
}

const ACTORS: Listing = Listing {
    things: "actors",
    name: "path",
    columns: &[
        Column::new("PATH", "path", Shown::Plain),
        Column::new("KIND", "kind", Shown::Plain),
        Column::new("STATE", "state", Shown::Plain),
        Column::new("RESTARTS", "restarts", Shown::Plain),
        Column::new("SINCE", "since", Shown::Age),
        Column::new("STEP", "step", Shown::Plain),
        Column::wide("MAILBOX", "mailbox_depth", Shown::Plain),
        Column::wide("NODE", "node", Shown::Plain),
        Column::wide("LAST ERROR", "last_error", Shown::Plain),
    ],
};

/// Does what the verb says.
pub async fn run(verb: Verb, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    match verb {
        Verb::Tree(Drawing { watch: true, every, count }) => {
            tokio::select! {
                ended = watch(client, printer, every, count) => return ended,
                stop = tokio::signal::ctrl_c() => stop?,
            }
        }
        Verb::Tree(_) => draw(&client.actors().await?, printer)?,
        Verb::Ls => {
            let body = client.actors().await?;
            printer.list(&ACTORS, &body, items(&body))?;
        }
        Verb::Inspect { path } => {
            let body = client.actor(&path).await?;
            printer.one(&body, text_at(&body, "path"), |style| sheet(&body, style))?;
        }
        Verb::Kill { path } => {
            client.act_on_actor(&path, "kill").await?;
            printer.note(&format!("{path} is cut off; look at `troupe actors tree`"));
        }
        Verb::Restart { path } => {
            client.act_on_actor(&path, "restart").await?;
            printer.note(&format!("{path} starts again; look at `troupe actors inspect {path}`"));
        }
    }
    Ok(Exit::Ok)
}

/// Draws the tree again and again; a node that is away is waited for once it has been seen.
async fn watch(client: &Client, printer: &mut Printer, every: Duration, count: Option<u64>) -> Result<Exit, Error> {
    let mut drawn: u64 = 0;
    while count.is_none_or(|count| drawn < count) {
        if drawn > 0 {
            tokio::time::sleep(every).await;
        }
        match client.actors().await {
            Ok(body) => {
                printer.clear()?;
                draw(&body, printer)?;
                drawn += 1;
            }
            Err(error) if drawn > 0 && error.is_passing() => printer.note(&error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Exit::Ok)
}

fn draw(body: &Value, printer: &mut Printer) -> std::io::Result<()> {
    match printer.format() {
        Format::Table | Format::Wide => {
            let drawn = tree::draw(items(body), printer.style(), Utc::now());
            printer.line(&drawn)
        }
        Format::Json | Format::Yaml | Format::Name => printer.list(&ACTORS, body, items(body)),
    }
}

fn sheet(actor: &Value, style: Style) -> String {
    let shown = |field: &str| at(actor, field).map(plain).unwrap_or_default();
    let since = at(actor, "since").and_then(Value::as_str).map(|then| age::since_text(then, Utc::now()));
    Sheet::new(style)
        .row("Path", &shown("path"))
        .row("Kind", &shown("kind"))
        .row("Node", &shown("node"))
        .status("State", text_at(actor, "state"), &since.map(|since| format!("for {since}")).unwrap_or_default())
        .row("Doing", &shown("step"))
        .row("Mailbox", &shown("mailbox_depth"))
        .row("Restarts", &shown("restarts"))
        .row("Last error", &shown("last_error"))
        .part("Falls", &rows(&FALLS, list(actor, "falls")))
        .finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_sheet_of_an_actor_tells_of_its_falls() {
        let actor = json!({
            "path": "root/relay", "kind": "relay", "state": "running", "since": Utc::now(), "restarts": 1,
            "mailbox_depth": 0, "step": null, "last_error": "killed", "node": "a",
            "falls": [{
                "at": Utc::now(), "path": "root/relay", "cause": "killed", "then": "restarted", "after_ms": 480,
                "steps": [], "steps_in_hand": 0
            }]
        });
        let sheet = sheet(&actor, Style::PLAIN);
        assert!(sheet.contains("State:          running for 0s\n"), "{sheet}");
        assert!(sheet.contains("  0s   root/relay  restarted  480       0        killed"), "{sheet}");
        assert!(!sheet.contains("Doing:"), "{sheet}");
    }
}
