//! The report of a replay: what the run had come to after each entry, and the first thing that does not fit.
//!
//! Made on a node from its store and on the command line from a recording; both show the same.

use serde::Serialize;
use serde_json::{Value, json};
use troupe_runtime::domain::chat::Usage;
use troupe_runtime::domain::journal::Entry;
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::domain::replay::Replay;
use troupe_runtime::domain::run::{Brief, Mismatch, Phase};

use super::Head;

/// What a replay came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whose it is: `task_id`, `run_id`, `agent`, `status`; nothing of it when the head cannot be read.
    #[serde(flatten)]
    pub of: Value,
    /// Whether every entry fits and the outcome is the stored one.
    pub verified: bool,
    /// Whether secrets were masked, and so neither requests nor keys compared.
    pub masked: bool,
    /// After each entry that fits.
    pub entries: Vec<Line>,
    /// What the journal comes to; none while the run is open.
    pub outcome: Option<Outcome>,
    /// [`Outcome::digest`] of it.
    pub outcome_digest: Option<String>,
    /// The same of the outcome that is stored.
    pub stored_outcome_digest: Option<String>,
    /// What does not fit.
    pub finding: Option<Finding>,
}

/// Where the run stood after an entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The entry's number.
    pub seq: u32,
    /// The attempt that it belongs to.
    pub attempt: u32,
    /// What it records.
    pub kind: &'static str,
    /// Where the run stood then.
    pub phase: Phase,
    /// Model calls of the attempt under way.
    pub turns: u32,
    /// What all model calls had used by then, those of copied entries included.
    pub usage: Usage,
    /// Whether a fork has copied it.
    pub copied: bool,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The number of the entry, when it is one.
    pub entry: Option<u32>,
    /// What is wrong.
    pub why: String,
}

impl Finding {
    /// In an entry.
    #[must_use]
    pub fn entry(number: u32, why: impl Into<String>) -> Self {
        Self { entry: Some(number), why: why.into() }
    }

    /// Beside the entries.
    #[must_use]
    pub fn head(why: impl Into<String>) -> Self {
        Self { entry: None, why: why.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.entry {
            Some(number) => write!(f, "entry {number}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

impl Report {
    /// The entries replayed, and held against what the head says; `damage` is what stands behind the entries that could
    /// be read.
    #[must_use]
    pub fn new(head: &Head, entries: &[Entry], damage: Option<Finding>) -> Self {
        let Head { task_id, run_id, agent, status, .. } = head;
        let mut report = Self {
            of: json!({"task_id": task_id, "run_id": run_id, "agent": agent, "status": status}),
            masked: head.masked,
            stored_outcome_digest: head.outcome_digest.clone(),
            ..Self::unreadable(Finding::head(""))
        };
        report.finding = match &head.brief {
            None => Some(Finding::head("the spec that it pins is not at hand, or its tools are not")),
            Some(brief) => report.fold(brief, entries).or(damage),
        };
        report.finding = report.finding.take().or_else(|| report.ends_otherwise(head));
        report.verified = report.finding.is_none();
        report
    }

    /// Nothing can be replayed.
    #[must_use]
    pub fn unreadable(finding: Finding) -> Self {
        Self {
            of: json!({}),
            verified: false,
            masked: false,
            entries: Vec::new(),
            outcome: None,
            outcome_digest: None,
            stored_outcome_digest: None,
            finding: Some(finding),
        }
    }

    /// Takes entry after entry; answers the first that does not fit.
    fn fold(&mut self, brief: &Brief, entries: &[Entry]) -> Option<Finding> {
        // Without their secrets, requests and keys are others.
        let mut replay = if self.masked { Replay::folding(brief.clone()) } else { Replay::new(brief.clone()) };
        for entry in entries {
            if let Err(Mismatch { seq, kind, phase, why }) = replay.take(entry) {
                let why = format!("this {kind} does not fit a step that is {phase:?}: {why}");
                return Some(Finding::entry(seq, why));
            }
            let run = replay.run();
            let mut usage = run.usage();
            usage.add(run.copied_usage());
            self.entries.push(Line {
                seq: entry.seq,
                attempt: entry.attempt,
                kind: entry.act.kind(),
                phase: run.phase(),
                turns: run.turns(),
                usage,
                copied: entry.seq < brief.copied,
            });
        }
        self.outcome = replay.run().outcome();
        self.outcome_digest = self.outcome.as_ref().map(Outcome::digest);
        None
    }

    /// Whether the end is another than the stored one.
    fn ends_otherwise(&self, head: &Head) -> Option<Finding> {
        match (&self.outcome, &head.outcome) {
            (None, None) => None,
            (None, Some(_)) => Some(Finding::head("the journal has no end, and yet an outcome is stored")),
            (Some(_), None) => Some(Finding::head("the journal has an end, and yet no outcome is stored")),
            (Some(found), Some(stored)) => {
                let same = found == stored && (self.masked || self.outcome_digest == head.outcome_digest);
                let digests = || {
                    let shown = |digest: &Option<String>| digest.clone().unwrap_or_default();
                    let (found, stored) = (shown(&self.outcome_digest), shown(&head.outcome_digest));
                    Finding::head(format!("the journal comes to outcome digest {found}, stored is {stored}"))
                };
                (!same).then(digests)
            }
        }
    }
}
