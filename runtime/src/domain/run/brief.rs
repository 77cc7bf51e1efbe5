//! The brief of a step: what is fixed before it starts, from the run's event and its pinned spec.
//!
//! Made by each life of a step, and by whoever replays or forks a run. The fold of the journal ([`super::Run`]) is a function
//! of this and the entries, of nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::agent::{Limits, Rule};
use crate::domain::conversation::Conversation;
use crate::domain::ids::RunId;
use crate::domain::journal::Effect;

/// What is fixed for a step before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    /// The run.
    pub run: RunId,
    /// The step's number in it.
    pub step_no: u32,
    /// What was asked.
    pub input: String,
    /// The ends of an attempt and of the step.
    pub limits: Limits,
    /// Attempts after the first.
    pub retries: u32,
    /// The tools there are, and what may be done with them.
    pub tools: BTreeMap<String, ToolTerms>,
    /// The digest of the spec that the run pins.
    pub spec_digest: String,
    /// Entries that a fork has copied, from 0: they were made for another run and perhaps another spec, so neither their
    /// requests nor their keys are those of this one, and what they used was paid for there. Each attempt begins with them.
    pub copied: u32,
}

impl Brief {
    /// What every attempt begins with.
    pub(super) fn conversation(&self) -> Conversation {
        Conversation::new(&self.spec_digest, &self.input)
    }
}

/// On which terms a tool may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolTerms {
    /// What a second call would do.
    pub effect: Effect,
    /// Whether it may be called at all.
    pub rule: Rule,
}
