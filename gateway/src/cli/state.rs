//! `troupe state`: what an agent remembers between events, session by session; and dropping what is kept ready of it.
//!
//! Called by the command line; asks the admin API and prints. A session that is not there ends with exit code 3.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Error;
use super::exit::Exit;
use super::printer::Printer;
use super::sheet::Sheet;
use super::style::Style;
use super::table::{Column, Listing, Shown, at, plain, text_at};
use crate::client::{Client, items};

/// Verbs of `troupe state`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the sessions that an agent remembers something of, or show what it remembers of one
    #[command(visible_alias = "get")]
    Show(Show),
    /// Drop what this node and Redis keep ready of an agent's memory; what it remembers is in the database and stays
    Flush {
        /// The agent's name
        agent: String,
    },
}

/// Whose state.
#[derive(Debug, Args)]
pub struct Show {
    /// The agent's name
    agent: String,
    /// What it remembers of this session
    #[arg(long)]
    session: Option<String>,
    /// At most so many sessions
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "session")]
    limit: u32,
    /// Go on where an earlier list ended
    #[arg(long, conflicts_with = "session")]
    cursor: Option<String>,
}

const SESSIONS: Listing = Listing {
    things: "sessions",
    name: "session",
    columns: &[
        Column::new("SESSION", "session", Shown::Plain),
        Column::new("VERSION", "version", Shown::Plain),
        Column::new("BYTES", "bytes", Shown::Plain),
        Column::new("AGE", "updated_at", Shown::Age),
        Column::wide("UPDATED", "updated_at", Shown::Plain),
    ],
};

/// Does what the verb says.
pub async fn run(verb: Verb, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    let show = match verb {
        Verb::Show(show) => show,
        Verb::Flush { agent } => {
            let body = client.flush_state(&agent).await?;
            printer.one(&body, &agent, |style| flushed(&body, style))?;
            printer.note("what the agent remembers is in the database and was not touched");
            return Ok(Exit::Ok);
        }
    };
    if let Some(session) = show.session {
        let body = client.session(&show.agent, &session).await?;
        printer.one(&body, text_at(&body, "session"), |style| sheet(&body, style))?;
        return Ok(Exit::Ok);
    }
    let query = [("cursor", show.cursor), ("limit", Some(show.limit.to_string()))];
    let query: Vec<_> = query.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let body = client.sessions(&show.agent, &query).await?;
    printer.list(&SESSIONS, &body, items(&body))?;
    printer.more(&body);
    Ok(Exit::Ok)
}

fn sheet(memory: &Value, style: Style) -> String {
    let shown = |field: &str| at(memory, field).map(plain).unwrap_or_default();
    let body = at(memory, "body").map(|body| serde_json::to_string_pretty(body).unwrap_or_default());
    Sheet::new(style)
        .row("Agent", &shown("agent"))
        .row("Session", &shown("session"))
        .row("Version", &shown("version"))
        .row("Bytes", &shown("bytes"))
        .part("Memory", &body.unwrap_or_default())
        .finish()
}

fn flushed(body: &Value, style: Style) -> String {
    let dropped = body.get("dropped");
    let shown = |tier: &str| dropped.and_then(|dropped| at(dropped, tier)).map(plain);
    let sheet = Sheet::new(style)
        .row("Agent", &at(body, "agent").map(plain).unwrap_or_default())
        .row("In process", &format!("{} dropped", shown("in_process").unwrap_or_default()));
    match shown("redis") {
        Some(memories) => sheet.row("Redis", &format!("{memories} dropped")).finish(),
        None => sheet.finish(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flush_says_what_was_dropped_where() {
        let dropped = flushed(&json!({"agent": "support", "dropped": {"in_process": 2, "redis": 3}}), Style::PLAIN);
        assert!(dropped.contains("In process:     2 dropped\nRedis:          3 dropped"), "{dropped}");
        assert!(!flushed(&json!({"agent": "a", "dropped": {"in_process": 0}}), Style::PLAIN).contains("Redis"));
    }

    #[test]
    fn the_sheet_has_the_memory_below_its_version() {
        let memory =
            json!({"agent": "support", "session": "C42:1700", "version": 7, "bytes": 11, "body": {"turns": [1]}});
        let sheet = sheet(&memory, Style::PLAIN);
        assert!(sheet.contains("Session:        C42:1700\nVersion:        7\n"), "{sheet}");
        assert!(sheet.contains("\nMemory\n  {\n    \"turns\": [\n      1\n    ]\n  }\n"), "{sheet}");
    }
}
