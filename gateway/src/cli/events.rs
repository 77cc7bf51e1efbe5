//! `troupe events`: an event onto the bus, and the events that pass.
//!
//! An event is given whole, as a `CloudEvent` in JSON (as an argument, from a file, from stdin), or made from `--topic` and
//! `--data`. A tail ends with Ctrl-C, after `--count` events, or when the node stops; what it could not show is said on
//! stderr. Called by the command line; asks the admin API.

use std::io::{self, Read};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Error;
use super::exit::Exit;
use super::printer::{Format, Printer};
use super::table::{at, plain, text_at};
use crate::client::{Client, Tail};

/// Largest event that is read; a node takes less.
const EVENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Stands for stdin.
const STDIN: &str = "-";
/// Characters of an event's data on a line.
const DATA_CHARS: usize = 80;

/// Verbs of `troupe events`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Publish one event
    Publish(Publish),
    /// Show events as they pass this node's bus
    Tail {
        /// Topic pattern: `*` is one word, `#` any number
        #[arg(default_value = "#")]
        pattern: String,
        /// End after so many events
        #[arg(short = 'n', long)]
        count: Option<u64>,
    },
}

/// Which event.
#[derive(Debug, Default, Args)]
#[group(id = "what", required = true, multiple = true)]
pub struct Publish {
    /// A `CloudEvent` in JSON; - reads it from stdin
    #[arg(group = "whole")]
    event: Option<String>,
    /// A file with a `CloudEvent` in JSON; - is stdin
    #[arg(short, long, group = "whole")]
    file: Option<PathBuf>,
    /// The topic of an event that is made here
    #[arg(short, long, conflicts_with = "whole")]
    topic: Option<String>,
    /// Its data: JSON, or a text
    #[arg(short, long, requires = "topic")]
    data: Option<String>,
    /// Who sends it
    #[arg(long, requires = "topic", default_value = "/cli")]
    source: Option<String>,
    /// What it is about
    #[arg(long, requires = "topic")]
    subject: Option<String>,
    /// 0 (last) to 9 (first)
    #[arg(long, requires = "topic", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// Its id; the same id again is the same event
    #[arg(long, requires = "topic")]
    id: Option<String>,
}

/// Does what the verb says.
pub async fn run(verb: Verb, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    match verb {
        Verb::Publish(publish) => {
            let event = publish.event(&mut io::stdin())?;
            let body = client.publish(&event).await?;
            if printer.format() == Format::Table {
                printer.line(text_at(&body, "id"))?;
            } else {
                printer.one(&body, text_at(&body, "id"), |_| String::new())?;
            }
            printer.note(&published(&body));
            Ok(Exit::Ok)
        }
        Verb::Tail { pattern, count } => {
            let mut tail = client.tail(&pattern).await?;
            tokio::select! {
                shown = show(&mut tail, count, printer) => shown,
                stop = tokio::signal::ctrl_c() => stop.map(|()| Exit::Ok).map_err(Error::Output),
            }
        }
    }
}

async fn show(tail: &mut Tail, count: Option<u64>, printer: &mut Printer) -> Result<Exit, Error> {
    let mut shown = 0;
    while count.is_none_or(|count| shown < count) {
        let Some(next) = tail.next().await? else {
            printer.note("the node has ended the stream");
            return Ok(Exit::Error);
        };
        let body: Value = serde_json::from_str(&next.data).unwrap_or_else(|_| json!(next.data));
        if next.event.is_empty() {
            shown += 1;
            let line = if printer.format() == Format::Table { line(&body) } else { body.to_string() };
            printer.line(&line)?;
        } else {
            printer.note(&format!("{} events passed too fast to be shown", plain(&body["missed"])));
        }
    }
    Ok(Exit::Ok)
}

/// An event on a line: when, where, which, what.
fn line(event: &Value) -> String {
    let data = at(event, "data").map(plain).unwrap_or_default();
    let mut short: String = data.chars().take(DATA_CHARS).collect();
    if short.len() < data.len() {
        short.push('…');
    }
    [text_at(event, "time"), text_at(event, "type"), text_at(event, "id"), &short].join("  ")
}

fn published(body: &Value) -> String {
    let topic = text_at(body, "type");
    match body["queues"].as_u64() {
        Some(1) => format!("published at {topic}, to 1 queue"),
        Some(queues) => format!("published at {topic}, to {queues} queues"),
        None => format!("taken for {topic}; it is published when the bus is there"),
    }
}

impl Publish {
    fn event(self, stdin: &mut impl Read) -> Result<Value, Error> {
        let Some(topic) = self.topic else { return whole(self.event, self.file, stdin) };
        let data = self.data.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
        let mut event = json!({
            "specversion": "1.0",
            "id": self.id.unwrap_or_else(|| Uuid::now_v7().to_string()),
            "type": topic,
            "source": self.source,
            "data": data,
        });
        if let Some(subject) = self.subject {
            event["subject"] = subject.into();
        }
        if let Some(priority) = self.priority {
            event["priority"] = priority.into();
        }
        Ok(event)
    }
}

fn whole(event: Option<String>, file: Option<PathBuf>, stdin: &mut impl Read) -> Result<Value, Error> {
    let usage = |message: String| Error::Said { exit: Exit::Usage, message };
    let (from, text) = match (event, file) {
        (Some(text), None) if text != STDIN => ("the event".to_owned(), text),
        (None, Some(path)) if path.as_os_str() != STDIN => {
            let name = path.display().to_string();
            let read = std::fs::File::open(&path).and_then(bounded);
            (name.clone(), read.map_err(|error| usage(format!("cannot read {name}: {error}")))?)
        }
        _ => ("stdin".to_owned(), bounded(stdin).map_err(|error| usage(format!("cannot read stdin: {error}")))?),
    };
    let event: Value = serde_json::from_str(&text).map_err(|error| usage(format!("{from} is no JSON: {error}")))?;
    if event.is_object() { Ok(event) } else { Err(usage(format!("{from} is no JSON object; a CloudEvent is one"))) }
}

fn bounded(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(EVENT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > EVENT_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {EVENT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(publish: Publish, stdin: &str) -> Result<Value, String> {
        publish.event(&mut stdin.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_is_made_from_a_topic_and_data() {
        let publish = |data: &str| Publish { topic: Some("a.b".into()), data: Some(data.into()), ..Publish::default() };
        let event = made(publish("{\"n\": 1}"), "").unwrap();
        assert_eq!(
            (&event["type"], &event["data"], &event["specversion"]),
            (&json!("a.b"), &json!({"n": 1}), &json!("1.0"))
        );
        assert!(event["id"].as_str().is_some_and(|id| id.len() == 36));
        assert_eq!(made(publish("plain text"), "").unwrap()["data"], "plain text");
        let whole = Publish { id: Some("x".into()), priority: Some(9), subject: Some("s".into()), ..publish("1") };
        let event = made(whole, "").unwrap();
        assert_eq!((&event["id"], &event["priority"], &event["subject"]), (&json!("x"), &json!(9), &json!("s")));
    }

    #[test]
    fn a_whole_event_comes_from_an_argument_a_file_or_stdin() {
        let text = r#"{"id":"1","type":"a"}"#;
        let argument = Publish { event: Some(text.into()), ..Publish::default() };
        assert_eq!(made(argument, "").unwrap()["id"], "1");
        for stdin in [
            Publish { event: Some("-".into()), ..Publish::default() },
            Publish { file: Some("-".into()), ..Publish::default() },
        ] {
            assert_eq!(made(stdin, text).unwrap()["id"], "1");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("event.json");
        std::fs::write(&path, text).unwrap();
        assert_eq!(made(Publish { file: Some(path), ..Publish::default() }, "").unwrap()["id"], "1");
        let gone = Publish { file: Some(dir.path().join("gone")), ..Publish::default() };
        assert!(made(gone, "").unwrap_err().contains("gone: No such file"));
        for bad in ["", "[1]", "{"] {
            assert!(
                made(Publish { event: Some("-".into()), ..Publish::default() }, bad)
                    .unwrap_err()
                    .starts_with("stdin is no JSON")
            );
        }
    }

    #[test]
    fn an_event_is_one_line_however_long_its_data() {
        let event =
            json!({"time": "2026-01-01T00:00:00Z", "type": "a.b", "id": "e1", "data": {"text": "x".repeat(200)}});
        let line = line(&event);
        assert!(line.starts_with("2026-01-01T00:00:00Z  a.b  e1  {\"text\":\"xxx") && line.ends_with('…'), "{line}");
    }
}
