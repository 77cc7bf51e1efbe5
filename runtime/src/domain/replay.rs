//! A replay: a journal folded once more, each entry held against what the run would have done at its place.
//!
//! The fold of a recovery ([`Run::apply`]) refuses what cannot have happened; a replay refuses what would not have
//! happened. Pure: no model, no tool, no store. Called by the admin API on a node's journal and by the command line on a
//! recording; [`Mismatch`] names the first entry that does not fit.
//!
//! Judged are decisions, not wording: what a refusal tells the model, or a question a person, may read differently in
//! another version. Entries that a fork has copied are folded only: another run decided them.

use super::chat::ToolCall;
use super::journal::{Act, Entry};
use super::outcome::Reason;
use super::run::{Action, Brief, Mismatch, Run, Why};

/// A replay under way.
#[derive(Debug, Clone)]
pub struct Replay {
    run: Run,
    /// The question that a person was asked last.
    question: Option<String>,
    /// Whether anything is judged.
    judging: bool,
}

impl Replay {
    /// Before the first entry.
    #[must_use]
    pub fn new(brief: Brief) -> Self {
        Self { run: Run::new(brief), question: None, judging: true }
    }

    /// Before the first entry of a journal whose secrets are masked: it is folded, and nothing is judged.
    #[must_use]
    pub fn folding(brief: Brief) -> Self {
        Self { run: Run::trusting(brief), question: None, judging: false }
    }

    /// All of a journal.
    ///
    /// # Errors
    /// The first entry that does not fit.
    pub fn of(brief: Brief, entries: &[Entry]) -> Result<Self, Mismatch> {
        let mut replay = Self::new(brief);
        entries.iter().try_for_each(|entry| replay.take(entry))?;
        Ok(replay)
    }

    /// The next entry.
    ///
    /// # Errors
    /// When it does not fit; the replay is then over.
    pub fn take(&mut self, entry: &Entry) -> Result<(), Mismatch> {
        let (phase, unjudged) = (self.run.phase(), !self.judging || self.run.copies());
        let next = self.run.next();
        // The life that recorded it may have begun here.
        let fits = unjudged || self.fits(&next, &entry.act) || self.fits(&self.run.next_after_a_crash(), &entry.act);
        self.run.apply(entry)?;
        if !fits {
            let why = Why::Next(in_words(&next));
            return Err(Mismatch { seq: entry.seq, kind: entry.act.kind(), phase, why });
        }
        if let Act::ClarificationRaised { clarification } = &entry.act {
            self.question = Some(clarification.id.clone());
        }
        Ok(())
    }

    /// The fold of what was taken so far.
    #[must_use]
    pub const fn run(&self) -> &Run {
        &self.run
    }

    /// Whether this act comes of that action, or answers the question that is open.
    fn fits(&self, next: &Action, act: &Act) -> bool {
        match (next, act) {
            (Action::Wait, Act::ClarificationAnswered { clarification_id, .. }) => {
                self.question.as_ref() == Some(clarification_id)
            }
            (next, act) => follows(next, act),
        }
    }
}

/// Whether this act comes of that action.
fn follows(next: &Action, act: &Act) -> bool {
    let is_call = |call: &ToolCall, id: &str, name: &str| call.id == id && call.name == name;
    match (next, act) {
        (_, Act::Cancelled { .. }) | (Action::CallModel, Act::ModelResult { .. }) => true,
        (_, Act::AttemptFailed { failure }) => match failure.reason {
            // Decided by the run itself.
            Reason::Turns | Reason::Tokens | Reason::Cost | Reason::Refused => match next {
                Action::Record(Act::AttemptFailed { failure: expected }) => {
                    (expected.reason, expected.retryable) == (failure.reason, failure.retryable)
                }
                _ => false,
            },
            Reason::Model => *next == Action::CallModel,
            Reason::Timeout | Reason::Stalled => matches!(next, Action::CallModel | Action::CallTool { .. }),
            // Befell it.
            Reason::Crash | Reason::CrashLoop | Reason::Blocked | Reason::TooLarge | Reason::Agent => true,
        },
        (Action::CallTool { call, .. }, Act::ToolResult { call_id, tool, .. }) => is_call(call, call_id, tool),
        (Action::Record(expected), act) => same(expected, act),
        _ => false,
    }
}

/// Whether two acts decide the same, however they say it.
fn same(expected: &Act, found: &Act) -> bool {
    match (expected, found) {
        (
            Act::ToolResult { call_id, tool, is_error, .. },
            Act::ToolResult { call_id: id, tool: name, is_error: error, .. },
        ) => (call_id, tool, is_error) == (id, name, error),
        (Act::ClarificationRaised { clarification: expected }, Act::ClarificationRaised { clarification: found }) => {
            let decided = |it: &super::clarification::Clarification| {
                (it.id.clone(), it.category, it.call_id.clone(), it.action_digest.clone())
            };
            decided(expected) == decided(found)
        }
        (expected, found) => expected == found,
    }
}

/// What comes next, for people.
fn in_words(next: &Action) -> String {
    match next {
        Action::CallModel => "a call of the model".to_owned(),
        Action::CallTool { call, .. } => format!("call {:?} of {}", call.id, call.name),
        Action::Wait => "the answer of a person".to_owned(),
        Action::Finish(_) => "nothing".to_owned(),
        Action::Record(act) => match act {
            Act::ToolIntent { call_id, tool, .. } => format!("the intent of call {call_id:?} of {tool}"),
            Act::ToolResult { call_id, tool, .. } => format!("the refusal of call {call_id:?} of {tool}"),
            Act::ClarificationRaised { clarification } => format!("a question about call {:?}", clarification.call_id),
            Act::AttemptFailed { failure } => format!("a failure by reason {}", failure.reason),
            other => other.kind().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests;
