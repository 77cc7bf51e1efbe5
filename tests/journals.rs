//! Journals of released versions: read and folded here for as long as there is a reader for them.
//!
//! `journals/v<format>/` holds what a released troupe has written and this one must read: an entry of every kind, whole
//! runs with their briefs and outcomes, and the file that a node has left when it was killed. None of it is ever
//! written anew; a new format gets a folder beside it. The real binary goes on from the same file in `system/upgrade.rs`.

#![expect(clippy::expect_used, clippy::panic, reason = "a recording that cannot be read fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use troupe_runtime::domain::agent::Limits;
use troupe_runtime::domain::chat::Usage;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::journal::{Entry, FORMAT_VERSION};
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::domain::replay::Replay;
use troupe_runtime::domain::run::{Brief, Run, ToolTerms};
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::sqlite::{self, Database};
use troupe_runtime::store::{self, Stores, TaskFilter};
use troupe_tests::left::{NODE, leave};

/// Every kind of entry that format 1 knows.
const KINDS: [&str; 7] = [
    "model_result",
    "tool_intent",
    "tool_result",
    "clarification_raised",
    "clarification_answered",
    "attempt_failed",
    "cancelled",
];

/// A whole run, as it was recorded.
#[derive(Deserialize)]
struct Recorded {
    about: String,
    task: TaskId,
    brief: RecordedBrief,
    phase: String,
    outcome: Option<Outcome>,
    usage: Usage,
    entries: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct RecordedBrief {
    step_no: u32,
    input: String,
    limits: Limits,
    retries: u32,
    tools: BTreeMap<String, ToolTerms>,
    spec_digest: String,
}

impl Recorded {
    fn brief(&self) -> Brief {
        let RecordedBrief { step_no, input, limits, retries, tools, spec_digest } = &self.brief;
        Brief {
            run: self.task.run(0),
            step_no: *step_no,
            input: input.clone(),
            limits: *limits,
            retries: *retries,
            tools: tools.clone(),
            spec_digest: spec_digest.clone(),
            copied: 0,
        }
    }

    fn entries(&self, version: u16) -> Vec<Entry> {
        let read = |text: &RawValue| Entry::read(version.into(), text.get());
        self.entries.iter().map(|text| read(text).unwrap_or_else(|error| panic!("{}: {error}", self.about))).collect()
    }
}

fn folder(version: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("journals/v{version}"))
}

fn recorded(version: u16) -> Vec<Recorded> {
    let files = fs::read_dir(folder(version)).expect("the recordings").map(|file| file.expect("a file").path());
    let is_run = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "json") && !path.ends_with("acts.json");
    let mut runs: Vec<PathBuf> = files.filter(is_run).collect();
    runs.sort();
    assert!(runs.len() > 3, "{} runs of format {version}", runs.len());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a recording");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    runs.into_iter().map(read).collect()
}

#[test]
fn every_released_format_has_recordings() {
    for version in 1..=FORMAT_VERSION {
        assert!(folder(version).is_dir(), "format {version} has no recordings in tests/journals");
    }
}

#[test]
fn entries_of_every_kind_are_read_to_the_last_byte() {
    for version in 1..=FORMAT_VERSION {
        let text = fs::read_to_string(folder(version).join("acts.json")).expect("the acts");
        let acts: Vec<Box<RawValue>> = serde_json::from_str(&text).expect("a list");
        let mut kinds = BTreeSet::new();
        for act in &acts {
            let entry = Entry::read(version.into(), act.get()).unwrap_or_else(|error| panic!("{act}: {error}"));
            kinds.insert(entry.act.kind());
            // Nothing of it is lost: written again, it says the same.
            let again = serde_json::to_value(&entry).expect("an entry");
            assert_eq!(again, serde_json::from_str::<Value>(act.get()).expect("JSON"));
        }
        assert!(kinds.is_superset(&KINDS.into()), "format {version} lacks some kind: {kinds:?}");
    }
}

#[test]
fn recorded_runs_are_folded_to_the_same_end() {
    for version in 1..=FORMAT_VERSION {
        for run in recorded(version) {
            let entries = run.entries(version);
            let fold = Run::resumed(run.brief(), &entries).unwrap_or_else(|error| panic!("{}: {error}", run.about));
            let phase = format!("{:?}", fold.phase()).to_lowercase();
            assert_eq!((phase.as_str(), fold.outcome(), fold.usage()), (&*run.phase, run.outcome.clone(), run.usage));
            assert_eq!(fold.next_seq() as usize, entries.len(), "{}", run.about);
            // And each of its decisions is the one that this version would take.
            if let Err(mismatch) = Replay::of(run.brief(), &entries) {
                panic!("{}: {mismatch}", run.about);
            }
        }
    }
}

#[test]
fn a_format_of_the_future_says_what_to_do() {
    let error = Entry::read(i64::from(FORMAT_VERSION) + 1, "{}").expect_err("it cannot be read");
    assert!(error.to_string().contains("run the newer troupe"), "{error}");
}

async fn left(version: u16) -> (tempfile::TempDir, Stores) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    leave(dir.path(), &folder(version).join("node.sql")).await;
    let database = Database::open(dir.path(), &sqlite::Options::default()).await.expect("it is brought up to date");
    (dir, store::sqlite::stores(database, store::Options::default()))
}

#[tokio::test]
async fn the_file_that_a_released_node_has_left_is_read_and_gone_on_with() {
    for version in 1..=FORMAT_VERSION {
        let (_dir, stores) = left(version).await;
        let runs = recorded(version);
        let listed = stores.tasks.tasks(&TaskFilter::default()).await.expect("a list");
        assert_eq!(listed.len(), runs.len(), "no row is left out");
        for run in &runs {
            let task = stores.tasks.task(run.task).await.expect("it is read").expect("it is there");
            assert_eq!((&task.outcome, task.usage), (&run.outcome, run.usage), "{}", run.about);
            let entries = stores.journal.entries(task.steps[0].id).await.expect("they are read");
            assert_eq!(entries, run.entries(version), "{}", run.about);
            let event = stores.tasks.event(run.task).await.expect("it is read").expect("it is there");
            assert_eq!(event.input(), run.brief.input);
            let spec = stores.specs.spec(&task.spec_digest).await.expect("it is read").expect("it is there");
            assert_eq!(spec.limits, run.brief.limits, "{}", run.about);
        }
        // What was under way is found and claimed.
        let life = stores.nodes.start(NODE, Duration::from_secs(10)).await.expect("a new life");
        let orphans = stores.steps.orphans(0, 10).await.expect("a list");
        let running = listed.iter().filter(|task| task.status == TaskStatus::Running).count();
        assert_eq!((orphans.len(), running), (1, 1));
        let orphan = &orphans[0].step;
        assert!(stores.steps.claim(orphan.id, orphan.epoch, life).await.expect("it is there").is_some());
    }
}
