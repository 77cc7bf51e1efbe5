//! The mismatch: the entry at which a journal and this code disagree, and in what.
//!
//! Answered by the fold ([`super::Run::apply`]) and by a replay ([`crate::domain::replay`]); a step that meets one is
//! `blocked`, with this text as its failure, instead of being tried again.

use super::Phase;

/// The journal and the code disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} ({kind}) does not fit a step that is {phase:?}: {why}")]
pub struct Mismatch {
    /// The entry.
    pub seq: u32,
    /// Its kind.
    pub kind: &'static str,
    /// Where the step stood.
    pub phase: Phase,
    /// In what.
    pub why: Why,
}

/// In what an entry and the code disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Another entry belongs here.
    #[error("entry {0} belongs here")]
    Place(u32),
    /// Another attempt is under way.
    #[error("attempt {0} is under way")]
    Attempt(u32),
    /// The step has ended.
    #[error("it is over")]
    Over,
    /// Such an act cannot happen here.
    #[error("no such thing can happen here")]
    Act,
    /// No call of this id is open.
    #[error("no call {0:?} is open")]
    Call(String),
    /// The model would be asked something else than what the recorded answer answers.
    #[error("the model would be asked something else")]
    Request,
    /// The call would be made under another idempotency key.
    #[error("the call would have another idempotency key")]
    Key,
    /// Something else would be done.
    #[error("{0} comes next")]
    Next(String),
}
