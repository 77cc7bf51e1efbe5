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

/// Letters that are asked for in one go.
const PAGE: u32 = 500;
/// Pages that a command reads at most: ten million letters.
const PAGES_MAX: u32 = 20_000;

/// Verbs of `troupe dlq`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List dead letters, newest first
    #[command(visible_alias = "list")]
    Ls {
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE)))]
        limit: u32,
        /// Go on where an earlier list ended
        #[arg(long)]
        cursor: Option<String>,
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
        Verb::Ls { limit, cursor } => {
            let body = page(client, limit, cursor).await?;
            printer.list(&LETTERS, &body, items(&body))?;
            printer.more(&body);
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

async fn page(client: &Client, limit: u32, cursor: Option<String>) -> Result<Value, Error> {
    let mut query = vec![("limit", limit.to_string())];
    query.extend(cursor.map(|cursor| ("cursor", cursor)));
    Ok(client.dead_letters(&query).await?)
}

/// All letters that are there now, page by page.
async fn ids(client: &Client) -> Result<Vec<String>, Error> {
    let (mut ids, mut cursor) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let body = page(client, PAGE, cursor).await?;
        ids.extend(items(&body).iter().map(|letter| text_at(letter, "id").to_owned()));
        cursor = at(&body, "next").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            return Ok(ids);
        }
    }
    let message = format!("there are more than {} dead letters; name the ones you mean", ids.len());
    Err(Error::Said { exit: Exit::Error, message })
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
    use std::collections::HashMap;

    use axum::extract::Query;
    use axum::routing::get;
    use axum::{Json, Router};
    use serde_json::json;

    use super::*;
    use crate::client::ClientOptions;

    #[tokio::test]
    async fn all_letters_are_all_of_them_however_many_pages() {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let list = |Query(query): Query<HashMap<String, String>>| async move {
            let first: u32 = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
            let limit: u32 = query["limit"].parse().unwrap();
            let items: Vec<Value> = (first..1_200.min(first + limit)).map(|n| json!({"id": format!("d{n}")})).collect();
            let next = (first + limit < 1_200).then(|| (first + limit).to_string());
            Json(json!({"items": items, "next": next}))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/dead-letters", get(list))).await });
        let client = Client::new(ClientOptions { url, ..ClientOptions::default() }).unwrap();
        let all = chosen(&client, &Letters { ids: Vec::new(), all: true }).await.unwrap();
        assert_eq!((all.len(), all.last().map(String::as_str)), (1_200, Some("d1199")));
        assert_eq!(resolve(&client, "d119").await.unwrap(), "d119", "an id that is whole");
        assert!(resolve(&client, "d118").await.is_ok() && resolve(&client, "d11").await.is_ok());
        assert!(resolve(&client, "d").await.unwrap_err().to_string().contains("1200 dead letters begin with d"));
    }

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
