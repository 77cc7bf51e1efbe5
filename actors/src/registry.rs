//! The registry's view of agents: what an operator sees, and filters by.
//!
//! Made by the pools when somebody looks; a snapshot is a copy, and nothing is decided by it.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use troupe_runtime::domain::agent::{AgentName, ExecutionMode};

/// How an agent stands, in the contract's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// No instance has answered yet.
    Starting,
    /// It waits for work.
    Ready,
    /// It works.
    Busy,
    /// An operator stopped its intake.
    Paused,
    /// Its restart budget is used up, or its spec cannot be served.
    Unavailable,
    /// It is gone from the configuration.
    Retired,
}

impl AgentStatus {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Paused => "paused",
            Self::Unavailable => "unavailable",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for AgentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One agent as an operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentView {
    /// Its name.
    pub name: AgentName,
    /// Its free label.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its mode.
    pub execution_mode: ExecutionMode,
    /// How it stands: the best of its instances.
    pub status: AgentStatus,
    /// Why, when it is unavailable.
    pub reason: Option<String>,
    /// Since when it stands so.
    pub since: DateTime<Utc>,
    /// Topics that reach it beside its own.
    pub subscriptions: Vec<String>,
    /// First choice of its models: `provider/model`.
    pub model: String,
    /// The spec that new runs pin.
    pub spec_digest: String,
    /// Steps under way.
    pub steps: usize,
    /// Restarts of all instances since the node started.
    pub restarts: u32,
    /// Why an instance of it fell last.
    pub last_error: Option<String>,
    /// How its last step that failed for good ended, since the node started.
    pub last_failure: Option<String>,
    /// When that was.
    pub last_failure_at: Option<DateTime<Utc>>,
    /// What is wrong with its file as it is now; then the last good version is served.
    pub problems: Vec<String>,
    /// Its agent actors on this node.
    pub instances: Vec<InstanceView>,
}

impl AgentView {
    /// Whether it only finishes what it has begun.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.status == AgentStatus::Retired
    }
}

/// One agent actor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceView {
    /// Where it lives in the tree.
    pub path: String,
    /// How it stands.
    pub status: AgentStatus,
    /// Since when its actor is as it is: runs, waits to be started again, is unavailable.
    pub since: DateTime<Utc>,
    /// Steps under way.
    pub steps: usize,
    /// The first of them, at most `steps_shown_max`.
    pub current: Vec<CurrentStep>,
    /// Restarts since the node started.
    pub restarts: u32,
    /// Why it is down, while it is.
    pub reason: Option<String>,
    /// Why it fell last.
    pub last_error: Option<String>,
}

/// A step that an instance has in hand.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CurrentStep {
    /// The step.
    pub step_id: String,
    /// Its task.
    pub task_id: String,
    /// Since when its actor lives; `None` between two lives.
    pub since: Option<DateTime<Utc>>,
    /// What it is doing, in its own words.
    pub doing: Option<String>,
}

/// Which agents.
#[derive(Debug, Clone, Default)]
pub struct AgentFilter {
    /// In this status.
    pub status: Option<String>,
    /// With this label.
    pub kind: Option<String>,
    /// In this mode.
    pub execution_mode: Option<String>,
}

impl AgentFilter {
    /// Whether an agent is meant.
    #[must_use]
    pub fn admits(&self, agent: &AgentView) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        same(&self.status, agent.status.as_str())
            && same(&self.kind, &agent.kind)
            && same(&self.execution_mode, agent.execution_mode.as_str())
    }
}

/// The name nearest to `wanted` by edit distance, when it is near enough to be meant.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (distance(wanted, name), name))
        .min()
        .filter(|(far, name)| *far <= 1 + wanted.len().max(name.len()) / 3)
        .map(|(_, name)| name)
}

/// Levenshtein distance in bytes; names are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_a_stranger_is_not() {
        let names = ["researcher", "writer", "support"];
        assert_eq!(nearest("reseacher", names.into_iter()), Some("researcher"));
        assert_eq!(nearest("write", names.into_iter()), Some("writer"));
        assert_eq!(nearest("zzzzzzzz", names.into_iter()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
