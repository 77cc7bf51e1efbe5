//! `troupe dlq`: the events that were given up, why, and what to do with them.
//!
//! A letter may be named by the beginning of its id. Several are replayed or purged one after the other; the first that
//! cannot be ends the command, and what was done before stays done.

use chrono::Utc;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::Error;
use super::age;
use super::exit::Exit;
use super::printer::Printer;
use super::sheet::Sheet;
use super::style::Style;
use super::table::{Column, Listing, Shown, at, plain, text_at};
use crate::client::{Client, items};

/// Letters that one listing holds at most.
const LETTERS_MAX: u32 = 1000;

/// Verbs of `troupe dlq`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List dead letters, newest first
    #[command(visible_alias = "list")]
    Ls {
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(LETTERS_MAX)))]
        limit: u32,
    },
    /// Show one dead letter with its event and what went wrong
    #[command(visible_alias = "get")]
    Show {
        /// The letter's id, or the beginning of it
        id: String,
    },
    /// Put the events of dead letters into their queues again
    Replay(Letters),
    /// Remove dead letters for good
    Purge(Letters),
}

/// Which letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Letters {
    /// Ids, or the beginnings of them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All that are there now
    #[arg(long)]
    all: bool,
}

const LETTERS: Listing = Listing {
    things: "dead letters",
    name: "id",
    columns: &[
        Column::new("ID", "id", Shown::Plain),
        Column::new("QUEUE", "queue", Shown::Plain),
        Column::new("CAUSE", "cause", Shown::Plain),
        Column::new("ATTEMPTS", "attempts", Shown::Plain),
        Column::new("AGE", "at", Shown::Age),
        Column::new("LAST ERROR", "last_error", Shown::Plain),
        Column::wide("TOPIC", "event.type", Shown::Plain),
        Column::wide("EVENT", "event.id", Shown::Plain),
        Column::wide("FIRST ERROR", "first_error", Shown::Plain),
    ],
};

/// Does what the verb says.
pub async fn run(verb: Verb, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    match verb {
        Verb::Ls { limit } => {
            let body = client.dead_letters(&[("limit", limit.to_string())]).await?;
            printer.list(&LETTERS, &body, items(&body))?;
        }
        Verb::Show { id } => {
            let id = resolve(client, &id).await?;
            let body = client.dead_letter(&id).await?;
            printer.one(&body, &id, |style| sheet(&body, style))?;
        }
        Verb::Replay(letters) => {
            for id in chosen(client, &letters).await? {
                let body = client.replay(&id).await?;
                let event = ["event.id", "event_id", "id"].into_iter().find_map(|field| at(&body, field)).map(plain);
                printer.line(&event.unwrap_or_default())?;
                printer.note(&format!("dead letter {id} is back in its queue as a new event"));
            }
        }
        Verb::Purge(letters) => {
            for id in chosen(client, &letters).await? {
                client.purge(&id).await?;
                printer.note(&format!("dead letter {id} is gone"));
            }
        }
    }
    Ok(Exit::Ok)
}

async fn chosen(client: &Client, letters: &Letters) -> Result<Vec<String>, Error> {
    if letters.all {
        return ids(client).await;
    }
    let mut chosen = Vec::with_capacity(letters.ids.len());
    for id in &letters.ids {
        chosen.push(resolve(client, id).await?);
    }
    Ok(chosen)
}

async fn ids(client: &Client) -> Result<Vec<String>, Error> {
    let body = client.dead_letters(&[("limit", LETTERS_MAX.to_string())]).await?;
    Ok(items(&body).iter().map(|letter| text_at(letter, "id").to_owned()).collect())
}

/// The one letter whose id begins with `prefix`. An id that is not listed stays as it is: the node says what it is.
async fn resolve(client: &Client, prefix: &str) -> Result<String, Error> {
    if prefix.len() >= 36 {
        return Ok(prefix.to_owned());
    }
    let ids = ids(client).await?;
    let meant: Vec<&String> = ids.iter().filter(|id| id.starts_with(prefix)).collect();
    match meant.as_slice() {
        [] => Ok(prefix.to_owned()),
        [id] => Ok((*id).clone()),
        several if several.iter().any(|id| id.as_str() == prefix) => Ok(prefix.to_owned()),
        several => {
            let message = format!("{} dead letters begin with {prefix}; write more of the id", several.len());
            Err(Error::Said { exit: Exit::Usage, message })
        }
    }
}

fn sheet(letter: &Value, style: Style) -> String {
    let shown = |field: &str| at(letter, field).map(plain).unwrap_or_default();
    let age = at(letter, "at").and_then(Value::as_str).map(|then| age::since_text(then, Utc::now()));
    let event = letter.get("event").and_then(|event| serde_json::to_string_pretty(event).ok());
    Sheet::new(style)
        .row("Letter", &shown("id"))
        .row("Queue", &shown("queue"))
        .row("Cause", &shown("cause"))
        .row("Attempts", &shown("attempts"))
        .row("Given up", &age.map(|age| format!("{} ({age} ago)", shown("at"))).unwrap_or_default())
        .row("First error", &shown("first_error"))
        .row("Last error", &shown("last_error"))
        .part("Event", &event.unwrap_or_default())
        .finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_sheet_tells_first_and_last_error() {
        let letter = json!({
            "id": "d1", "queue": "agent.input.guide", "event": {"id": "e1", "type": "agent.task.guide"}, "cause": "retries",
            "attempts": 6, "first_error": "timeout", "last_error": "503", "at": "2026-01-01T00:00:00Z"
        });
        let sheet = sheet(&letter, Style::PLAIN);
        assert!(sheet.contains("Attempts:       6\n"), "{sheet}");
        assert!(sheet.contains("First error:    timeout\nLast error:     503\n"), "{sheet}");
        assert!(sheet.contains("\"type\": \"agent.task.guide\""), "{sheet}");
        let table = LETTERS.render(&[letter], true, Utc::now());
        assert!(table.contains("agent.task.guide") && table.contains("timeout"), "{table}");
    }
}
