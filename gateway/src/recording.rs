//! A recording: a run written down with all that a replay needs, for replaying it where there is no node.
//!
//! ```text
//! node: journal + pinned spec + event ─► Head, entries ─► sealed (a checksum each) ─► GET /v1/runs/{id}/journal
//! command line: `runs journal -o json` ─► text (one entry a line) ─► file ─► read ─► Report
//! ```
//!
//! The checksum of an entry, and of everything beside the entries, is SHA-256 over its canonical JSON: it finds damage,
//! it proves nothing against somebody who wants to deceive. In the layout of [`text`] an entry is one line without a
//! blank too much, so that whatever byte of it changes, the entry is named by its number, also when the file is no JSON
//! any more. A file that was laid out anew (`jq .`) is read all the same. Secrets are masked before the checksums are
//! made; a recording in which that happened says so (`masked`), and its requests and keys are not compared.

mod reading;
mod report;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::domain::chat::Usage;
use troupe_runtime::domain::ids::{RunId, StepId, TaskId};
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::domain::run::Brief;
use troupe_runtime::domain::task::RunStatus;

pub use self::reading::{Recording, read};
pub use self::report::{Finding, Line, Report};

/// Version of the layout and of the meaning of its keys.
pub const FORMAT: u16 = 1;

const ENTRIES: &str = "entries";
const CHECKSUM: &str = "checksum";

/// All of a recording but its entries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`].
    pub format: u16,
    /// The task.
    pub task_id: TaskId,
    /// The run.
    pub run_id: RunId,
    /// The step, when one was asked for.
    pub step_id: Option<StepId>,
    /// Who works on it.
    pub agent: AgentName,
    /// How it stands.
    pub status: RunStatus,
    /// The spec that it pins.
    pub spec_digest: String,
    /// The spec itself, for reading; none when the node has it no more.
    pub spec: Option<Value>,
    /// What the fold needs beside the entries; none when it cannot be made, and then there is no replay.
    pub brief: Option<Brief>,
    /// What its model calls used.
    pub usage: Usage,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// [`Outcome::digest`] as it was before anything was masked.
    pub outcome_digest: Option<String>,
    /// Whether secrets were masked in the brief, the outcome or an entry.
    pub masked: bool,
}

/// A recording as one value: the head and the entries, with a checksum each.
#[must_use]
pub fn sealed(head: Map<String, Value>, entries: Vec<Value>) -> Value {
    let mut recording = Value::Object(head);
    recording[CHECKSUM] = json!(checksum(&recording));
    let seal = |mut entry: Value| {
        entry[CHECKSUM] = json!(checksum(&entry));
        entry
    };
    recording[ENTRIES] = entries.into_iter().map(seal).collect();
    recording
}

/// A recording as a file: every entry on a line of its own.
#[must_use]
pub fn text(recording: &Value) -> String {
    let Some(entries) = recording.get(ENTRIES).and_then(Value::as_array).filter(|entries| !entries.is_empty()) else {
        return format!("{recording:#}\n");
    };
    let mut frame = recording.clone();
    frame[ENTRIES] = json!([]);
    let lines: Vec<String> = entries.iter().map(|entry| format!("{INDENT}{entry}")).collect();
    let list = format!("{OPENING}\n{}\n  ]", lines.join(",\n"));
    // Only a key of the outermost object stands at this indent: a text holds no line break.
    format!("{frame:#}\n").replacen(&format!("\n{OPENING}]"), &format!("\n{list}"), 1)
}

/// The line before the entries, and what stands before each.
const OPENING: &str = "  \"entries\": [";
const INDENT: &str = "    ";

/// SHA-256 over the canonical JSON (sorted keys, no blanks) of a value without its own checksum, hex.
fn checksum(value: &Value) -> String {
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value {
        fields.remove(CHECKSUM);
    }
    hex::encode(Sha256::digest(value.to_string()))
}
