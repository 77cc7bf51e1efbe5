//! The tree against a clock that stands still and a real actor to kill.

use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, ActorStatus};
use ractor_cluster_derive::RactorMessage;

use super::*;
use crate::clock::ManualClock;

struct Idle;

#[derive(RactorMessage)]
struct Nothing;

impl Actor for Idle {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

async fn idle() -> ActorCell {
    Actor::spawn(None, Idle, ()).await.expect("an idle actor").0.get_cell()
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.list().into_iter().map(|view| view.path).collect()
}

#[test]
fn a_parent_comes_before_its_children_and_siblings_by_name() {
    let tree = Tree::default();
    let _entries: Vec<Entry> = ["root/b", "root/a/0", "root/a-b", "root", "root/a"]
        .into_iter()
        .map(|path| tree.insert(path, "actor"))
        .collect();
    assert_eq!(paths(&tree), ["root", "root/a", "root/a/0", "root/a-b", "root/b"]);
}

#[tokio::test]
async fn an_entry_tells_its_story_and_outlives_a_life() {
    let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
    let tree = Tree::new(clock.clone());
    let entry = tree.insert("root/echo", "agent");
    assert_eq!(tree.get("root/echo").expect("there").state, ActorState::Starting);

    clock.advance(Duration::from_secs(1));
    entry.running(idle().await, 2);
    entry.set_step(Some("calling a model"));
    let view = tree.get("root/echo").expect("there");
    assert_eq!((view.state, view.since.timestamp(), view.restarts), (ActorState::Running, 1, 2));
    assert_eq!(view.step.as_deref(), Some("calling a model"));
    assert_eq!(tree.restarts("root/echo"), Some(2));

    clock.advance(Duration::from_secs(1));
    entry.failed(&"x".repeat(CAUSE_CHARS_MAX * 2));
    entry.down(ActorState::Unavailable);
    let view = tree.get("root/echo").expect("still there");
    assert_eq!((view.state, view.since.timestamp(), view.step), (ActorState::Unavailable, 2, None));
    assert_eq!(view.last_error.map(|cause| cause.chars().count()), Some(CAUSE_CHARS_MAX));
    let dead = KillError::NotRunning { path: "root/echo".into(), state: ActorState::Unavailable };
    assert_eq!(tree.kill("root/echo"), Err(dead));

    drop(entry);
    assert_eq!(tree.list(), []);
}

#[test]
fn a_view_is_plain_json() {
    let tree = Tree::new(Arc::new(ManualClock::at(DateTime::UNIX_EPOCH)));
    let _entry = tree.insert("root", "root");
    let expected = serde_json::json!([{
        "path": "root", "kind": "root", "state": "starting", "since": "1970-01-01T00:00:00Z",
        "restarts": 0, "mailbox_depth": 0, "step": null, "last_error": null,
    }]);
    assert_eq!(serde_json::to_value(tree.list()).expect("json"), expected);
}

#[tokio::test]
async fn a_leaf_is_killed_by_its_path_and_leaves_with_its_guard() {
    let tree = Tree::default();
    let cell = idle().await;
    let leaf = tree.insert("root/echo/0/step-1", "step");
    leaf.set_step(Some("turn 1"));
    leaf.reached_by(cell.clone().into());
    assert_eq!(tree.get("root/echo/0/step-1").and_then(|view| view.step).as_deref(), Some("turn 1"));

    let wrong = tree.kill("echo/0/step-1").expect_err("a whole path is needed");
    assert_eq!(wrong.to_string(), "no actor at \"echo/0/step-1\", did you mean \"root/echo/0/step-1\"");
    assert!(cell.get_status() < ActorStatus::Stopping, "nothing is killed on a guess");

    tree.kill(leaf.path()).expect("it runs");
    cell.wait(Some(Duration::from_secs(5))).await.expect("dead");
    drop(leaf);
    assert_eq!(tree.list(), []);
}

#[test]
fn a_late_guard_does_not_take_its_successor_out() {
    let tree = Tree::default();
    let old = tree.insert("root/echo", "agent");
    let new = tree.insert("root/echo", "agent");
    old.failed("too late");
    drop(old);
    assert_eq!(tree.get("root/echo").expect("the new one").last_error, None);
    drop(new);
    assert_eq!(tree.get("root/echo"), None);
}
