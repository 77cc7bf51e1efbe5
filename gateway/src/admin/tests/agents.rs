//! The registry, the live tree, and the way in: what a program that submits tasks, and an operator who looks at the
//! actors, get to see.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_is_listed_filtered_and_shown() {
    let house = House::open().await;
    let names = |body: &Value| -> Vec<String> {
        body["items"].as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&house.get("/v1/agents").await.json()), ["echo", "keeper"]);
    assert_eq!(names(&house.get("/v1/agents?type=parrot").await.json()), ["echo"]);
    assert_eq!(names(&house.get("/v1/agents?execution_mode=continuous&status=ready").await.json()), ["keeper"]);
    assert!(names(&house.get("/v1/agents?status=unavailable").await.json()).is_empty());
    let echo = house.get("/v1/agents/echo").await.json();
    assert_eq!((&echo["type"], &echo["execution_mode"]), (&json!("parrot"), &json!("autonomous")));

    assert!(house.get("/v1/agents?status=happy").await.problem(400).contains("starting, ready, busy"));
    assert!(house.get("/v1/agents?colour=red").await.problem(400).contains("colour"));
    let missing = house.get("/v1/agents/ecco").await;
    assert_eq!(missing.problem(404), "there is no agent ecco; did you mean echo?");
    assert_eq!(missing.json()["nearest"], "echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_a_verb_on_the_agent() {
    let house = House::open().await;
    assert_eq!(house.post("/v1/agents/echo:restart").await.json()["name"], "echo");
    let path = "root/orchestrator/autonomous/echo/0";
    let actor = house.until(&format!("/v1/actors/{path}"), |actor| actor["restarts"] == 1).await;
    assert_eq!((&actor["falls"][0]["then"], &actor["falls"][0]["after_ms"]), (&json!("restarted"), &json!(0)));
    let echo = house.until("/v1/agents/echo", |agent| agent["status"] == "ready").await;
    assert_eq!(
        (&echo["falls"][0]["path"], &echo["falls"][0]["cause"]),
        (&json!(path), &json!("an operator asked for it"))
    );
    assert_eq!(house.post("/v1/agents/ecco:restart").await.json()["nearest"], "echo");
    assert!(house.post("/v1/agents/echo:dance").await.problem(404).contains(":restart"));
    assert!(house.post("/v1/agents/echo").await.problem(404).contains(":restart"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_says_so_and_waits_for_the_verb_that_ends_it() {
    let house = House::open().await;
    assert_eq!(house.post("/v1/agents/echo:pause").await.json()["status"], "paused");
    assert_eq!(house.get("/v1/agents?status=paused").await.json()["items"][0]["name"], "echo");
    let waits = house.send("/v1/agents/echo/tasks?wait=200ms", &json!({"input": "hi"})).await;
    assert_eq!((waits.status, &waits.json()["status"]), (202, &json!("received")));
    assert_eq!(house.post("/v1/agents/echo:resume").await.json()["name"], "echo");
    let id = waits.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(house.get(&format!("/v1/tasks/{id}?wait=20s")).await.json()["status"], "succeeded");
    assert_eq!(house.post("/v1/agents/ecco:pause").await.json()["nearest"], "echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_actor_with_a_supervisor_is_restarted_by_its_path() {
    let house = House::open().await;
    assert_eq!(house.post("/v1/actors/root/relay:restart").await.json()["state"], "restarting");
    house.until("/v1/actors/root%2Frelay", |actor| actor["restarts"] == 1 && actor["state"] == "running").await;
    assert!(house.post("/v1/actors/root:restart").await.problem(409).contains("lives once"));
    assert_eq!(house.post("/v1/actors/root/relai:restart").await.json()["nearest"], "root/relay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_is_accepted_with_its_place_and_found_there_at_once() {
    let house = House::open().await;
    let answer = house.send("/v1/agents/echo/tasks", &json!({"input": "hi", "priority": 9, "session": "s1"})).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let body = answer.json();
    let id = body["id"].as_str().unwrap();
    assert_eq!((&body["status"], &body["agent"]), (&json!("received"), &json!("echo")));
    let place = answer.headers["location"].to_str().unwrap();
    assert_eq!(place, format!("/v1/tasks/{id}"));
    assert_eq!(house.get(place).await.status, 200, "never a 404 for what was accepted");
    let task = house.get(&format!("{place}?wait=20s")).await.json();
    assert_eq!((&task["status"], &task["outcome"]["output"]), (&json!("succeeded"), &json!("you said hi")));
    assert_eq!(
        (&task["priority"], &task["attempts"], &task["runs"][0]["status"]),
        (&json!(9), &json!(1), &json!("complete"))
    );
    assert_eq!(task["trace_id"].as_str().unwrap().len(), 32);
    assert!(task["cost_usd"].is_number() && task["usage"]["input_tokens"].is_number());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_the_task_or_with_the_limit() {
    let house = House::open().await;
    let over = house.send("/v1/agents/echo/tasks?wait=20s", &json!({"input": "wait a bit"})).await;
    assert_eq!((over.status, &over.json()["outcome"]["output"]), (200, &json!("late")));
    let failed = house.send("/v1/agents/echo/tasks?wait=20s", &json!({"input": "fail"})).await;
    assert_eq!((failed.status, &failed.json()["status"]), (200, &json!("failed")));
    let running = house.send("/v1/agents/echo/tasks?wait=100ms", &json!({"input": "stop"})).await;
    assert_eq!(running.status, 202, "{}", running.text);
    assert!(["received", "running"].contains(&running.json()["status"].as_str().unwrap()));
    assert!(house.send("/v1/agents/echo/tasks?wait=soon", &json!({"input": "x"})).await.problem(400).contains("30s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_cut_to_its_limit_and_does_not_hold_up_a_drain() {
    let house = House::open_with(|setup| setup.options.wait_max = Duration::from_millis(200)).await;
    let running = house.send("/v1/agents/echo/tasks?wait=1h", &json!({"input": "stop"})).await;
    assert_eq!(running.status, 202);
    drop(house);
    let house = House::open().await;
    let task = house.send("/v1/agents/echo/tasks", &json!({"input": "stop"})).await.json();
    let path = format!("/v1/tasks/{}?wait=10m", task["id"].as_str().unwrap());
    let (waited, ()) = tokio::join!(house.get(&path), async { house.course.drain() });
    assert_eq!(waited.status, 200, "{}", waited.text);
    let refused = house.send("/v1/agents/echo/tasks", &json!({"input": "look"})).await;
    assert!(refused.problem(503).contains("drains") && refused.headers.contains_key("retry-after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_the_same_task() {
    let house = House::open().await;
    let ask = async |key: &str, text: &str| {
        let request = house.request(Method::POST, "/v1/agents/echo/tasks?wait=20s").json(&json!({"input": text}));
        sent(request.header("idempotency-key", key)).await
    };
    let first = ask("k1", "hi").await.json();
    assert_eq!(ask("k1", "hi").await.json()["id"], first["id"]);
    assert_ne!(ask("k2", "hi").await.json()["id"], first["id"]);
    assert!(ask("k1", "something else").await.problem(409).contains("k1"));
    ask(&"k".repeat(257), "hi").await.problem(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_makes_no_sense_is_told_why() {
    let house = House::open().await;
    let send = async |body: Value| house.send("/v1/agents/echo/tasks", &body).await;
    assert!(send(json!({"input": "x", "colour": 1})).await.problem(422).contains("colour"));
    assert!(send(json!({"priority": 1})).await.problem(422).contains("input"));
    assert!(send(json!({"input": "x", "priority": 10})).await.problem(422).contains("priority"));
    assert!(send(json!({"input": " "})).await.problem(422).contains("empty"));
    assert!(send(json!({"input": "x", "session": "a\nb"})).await.problem(422).contains("session"));
    assert!(send(json!({"input": "x".repeat(5000)})).await.problem(413).contains("larger"));
    let nobody = house.send("/v1/agents/ekho/tasks", &json!({"input": "x"})).await;
    assert!(nobody.problem(404).contains("did you mean echo?"));
    let raw = house.request(Method::POST, "/v1/agents/echo/tasks").header("content-type", "application/json");
    let broken = sent(raw.body("{\n \"input\": nope}")).await;
    assert!(broken.problem(400).contains("line 2"));
    assert_eq!((&broken.json()["line"], &broken.json()["column"]), (&json!(2), &json!(12)));
    let form = house.request(Method::POST, "/v1/agents/echo/tasks").form(&[("input", "x")]);
    assert!(sent(form).await.problem(415).contains("application/json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_tree_is_shown_and_a_killed_actor_comes_back() {
    let house = House::open().await;
    let list = house.get("/v1/actors").await.json();
    let actors = list["items"].as_array().unwrap();
    let path = "root/orchestrator/autonomous/echo/0";
    let echo = actors.iter().find(|actor| actor["path"] == path).expect(path);
    assert_eq!((&echo["node"], &echo["restarts"], &echo["kind"]), (&json!("node-1"), &json!(0), &json!("agent")));

    let tree = house.get("/v1/actors?tree=1").await.json();
    let (mut level, mut way) = (&tree["items"], Vec::new());
    while let Some(next) = level.as_array().unwrap().iter().find(|one| is_on_the_way(one, path)) {
        way.push(next["path"].as_str().unwrap().rsplit('/').next().unwrap());
        level = &next["children"];
    }
    assert!(way.ends_with(&["orchestrator", "autonomous", "0"]), "{way:?}");

    assert_eq!(house.post(&format!("/v1/actors/{path}:kill")).await.status, 200);
    house.until(&format!("/v1/actors/{path}"), |actor| actor["restarts"] == 1 && actor["state"] == "running").await;
    let encoded = path.replace('/', "%2F");
    assert_eq!(house.post(&format!("/v1/actors/{encoded}:kill")).await.status, 200);
    house.until(&format!("/v1/actors/{path}"), |actor| actor["restarts"] == 2 && actor["state"] == "running").await;
    let missing = house.post("/v1/actors/root/orchestrator/autonomous/ecko/0:kill").await;
    assert!(missing.problem(404).contains(path));
    assert_eq!(missing.json()["nearest"], path);
    assert!(house.post(&format!("/v1/actors/{path}:tickle")).await.problem(404).contains(":kill"));
}

fn is_on_the_way(actor: &Value, path: &str) -> bool {
    let at = actor["path"].as_str().unwrap();
    path == at || path.strip_prefix(at).is_some_and(|rest| rest.starts_with('/'))
}
