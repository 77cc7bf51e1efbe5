//! Reading a recording: what is damaged is named by the number of its entry, the others are kept.
//!
//! Called by the command line. In our own layout each entry is found by its line, so that damage to one never hides
//! behind a parser's idea of where it began. What cannot be read ends the reading with a [`Finding`]; nothing is guessed.

use serde_json::Value;
use troupe_runtime::domain::journal::Entry;

use super::{CHECKSUM, ENTRIES, FORMAT, Finding, Head, INDENT, OPENING, Report, checksum};

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Everything but the entries; none when it is damaged.
    pub head: Option<Head>,
    /// The entries before the first that is damaged.
    pub entries: Vec<Entry>,
    /// The damage.
    pub finding: Option<Finding>,
}

impl Recording {
    /// The recording replayed: pure, no node and no network.
    #[must_use]
    pub fn replayed(self) -> Report {
        let Self { head, entries, finding } = self;
        match head {
            Some(head) => Report::new(&head, &entries, finding),
            None => Report::unreadable(finding.unwrap_or_else(|| Finding::head("it is missing"))),
        }
    }
}

/// Reads a file.
#[must_use]
pub fn read(bytes: &[u8]) -> Recording {
    let parts = by_lines(bytes).unwrap_or_else(|| whole(bytes));
    let head = parts.head.and_then(|frame| head(&frame));
    let (mut entries, mut damage) = (Vec::new(), None);
    for (number, found) in (0..).zip(parts.entries) {
        match found.and_then(|value| entry(&value)) {
            Ok(entry) => entries.push(entry),
            Err(why) => {
                damage = Some(Finding::entry(number, why));
                break;
            }
        }
    }
    match head {
        Ok(head) => Recording { head: Some(head), entries, finding: damage },
        // An entry with a number says more than a head without one.
        Err(why) => Recording { head: None, entries, finding: Some(damage.unwrap_or_else(|| Finding::head(why))) },
    }
}

/// A file in its two parts: the frame without entries, and each entry or why it is none.
struct Parts {
    head: Result<Value, String>,
    entries: Vec<Result<Value, String>>,
}

/// By our own layout; `None` when it is another.
fn by_lines(bytes: &[u8]) -> Option<Parts> {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let begin = lines.iter().position(|line| *line == OPENING.as_bytes())? + 1;
    // An entry over many lines: somebody's `jq .`.
    if matches!(lines[begin..], [b"    {", second, ..] if second.starts_with(b"      ")) {
        return None;
    }
    let end = begin + lines[begin..].iter().position(|line| matches!(*line, b"  ]" | b"  ],"))?;
    let last = end - begin;
    let entries = (1..).zip(&lines[begin..end]).map(|(number, line)| one_line(line, number == last)).collect();
    let frame = [&lines[..begin], &lines[end..]].concat().join(&b'\n');
    Some(Parts { head: serde_json::from_slice(&frame).map_err(|error| format!("it is no JSON: {error}")), entries })
}

/// The entry on a line, which must stand there exactly as it was written.
fn one_line(line: &[u8], last: bool) -> Result<Value, String> {
    let text = line.strip_prefix(INDENT.as_bytes());
    let text = text.and_then(|text| if last { Some(text) } else { text.strip_suffix(b",") });
    let text = text.ok_or("its line is not as it was written")?;
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("it is no JSON: {error}"))?;
    if value.to_string().as_bytes() == text { Ok(value) } else { Err("its line is not as it was written".to_owned()) }
}

/// In whatever layout.
fn whole(bytes: &[u8]) -> Parts {
    let mut frame: Value = match serde_json::from_slice(bytes) {
        Ok(frame) => frame,
        Err(error) => return Parts { head: Err(format!("it is no JSON: {error}")), entries: Vec::new() },
    };
    let entries = frame.get_mut(ENTRIES).map(Value::take);
    if let Some(fields) = frame.as_object_mut() {
        fields.remove(ENTRIES);
    }
    let entries = match entries {
        Some(Value::Array(entries)) => entries.into_iter().map(Ok).collect(),
        _ => Vec::new(),
    };
    Parts { head: Ok(frame), entries }
}

fn head(frame: &Value) -> Result<Head, String> {
    let mut frame = frame.clone();
    if let Some(fields) = frame.as_object_mut() {
        fields.remove(ENTRIES);
    }
    let format = frame.get("format").and_then(Value::as_u64);
    if format.is_none() {
        return Err("it is no recording of a run (`troupe runs journal RUN -o json` writes one)".to_owned());
    }
    if format != Some(u64::from(FORMAT)) {
        return Err(format!("its format is {}, this version reads {FORMAT}", frame["format"]));
    }
    intact(&frame)?;
    serde_json::from_value(frame).map_err(|error| error.to_string())
}

fn entry(value: &Value) -> Result<Entry, String> {
    intact(value)?;
    serde_json::from_value(value.clone()).map_err(|error| error.to_string())
}

fn intact(value: &Value) -> Result<(), String> {
    match value.get(CHECKSUM).and_then(Value::as_str) {
        None => Err("it has no checksum".to_owned()),
        Some(sum) if sum == checksum(value) => Ok(()),
        Some(_) => Err("its checksum does not fit: it was changed".to_owned()),
    }
}

#[cfg(test)]
mod tests;
