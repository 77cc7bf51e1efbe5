//! What a step of a run does next: a pure function of its journal.
//!
//! ```text
//! phase      entry                                    then
//! --------   --------------------------------------   ------------------------------------------
//! Thinking   ModelResult, no tool wanted              Answered
//! Thinking   ModelResult, tools wanted                Acting
//! Thinking   ModelResult, a limit is reached          Thinking, `next` fails the attempt
//! Acting     ToolIntent                               Acting, the call is under way
//! Acting     ToolResult, calls left                   Acting
//! Acting     ToolResult, the last one                 Thinking
//! Acting     ClarificationRaised                      Waiting
//! Waiting    ClarificationAnswered yes                Acting, the call is allowed
//! Waiting    ClarificationAnswered no                 Acting, the call is refused
//! Thinking   AttemptFailed, attempts left             Thinking, fresh context, attempt + 1
//! Acting     AttemptFailed, attempts left             Thinking, fresh context, attempt + 1
//! open       AttemptFailed, none left or final        Failed
//! open       Cancelled                                Cancelled
//! ```
//!
//! The loop around it is [decide](Run::next), perform one effect, record, [apply](Run::apply). Recovery is the same
//! fold over the same entries followed by [`Run::resumed`]; there is no second path. An entry that does not fit is a
//! [`Mismatch`]: the journal and this code disagree, and the step is `blocked` instead of being tried again.

mod brief;
mod mismatch;

use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

pub use self::brief::{Brief, ToolTerms};
pub use self::mismatch::{Mismatch, Why};
use super::agent::Rule;
use super::chat::{Completion, Finish, Message, ToolCall, Usage};
use super::clarification::{Category, Clarification};
use super::conversation::Conversation;
use super::journal::{Act, Effect, Entry, idempotency_key};
use super::outcome::{Failure, Outcome, Reason};

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A model is to be asked.
    Thinking,
    /// Tools are to be called.
    Acting,
    /// A person is to answer.
    Waiting,
    /// There is an answer.
    Answered,
    /// There will be none.
    Failed,
    /// It was called off.
    Cancelled,
}

/// The one thing to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask the model with the conversation so far.
    CallModel,
    /// Commit this before anything else.
    Record(Act),
    /// Call a tool; its answer is recorded as [`Act::ToolResult`].
    CallTool {
        /// What the model asked for.
        call: ToolCall,
        /// Sent along.
        key: String,
    },
    /// Nothing until a person answers.
    Wait,
    /// The step is over.
    Finish(Outcome),
}

/// A tool call on its way.
#[derive(Debug, Clone, PartialEq)]
struct Open {
    call: ToolCall,
    key: String,
    state: CallState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallState {
    /// The model wants it.
    Wanted,
    /// Its intent is committed, by this life.
    Intended,
    /// Its intent was committed by a former life: it may have happened.
    InDoubt,
    /// A person was asked.
    Asked,
    /// A person said yes.
    Allowed,
    /// A person said no.
    Refused,
}

impl CallState {
    /// What a life finds that begins now: nobody knows how far a call came that was under way.
    const fn after_a_crash(self) -> Self {
        match self {
            Self::Intended => Self::InDoubt,
            other => other,
        }
    }
}

/// The fold of a step's journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    brief: Brief,
    phase: Phase,
    attempt: u32,
    turns: u32,
    /// Tool calls wanted in this attempt: the number that goes into their keys.
    calls: u32,
    next_seq: u32,
    usage: Usage,
    copied_usage: Usage,
    conversation: Conversation,
    open: Vec<Open>,
    last_failure: Option<Failure>,
    cancelled: String,
    /// Where a fork begins: the fold of what it has copied, which each of its attempts goes on from.
    kept: Option<Box<Self>>,
    /// Whether entries are folded only, and neither requests nor keys compared.
    trusting: bool,
}

impl Run {
    /// A step before its first entry.
    #[must_use]
    pub fn new(brief: Brief) -> Self {
        Self {
            conversation: brief.conversation(),
            brief,
            phase: Phase::Thinking,
            attempt: 1,
            turns: 0,
            calls: 0,
            next_seq: 0,
            usage: Usage::default(),
            copied_usage: Usage::default(),
            open: Vec::new(),
            last_failure: None,
            cancelled: String::new(),
            kept: None,
            trusting: false,
        }
    }

    /// The same, for entries whose requests and keys cannot be compared: their secrets are masked.
    #[must_use]
    pub fn trusting(brief: Brief) -> Self {
        Self { trusting: true, ..Self::new(brief) }
    }

    /// The fold of `entries`, as a new life of the node takes it up: what was under way is in doubt.
    ///
    /// # Errors
    /// [`Mismatch`] at the first entry that does not fit.
    pub fn resumed(brief: Brief, entries: &[Entry]) -> Result<Self, Mismatch> {
        let mut run = Self::new(brief);
        for entry in entries {
            run.apply(entry)?;
        }
        for open in &mut run.open {
            open.state = open.state.after_a_crash();
        }
        Ok(run)
    }

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The attempt under way, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Model calls of this attempt.
    #[must_use]
    pub const fn turns(&self) -> u32 {
        self.turns
    }

    /// Where the next entry goes.
    #[must_use]
    pub const fn next_seq(&self) -> u32 {
        self.next_seq
    }

    /// What all model calls of the step used; those that a fork has copied were paid for elsewhere and do not count.
    #[must_use]
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// What the model calls had used whose entries a fork has copied.
    #[must_use]
    pub const fn copied_usage(&self) -> Usage {
        self.copied_usage
    }

    /// The digest of the request that asks the model now ([`super::conversation`]).
    #[must_use]
    pub fn request(&self) -> String {
        self.conversation.request()
    }

    /// Whether a call that must not run twice may have happened: another attempt would do it blindly, so a person is
    /// asked first ([`Run::next`]).
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        let terms = |open: &Open| self.brief.tools.get(&open.call.name).map(|terms| terms.effect);
        self.open.iter().any(|open| open.state == CallState::InDoubt && terms(open) == Some(Effect::Unsafe))
    }

    /// The conversation of this attempt, oldest first.
    #[must_use]
    pub const fn messages(&self) -> &Arc<Vec<Message>> {
        self.conversation.messages()
    }

    /// The outcome, once there is one.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Answered => {
                let output = self.messages().last().map(Message::text).unwrap_or_default().to_owned();
                Some(Outcome::Succeeded { output })
            }
            Phase::Failed => self.last_failure.clone().map(|failure| Outcome::Failed { failure }),
            Phase::Cancelled => Some(Outcome::Cancelled { reason: self.cancelled.clone() }),
            Phase::Thinking | Phase::Acting | Phase::Waiting => None,
        }
    }

    /// What to do next. Pure: the same fold answers the same.
    #[must_use]
    pub fn next(&self) -> Action {
        self.next_with(|state| state)
    }

    /// What a life would do next that begins here, after a crash.
    #[must_use]
    pub fn next_after_a_crash(&self) -> Action {
        self.next_with(CallState::after_a_crash)
    }

    fn next_with(&self, now: impl Fn(CallState) -> CallState) -> Action {
        if let Some(outcome) = self.outcome() {
            return Action::Finish(outcome);
        }
        let next_call = |open: &Open| self.next_call(open, now(open.state));
        match self.phase {
            Phase::Thinking => self.spent().map_or(Action::CallModel, fail),
            Phase::Acting => self.open.iter().find_map(next_call).unwrap_or(Action::CallModel),
            _ => Action::Wait,
        }
    }

    /// Folds one recorded entry.
    ///
    /// # Errors
    /// [`Mismatch`] when it does not fit; the fold is then unusable.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Mismatch> {
        let phase = self.phase;
        self.fold(entry).map_err(|why| Mismatch { seq: entry.seq, kind: entry.act.kind(), phase, why })?;
        self.next_seq += 1;
        if self.next_seq == self.brief.copied {
            self.kept = Some(Box::new(self.clone()));
        }
        Ok(())
    }

    /// Whether the next entry was copied by a fork, made for another run and perhaps another spec.
    pub(super) const fn copies(&self) -> bool {
        self.next_seq < self.brief.copied
    }

    /// Whether no call is under way: neither intended, nor asked about, nor decided about. Only here a run may be forked.
    pub(super) fn is_between_acts(&self) -> bool {
        self.open.iter().all(|open| open.state == CallState::Wanted)
    }

    fn fold(&mut self, entry: &Entry) -> Result<(), Why> {
        if entry.seq != self.next_seq {
            return Err(Why::Place(self.next_seq));
        }
        if entry.attempt != self.attempt {
            return Err(Why::Attempt(self.attempt));
        }
        if self.outcome().is_some() {
            return Err(Why::Over);
        }
        match (self.phase, &entry.act) {
            (Phase::Thinking, Act::ModelResult { completion, request }) => {
                let other = request.as_ref().is_some_and(|request| *request != self.request());
                if other && !self.trusting && !self.copies() {
                    return Err(Why::Request);
                }
                self.answered(completion);
                Ok(())
            }
            (Phase::Acting, Act::ToolIntent { call_id, key, .. }) => {
                let unjudged = self.trusting || self.copies();
                let open = self.wanted(call_id)?;
                if open.key != *key && !unjudged {
                    return Err(Why::Key);
                }
                open.state = CallState::Intended;
                Ok(())
            }
            (Phase::Acting, Act::ToolResult { call_id, tool, content, is_error }) => {
                self.wanted(call_id)?;
                self.open.retain(|open| open.call.id != *call_id);
                let (call_id, tool, content) = (call_id.clone(), tool.clone(), content.clone());
                self.conversation.push(Message::Tool { call_id, tool, content, is_error: *is_error });
                if self.open.is_empty() {
                    self.phase = Phase::Thinking;
                }
                Ok(())
            }
            (Phase::Acting, Act::ClarificationRaised { clarification }) => {
                self.wanted(&clarification.call_id)?.state = CallState::Asked;
                self.phase = Phase::Waiting;
                Ok(())
            }
            (Phase::Waiting, Act::ClarificationAnswered { answer, .. }) => {
                self.phase = Phase::Acting;
                let state = if answer.approves() { CallState::Allowed } else { CallState::Refused };
                let asked = self.open.iter_mut().find(|open| open.state == CallState::Asked);
                asked.map(|open| open.state = state).ok_or(Why::Act)
            }
            (_, Act::AttemptFailed { failure }) => {
                self.failed(failure);
                Ok(())
            }
            (_, Act::Cancelled { reason }) => {
                self.phase = Phase::Cancelled;
                self.cancelled.clone_from(reason);
                Ok(())
            }
            _ => Err(Why::Act),
        }
    }

    /// The open call of this id.
    fn wanted(&mut self, call_id: &str) -> Result<&mut Open, Why> {
        let call = || Why::Call(call_id.to_owned());
        self.open.iter_mut().find(|open| open.call.id == call_id).ok_or_else(call)
    }

    fn answered(&mut self, completion: &Completion) {
        self.turns += 1;
        let usage = if self.copies() { &mut self.copied_usage } else { &mut self.usage };
        usage.add(completion.usage);
        let (text, tool_calls) = (completion.text.clone(), completion.tool_calls.clone());
        self.conversation.push(Message::Assistant { text, tool_calls });
        if completion.tool_calls.is_empty() {
            if completion.finish == Finish::Refused {
                self.last_failure = Some(refused(completion));
            } else {
                self.phase = Phase::Answered;
            }
        } else if self.spent().is_none() {
            let Brief { run, step_no, .. } = self.brief;
            let number = |call: &ToolCall, n: usize| idempotency_key(run, step_no, self.calls + n as u32, call);
            self.open = (completion.tool_calls.iter().enumerate())
                .map(|(n, call)| Open { key: number(call, n), call: call.clone(), state: CallState::Wanted })
                .collect();
            self.calls += self.open.len() as u32;
            self.phase = Phase::Acting;
        }
    }

    fn failed(&mut self, failure: &Failure) {
        self.open.clear();
        if failure.retryable && self.attempt <= self.brief.retries {
            self.begin_anew();
        } else {
            self.last_failure = Some(failure.clone());
            self.phase = Phase::Failed;
        }
    }

    /// A further attempt, with a fresh context; that of a fork is what it has copied.
    fn begin_anew(&mut self) {
        let start = self.kept.as_deref().cloned().unwrap_or_else(|| Self::new(self.brief.clone()));
        let Self { attempt, next_seq, usage, copied_usage, trusting, .. } = *self;
        let kept = self.kept.take();
        *self = Self { attempt: attempt + 1, next_seq, usage, copied_usage, kept, trusting, ..start };
    }

    /// The limit that forbids another model call, or the refusal that makes it senseless.
    fn spent(&self) -> Option<Failure> {
        if self.last_failure.is_some() {
            return self.last_failure.clone();
        }
        let limits = &self.brief.limits;
        let (reason, message) = if self.turns >= limits.turns {
            (Reason::Turns, format!("stopped at limits.turns = {}: the model still wanted tools", limits.turns))
        } else if self.usage.tokens() >= limits.tokens {
            let used = self.usage.tokens();
            (Reason::Tokens, format!("stopped at limits.tokens = {}: {used} were used", limits.tokens))
        } else if limits.cost_microusd.is_some_and(|limit| self.usage.cost_microusd >= limit) {
            let used = self.usage.cost_usd();
            (Reason::Cost, format!("stopped at limits.cost_usd: ${used:.4} were used"))
        } else {
            return None;
        };
        Some(Failure { reason, message, retryable: false })
    }

    /// What a wanted call needs next.
    fn next_call(&self, open: &Open, state: CallState) -> Option<Action> {
        let Open { call, key, .. } = open;
        let Some(terms) = self.brief.tools.get(&call.name) else {
            let known: Vec<&str> = self.brief.tools.keys().map(String::as_str).collect();
            return Some(answer(call, format!("there is no tool {:?}; there are: {}", call.name, known.join(", "))));
        };
        if call.arguments.is_null() {
            return Some(answer(call, "the arguments were no readable JSON; send one object".to_owned()));
        }
        let perform = Action::CallTool { call: call.clone(), key: key.clone() };
        let action = match (state, terms.rule, terms.effect) {
            (CallState::Asked, ..) => return None,
            (CallState::Refused, ..) => answer(call, "a person refused this call".to_owned()),
            (CallState::Wanted, Rule::Deny, _) => answer(call, "this agent may not call this tool".to_owned()),
            (CallState::Wanted, Rule::Ask, _) => ask(call, &self.next_id(), "May this be done?"),
            (CallState::InDoubt, _, Effect::Unsafe) => {
                ask(call, &self.next_id(), "The node died during this call, which may have happened. Do it again?")
            }
            (CallState::Wanted | CallState::Allowed, _, Effect::Unsafe) => {
                let (call_id, tool) = (call.id.clone(), call.name.clone());
                Action::Record(Act::ToolIntent { call_id, tool, key: key.clone() })
            }
            (CallState::Wanted | CallState::Allowed | CallState::Intended | CallState::InDoubt, ..) => perform,
        };
        Some(action)
    }

    /// Clarifications are numbered by the entry that raises them.
    fn next_id(&self) -> String {
        format!("{}-{}-{}", self.brief.run, self.brief.step_no, self.next_seq)
    }
}

/// An answer in a tool's name.
fn answer(call: &ToolCall, content: String) -> Action {
    Action::Record(Act::ToolResult { call_id: call.id.clone(), tool: call.name.clone(), content, is_error: true })
}

fn ask(call: &ToolCall, id: &str, question: &str) -> Action {
    let digest = Sha256::digest(format!("{}\n{}", call.name, call.arguments));
    Action::Record(Act::ClarificationRaised {
        clarification: Clarification {
            id: id.to_owned(),
            category: Category::UserVerification,
            guidance: format!("{question} {} {}", call.name, call.arguments),
            call_id: call.id.clone(),
            action_digest: hex::encode(digest),
        },
    })
}

fn fail(failure: Failure) -> Action {
    Action::Record(Act::AttemptFailed { failure })
}

fn refused(completion: &Completion) -> Failure {
    let message = format!("{} refused to answer: {}", completion.model, completion.text);
    Failure { reason: Reason::Refused, message, retryable: false }
}

#[cfg(test)]
pub(in crate::domain) mod tests;
