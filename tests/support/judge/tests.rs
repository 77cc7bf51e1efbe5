//! Good sights pass, and each promise that was broken is seen.

use serde_json::{Value, json};

use super::*;

const QUIET: Point = Point { commit: Commit::Told, moment: Moment::After };
const IN_DOUBT: Point = Point { commit: Commit::Entry(5), moment: Moment::Before };

fn entries(acts: Vec<Value>) -> Vec<Entry> {
    let entry = |(seq, mut act): (usize, Value)| {
        act["seq"] = json!(seq);
        act["attempt"] = json!(1);
        act["at"] = json!("2026-11-01T00:00:00Z");
        serde_json::from_value(act).unwrap()
    };
    acts.into_iter().enumerate().map(entry).collect()
}

fn said(number: u64) -> Value {
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    json!({"kind": "model_result", "completion": {"text": "", "finish": "stop", "provider": "p", "model": "m",
        "usage": usage, "request_id": format!("chatcmpl-{number}")}})
}

fn did(tool: &str, number: u64) -> Value {
    json!({"kind": "tool_result", "call_id": "c", "tool": tool, "content": receipt(number)})
}

fn effect(tool: &str, number: u64) -> Effect {
    Effect { task: "task-1".into(), tool: tool.into(), key: format!("key of {tool}"), number }
}

fn good() -> Seen {
    let intent = json!({"kind": "tool_intent", "call_id": "c", "tool": "pay", "key": "key of pay"});
    Seen {
        task: "task-1".into(),
        statuses: vec![TaskStatus::Succeeded],
        output: Some(last_word("task-1")),
        attempts: 1,
        journal: entries(vec![said(1), did("look", 1), did("book", 2), said(2), intent, did("pay", 3), said(3)]),
        calls: vec![(0, 1), (1, 2), (2, 3)],
        effects: vec![effect("look", 1), effect("book", 2), effect("pay", 3)],
        ends: vec![End { task: "task-1".into(), event: "e1".into() }],
        results: 1,
        outbox: 0,
    }
}

fn in_doubt() -> Seen {
    let clarification = json!({"id": "q", "category": "user_verification", "guidance": "Do pay again?", "call_id": "c",
        "action_digest": "00"});
    let mut seen = good();
    seen.journal.truncate(5);
    seen.journal.extend(entries(vec![json!({"kind": "clarification_raised", "clarification": clarification})]));
    seen.calls.pop();
    (seen.output, seen.results, seen.ends, seen.statuses) = (None, 0, Vec::new(), vec![TaskStatus::Waiting]);
    seen
}

fn condemned(point: Point, mut seen: Seen, change: impl FnOnce(&mut Seen)) -> String {
    change(&mut seen);
    seen.verdict(&Expected::at(point)).join("; ")
}

#[test]
fn clean_sights_pass() {
    assert_eq!(condemned(QUIET, good(), |_| {}), "");
    assert_eq!(condemned(IN_DOUBT, in_doubt(), |_| {}), "");
    let twice = |seen: &mut Seen| seen.ends.push(seen.ends[0].clone());
    assert_eq!(condemned(QUIET, good(), twice), "", "the same event again is no second end");
    let lost_answer = Point { commit: Commit::Entry(2), moment: Moment::Before };
    let again = |seen: &mut Seen| seen.effects.insert(1, effect("book", 7));
    assert_eq!(condemned(lost_answer, good(), again), "");
}

#[test]
fn lost_doubled_and_failed_tasks_are_seen() {
    assert!(condemned(QUIET, good(), |seen| seen.statuses.clear()).contains("the tasks are []"));
    assert!(condemned(QUIET, good(), |seen| seen.statuses.push(TaskStatus::Succeeded)).contains("the tasks are"));
    assert!(condemned(QUIET, good(), |seen| seen.statuses[0] = TaskStatus::Running).contains("Running"));
    assert!(condemned(IN_DOUBT, in_doubt(), |seen| seen.statuses[0] = TaskStatus::Failed).contains("Failed"));
    assert!(condemned(QUIET, good(), |seen| seen.attempts = 2).contains("2 attempts"));
    assert!(condemned(QUIET, good(), |seen| seen.output = Some("well".into())).contains("the answer is"));
}

#[test]
fn missing_and_doubled_results_and_ends_are_seen() {
    assert!(condemned(QUIET, good(), |seen| seen.results = 0).contains("0 result rows"));
    assert!(condemned(QUIET, good(), |seen| seen.results = 2).contains("2 result rows"));
    assert!(condemned(IN_DOUBT, in_doubt(), |seen| seen.results = 1).contains("1 result rows"));
    assert!(condemned(QUIET, good(), |seen| seen.outbox = 1).contains("1 ends are still to be told"));
    assert!(condemned(QUIET, good(), |seen| seen.ends.clear()).contains("0 different ends"));
    let other = |seen: &mut Seen| seen.ends.push(End { task: "task-1".into(), event: "e2".into() });
    assert!(condemned(QUIET, good(), other).contains("2 different ends"));
    assert!(condemned(IN_DOUBT, in_doubt(), |seen| drop(seen.journal.pop())).contains("nobody was asked about pay"));
}

#[test]
fn calls_after_the_journaled_one_are_seen() {
    let again = condemned(QUIET, good(), |seen| seen.calls.push((1, 9)));
    assert!(again.contains("by turn: [1, 2, 1]") && again.contains("chatcmpl-2 is in the journal"), "{again}");
    let paid_twice = condemned(QUIET, good(), |seen| seen.effects.push(effect("pay", 9)));
    assert!(paid_twice.contains("[1, 1, 2], not [1, 1, 1]") && paid_twice.contains("receipt-9"), "{paid_twice}");
    // Even where a repetition is expected, the journal must hold the last one.
    let lost_answer = Point { commit: Commit::Entry(0), moment: Moment::Before };
    let verdict = condemned(lost_answer, good(), |seen| seen.calls.push((0, 9)));
    assert_eq!(verdict, "turn 0: chatcmpl-1 is in the journal, but Some(\"chatcmpl-9\") was the last call");
}

#[test]
fn other_keys_are_seen() {
    let lost_answer = Point { commit: Commit::Entry(2), moment: Moment::Before };
    let again = |seen: &mut Seen| seen.effects.insert(1, Effect { key: "other".into(), ..effect("book", 7) });
    assert!(condemned(lost_answer, good(), again).contains("book was called with the keys"));
    assert!(condemned(QUIET, good(), |seen| seen.effects[1].key.clear()).contains("book was called with the keys"));
}
