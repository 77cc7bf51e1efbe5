//! The file of a released node, and the real binary of today: what was under way when it was killed goes on.
//!
//! The file is the one of `tests/journals`, with the agents that made it.

use std::path::Path;
use std::time::Duration;

use troupe_tests::left::{NODE, leave};
use troupe_tests::{Stage, wait};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_node_goes_on_with_what_0_1_0_was_killed_at() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("journals/v1");
    let mut stage = Stage::new();
    for file in std::fs::read_dir(recorded.join("agents")).expect("the agents") {
        let path = file.expect("a file").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        stage.agent(&name, &std::fs::read_to_string(&path).expect("a spec"));
    }
    stage.set("TROUPE_NODE_NAME", NODE);
    leave(&stage.path("data"), &recorded.join("node.sql")).await;

    let node = stage.start().await;
    let admin = stage.admin();
    let sleeper = wait::until("the end of what was under way", LIMIT, async || {
        let tasks = admin.tasks("sleeper").await?;
        tasks.into_iter().find(|task| task["status"] == "succeeded")
    })
    .await;
    assert_eq!(sleeper["outcome"]["output"], "Good morning.", "{sleeper}");
    let entries = admin.journal(sleeper["runs"][0]["id"].as_str().expect("a run")).await;
    let kinds: Vec<_> = entries.iter().map(|entry| entry["kind"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds, ["model_result", "tool_result", "model_result"], "the turn that was on record is not made again");

    for (agent, status) in [
        ("writer", "succeeded"),
        ("teller", "succeeded"),
        ("flaky", "succeeded"),
        ("denied", "succeeded"),
        ("broken", "failed"),
        ("looper", "failed"),
        ("asker", "waiting"),
    ] {
        let tasks = admin.tasks(agent).await.expect("an answer");
        assert_eq!(tasks.len(), 1, "{agent}");
        assert_eq!(tasks[0]["status"], status, "{}", tasks[0]);
        let entries = admin.journal(tasks[0]["runs"][0]["id"].as_str().expect("a run")).await;
        assert!(!entries.is_empty(), "{agent}");
    }
    assert!(!node.log().contains("\"ERROR\""), "{}", node.log());
}
