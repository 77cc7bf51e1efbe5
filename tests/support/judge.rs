//! The judge of the crash matrix: what must have happened when a victim was killed at a point, and what did. Pure, and
//! tested on bad sights: a judge that cannot condemn proves nothing.
//!
//! | rule | sides compared |
//! |---|---|
//! | one task, one result, one end that is told; no half of them | the store, whoever hears the ends |
//! | the right answer; or the question, where a call that must not be made twice is in doubt | the task, the journal |
//! | no call of the model or of a tool after the one whose answer was journaled | the servers, the journal |
//! | exactly as many calls as this point of death costs, the dangerous tool never twice | the servers |
//! | one key for all calls of a tool | the server of the tools |

use std::collections::BTreeSet;

use troupe_runtime::domain::journal::{Act, Entry};
use troupe_runtime::domain::task::TaskStatus;

use crate::effects::{Effect, End, receipt};
use crate::killer::{Commit, Moment, Point};
use crate::victim::{TOOLS, TURNS, last_word};

/// What all sides have seen of one task.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Its marker.
    pub task: String,
    /// The status of every task in the store.
    pub statuses: Vec<TaskStatus>,
    /// What the task answered.
    pub output: Option<String>,
    /// Attempts begun.
    pub attempts: u32,
    /// Its journal.
    pub journal: Vec<Entry>,
    /// Turn and number of every call of the model, in the order of arrival.
    pub calls: Vec<(usize, u64)>,
    /// Every call of a tool, in the order of arrival.
    pub effects: Vec<Effect>,
    /// Every end that was told.
    pub ends: Vec<End>,
    /// Rows in `execution_results`.
    pub results: i64,
    /// Rows in `outbox`.
    pub outbox: i64,
}

/// What a point of death costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Whether a person is asked in the end.
    pub asks: bool,
    /// Calls of the model by turn.
    pub calls: [usize; TURNS],
    /// Calls of the tools, in the order of [`TOOLS`].
    pub effects: [usize; TOOLS.len()],
}

impl Expected {
    /// After a death at this point.
    #[must_use]
    pub fn at(Point { commit, moment }: Point) -> Self {
        let mut expected = Self { asks: false, calls: [1; TURNS], effects: [1; TOOLS.len()] };
        match (commit, moment) {
            // The answer was lost with the process: it is asked for again.
            (Commit::Entry(0), Moment::Before) => expected.calls[0] = 2,
            (Commit::Entry(1), Moment::Before) => expected.effects[0] = 2,
            (Commit::Entry(2), Moment::Before) => expected.effects[1] = 2,
            (Commit::Entry(3), Moment::Before) => expected.calls[1] = 2,
            (Commit::Complete, Moment::Before) => expected.calls[2] = 2,
            // Between the intent and the result: nobody but a person can know whether it was done.
            (Commit::Entry(4), Moment::After) | (Commit::Question, _) => {
                (expected.asks, expected.calls[2], expected.effects[2]) = (true, 0, 0);
            }
            (Commit::Entry(5), Moment::Before) => (expected.asks, expected.calls[2]) = (true, 0),
            _ => {}
        }
        expected
    }
}

impl Seen {
    /// Calls of the model by turn.
    #[must_use]
    pub fn calls_by_turn(&self) -> [usize; TURNS] {
        std::array::from_fn(|turn| self.calls.iter().filter(|(of, _)| *of == turn).count())
    }

    /// Calls of the tools, in the order of [`TOOLS`].
    #[must_use]
    pub fn effects_by_tool(&self) -> [usize; TOOLS.len()] {
        TOOLS.map(|(tool, _)| self.effects.iter().filter(|effect| effect.tool == tool).count())
    }

    /// Everything that is wrong; empty when every promise was kept.
    #[must_use]
    pub fn verdict(&self, expected: &Expected) -> Vec<String> {
        [
            self.store_is_wrong(expected),
            self.end_is_wrong(expected),
            self.calls_are_wrong(expected),
            self.effects_are_wrong(expected),
        ]
        .concat()
    }

    fn store_is_wrong(&self, expected: &Expected) -> Vec<String> {
        let mut wrong = Vec::new();
        let status = if expected.asks { TaskStatus::Waiting } else { TaskStatus::Succeeded };
        if self.statuses != [status] {
            wrong.push(format!("the tasks are {:?}, not one that is {status:?}", self.statuses));
        }
        if self.attempts != 1 {
            wrong.push(format!("{} attempts: a death is no failed attempt", self.attempts));
        }
        let results = i64::from(!expected.asks);
        if self.results != results {
            wrong.push(format!("{} result rows, not {results}", self.results));
        }
        if self.outbox != 0 {
            wrong.push(format!("{} ends are still to be told", self.outbox));
        }
        wrong
    }

    fn end_is_wrong(&self, expected: &Expected) -> Vec<String> {
        let mut wrong = Vec::new();
        // Told again after a death it is the same event: whoever hears it can tell.
        let told: BTreeSet<&str> = self.ends.iter().map(|end| end.event.as_str()).collect();
        if told.len() != usize::from(!expected.asks) {
            wrong.push(format!("{} different ends were told", told.len()));
        }
        if expected.asks {
            let asked = matches!(self.journal.last().map(|entry| &entry.act),
                Some(Act::ClarificationRaised { clarification }) if clarification.guidance.contains("pay"));
            if !asked {
                wrong.push(format!("nobody was asked about pay; the journal ends: {:?}", self.journal.last()));
            }
        } else if self.output.as_ref() != Some(&last_word(&self.task)) {
            wrong.push(format!("the answer is {:?}", self.output));
        }
        wrong
    }

    fn calls_are_wrong(&self, expected: &Expected) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.calls_by_turn() != expected.calls {
            wrong.push(format!("calls of the model by turn: {:?}, not {:?}", self.calls_by_turn(), expected.calls));
        }
        let journaled = self.journal.iter().filter_map(|entry| match &entry.act {
            Act::ModelResult { completion, .. } => Some(completion.request_id.clone().unwrap_or_default()),
            _ => None,
        });
        for (turn, journaled) in journaled.enumerate() {
            let last = self.calls.iter().rfind(|(of, _)| *of == turn).map(|(_, number)| format!("chatcmpl-{number}"));
            if last.as_ref() != Some(&journaled) {
                wrong.push(format!("turn {turn}: {journaled} is in the journal, but {last:?} was the last call"));
            }
        }
        wrong
    }

    fn effects_are_wrong(&self, expected: &Expected) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.effects_by_tool() != expected.effects {
            wrong.push(format!("calls of the tools: {:?}, not {:?}", self.effects_by_tool(), expected.effects));
        }
        for (tool, _) in TOOLS {
            let mut of = self.effects.iter().filter(|effect| effect.tool == tool);
            let keys: BTreeSet<&str> = of.clone().map(|effect| effect.key.as_str()).collect();
            if keys.len() > 1 || keys.contains("") {
                wrong.push(format!("{tool} was called with the keys {keys:?}"));
            }
            let last = of.next_back().map(|effect| receipt(effect.number));
            let journaled = self.journal.iter().find_map(|entry| match &entry.act {
                Act::ToolResult { tool: of, content, .. } if of == tool => Some(content),
                _ => None,
            });
            if journaled.is_some() && journaled != last.as_ref() {
                wrong.push(format!("{tool}: {journaled:?} is in the journal, but {last:?} was the last call"));
            }
        }
        wrong
    }
}

#[cfg(test)]
#[path = "judge/tests.rs"]
mod tests;
