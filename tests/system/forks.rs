//! Forks from the outside: what lies before the place is neither asked nor called again, and what comes after it is made
//! anew; on both databases, by command line and API, and over power cuts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use troupe_runtime::store::conformance::{Cell, Raw};
use troupe_tests::cells::InFile;
use troupe_tests::model::{Answer, Asked, ModelStandIn};
use troupe_tests::wait::{PATIENCE, until};
use troupe_tests::{Stage, wait};

use super::agents::two_turns;
use super::database;

const LIMIT: Duration = Duration::from_secs(30);

/// A world in which it is known which model was asked for which turn, how often.
struct World {
    stage: Stage,
    _model: ModelStandIn,
    asked: Arc<Mutex<BTreeMap<(String, usize), usize>>>,
}

impl World {
    /// Looks at the clock twice, then answers; the model `sleeper` never comes back from its third turn while `asleep`.
    async fn set(mut stage: Stage, asleep: Arc<AtomicBool>) -> Self {
        let asked = Arc::<Mutex<BTreeMap<_, usize>>>::default();
        let seen = asked.clone();
        let model = ModelStandIn::start(move |asked: &Asked| {
            let name = asked.body["model"].as_str().unwrap_or_default().to_owned();
            *seen.lock().unwrap_or_else(PoisonError::into_inner).entry((name.clone(), asked.turn)).or_default() += 1;
            let answer = match asked.turn {
                0 | 1 => Answer::Tool("clock", json!({})),
                _ if name == "sleeper" && asleep.load(Ordering::SeqCst) => Answer::Hang,
                _ => Answer::Text(format!("{} by {name}", asked.task)),
            };
            (Duration::ZERO, answer)
        })
        .await;
        stage.set("STAND_IN_KEY", "none").agent("crasher", &two_turns(model.base_url()));
        Self { stage, _model: model, asked }
    }

    /// How often each turn of a model was asked for since the last look.
    fn calls(&self) -> BTreeMap<(String, usize), usize> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A run of three turns; answers its id.
    async fn run(&self) -> String {
        let asked = json!({"input": "task-1 please"});
        let (status, task) = self.stage.admin().post("/v1/agents/crasher/tasks?wait=20s", &[], &asked).await;
        assert_eq!((status, task["outcome"]["output"].as_str()), (200, Some("task-1 by stand-in")), "{task}");
        task["runs"][0]["id"].as_str().expect("a run").to_owned()
    }

    async fn shown(&self, path: &str) -> Value {
        let (status, body) = self.stage.admin().get(path).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Forks by the command line, waits, and answers the fork's task.
    async fn forked(&self, run: &str, place: [&str; 2], set: &str) -> Value {
        let args = ["runs", "fork", run, place[0], place[1], "--set", set, "--wait=20s", "-o", "json"];
        let said = self.stage.run(&args, LIMIT).await;
        assert_eq!(said.code, 0, "{place:?}: {}\n{}", said.out, said.err);
        serde_json::from_str(&said.out).expect("JSON and nothing else")
    }
}

fn calls(model: &str, turns: std::ops::Range<usize>) -> BTreeMap<(String, usize), usize> {
    turns.map(|turn| ((model.to_owned(), turn), 1)).collect()
}

#[tokio::test]
async fn a_fork_asks_only_for_what_comes_after_its_place() {
    from_every_place(Stage::new()).await;
}

#[tokio::test]
async fn a_fork_asks_only_for_what_comes_after_its_place_with_its_state_on_a_server() {
    let Some((_server, stage, _)) = database::stage().await else { return };
    from_every_place(stage).await;
}

async fn from_every_place(stage: Stage) {
    let world = World::set(stage, Arc::default()).await;
    let _node = world.stage.start().await;
    let run = world.run().await;
    assert_eq!(world.calls(), calls("stand-in", 0..3));
    let before = (world.shown(&format!("/v1/runs/{run}")).await, world.stage.admin().journal(&run).await);

    let mut ids = Vec::new();
    for (place, kept, turn) in [
        (["--from-step", "0"], 0, 0),
        (["--from-step", "1"], 2, 1),
        (["--from-step", "2"], 4, 2),
        (["--from-entry", "1"], 1, 1),
        (["--from-entry", "4"], 4, 2),
    ] {
        let fork = world.forked(&run, place, "model=other").await;
        assert_eq!(fork["outcome"]["output"], "task-1 by other", "{place:?}: {fork}");
        assert_eq!(world.calls(), calls("other", turn..3), "{place:?}");
        assert_eq!(fork["usage"]["input_tokens"], 10 * (3 - turn), "it has paid for these, and for no other: {fork}");
        assert_eq!((&fork["forked_from"]["run_id"], &fork["forked_from"]["entry"]), (&json!(run), &json!(kept)));
        assert_eq!(fork["steps"][0]["copied"], kept, "{fork}");
        let id = fork["id"].as_str().expect("an id").to_owned();
        let journal = world.stage.admin().journal(&id).await;
        let took = |entries: &[Value]| entries.iter().take(kept).map(|entry| entry["at"].clone()).collect::<Vec<_>>();
        assert_eq!((journal.len(), took(&journal)), (5, took(&before.1)));
        let verified = world.stage.run(&["runs", "replay", "--verify", &id], LIMIT).await;
        assert_eq!(verified.code, 0, "{place:?}: {}", verified.err);
        let table = world.stage.run(&["runs", "journal", &id], LIMIT).await.out;
        assert_eq!(table.matches("(copied)").count(), kept, "{table}");
        for noun in ["tasks", "runs"] {
            let sheet = world.stage.run(&[noun, "show", &id], LIMIT).await.out;
            assert!(sheet.contains(&format!("run {run}, at entry {kept}")), "{sheet}");
        }
        ids.push(id);
    }
    // A fork of a fork, with its original's settings: its copies are copied once more.
    let fork = world.forked(&ids[2], ["--from-step", "2"], "model=third").await;
    assert_eq!((fork["outcome"]["output"].as_str(), world.calls()), (Some("task-1 by third"), calls("third", 2..3)));

    let after = (world.shown(&format!("/v1/runs/{run}")).await, world.stage.admin().journal(&run).await);
    assert_eq!(after, before, "the original is as it was");
}

#[tokio::test]
async fn what_cannot_be_forked_says_why_and_makes_nothing() {
    let world = World::set(Stage::new(), Arc::default()).await;
    let _node = world.stage.start().await;
    let run = world.run().await;
    let fork = async |args: &[&str]| {
        let all = [&["runs", "fork"], args].concat();
        let said = world.stage.run(&all, LIMIT).await;
        (said.code, said.err)
    };
    let nobody = "00000000-0000-7000-8000-000000000000";
    for (args, code, why) in [
        (&[run.as_str()][..], 2, "--from-step"),
        (&[&run, "--from-step", "1", "--from-entry", "2"], 2, "cannot be used with"),
        (&[&run, "--from-step", "3"], 2, "turn 3 has not begun: the run has 3 answers of a model on record"),
        (&[&run, "--from-entry", "5"], 2, "nothing comes at entry 5: the run has 5 entries on record"),
        (&[&run, "--from-step", "-1"], 2, "-1"),
        (&[&run, "--from-step", "1", "--set", "modle=x"], 2, "did you mean \"model\"?"),
        (&[&run, "--from-step", "1", "--set", "model"], 2, "key=value"),
        (&[&run, "--from-step", "2", "--set", "limits.turns=1"], 2, "does not fit the new settings: entry 1"),
        (&[nobody, "--from-step", "0"], 3, "there is no run"),
    ] {
        let (found, said) = fork(args).await;
        assert!(found == code && said.contains(why), "{args:?}: {found}\n{said}");
    }

    // One key, one fork; another fork under it is refused.
    let path = format!("/v1/runs/{run}:fork");
    let key = [("idempotency-key", "k1")];
    let admin = world.stage.admin();
    let asked = async |body: Value| admin.post(&path, &key, &body).await;
    let (status, first) = asked(json!({"from_step": 2})).await;
    assert_eq!((status, first["steps"][0]["copied"].as_u64()), (202, Some(4)), "{first}");
    let (status, second) = asked(json!({"from_step": 2})).await;
    assert_eq!((status, &second["id"]), (202, &first["id"]), "{second}");
    for body in [json!({"from_step": 1}), json!({"from_step": 2, "set": {"model": "other"}})] {
        let (status, problem) = asked(body).await;
        assert!(status == 409 && problem["detail"].to_string().contains("k1"), "{problem}");
    }
    let (status, other) = admin.post(&path, &[], &json!({"from_step": 2, "set": {"limits.turns": 20}})).await;
    assert!(status == 202 && other["id"] != first["id"], "two forks by intention are two: {other}");
    for (body, status) in [(json!({}), 422), (json!({"from_step": 0, "set": {"model": []}}), 422)] {
        assert_eq!(admin.post(&path, &[], &body).await.0, status, "{body}");
    }
    for task in [&first, &other] {
        let id = task["id"].as_str().expect("an id");
        assert_eq!(world.shown(&format!("/v1/tasks/{id}?wait=20s")).await["status"], "succeeded");
    }
    assert_eq!(admin.tasks("crasher").await.expect("the tasks").len(), 3, "nothing else was made");
}

#[tokio::test]
async fn a_run_with_a_damaged_entry_goes_on_from_before_it() {
    let world = World::set(Stage::new(), Arc::default()).await;
    let node = world.stage.start().await;
    let run = world.run().await;
    let task = world.shown(&format!("/v1/runs/{run}")).await;
    node.kill9();
    let step = serde_json::from_value(task["steps"][0]["id"].clone()).expect("an id");
    let mut file = InFile::open(&world.stage.path("data")).await;
    assert_eq!(file.poke(&Cell::entry(step, 3), &Raw::Text(b"{".to_vec())).await, Ok(true));
    drop(file);
    world.calls();

    let _node = world.stage.start().await;
    let said = world.stage.run(&["runs", "fork", &run, "--from-step", "2"], LIMIT).await;
    assert!(said.code == 4 && said.err.contains("entry 3"), "{}: {}", said.code, said.err);
    let fork = world.forked(&run, ["--from-step", "1"], "model=other").await;
    assert_eq!((fork["outcome"]["output"].as_str(), world.calls()), (Some("task-1 by other"), calls("other", 1..3)));
}

#[tokio::test]
async fn a_fork_goes_on_after_a_power_cut() {
    over_a_power_cut(Stage::new()).await;
}

#[tokio::test]
async fn a_fork_goes_on_after_a_power_cut_with_its_state_on_a_server() {
    let Some((_server, stage, _)) = database::stage().await else { return };
    over_a_power_cut(stage).await;
}

async fn over_a_power_cut(stage: Stage) {
    let asleep = Arc::new(AtomicBool::new(true));
    let world = World::set(stage, asleep.clone()).await;
    let node = world.stage.start().await;
    let run = world.run().await;
    world.calls();
    let body = json!({"from_step": 1, "set": {"model": "sleeper"}});
    let (status, fork) = world.stage.admin().post(&format!("/v1/runs/{run}:fork"), &[], &body).await;
    assert_eq!(status, 202, "{fork}");
    let id = fork["id"].as_str().expect("an id").to_owned();
    let third =
        async || world.asked.lock().unwrap_or_else(PoisonError::into_inner).get(&("sleeper".to_owned(), 2)).copied();
    until("the last turn to be asked for", PATIENCE, third).await;
    node.kill9();
    asleep.store(false, Ordering::SeqCst);

    let _node = world.stage.start().await;
    let ended = world.shown(&format!("/v1/tasks/{id}?wait=20s")).await;
    assert_eq!(ended["outcome"]["output"], "task-1 by sleeper", "{ended}");
    assert_eq!((&ended["attempts"], &ended["steps"][0]["copied"]), (&json!(1), &json!(2)));
    assert_eq!(ended["usage"]["input_tokens"], 20, "{ended}");
    let mut expected = calls("sleeper", 1..3);
    // The one that was under way.
    expected.insert(("sleeper".to_owned(), 2), 2);
    assert_eq!(world.calls(), expected);
    let verified = world.stage.run(&["runs", "replay", "--verify", &id], LIMIT).await;
    assert_eq!(verified.code, 0, "{}", verified.err);
}

/// A fork that was accepted and not taken up is found by the node's next life.
#[tokio::test]
async fn a_fork_that_nobody_has_begun_is_not_lost() {
    let world = World::set(Stage::new(), Arc::default()).await;
    let node = world.stage.start().await;
    let run = world.run().await;
    let body = json!({"from_step": 2});
    let (status, fork) = world.stage.admin().post(&format!("/v1/runs/{run}:fork"), &[], &body).await;
    node.kill9();
    assert_eq!(status, 202, "{fork}");
    let _node = world.stage.start().await;
    let path = format!("/v1/tasks/{}?wait=20s", fork["id"].as_str().expect("an id"));
    let ended = wait::until("the fork's end", PATIENCE, async || {
        world.stage.admin().try_get(&path).await.filter(|(status, _)| *status == 200)
    });
    assert_eq!(ended.await.1["status"], "succeeded");
}
