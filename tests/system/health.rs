//! An operator and a troupe that looks after itself, on the real binary: an agent that falls for good, its alarm, its
//! ledger, its way back; a pause that holds; the tree that is watched.

use std::time::Duration;

use serde_json::Value;
use troupe_tests::Stage;
use troupe_tests::wait::until;

use super::agents::{ECHO, SLOW};

const LIMIT: Duration = Duration::from_secs(60);
const PATH: &str = "root/orchestrator/autonomous/echo/0";

/// What a command says as JSON.
async fn said(stage: &Stage, args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.extend(["-o", "json"]);
    let said = stage.run(&args, LIMIT).await;
    assert_eq!(said.code, 0, "{args:?}: {}", said.err);
    serde_json::from_str(&said.out).expect("JSON and nothing else")
}

async fn does(stage: &Stage, args: &[&str]) -> String {
    let said = stage.run(args, LIMIT).await;
    assert_eq!(said.code, 0, "{args:?}: {}", said.err);
    said.out + &said.err
}

/// The id of a task for the slow one.
async fn asked(stage: &Stage) -> String {
    let task = said(stage, &["ask", "slow", "please"]).await;
    task["id"].as_str().expect("an id").to_owned()
}

async fn stands(stage: &Stage, agent: &str, status: &str) -> Value {
    until(&format!("{agent} {status}"), LIMIT, async || {
        let agent = said(stage, &["agents", "show", agent]).await;
        (agent["status"] == status).then_some(agent)
    })
    .await
}

#[tokio::test]
async fn an_agent_that_falls_for_good_is_an_alarm_and_comes_back_by_hand() {
    let mut stage = Stage::new();
    stage.agent("echo", &format!("{ECHO}restart: {{max: 1, window: 60s}}\n"));
    stage.file("node.yaml", "supervision: {ping_every: 200ms}").set("TROUPE_CONFIG", "node.yaml");
    let _node = stage.start().await;
    // Ends with its node.
    let heard = stage.path("alarms.json");
    let mut tail = stage.command(&["events", "tail", "#", "-o", "json"]);
    let mut tail = tail.stdout(std::fs::File::create(&heard).expect("a file")).spawn().expect("a tail");
    let event = |topic: &str| {
        let text = std::fs::read_to_string(&heard).expect("what was heard");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).find(|event: &Value| event["type"] == topic)
    };
    until("the tail to listen", LIMIT, async || {
        does(&stage, &["ask", "echo", "anybody there?"]).await;
        event("agent.task.echo")
    })
    .await;

    does(&stage, &["actors", "kill", PATH]).await;
    until("the restart", LIMIT, async || {
        let actor = said(&stage, &["actors", "inspect", PATH]).await;
        (actor["restarts"] == 1 && actor["state"] == "running").then_some(())
    })
    .await;
    does(&stage, &["actors", "kill", PATH]).await;
    let agent = stands(&stage, "echo", "unavailable").await;
    assert!(agent["reason"].as_str().is_some_and(|reason| reason.starts_with("more than 1 restarts within 60 s")));
    let then: Vec<_> = agent["falls"].as_array().expect("falls").iter().map(|fall| fall["then"].clone()).collect();
    assert_eq!(then, ["unavailable", "restarted"], "the latest first");
    assert_eq!(said(&stage, &["agents", "ls", "--status", "unavailable"]).await["items"][0]["name"], "echo");
    let alarm = until("the alarm", LIMIT, async || event("monitor.alert.critical")).await;
    assert_eq!((&alarm["data"]["agent"], &alarm["data"]["path"]), (&"echo".into(), &PATH.into()));
    tail.kill().expect("a child of ours");
    tail.wait().expect("a child of ours");

    does(&stage, &["agents", "restart", "echo"]).await;
    stands(&stage, "echo", "ready").await;
    assert_eq!(does(&stage, &["ask", "echo", "well", "--wait"]).await.lines().next(), Some("echo: well"));
    does(&stage, &["actors", "restart", "root/orchestrator/recovery"]).await;
    let sheet = does(&stage, &["agents", "show", "echo"]).await;
    assert!(sheet.contains("Falls") && sheet.contains("killed"), "{sheet}");
    let pictures = does(&stage, &["actors", "tree", "--watch", "--every", "50ms", "-n", "2"]).await;
    assert_eq!(pictures.matches("echo/0").count(), 2, "{pictures}");
    assert_eq!(stage.run(&["actors", "inspect", "root/nobody"], LIMIT).await.code, 3);
    assert_eq!(stage.run(&["actors", "restart", "root"], LIMIT).await.code, 4);
    println!("{sheet}");
}

#[tokio::test]
async fn a_pause_lets_the_running_end_and_the_next_wait() {
    let mut stage = Stage::new();
    stage.agent("slow", SLOW);
    let mut node = stage.start().await;
    let first = asked(&stage).await;
    stands(&stage, "slow", "busy").await;
    assert!(does(&stage, &["agents", "pause", "slow"]).await.contains("steps that go on: 1"));
    let paused = stands(&stage, "slow", "paused").await;
    assert_eq!(paused["steps"], 1, "{paused}");
    let ended = |task: String, status: &'static str| {
        let admin = stage.admin();
        async move {
            until("the task", LIMIT, async || {
                let (_, task) = admin.try_get(&format!("/v1/tasks/{task}")).await?;
                (task["status"] == status).then_some(())
            })
            .await;
        }
    };
    ended(first, "succeeded").await;
    let second = asked(&stage).await;
    let (_, waits) = stage.admin().get(&format!("/v1/tasks/{second}?wait=300ms")).await;
    assert_eq!(waits["status"], "received", "{waits}");
    // A pause is of this node's life; its next one is open.
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
    let _node = stage.start().await;
    ended(second, "succeeded").await;
}
