//! Agents that change while the node runs: whatever happens to their files has an effect within a second, what is half a
//! file has none, and no event is lost meanwhile.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use troupe_tests::Stage;
use troupe_tests::admin::Admin;
use troupe_tests::rabbitmq::RabbitMq;
use troupe_tests::wait::until;

use super::agents::ECHO;

const LIMIT: Duration = Duration::from_secs(60);
/// What the contract allows from the last write to the effect.
const PROMISED: Duration = Duration::from_secs(1);
/// How often each kind of change is tried: other tests on the same machine may hold up one of them.
const ROUNDS: usize = 3;

/// An agent that answers with its version.
fn spec(name: &str, version: usize) -> String {
    ECHO.replace("name: echo", &format!("name: {name}"))
        .replace("echo: {input}", &format!("v{version}"))
        .replace("command.echo", &format!("command.{name}"))
}

/// The digest of the spec that new runs of an agent pin; `None` when it is not there.
async fn digest(admin: &Admin, agent: &str) -> Option<String> {
    match admin.get(&format!("/v1/agents/{agent}")).await {
        (200, agent) if agent["status"] != "retired" => agent["spec_digest"].as_str().map(str::to_owned),
        _ => None,
    }
}

/// Waits until the agent has another spec than this, or none, and answers the new one.
async fn another(admin: &Admin, agent: &str, before: Option<&str>) -> Option<String> {
    let what = format!("an effect on {agent}");
    until(&what, LIMIT, async || {
        let now = digest(admin, agent).await;
        (now.as_deref() != before).then_some(now)
    })
    .await
}

async fn answer(stage: &Stage, agent: &str) -> String {
    let said = stage.run(&["ask", agent, "who are you?", "--wait"], LIMIT).await;
    assert_eq!(said.code, 0, "{}", said.err);
    said.out.trim().to_owned()
}

/// Does something to the folder and waits for its effect on an agent; answers how long that took.
async fn takes(admin: &Admin, agent: &str, change: impl FnOnce()) -> Duration {
    let before = digest(admin, agent).await;
    change();
    let begun = Instant::now();
    another(admin, agent, before.as_deref()).await;
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// As mounted configuration is laid out: files behind a link that is turned when they change.
fn mount(folder: &Path, version: usize, name: &str) {
    let (hidden, next) = (format!("..version-{version}"), folder.join("..data-next"));
    fs::create_dir_all(folder.join(&hidden)).expect("a folder");
    fs::write(folder.join(&hidden).join("mounted.yaml"), spec(name, version)).expect("a file");
    symlink(&hidden, &next).expect("a link");
    fs::rename(&next, folder.join("..data")).expect("a turned link");
    let visible = folder.join("mounted.yaml");
    if !visible.exists() {
        symlink("..data/mounted.yaml", visible).expect("a link");
    }
}

#[tokio::test]
async fn whatever_happens_to_a_file_has_an_effect_within_a_second() {
    let mut stage = Stage::new();
    stage.agent("echo", ECHO);
    let mut node = stage.start().await;
    let (admin, folder) = (stage.admin(), stage.path("agents"));
    let path = |name: &str| folder.join(name);
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
    let mut table: Vec<(&str, Vec<Duration>)> = Vec::new();
    for round in 0..ROUNDS {
        let version = round * 10;
        let mut times = Vec::new();
        times.push(("added", takes(&admin, "one", || write("one.yaml", &spec("one", version))).await));
        times.push(("changed", takes(&admin, "one", || write("one.yaml", &spec("one", version + 1))).await));
        let replace = || {
            write(".one.swp", &spec("one", version + 2));
            fs::rename(path(".one.swp"), path("one.yaml")).expect("a file that is replaced");
        };
        times.push(("replaced", takes(&admin, "one", replace).await));
        let before = digest(&admin, "one").await;
        fs::rename(path("one.yaml"), path("uno.yaml")).expect("another name");
        // The file's name is nobody's affair; the agent's is.
        times.push(("renamed", takes(&admin, "two", || write("uno.yaml", &spec("two", version + 2))).await));
        assert!(before.is_some() && digest(&admin, "one").await.is_none());
        assert_eq!(answer(&stage, "two").await, format!("v{}", version + 2));
        times.push(("removed", takes(&admin, "two", || fs::remove_file(path("uno.yaml")).expect("a file")).await));
        assert_eq!(admin.get("/v1/agents/two").await.0, 404);
        if round == 0 {
            mount(&folder, 0, "mounted");
            another(&admin, "mounted", None).await;
        }
        let turned = takes(&admin, "mounted", || mount(&folder, version + 1, "mounted")).await;
        times.push(("mounted", turned));
        for (kind, time) in times {
            match table.iter_mut().find(|(other, _)| *other == kind) {
                Some((_, times)) => times.push(time),
                None => table.push((kind, vec![time])),
            }
        }
    }
    assert_eq!(answer(&stage, "echo").await, "echo: who are you?", "the others go on");
    for (kind, times) in table {
        println!("{kind}: an effect after {times:?}");
        assert!(median(times) <= PROMISED, "{kind} takes too long");
    }
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
}

#[tokio::test]
async fn half_a_file_has_no_effect_and_a_broken_one_keeps_the_last_good_version() {
    let mut stage = Stage::new();
    stage.agent("echo", ECHO).agent("one", &spec("one", 1));
    let node = stage.start().await;
    let admin = stage.admin();
    let good = digest(&admin, "one").await;
    let healthy = admin.get("/health").await.1;
    assert_eq!((&healthy["status"], &healthy["components"]["config"]["agents"]), (&json!("healthy"), &json!(2)));

    let whole = spec("one", 2);
    let half = whole.split_at(whole.find("script").expect("a script")).0;
    stage.agent("one", half);
    let health = until("a word about half a file", LIMIT, async || {
        let health = admin.get("/health").await.1;
        (health["status"] == "degraded").then_some(health)
    })
    .await;
    let config = &health["components"]["config"];
    assert_eq!((&config["status"], &config["agents"]), (&json!("degraded"), &json!(2)), "{health}");
    let problem = config["problems"][0].as_str().expect("a problem");
    assert!(problem.contains("one.yaml:"), "{problem}");
    assert_eq!(digest(&admin, "one").await, good, "the last good version stays");
    assert_eq!(answer(&stage, "one").await, "v1");
    let said = stage.run(&["agents", "show", "one"], LIMIT).await;
    assert!(said.out.contains("Problems:") && said.out.contains("one.yaml:"), "{}", said.out);
    assert!(node.log().contains("the last good version stays"), "the log says so");

    // The other half.
    stage.agent("one", &whole);
    another(&admin, "one", good.as_deref()).await;
    assert_eq!(answer(&stage, "one").await, "v2");
    until("health", LIMIT, async || (admin.get("/health").await.1["status"] == "healthy").then_some(())).await;
    let said = stage.run(&["agents", "show", "one"], LIMIT).await;
    assert!(!said.out.contains("Problems:"), "{}", said.out);
}

#[tokio::test]
async fn a_thousand_writes_are_a_few_reloads_and_no_event_is_lost_meanwhile() {
    const WRITES: usize = 1_000;
    const OVER: Duration = Duration::from_secs(10);
    const RELOADS_MAX: u64 = 20;
    let mut stage = Stage::new();
    stage.agent("echo", ECHO).agent("one", &spec("one", 0)).agent("two", &spec("two", 0));
    let _node = stage.start().await;
    let admin = stage.admin();

    let asking = {
        let admin = stage.admin();
        tokio::spawn(async move {
            let (begun, mut asked) = (Instant::now(), 0_usize);
            while begun.elapsed() < OVER {
                let body = json!({"input": asked});
                let (status, answer) = admin.post("/v1/agents/one/tasks", &[], &body).await;
                assert_eq!(status, 202, "{answer}");
                asked += 1;
            }
            asked
        })
    };
    let begun = Instant::now();
    let mut pace = tokio::time::interval(OVER / u32::try_from(WRITES).expect("a number"));
    for version in 1..=WRITES {
        pace.tick().await;
        // Now one, now the other; the latter comes and goes.
        match version % 4 {
            0 => fs::remove_file(stage.path("agents/two.yaml")).expect("a file that was written before"),
            1 => drop(stage.agent("two", &spec("two", version))),
            _ => drop(stage.agent("one", &spec("one", version))),
        }
    }
    let wrote = begun.elapsed();
    let last = (1..=WRITES).rev().find(|version| version % 4 > 1).expect("a version");
    let asked = asking.await.expect("everything was taken");
    let report = async || admin.get("/health").await.1["components"]["config"].clone();
    until("the last version", LIMIT, async || (answer(&stage, "one").await == format!("v{last}")).then_some(())).await;
    until("the last removal", LIMIT, async || (admin.get("/v1/agents/two").await.0 == 404).then_some(())).await;

    let config = report().await;
    let reloads = config["reloads"].as_u64().expect("a number");
    println!("{WRITES} writes in {wrote:?}: {reloads} reloads, {asked} tasks meanwhile");
    assert!((1..=RELOADS_MAX).contains(&reloads), "{config}");
    assert_eq!((&config["problems"], &config["agents"]), (&json!([]), &json!(2)), "{config}");
    let ended = until("the end of every task", LIMIT, async || {
        let tasks = admin.tasks("one").await?;
        let ended: Vec<Value> = tasks.into_iter().filter(|task| task["status"] == "succeeded").collect();
        (ended.len() > asked).then_some(ended)
    })
    .await;
    // The others were asked by the command line.
    let of_load = ended.iter().filter(|task| task["input"].as_str().is_some_and(|text| text.parse::<u64>().is_ok()));
    let mut numbers: Vec<u64> = of_load.filter_map(|task| task["input"].as_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..asked as u64).collect::<Vec<_>>(), "each event is one task");
}

/// Publishes an event at a topic; answers the status.
async fn publish(admin: &Admin, topic: &str) -> u16 {
    let id = format!("{:032x}", rand::random::<u128>());
    let event = json!({"specversion": "1.0", "id": id, "source": "/test", "type": topic, "data": {"input": "go"}});
    admin.post("/v1/events", &[], &event).await.0
}

/// `troupe agents drop`; answers its code and what it said.
async fn drops(stage: &Stage, agent: &str) -> (i32, String) {
    let said = stage.run(&["agents", "drop", agent], LIMIT).await;
    (said.code, said.err)
}

async fn bindings_follow_and_a_removed_agent_s_queue_is_kept_until_it_is_empty(mut stage: Stage) {
    let failing =
        spec("one", 1).replace("- reply: \"v1\"", "- {fail: 400}").replace("instructions", "retries: 0\ninstructions");
    stage.agent("echo", ECHO).agent("one", &failing);
    let _node = stage.start().await;
    let admin = stage.admin();

    // Another subscription.
    let before = digest(&admin, "echo").await;
    stage.agent("echo", &ECHO.replace("command.echo", "command.other"));
    another(&admin, "echo", before.as_deref()).await;
    assert_eq!(publish(&admin, "slack.events.command.echo").await, 422, "nothing leads there any more");
    assert_eq!(publish(&admin, "slack.events.command.other").await / 100, 2);

    let said = stage.run(&["ask", "one", "fail", "--wait"], LIMIT).await;
    assert_eq!(said.code, 5, "{}", said.err);
    let letter = until("the dead letter", LIMIT, async || {
        admin.get("/v1/dead-letters").await.1["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let (code, why) = drops(&stage, "one").await;
    assert!(code == 4 && why.contains("in the configuration"), "{code} {why}");
    assert_eq!(drops(&stage, "nobody").await.0, 3);

    let file = stage.path("agents/one.yaml");
    fs::remove_file(&file).expect("a file");
    until("the end of one", LIMIT, async || (admin.get("/v1/agents/one").await.0 == 404).then_some(())).await;
    for topic in ["slack.events.command.one", "agent.task.one"] {
        assert_eq!(publish(&admin, topic).await, 422, "{topic}");
    }
    // To its queue, past the bindings.
    let said = stage.run(&["dlq", "replay", &letter], LIMIT).await;
    assert_eq!(said.code, 0, "{}", said.err);
    let (code, why) = until("the event in the queue", LIMIT, async || {
        let (code, why) = drops(&stage, "one").await;
        // On a broker the inbox that was there may take a moment to let go of the queue.
        (!why.contains("somebody consumes it")).then_some((code, why))
    })
    .await;
    assert!(code == 4 && why.contains("1 event is in it"), "{code} {why}");

    stage.agent("one", &spec("one", 2));
    until("the event that waited", LIMIT, async || {
        let tasks = admin.tasks("one").await?;
        tasks.iter().any(|task| task["status"] == "succeeded").then_some(())
    })
    .await;
    fs::remove_file(&file).expect("a file");
    until("the queue dropped", LIMIT, async || {
        let (code, why) = drops(&stage, "one").await;
        assert!(code == 0 || code == 4, "{code} {why}");
        (code == 0).then_some(())
    })
    .await;
    assert_eq!(drops(&stage, "one").await.0, 3, "it is gone");
    until("the list of queues", LIMIT, async || {
        let health = admin.get("/health").await.1;
        let depths = health["components"]["bus"]["depths"].as_object()?.clone();
        (depths.contains_key("agent.input.echo") && !depths.contains_key("agent.input.one")).then_some(())
    })
    .await;
    stage.agent("one", &spec("one", 3));
    until("one again", LIMIT, async || digest(&admin, "one").await).await;
    assert_eq!(answer(&stage, "one").await, "v3");
}

#[tokio::test]
async fn queues_follow_the_agents_on_the_embedded_bus() {
    bindings_follow_and_a_removed_agent_s_queue_is_kept_until_it_is_empty(Stage::new()).await;
}

#[tokio::test]
async fn queues_follow_the_agents_on_rabbitmq() {
    let Some(broker) = RabbitMq::start().await else { return };
    let mut stage = Stage::new();
    let vhost = broker.create("reload", 1).remove(0);
    stage.set("AMQP_URL", &broker.url(&vhost));
    bindings_follow_and_a_removed_agent_s_queue_is_kept_until_it_is_empty(stage).await;
}

#[tokio::test]
async fn an_agent_that_was_removed_while_the_node_was_down_gets_nothing_more() {
    let mut stage = Stage::new();
    stage.agent("echo", ECHO).agent("one", &spec("one", 1));
    let mut node = stage.start().await;
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
    fs::remove_file(stage.path("agents/one.yaml")).expect("a file");
    let _node = stage.start().await;
    assert_eq!(publish(&stage.admin(), "slack.events.command.one").await, 422);
    assert_eq!(drops(&stage, "one").await.0, 0);
}
