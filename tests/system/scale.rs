//! A thousand agents on one node, the real binary: everybody is ready and works, no supervisor has more children than it is
//! to have, and a pool that falls is the affair of its own agents alone.
//!
//! How long any of it takes is measured by `make bench` (`start_…`), not here.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use troupe_tests::Stage;
use troupe_tests::admin::Admin;
use troupe_tests::wait::until;

const AGENTS: usize = 1_000;
/// `supervision.children_max`, as it comes.
const CHILDREN_MAX: usize = 1_000;
/// Generous: what is counted here is not time.
const LIMIT: Duration = Duration::from_secs(240);
/// A call that is long enough to be found under way, and to be cut off.
const LONG: &str = "4s";

fn spec(name: &str, delay: &str) -> String {
    format!(
        "name: {name}\ntype: crowd\nexecution_mode: autonomous\ninstructions: Answer.\n\
         llm_config: {{provider: scripted, model: rules, script: [{{reply: \"{name}: {{input}}\", delay: {delay}}}]}}\n"
    )
}

fn name(number: usize) -> String {
    format!("agent-{number:04}")
}

/// How many children each actor of the tree has, by path.
fn children(actors: &Value, counts: &mut BTreeMap<String, usize>) {
    for actor in actors.as_array().expect("actors") {
        let below = actor["children"].as_array().expect("children");
        counts.insert(actor["path"].as_str().expect("a path").to_owned(), below.len());
        children(&actor["children"], counts);
    }
}

/// Where an agent's one instance lives.
async fn path(admin: &Admin, agent: &str) -> String {
    let (status, agent) = admin.get(&format!("/v1/agents/{agent}")).await;
    assert_eq!(status, 200, "{agent}");
    agent["instances"][0]["path"].as_str().expect("a path").to_owned()
}

fn pool(path: &str) -> &str {
    path.rsplitn(3, '/').last().expect("a pool")
}

/// Submits a task; answers its id once a step of it is under way.
async fn begun(admin: &Admin, agent: &str, path: &str) -> String {
    let (status, task) = admin.post(&format!("/v1/agents/{agent}/tasks"), &[], &json!({"input": "go"})).await;
    assert_eq!(status, 202, "{task}");
    until(&format!("a step of {agent}"), LIMIT, async || {
        let actors = admin.get("/v1/actors").await.1;
        let below = format!("{path}/step ");
        let steps = actors["items"].as_array()?.iter().any(|actor| {
            let at_a_model = actor["step"].as_str().is_some_and(|step| step.contains("model"));
            at_a_model && actor["path"].as_str().is_some_and(|path| path.starts_with(&below))
        });
        steps.then_some(())
    })
    .await;
    task["id"].as_str().expect("an id").to_owned()
}

async fn done(admin: &Admin, task: &str) -> Value {
    until(&format!("the end of {task}"), LIMIT, async || {
        let task = admin.get(&format!("/v1/tasks/{task}")).await.1;
        (task["status"] == "succeeded").then_some(task)
    })
    .await
}

/// How often an agent's model was called.
async fn calls(admin: &Admin, agent: &str) -> u64 {
    let metrics = admin.text("/metrics").await;
    let of_agent = |line: &&str| {
        line.starts_with("troupe_scripted_model_calls_total{") && line.contains(&format!("agent=\"{agent}\""))
    };
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or_default();
    metrics.lines().filter(of_agent).map(|line| value(line) as u64).sum()
}

#[tokio::test]
async fn a_thousand_agents_work_in_pools_that_fall_alone() {
    let mut stage = Stage::new();
    for number in 0..AGENTS {
        stage.agent(&name(number), &spec(&name(number), if number % 300 == 0 { LONG } else { "0s" }));
    }
    let mut node = stage.spawn();
    let admin = stage.admin();
    until("the node to be ready", LIMIT, async || (admin.status("/readyz").await == Some(200)).then_some(())).await;
    let (status, health) = admin.get("/health").await;
    assert_eq!((status, &health["components"]["agents"]["by_status"]), (200, &json!({"ready": AGENTS})), "{health}");
    let agents = stage.run(&["agents", "ls", "-o", "name"], LIMIT).await;
    assert_eq!((agents.code, agents.out.lines().count()), (0, AGENTS), "{}", agents.err);

    // Nobody has too many, and the first of them are where they would be alone.
    let shown = stage.run(&["actors", "tree"], LIMIT).await;
    assert!(shown.code == 0 && shown.out.contains("autonomous-2"), "{}", shown.err);
    let tree = admin.get("/v1/actors?tree=1").await.1;
    let mut counts = BTreeMap::new();
    children(&tree["items"], &mut counts);
    let (most, count) = counts.iter().max_by_key(|(_, count)| **count).expect("a tree");
    assert!(*count <= CHILDREN_MAX, "{most} has {count} children");
    let (first, last) = (name(0), name(900));
    let paths = [path(&admin, &first).await, path(&admin, &last).await];
    assert_eq!(paths[0], format!("root/orchestrator/autonomous/{first}/0"));
    let (fell, stands) = (pool(&paths[1]), pool(&paths[0]));
    assert_eq!((fell, stands), ("root/orchestrator/autonomous-2", "root/orchestrator/autonomous"));
    assert_eq!(counts[fell] + counts[stands], 2 * AGENTS, "an instance and an inbox each");

    let said = stage.run(&["ask", &name(999), "who?", "--wait"], LIMIT).await;
    assert_eq!((said.code, said.out.trim()), (0, "agent-0999: who?"), "{}", said.err);

    // Two at work, in two pools, one of which falls.
    let (beside, below) = (begun(&admin, &first, &paths[0]).await, begun(&admin, &last, &paths[1]).await);
    let killed = stage.run(&["actors", "kill", fell], LIMIT).await;
    assert_eq!(killed.code, 0, "{}", killed.err);
    done(&admin, &beside).await;
    assert_eq!(calls(&admin, &first).await, 1, "whoever is in another pool is not disturbed");
    let task = done(&admin, &below).await;
    assert_eq!(calls(&admin, &last).await, 2, "its call was cut off and made again: {task}");
    let (status, pool_that_fell) = admin.get(&format!("/v1/actors/{fell}")).await;
    assert_eq!((status, &pool_that_fell["restarts"]), (200, &json!(1)));
    assert_eq!(admin.get(&format!("/v1/actors/{stands}")).await.1["restarts"], 0);
    assert_eq!(path(&admin, &last).await, paths[1], "everybody is where they were");

    // Who comes takes what is free, and whoever goes leaves nothing.
    stage.agent("late", &spec("late", "0s"));
    until("one more", LIMIT, async || (admin.get("/v1/agents/late").await.0 == 200).then_some(())).await;
    let said = stage.run(&["ask", "late", "who?", "--wait"], LIMIT).await;
    assert_eq!((said.code, said.out.trim()), (0, "late: who?"), "{}", said.err);
    for number in 0..AGENTS {
        fs::remove_file(stage.path("agents").join(format!("{}.yaml", name(number)))).expect("a file");
    }
    until("everybody else to be gone", LIMIT, async || {
        let agents = admin.get("/v1/agents").await.1;
        (agents["items"].as_array().is_some_and(|left| left.len() == 1 && left[0]["name"] == "late")).then_some(())
    })
    .await;
    let actors = admin.get("/v1/actors").await.1;
    let of_agents = actors["items"].as_array().expect("actors").iter().filter(|actor| actor["kind"] == "agent");
    assert_eq!(of_agents.count(), 1, "{actors}");
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
}
