//! Agents that are added, changed and removed while the troupe plays: from files in a folder, with work in hand.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use troupe_actors::registry::{AgentFilter, AgentStatus, AgentView};
use troupe_actors::stage::Options;
use troupe_actors::troupe::{Error, Submission, Troupe};
use troupe_actors::watcher::{self, Watch};
use troupe_runtime::bus::{self, Routing};
use troupe_runtime::config::{Agents, Stamp, load_agents};
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::store::{Task, TaskFilter};

use crate::house::{PATIENCE, open_ports, options, until};

/// A step that is under way for long enough to change its agent meanwhile.
const LONG: &str = "700ms";

/// A troupe over a folder of specs.
struct Theatre {
    troupe: Troupe,
    over: JoinHandle<()>,
    data: TempDir,
    folder: TempDir,
}

/// A spec that answers `reply` after `delay`.
fn text(name: &str, reply: &str, delay: &str, more: &str) -> String {
    format!(
        "name: {name}\ntype: t\nexecution_mode: autonomous\nllm_config: {{provider: scripted, model: m, script: [{{reply: \"{reply}\", delay: {delay}}}]}}\n{more}\n"
    )
}

impl Theatre {
    async fn open(files: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self::open_in(tempfile::tempdir().unwrap(), folder).await
    }

    async fn open_in(data: TempDir, folder: TempDir) -> Self {
        let ports = Arc::new(open_ports(&data).await);
        let (looked_at, read) = (folder.path().to_owned(), folder.path().to_owned());
        let stamp = Stamp::of(&read);
        let loaded = load_agents(&read, &Agents::default());
        let specs = loaded.agents.iter().map(|(spec, _)| spec.clone()).collect();
        let quick = watcher::Options {
            look_every: Duration::from_millis(5),
            settle: Duration::from_millis(10),
            settle_max: Duration::from_millis(100),
            ..watcher::Options::default()
        };
        let read = move || load_agents(&read, &Agents::default());
        let watch = Watch::new(move || Stamp::of(&looked_at), read, quick, stamp, loaded);
        let options = Options { watch: Some(watch), ..options() };
        let (troupe, over) = Troupe::start(ports, specs, options, Vec::new()).await.unwrap();
        Self { troupe, over, data, folder }
    }

    /// Writes a file as a careful editor does.
    fn write(&self, name: &str, text: &str) {
        let (new, path) = (self.folder.path().join(".new"), self.folder.path().join(name));
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    async fn ask(&self, agent: &str) -> TaskId {
        self.troupe.submit(agent, Submission { input: json!("go"), ..Submission::default() }).await.unwrap()
    }

    /// Asks, and waits until it is under way.
    async fn begun(&self, agent: &str) -> TaskId {
        let task = self.ask(agent).await;
        let accepted = async || self.troupe.ports().stores.tasks.task(task).await.unwrap().is_some();
        until(accepted).await;
        task
    }

    async fn ended(&self, task: TaskId) -> Task {
        let task = self.troupe.wait(task, PATIENCE).await.unwrap().expect("never accepted");
        assert_ne!(task.status, TaskStatus::Running, "it does not end: {task:?}");
        task
    }

    async fn output(&self, task: TaskId) -> String {
        match self.ended(task).await.outcome {
            Some(Outcome::Succeeded { output }) => output,
            other => panic!("{other:?}"),
        }
    }

    async fn view(&self, agent: &str) -> Option<AgentView> {
        let views = self.troupe.agents(AgentFilter::default()).await.unwrap();
        let mut views: Vec<_> = views.into_iter().filter(|view| view.name.as_str() == agent).collect();
        assert!(views.len() <= 1, "one agent, one line: {views:?}");
        views.pop()
    }

    /// Waits until an agent is there and stands so.
    async fn until_view(&self, agent: &str, holds: impl Fn(&AgentView) -> bool) -> AgentView {
        until(|| async { self.view(agent).await.is_some_and(|view| holds(&view)) }).await;
        self.view(agent).await.unwrap()
    }

    async fn until_gone(&self, agent: &str) {
        until(|| async { self.view(agent).await.is_none() }).await;
        let actors = self.troupe.tree().list();
        let left: Vec<_> = actors.iter().filter(|actor| actor.path.contains(&format!("/{agent}/"))).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    async fn publish(&self, topic: &str) -> Result<usize, bus::Error> {
        let event = Event::new(topic.parse().unwrap(), "/test", json!({"input": "go"}));
        self.troupe.ports().bus.publish(Arc::new(event), Routing::Mandatory).await
    }

    async fn crash(self) -> (TempDir, TempDir) {
        let Self { troupe, over, data, folder } = self;
        for actor in troupe.tree().list().into_iter().rev() {
            troupe.tree().kill(&actor.path).ok();
        }
        troupe.drain(Duration::ZERO).await;
        over.await.ok();
        troupe.ports().close().await;
        drop(troupe);
        (data, folder)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_runs_take_the_new_spec_and_running_ones_keep_theirs() {
    let theatre = Theatre::open(&[("a.yaml", text("a", "one", LONG, ""))]).await;
    let before = theatre.view("a").await.unwrap();
    let old = theatre.begun("a").await;
    theatre.write("a.yaml", &text("a", "two", "0s", ""));
    let after = theatre.until_view("a", |view| view.spec_digest != before.spec_digest).await;
    let new = theatre.ask("a").await;
    assert_eq!(theatre.output(new).await, "two");
    assert_eq!(theatre.output(old).await, "one");
    let (old, new) = (theatre.ended(old).await, theatre.ended(new).await);
    assert_eq!((old.steps[0].attempts, new.steps[0].attempts), (1, 1));
    assert_eq!((&*old.spec_digest, &*new.spec_digest), (&*before.spec_digest, &*after.spec_digest));
    assert_eq!((after.restarts, theatre.troupe.standing().reloads), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_is_a_new_agent_and_a_touched_one_is_nothing() {
    let theatre = Theatre::open(&[("a.yaml", text("a", "one", "0s", ""))]).await;
    theatre.write("b.yaml", &text("b", "hello", "0s", ""));
    theatre.until_view("b", |view| view.status == AgentStatus::Ready).await;
    let task = theatre.ask("b").await;
    assert_eq!(theatre.output(task).await, "hello");
    // Moved and commented, but the same; the third file shows that they were read.
    fs::rename(theatre.folder.path().join("a.yaml"), theatre.folder.path().join("z.yaml")).unwrap();
    theatre.write("b.yaml", &format!("# hello\n{}", text("b", "hello", "0s", "")));
    theatre.write("c.yaml", &text("c", "me too", "0s", ""));
    let since = theatre.view("a").await.unwrap().since;
    theatre.until_view("c", |view| view.status == AgentStatus::Ready).await;
    assert_eq!(theatre.view("a").await.unwrap().since, since);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_agent_finishes_what_it_has_and_its_queue_is_kept() {
    let theatre = Theatre::open(&[
        ("a.yaml", text("a", "done", LONG, "subscriptions: [news.#]")),
        ("b.yaml", text("b", "x", "0s", "")),
    ])
    .await;
    let task = theatre.begun("a").await;
    theatre.remove("a.yaml");
    let retired = theatre.until_view("a", |view| view.status == AgentStatus::Retired).await;
    assert_eq!(retired.steps, 1);
    assert_eq!(theatre.troupe.agent("a").await.unwrap().name.as_str(), "a", "shown until it has finished");
    let refused = theatre.troupe.submit("a", Submission::default()).await.unwrap_err();
    assert!(matches!(refused, Error::UnknownAgent { .. }), "{refused}");
    for topic in ["news.today", "agent.task.a"] {
        assert!(matches!(theatre.publish(topic).await, Err(bus::Error::Unroutable(_))), "{topic}");
    }
    let ended = theatre.ended(task).await;
    assert_eq!((ended.status, ended.steps[0].attempts), (TaskStatus::Succeeded, 1));
    theatre.until_gone("a").await;
    assert!(matches!(theatre.troupe.agent("a").await, Err(Error::UnknownAgent { .. })));
    let depths = theatre.troupe.ports().bus.health().await.unwrap().depths;
    assert!(depths.contains(&("agent.input.a".to_owned(), 0)), "{depths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_comes_back_while_it_leaves_takes_up_what_waits() {
    let theatre = Theatre::open(&[("a.yaml", text("a", "one", LONG, ""))]).await;
    let first = theatre.begun("a").await;
    theatre.remove("a.yaml");
    theatre.until_view("a", |view| view.status == AgentStatus::Retired).await;
    // To its queue, past the bindings: it waits for whoever has the name next.
    let event = Event::new("agent.task.a".parse().unwrap(), "/test", json!({"input": "go"}));
    let second = TaskId::derive(&event.id, "a");
    theatre.troupe.ports().bus.send("agent.input.a", Arc::new(event)).await.unwrap();
    theatre.write("a.yaml", &text("a", "two", "0s", ""));
    theatre.until_view("a", |view| view.status != AgentStatus::Retired).await;
    until(|| async { theatre.troupe.ports().stores.tasks.task(second).await.unwrap().is_some() }).await;
    assert_eq!((theatre.output(second).await, theatre.output(first).await), ("two".to_owned(), "one".to_owned()));
    // And once more when everything of it has gone.
    theatre.remove("a.yaml");
    theatre.until_gone("a").await;
    theatre.write("a.yaml", &text("a", "three", "0s", ""));
    theatre.until_view("a", |view| view.status == AgentStatus::Ready).await;
    let third = theatre.ask("a").await;
    assert_eq!(theatre.output(third).await, "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_come_at_once_and_go_when_their_work_is_done() {
    let of = |instances: u32| text("a", "done", LONG, &format!("instances: {instances}"));
    let theatre = Theatre::open(&[("a.yaml", of(1))]).await;
    let mut tasks = vec![theatre.begun("a").await];
    theatre.write("a.yaml", &of(3));
    theatre.until_view("a", |view| view.instances.len() == 3).await;
    for _ in 0..3 {
        tasks.push(theatre.begun("a").await);
    }
    theatre.until_view("a", |view| view.instances.iter().all(|instance| instance.steps > 0)).await;
    theatre.write("a.yaml", &of(1));
    theatre.until_view("a", |view| view.instances.len() == 1).await;
    for task in tasks {
        let ended = theatre.ended(task).await;
        assert_eq!((ended.status, ended.steps[0].attempts), (TaskStatus::Succeeded, 1), "nothing was cut off");
    }
    let actors = theatre.troupe.tree().list();
    let agents: Vec<_> = actors.iter().filter(|actor| actor.kind == "agent").map(|actor| &actor.path).collect();
    assert_eq!(agents, ["root/orchestrator/autonomous/a/0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_changes_its_mode_moves_and_what_it_has_begun_stays() {
    let files = [("a.yaml", text("a", "one", LONG, "team: [w]")), ("w.yaml", text("w", "x", "0s", ""))];
    let theatre = Theatre::open(&files).await;
    let old = theatre.begun("a").await;
    theatre.write("a.yaml", &text("a", "two", "0s", "team: [w]").replace("autonomous", "collaborative"));
    theatre.until_view("a", |view| view.instances.iter().any(|i| i.path.contains("/collaborative/"))).await;
    let new = theatre.ask("a").await;
    assert_eq!((theatre.output(new).await, theatre.output(old).await), ("two".to_owned(), "one".to_owned()));
    let calls: u64 = theatre.troupe.ports().models.scripted_calls().snapshot().iter().map(|(.., calls)| calls).sum();
    assert_eq!(calls, 2, "each was done once, where it was begun");
    let left = async || theatre.troupe.tree().list().iter().any(|actor| actor.path.contains("/autonomous/a/"));
    until(|| async { !left().await }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_follow_the_spec() {
    let theatre = Theatre::open(&[("a.yaml", text("a", "one", "0s", "subscriptions: [x.one, x.both]"))]).await;
    let digest = theatre.view("a").await.unwrap().spec_digest;
    theatre.write("a.yaml", &text("a", "one", "0s", "subscriptions: [x.two, x.both]"));
    theatre.until_view("a", |view| view.spec_digest != digest).await;
    assert!(matches!(theatre.publish("x.one").await, Err(bus::Error::Unroutable(_))));
    for topic in ["x.two", "x.both", "agent.task.a"] {
        assert_eq!(theatre.publish(topic).await.unwrap(), 1, "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_keeps_the_last_good_version_and_says_so() {
    let theatre = Theatre::open(&[("a.yaml", text("a", "one", "0s", ""))]).await;
    theatre.write("a.yaml", "name: a\ntype: [");
    let broken = theatre.until_view("a", |view| !view.problems.is_empty()).await;
    assert!(broken.problems[0].contains("a.yaml:2:7"), "{:?}", broken.problems);
    assert_eq!(theatre.troupe.standing().problems, broken.problems);
    let task = theatre.ask("a").await;
    assert_eq!(theatre.output(task).await, "one");
    // Right as YAML, and nobody can serve it.
    let keyless =
        text("a", "two", "0s", "").replace("script: [{reply: \"two\", delay: 0s}]", "api_key: \"${NO_SUCH_KEY}\"");
    theatre.write("a.yaml", &keyless.replace("provider: scripted", "provider: openai"));
    let unservable = theatre.until_view("a", |view| view.problems.iter().any(|p| p.contains("not changed"))).await;
    assert_eq!(unservable.spec_digest, broken.spec_digest);
    theatre.write("a.yaml", &text("a", "three", "0s", ""));
    theatre.until_view("a", |view| view.problems.is_empty() && view.spec_digest != broken.spec_digest).await;
    let task = theatre.ask("a").await;
    assert_eq!(theatre.output(task).await, "three");
    assert_eq!(theatre.troupe.standing().problems, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_runs_go_on_with_the_spec_they_have_pinned() {
    let theatre = Theatre::open(&[
        ("changed.yaml", text("changed", "old", LONG, "")),
        ("removed.yaml", text("removed", "still here", LONG, "")),
    ])
    .await;
    let (changed, removed) = (theatre.begun("changed").await, theatre.begun("removed").await);
    theatre.write("changed.yaml", &text("changed", "new", "0s", ""));
    theatre.remove("removed.yaml");
    let (data, folder) = theatre.crash().await;
    let theatre = Theatre::open_in(data, folder).await;
    assert_eq!(theatre.output(changed).await, "old");
    assert_eq!(theatre.output(removed).await, "still here");
    theatre.until_gone("removed").await;
    let task = theatre.ask("changed").await;
    assert_eq!(theatre.output(task).await, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_agent_that_was_given_up_is_tried_again() {
    let theatre = Theatre::open(&[("a.yaml", text("a", "one", "0s", "restart: {max: 0, window: 60s}"))]).await;
    theatre.troupe.tree().kill("root/orchestrator/autonomous/a/0").unwrap();
    theatre.until_view("a", |view| view.status == AgentStatus::Unavailable).await;
    theatre.write("a.yaml", &text("a", "two", "0s", "restart: {max: 1, window: 60s}"));
    theatre.until_view("a", |view| view.status == AgentStatus::Ready).await;
    theatre.troupe.tree().kill("root/orchestrator/autonomous/a/0").unwrap();
    theatre.until_view("a", |view| view.status == AgentStatus::Ready && view.restarts == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_and_watcher_that_fall_come_back_with_the_agents_as_they_are_now() {
    let theatre = Theatre::open(&[("a.yaml", text("a", "one", "0s", "")), ("b.yaml", text("b", "x", "0s", ""))]).await;
    theatre.write("a.yaml", &text("a", "two", "0s", ""));
    theatre.remove("b.yaml");
    theatre.write("c.yaml", &text("c", "new", "0s", ""));
    theatre.until_view("c", |view| view.status == AgentStatus::Ready).await;
    for path in ["root/orchestrator/autonomous", "root/orchestrator", "root/watcher"] {
        theatre.troupe.tree().kill(path).unwrap();
        until(|| async { theatre.troupe.tree().list().iter().any(|actor| actor.path == path && actor.restarts > 0) })
            .await;
        let there = async || theatre.troupe.agents(AgentFilter::default()).await.is_ok_and(|views| views.len() == 2);
        until(there).await;
        for (agent, says) in [("a", "two"), ("c", "new")] {
            let task = theatre.ask(agent).await;
            assert_eq!(theatre.output(task).await, says, "{path}");
        }
    }
    theatre.write("d.yaml", &text("d", "last", "0s", ""));
    theatre.until_view("d", |view| view.status == AgentStatus::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_or_done_twice_while_its_agent_changes_under_load() {
    let files = [("a.yaml", text("a", "0", "1ms", "subscriptions: [load.*]")), ("w.yaml", text("w", "x", "0s", ""))];
    let theatre = Arc::new(Theatre::open(&files).await);
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn({
        let (theatre, stop, count) = (theatre.clone(), stop.clone(), count.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(theatre.publish("load.x").await.unwrap(), 1);
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for version in 1..=12 {
        let mode = if version % 4 == 0 { "collaborative" } else { "autonomous" };
        let keys = format!("subscriptions: [load.*, v{version}.#]\nteam: [w]\ninstances: {}", 1 + version % 3);
        let digest = theatre.view("a").await.unwrap().spec_digest;
        theatre.write("a.yaml", &text("a", &version.to_string(), "1ms", &keys).replace("autonomous", mode));
        theatre.until_view("a", |view| view.spec_digest != digest && view.status != AgentStatus::Retired).await;
        let enough = count.load(Ordering::Relaxed) + 10;
        until(|| async { count.load(Ordering::Relaxed) >= enough }).await;
    }
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    let published = count.load(Ordering::Relaxed);
    let stores = &theatre.troupe.ports().stores;
    let all = TaskFilter { limit: published + 10, ..TaskFilter::default() };
    let done = |tasks: &[Task]| tasks.iter().filter(|task| task.status == TaskStatus::Succeeded).count();
    until(|| async { done(&stores.tasks.tasks(&all).await.unwrap()) == published }).await;
    let tasks = stores.tasks.tasks(&all).await.unwrap();
    assert_eq!(tasks.len(), published, "one task for each event");
    let digests: std::collections::BTreeSet<_> = tasks.iter().map(|task| task.spec_digest.clone()).collect();
    assert!(digests.len() > 3, "the versions took turns: {}", digests.len());
    assert!(tasks.iter().all(|task| task.steps[0].attempts == 1), "nothing was cut off");
}
