//! Every transition of the table once, and the property that recovery rests on: whatever prefix of a journal survives,
//! the run continues to the same end and no journaled call is made again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use chrono::DateTime;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::agent::Limits;
use crate::domain::clarification::Answer;
use crate::domain::ids::TaskId;

pub(in crate::domain) fn brief() -> Brief {
    let terms = |effect, rule| ToolTerms { effect, rule };
    Brief {
        run: TaskId::derive("event", "agent").run(0),
        step_no: 0,
        input: "do it".into(),
        limits: Limits {
            turns: 4,
            tokens: 1_000,
            cost_microusd: None,
            timeout: Duration::from_secs(60),
            daily_cost_microusd: None,
        },
        retries: 2,
        tools: [
            ("look", terms(Effect::Pure, Rule::Allow)),
            ("put", terms(Effect::Idempotent, Rule::Allow)),
            ("pay", terms(Effect::Unsafe, Rule::Allow)),
            ("drop", terms(Effect::Unsafe, Rule::Ask)),
            ("never", terms(Effect::Pure, Rule::Deny)),
        ]
        .into_iter()
        .map(|(name, terms)| (name.to_owned(), terms))
        .collect(),
        spec_digest: "d1".into(),
        copied: 0,
    }
}

pub(in crate::domain) fn turn(text: &str, tools: &[&str]) -> Act {
    let call = |(n, name): (usize, &&str)| ToolCall { id: format!("c{n}"), name: (*name).into(), arguments: json!({}) };
    let finish = if tools.is_empty() { Finish::Stop } else { Finish::ToolCalls };
    Act::ModelResult {
        completion: Completion {
            text: text.into(),
            tool_calls: tools.iter().enumerate().map(call).collect(),
            finish,
            usage: Usage { input_tokens: 10, output_tokens: 5, cost_microusd: 7 },
            provider: "scripted".into(),
            model: "m".into(),
            request_id: None,
        },
        request: None,
    }
}

pub(in crate::domain) fn result(call: &str, tool: &str) -> Act {
    Act::ToolResult { call_id: call.into(), tool: tool.into(), content: "done".into(), is_error: false }
}

pub(in crate::domain) fn failed(retryable: bool) -> Act {
    Act::AttemptFailed { failure: Failure { reason: Reason::Model, message: "down".into(), retryable } }
}

/// With the digest of what was asked, as a life of a step records an answer.
pub(in crate::domain) fn asked(act: Act, run: &Run) -> Act {
    match act {
        Act::ModelResult { completion, .. } => Act::ModelResult { completion, request: Some(run.request()) },
        other => other,
    }
}

/// Records acts as a life of a step does.
pub(in crate::domain) struct Recorder {
    pub(in crate::domain) run: Run,
    pub(in crate::domain) journal: Vec<Entry>,
}

impl Recorder {
    pub(in crate::domain) fn new() -> Self {
        Self { run: Run::new(brief()), journal: Vec::new() }
    }

    pub(in crate::domain) fn record(&mut self, act: Act) -> Result<(), Mismatch> {
        let at = DateTime::from_timestamp(0, 0).unwrap();
        let entry = Entry { seq: self.run.next_seq(), attempt: self.run.attempt(), at, act };
        self.run.apply(&entry)?;
        self.journal.push(entry);
        Ok(())
    }

    fn phase(&mut self, act: Act) -> Phase {
        self.record(act).unwrap();
        self.run.phase()
    }
}

#[test]
fn a_plain_answer_ends_the_step() {
    let mut step = Recorder::new();
    assert_eq!(step.run.next(), Action::CallModel);
    assert_eq!(step.phase(turn("hello", &[])), Phase::Answered);
    assert_eq!(step.run.next(), Action::Finish(Outcome::Succeeded { output: "hello".into() }));
    assert_eq!(step.run.usage().tokens(), 15);
}

#[test]
fn tools_are_called_in_order_and_the_model_is_asked_again() {
    let mut step = Recorder::new();
    assert_eq!(step.phase(turn("", &["look", "put"])), Phase::Acting);
    let Action::CallTool { call, key } = step.run.next() else { panic!("a pure tool needs no intent") };
    assert_eq!((call.id.as_str(), key.len()), ("c0", 52));
    assert_eq!(step.phase(result("c0", "look")), Phase::Acting);
    assert!(matches!(step.run.next(), Action::CallTool { call, .. } if call.name == "put"));
    assert_eq!(step.phase(result("c1", "put")), Phase::Thinking);
    assert_eq!(step.run.messages().len(), 4);
    assert_eq!(step.run.next(), Action::CallModel);
}

#[test]
fn an_unsafe_tool_commits_its_intent_first_and_asks_when_in_doubt() {
    let mut step = Recorder::new();
    step.record(turn("", &["pay"])).unwrap();
    let Action::Record(intent @ Act::ToolIntent { .. }) = step.run.next() else { panic!("intent first") };
    assert_eq!(step.phase(intent), Phase::Acting);
    assert!(matches!(step.run.next(), Action::CallTool { .. }));

    assert!(!step.run.is_in_doubt(), "this life knows that it has not called yet");
    let mut after = Recorder { run: Run::resumed(brief(), &step.journal).unwrap(), journal: step.journal };
    assert!(after.run.is_in_doubt());
    let Action::Record(question @ Act::ClarificationRaised { .. }) = after.run.next() else { panic!("ask") };
    assert_eq!(after.phase(question), Phase::Waiting);
    assert_eq!(after.run.next(), Action::Wait);
    let yes = Act::ClarificationAnswered { clarification_id: "q".into(), answer: Answer::Given(json!(true)) };
    assert_eq!(after.phase(yes), Phase::Acting);
    assert!(matches!(after.run.next(), Action::Record(Act::ToolIntent { .. })));
}

#[test]
fn a_no_refuses_the_call_and_the_model_hears_of_it() {
    let mut step = Recorder::new();
    step.record(turn("", &["drop"])).unwrap();
    let Action::Record(question) = step.run.next() else { panic!("its rule is ask") };
    step.record(question).unwrap();
    let no = Act::ClarificationAnswered { clarification_id: "q".into(), answer: Answer::Given(json!("yes")) };
    assert_eq!(step.phase(no), Phase::Acting);
    assert!(matches!(step.run.next(), Action::Record(Act::ToolResult { is_error: true, .. })));
}

#[test]
fn denied_and_unknown_tools_are_answered_not_called() {
    let mut step = Recorder::new();
    step.record(turn("", &["never", "nothere"])).unwrap();
    for _ in 0..2 {
        let Action::Record(act @ Act::ToolResult { is_error: true, .. }) = step.run.next() else { panic!("refused") };
        step.record(act).unwrap();
    }
    assert_eq!(step.run.phase(), Phase::Thinking);
    assert!(step.run.messages().last().unwrap().text().contains("look"));
}

#[test]
fn unreadable_arguments_are_answered_not_sent_to_a_tool() {
    let mut step = Recorder::new();
    let Act::ModelResult { mut completion, request } = turn("", &["pay"]) else { unreachable!() };
    completion.tool_calls[0].arguments = Value::Null;
    step.record(Act::ModelResult { completion, request }).unwrap();
    assert!(matches!(step.run.next(), Action::Record(Act::ToolResult { is_error: true, .. })));
}

#[test]
fn a_failed_attempt_starts_afresh_until_none_is_left() {
    let mut step = Recorder::new();
    step.record(turn("", &["look"])).unwrap();
    assert_eq!(step.phase(failed(true)), Phase::Thinking);
    assert_eq!((step.run.attempt(), step.run.messages().len(), step.run.turns()), (2, 1, 0));
    assert_eq!(step.phase(failed(true)), Phase::Thinking);
    assert_eq!(step.phase(failed(true)), Phase::Failed);
    assert!(matches!(step.run.next(), Action::Finish(Outcome::Failed { failure }) if failure.reason == Reason::Model));
    assert_eq!(step.run.usage().tokens(), 15);
}

#[test]
fn a_final_failure_is_not_tried_again_and_a_waiting_step_can_fail() {
    let mut step = Recorder::new();
    assert_eq!(step.phase(failed(false)), Phase::Failed);
    let mut step = Recorder::new();
    step.record(turn("", &["drop"])).unwrap();
    let Action::Record(question) = step.run.next() else { panic!("its rule is ask") };
    step.record(question).unwrap();
    assert_eq!(step.phase(failed(false)), Phase::Failed);
}

#[test]
fn cancelling_ends_any_open_phase() {
    let mut step = Recorder::new();
    assert_eq!(step.phase(Act::Cancelled { reason: "operator".into() }), Phase::Cancelled);
    assert_eq!(step.run.next(), Action::Finish(Outcome::Cancelled { reason: "operator".into() }));
}

#[test]
fn the_limits_stop_the_step_and_say_so() {
    let spends = |limits: Limits, turns: usize, expected: Reason, named: &str| {
        let mut step = Recorder { run: Run::new(Brief { limits, ..brief() }), journal: Vec::new() };
        for _ in 0..turns - 1 {
            assert_eq!(step.phase(turn("", &["look"])), Phase::Acting);
            step.record(result("c0", "look")).unwrap();
        }
        step.record(turn("", &["look"])).unwrap();
        let Action::Record(act @ Act::AttemptFailed { .. }) = step.run.next() else { panic!("no more calls") };
        assert_eq!(step.phase(act), Phase::Failed);
        let Some(Outcome::Failed { failure }) = step.run.outcome() else { panic!("failed") };
        assert_eq!(failure.reason, expected);
        assert!(failure.message.contains(named), "{}", failure.message);
    };
    let limits = brief().limits;
    spends(limits, 4, Reason::Turns, "limits.turns = 4");
    spends(Limits { tokens: 45, ..limits }, 3, Reason::Tokens, "limits.tokens = 45");
    spends(Limits { cost_microusd: Some(14), ..limits }, 2, Reason::Cost, "limits.cost_usd");
}

#[test]
fn a_refusal_of_the_model_is_final() {
    let mut step = Recorder::new();
    let Act::ModelResult { mut completion, request } = turn("I will not", &[]) else { unreachable!() };
    completion.finish = Finish::Refused;
    step.record(Act::ModelResult { completion, request }).unwrap();
    let Action::Record(act) = step.run.next() else { panic!("fail the attempt") };
    assert_eq!(step.phase(act), Phase::Failed);
}

#[test]
fn what_does_not_fit_is_a_mismatch() {
    let mut step = Recorder::new();
    assert!(step.record(result("c0", "look")).is_err());
    step.record(turn("", &["look"])).unwrap();
    assert!(step.record(turn("again", &[])).is_err());
    assert!(step.record(result("c9", "look")).is_err());
    let entry = Entry { seq: 7, ..step.journal[0].clone() };
    let error = step.run.apply(&entry).unwrap_err();
    assert_eq!((error.seq, error.kind), (7, "model_result"));
    let mut done = Recorder::new();
    done.record(turn("x", &[])).unwrap();
    assert!(done.record(turn("y", &[])).is_err());
}

#[test]
fn an_answer_to_another_request_and_a_call_under_another_key_are_mismatches() {
    let mut step = Recorder::new();
    let first = asked(turn("", &["pay"]), &step.run);
    step.record(first).unwrap();
    let Action::Record(Act::ToolIntent { call_id, tool, key }) = step.run.next() else { panic!("intent first") };
    let intent = |key: String| Act::ToolIntent { call_id: call_id.clone(), tool: tool.clone(), key };
    step.record(intent(key.clone())).unwrap();
    let resumed =
        |brief: Brief, journal: &[Entry]| Run::resumed(brief, journal).map(|_| ()).map_err(|m| (m.seq, m.why));
    assert_eq!(resumed(brief(), &step.journal), Ok(()));

    let input = Brief { input: "do another thing".into(), ..brief() };
    assert_eq!(resumed(input, &step.journal), Err((0, Why::Request)));
    let spec = Brief { spec_digest: "d2".into(), ..brief() };
    assert_eq!(resumed(spec.clone(), &step.journal), Err((0, Why::Request)));
    let mut other = step.journal.clone();
    other[1].act = intent(key.to_uppercase());
    assert_eq!(resumed(brief(), &other), Err((1, Why::Key)));

    // What a fork has copied was made for another run and another spec.
    assert_eq!(resumed(Brief { copied: 2, ..spec.clone() }, &other), Ok(()));
    assert_eq!(resumed(Brief { copied: 1, ..spec }, &other), Err((1, Why::Key)));
    let fork = Run::resumed(Brief { copied: 2, ..brief() }, &step.journal).unwrap();
    assert_eq!((fork.usage().tokens(), fork.copied_usage().tokens()), (0, 15));
}

/// A world that answers by what was asked, and remembers what was done in it.
#[derive(Default)]
pub(in crate::domain) struct World {
    turns: Vec<Turn>,
    models_called: RefCell<Vec<u32>>,
    effects: RefCell<BTreeSet<String>>,
    question: RefCell<String>,
}

#[derive(Debug, Clone)]
pub(in crate::domain) enum Turn {
    Tools(Vec<&'static str>),
    Fails(bool),
    Answers,
}

impl World {
    pub(in crate::domain) fn of(turns: Vec<Turn>) -> Self {
        Self { turns, ..Self::default() }
    }

    /// Performs the run's next action; `None` when it is over or waits.
    pub(in crate::domain) fn perform(&self, run: &Run) -> Option<Act> {
        match run.next() {
            Action::CallModel => {
                self.models_called.borrow_mut().push(run.next_seq());
                let done = run.turns() as usize + 3 * (run.attempt() as usize - 1);
                let act = match self.turns.get(done).unwrap_or(&Turn::Answers) {
                    Turn::Tools(tools) => turn("", tools),
                    Turn::Fails(retryable) => failed(*retryable),
                    Turn::Answers => turn("the end", &[]),
                };
                Some(asked(act, run))
            }
            Action::Record(act) => {
                if let Act::ClarificationRaised { clarification } = &act {
                    self.question.replace(clarification.id.clone());
                }
                Some(act)
            }
            Action::CallTool { call, key } => {
                self.effects.borrow_mut().insert(key);
                Some(result(&call.id, &call.name))
            }
            Action::Wait => {
                let answer = Answer::Given(json!(true));
                Some(Act::ClarificationAnswered { clarification_id: self.question.borrow().clone(), answer })
            }
            Action::Finish(_) => None,
        }
    }

    pub(in crate::domain) fn finish(&self, mut step: Recorder) -> Recorder {
        for _ in 0..200 {
            match self.perform(&step.run) {
                Some(act) => step.record(act).unwrap(),
                None => return step,
            }
        }
        panic!("a run of at most three attempts and four turns does not end");
    }
}

pub(in crate::domain) fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let tools = prop::sample::subsequence(vec!["look", "put", "pay", "drop", "never", "nothere"], 1..4);
    let one = prop_oneof![
        4 => tools.prop_map(Turn::Tools),
        1 => any::<bool>().prop_map(Turn::Fails),
        2 => Just(Turn::Answers),
    ];
    prop::collection::vec(one, 0..9)
}

proptest! {
    #[test]
    fn replay_of_any_prefix_continues_to_the_same_end(turns in turns()) {
        let world = || World::of(turns.clone());
        let whole_world = world();
        let whole = whole_world.finish(Recorder::new());
        for cut in 0..=whole.journal.len() {
            let kept = &whole.journal[..cut];
            let after = world();
            let run = Run::resumed(brief(), kept).unwrap();
            after.question.replace(whole_world.question.borrow().clone());
            let end = after.finish(Recorder { run, journal: kept.to_vec() });
            prop_assert_eq!(end.run.outcome(), whole.run.outcome());
            // No model call whose result was kept is made again.
            prop_assert!(after.models_called.borrow().iter().all(|seq| *seq as usize >= cut));
            // Whatever is done again is done under the same key.
            prop_assert!(after.effects.borrow().iter().all(|key| whole_world.effects.borrow().contains(key)));
        }
    }
}
