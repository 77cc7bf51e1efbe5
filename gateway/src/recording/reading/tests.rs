//! A recording of every kind of entry: read back, replayed, and damaged byte by byte.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, json};
use troupe_runtime::domain::agent::Rule;
use troupe_runtime::domain::clarification::Answer;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::journal::{Act, Effect};
use troupe_runtime::domain::outcome::{Failure, Outcome, Reason};
use troupe_runtime::domain::run::{Action, Brief, Run, ToolTerms};

use super::super::{sealed, text};
use super::*;

fn brief() -> Brief {
    let terms = |effect, rule| ToolTerms { effect, rule };
    let limits = json!({"turns": 5, "tokens": 1000, "timeout": {"secs": 60, "nanos": 0}});
    let tools = [("look", terms(Effect::Pure, Rule::Allow)), ("pay", terms(Effect::Unsafe, Rule::Ask))];
    Brief {
        run: TaskId::derive("0190a000-0000-7000-8000-000000000001", "agent").run(0),
        step_no: 0,
        input: "do \"it\"\n\tGrüße \u{1F3AD}".into(),
        limits: serde_json::from_value(limits).unwrap(),
        retries: 1,
        tools: tools.map(|(name, terms)| (name.to_owned(), terms)).into(),
        spec_digest: "d1".into(),
        copied: 0,
    }
}

fn answer(run: &Run, text: &str, wanted: &[&str]) -> Act {
    let arguments = json!({"q": "\u{1}\u{1f} <&>", "n": [0.1, -0.0, 5e-324, u64::MAX], "": null});
    let calls: Vec<_> = (wanted.iter().enumerate())
        .map(|(n, name)| json!({"id": format!("c{n}"), "name": name, "arguments": arguments}))
        .collect();
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    let completion = json!({"text": text, "tool_calls": calls, "finish": finish, "provider": "p", "model": "m",
        "usage": {"input_tokens": 10, "output_tokens": 5, "cost_microusd": 7}, "request_id": "r-\u{7f}"});
    Act::ModelResult { completion: serde_json::from_value(completion).unwrap(), request: Some(run.request()) }
}

/// A run with an entry of every kind but a cancellation.
fn journal() -> (Vec<Entry>, Run) {
    let (mut run, mut entries) = (Run::new(brief()), Vec::new());
    let mut record = |run: &mut Run, act: Act| {
        let at = chrono::DateTime::from_timestamp(1_700_000_000 + i64::from(run.next_seq()), 123_456_789).unwrap();
        let entry = Entry { seq: run.next_seq(), attempt: run.attempt(), at, act };
        run.apply(&entry).unwrap();
        entries.push(entry);
    };
    let failure = Failure { reason: Reason::Crash, message: "fell".into(), retryable: true };
    record(&mut run, Act::AttemptFailed { failure });
    let act = answer(&run, "", &["look", "pay"]);
    record(&mut run, act);
    let content = "{\"html\": \"<p class='x'>\\u001F</p>\"}\r\n".to_owned();
    record(&mut run, Act::ToolResult { call_id: "c0".into(), tool: "look".into(), content, is_error: false });
    let Action::Record(act @ Act::ClarificationRaised { .. }) = run.next() else { panic!("its rule is ask") };
    let Act::ClarificationRaised { clarification } = &act else { unreachable!() };
    let yes =
        Act::ClarificationAnswered { clarification_id: clarification.id.clone(), answer: Answer::Given(json!(true)) };
    record(&mut run, act);
    record(&mut run, yes);
    let Action::Record(act @ Act::ToolIntent { .. }) = run.next() else { panic!("intent first") };
    record(&mut run, act);
    let content = "no money".to_owned();
    record(&mut run, Act::ToolResult { call_id: "c1".into(), tool: "pay".into(), content, is_error: true });
    let act = answer(&run, "That was all.", &[]);
    record(&mut run, act);
    (entries, run)
}

fn head(run: &Run, outcome: Option<Outcome>) -> Head {
    Head {
        format: FORMAT,
        task_id: TaskId::derive("e", "agent"),
        run_id: brief().run,
        step_id: None,
        agent: "agent".parse().unwrap(),
        status: troupe_runtime::domain::task::RunStatus::Complete,
        spec_digest: "d1".into(),
        spec: Some(json!({"name": "agent", "entries": []})),
        brief: Some(brief()),
        usage: run.usage(),
        outcome_digest: outcome.as_ref().map(Outcome::digest),
        outcome,
        masked: false,
    }
}

fn object(value: &impl serde::Serialize) -> Map<String, Value> {
    serde_json::to_value(value).unwrap().as_object().unwrap().clone()
}

fn written(head: &Head, entries: &[Entry]) -> String {
    text(&sealed(object(head), entries.iter().map(|entry| Value::Object(object(entry))).collect()))
}

fn recording() -> String {
    let (entries, run) = journal();
    written(&head(&run, run.outcome()), &entries)
}

fn finding(file: &[u8]) -> Option<Finding> {
    let report = read(file).replayed();
    assert_eq!(report.verified, report.finding.is_none());
    report.finding
}

/// Where each entry lies in the file, from its `{` to its `}`.
fn places(file: &str) -> Vec<std::ops::Range<usize>> {
    let begin = file.find(OPENING).unwrap() + OPENING.len() + 1;
    let end = begin + file[begin..].find("\n  ]").unwrap();
    let mut at = begin;
    let lines = file[begin..end].split('\n').map(|line| {
        let place = at + INDENT.len()..at + line.trim_end_matches(',').len();
        at += line.len() + 1;
        place
    });
    lines.collect()
}

#[test]
fn a_recording_is_json_of_one_entry_a_line_and_comes_to_its_outcome() {
    let file = recording();
    let value: Value = serde_json::from_str(&file).unwrap();
    assert_eq!((value["entries"].as_array().unwrap().len(), places(&file).len()), (8, 8));
    let report = read(file.as_bytes()).replayed();
    assert_eq!((report.verified, &report.finding), (true, &None));
    assert_eq!((report.entries.len(), report.outcome_digest.as_deref()), (8, value["outcome_digest"].as_str()));
    assert_eq!(report.entries[7].usage.cost_microusd, 14);
    assert_eq!(serde_json::to_value(&report).unwrap()["run_id"], value["run_id"]);
}

#[test]
fn another_layout_is_read_all_the_same() {
    let value: Value = serde_json::from_str(&recording()).unwrap();
    for text in [value.to_string(), format!("{value:#}")] {
        assert_eq!(finding(text.as_bytes()), None);
        let changed = text.replace("no money", "no honey");
        assert_eq!(finding(changed.as_bytes()).unwrap().entry, Some(6));
    }
}

#[test]
fn every_changed_byte_of_an_entry_is_found_and_its_entry_named() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let file = recording();
    let (mut changes, mut missed) = (0, String::new());
    for (number, place) in (0_u32..).zip(places(&file)) {
        for at in place {
            let mut bytes = file.clone().into_bytes();
            // One bit, as a disk would, or anything, as a hand would.
            bytes[at] ^= if rng.random() { 1 << rng.random_range(0..8) } else { rng.random_range(1..=u8::MAX) };
            changes += 1;
            let found = finding(&bytes);
            if found.as_ref().and_then(|finding| finding.entry) != Some(number) {
                writeln!(missed, "byte {at} of entry {number} became {:#04x}: {found:?}", bytes[at]).unwrap();
            }
        }
    }
    println!("{changes} changes of one byte, in {} entries", places(&file).len());
    assert!(missed.is_empty(), "\n{missed}");
}

#[test]
fn a_changed_byte_beside_the_entries_is_found_too() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let file = recording();
    let places = places(&file);
    let inside = |at: &usize| places.iter().any(|place| place.contains(at));
    for at in (0..file.len()).filter(|at| !inside(at)) {
        let mut bytes = file.clone().into_bytes();
        bytes[at] ^= rng.random_range(1..=u8::MAX);
        let blank = bytes[at].is_ascii_whitespace() && file.as_bytes()[at].is_ascii_whitespace();
        assert!(blank || finding(&bytes).is_some(), "byte {at} became {:#04x}", bytes[at]);
    }
}

#[test]
fn missing_doubled_and_exchanged_entries_are_named() {
    let file = recording();
    let lines: Vec<&str> = file.lines().collect();
    let first = lines.iter().position(|line| *line == OPENING).unwrap() + 1;
    let without = |n: usize| [&lines[..first + n], &lines[first + n + 1..]].concat().join("\n");
    assert_eq!(finding(without(2).as_bytes()).unwrap().entry, Some(3));
    let mut exchanged = lines.clone();
    exchanged.swap(first + 2, first + 3);
    assert_eq!(finding(exchanged.join("\n").as_bytes()).unwrap().entry, Some(3));
    let mut doubled = lines.clone();
    doubled.insert(first, lines[first]);
    assert_eq!(finding(doubled.join("\n").as_bytes()).unwrap().entry, Some(0));
}

#[test]
fn an_entry_that_was_changed_with_its_checksum_is_found_by_the_replay() {
    let (mut entries, run) = journal();
    let Act::ToolResult { content, .. } = &mut entries[2].act else { panic!("a tool's answer") };
    content.push('!');
    let found = finding(written(&head(&run, run.outcome()), &entries).as_bytes()).unwrap();
    assert_eq!(found.entry, Some(7), "the next request is another: {found}");
    let (entries, run) = journal();
    let other = Some(Outcome::Succeeded { output: "Something else.".into() });
    let found = finding(written(&head(&run, other), &entries).as_bytes()).unwrap();
    assert!(found.entry.is_none() && found.why.contains("outcome digest"), "{found}");
}

#[test]
fn an_open_run_fits_as_far_as_it_has_come() {
    let (entries, run) = journal();
    assert_eq!(finding(written(&head(&run, None), &entries[..5]).as_bytes()), None);
    assert_eq!(finding(written(&head(&run, None), &[]).as_bytes()), None);
    assert!(finding(written(&head(&run, None), &entries).as_bytes()).is_some());
    assert!(finding(written(&head(&run, run.outcome()), &entries[..5]).as_bytes()).is_some());
}

#[test]
fn what_is_no_recording_says_so() {
    for text in ["", "{", "[]", "{}", "null", "{\"entries\": []}", "hello"] {
        assert!(finding(text.as_bytes()).is_some(), "{text}");
    }
    let (entries, run) = journal();
    let later = Head { format: 2, ..head(&run, run.outcome()) };
    assert!(finding(written(&later, &entries).as_bytes()).unwrap().why.contains("format is 2"));
    let without = Head { brief: None, ..head(&run, run.outcome()) };
    assert!(finding(written(&without, &entries).as_bytes()).unwrap().why.contains("spec"));
}

#[test]
fn where_secrets_were_masked_the_fold_and_the_checksums_still_hold() {
    let (mut entries, run) = journal();
    let Act::ToolResult { content, .. } = &mut entries[2].act else { panic!("a tool's answer") };
    "***".clone_into(content);
    let masked = Head { masked: true, ..head(&run, run.outcome()) };
    let file = written(&masked, &entries);
    assert_eq!(finding(file.as_bytes()), None);
    assert_eq!(finding(file.replace("***", "*+*").as_bytes()).unwrap().entry, Some(2));
}
