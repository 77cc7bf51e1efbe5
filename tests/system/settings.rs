//! The node configuration changes while the node runs: what can change does, what cannot says so by name, and a broken file
//! changes nothing.

use std::time::Duration;

use serde_json::{Value, json};
use troupe_tests::Stage;
use troupe_tests::admin::Admin;
use troupe_tests::wait::until;

use super::agents::ECHO;

const LIMIT: Duration = Duration::from_secs(60);

async fn config(admin: &Admin) -> Value {
    admin.get("/health").await.1["components"]["config"].clone()
}

/// Waits until health says this of the configuration.
async fn is_told(admin: &Admin, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    until(what, LIMIT, async || Some(config(admin).await).filter(|config| so(config))).await
}

#[tokio::test]
async fn what_can_change_does_and_what_cannot_says_so_by_name() {
    let mut stage = Stage::new();
    stage.set("TROUPE_CONFIG", "node.yaml").file("node.yaml", "log: {filter: info}\n").agent("echo", ECHO);
    let mut node = stage.start().await;
    let admin = stage.admin();
    assert_eq!(config(&admin).await["needs_restart"], json!([]));
    assert!(!node.log().contains("\"level\":\"DEBUG\""));

    stage.file("node.yaml", "log: {filter: debug}\nagents: {instances_max: 2}\nsteps: {per_node_max: 7}\n");
    let told =
        is_told(&admin, "a key that waits", |config| config["needs_restart"] == json!(["steps.per_node_max"])).await;
    assert_eq!(told["status"], "healthy", "it is no trouble: {told}");
    until("a line that was not logged before", LIMIT, async || {
        admin.get("/v1/agents").await;
        node.log().contains("\"level\":\"DEBUG\"").then_some(())
    })
    .await;
    let log = node.log();
    for key in ["log.filter", "agents.instances_max"] {
        let line = log.lines().find(|line| line.contains("a setting has changed") && line.contains(key));
        assert!(line.is_some(), "{key} has changed, and the log says nothing");
    }
    let line = log.lines().find(|line| line.contains("a changed setting needs a restart of the node"));
    assert!(line.is_some_and(|line| line.contains("steps.per_node_max")), "{line:?}");

    // The new limit holds for the next spec.
    stage.agent("many", &format!("{}instances: 3\n", ECHO.replace("name: echo", "name: many")));
    is_told(&admin, "the limit", |config| config["problems"].to_string().contains("agents.instances_max")).await;
    stage.agent("many", &format!("{}instances: 2\n", ECHO.replace("name: echo", "name: many")));
    is_told(&admin, "an agent within the limit", |config| config["agents"] == 2).await;

    // A broken file changes nothing.
    stage.file("node.yaml", "log: {filter: error}\nhttp: {connections_max: nowhere}\n");
    let told = is_told(&admin, "a word about the file", |config| config["status"] == "degraded").await;
    assert!(told["problems"].to_string().contains("node.yaml:2:25: connections_max: "), "{told}");
    assert_eq!(told["needs_restart"], json!(["steps.per_node_max"]));
    let lines = node.log().lines().count();
    until("the log at debug", LIMIT, async || {
        admin.get("/v1/agents").await;
        node.log().lines().skip(lines).any(|line| line.contains("\"level\":\"DEBUG\"")).then_some(())
    })
    .await;

    // As it was at the start: nothing waits any more.
    stage.file("node.yaml", "log: {filter: info}\n");
    let well = |config: &Value| config["status"] == "healthy" && config["needs_restart"] == json!([]);
    is_told(&admin, "a node that is as it was", well).await;
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
}
