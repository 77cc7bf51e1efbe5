//! Results and memories: found by agent, time, status and id, page by page, and never with a secret in them.

use super::*;

async fn ids(house: &House, query: &str) -> Vec<Value> {
    let page = house.get(&format!("/v1/results?{query}")).await.json();
    page["items"].as_array().unwrap().iter().map(|result| result["task_id"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_listed_newest_first_page_by_page() {
    let house = House::open().await;
    let mut tasks = Vec::new();
    for n in 0..5 {
        tasks.push(house.echoed(&format!("{n}")).await["id"].clone());
    }
    let failed = house.echoed("fail").await["id"].clone();
    tasks.push(failed.clone());
    tasks.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/results?limit=4&agent=echo".to_owned());
    loop {
        let page = house.get(&path).await.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|result| result["task_id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/results?limit=4&agent=echo&cursor={next}");
    }
    assert_eq!(seen, tasks);
    assert_eq!(ids(&house, "").await, tasks);
    assert_eq!(ids(&house, "status=failed&since=1h").await, [failed]);
    assert_eq!(ids(&house, "status=cancelled").await.len() + ids(&house, "agent=keeper").await.len(), 0);
    assert_eq!(ids(&house, "until=1h").await.len() + ids(&house, "since=2999-01-01T00:00:00Z").await.len(), 0);
    for bad in ["status=running", "agent=No", "since=later", "until=x", "cursor=c1", "limit=0", "colour=red"] {
        house.get(&format!("/v1/results?{bad}")).await.problem(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_says_what_it_cost_and_is_found_by_step_run_or_task() {
    let house = House::open().await;
    let task = house.echoed("hear me").await;
    let (id, step) = (task["id"].as_str().unwrap(), task["steps"][0]["id"].as_str().unwrap());
    for found in [id, step, task["runs"][0]["id"].as_str().unwrap(), &id[..20]] {
        let result = house.get(&format!("/v1/results/{found}")).await.json();
        assert_eq!((&result["step_id"], &result["task_id"]), (&json!(step), &json!(id)), "{found}");
        assert_eq!(
            (&result["agent"], &result["status"], &result["attempt"]),
            (&json!("echo"), &json!("succeeded"), &json!(1))
        );
        assert_eq!(result["outcome"]["output"], "you said hear me");
        assert_eq!((&result["usage"], &result["ended_at"]), (&task["usage"], &task["ended_at"]));
        assert!(result["duration_ms"].as_u64().unwrap() < 20_000 && result["cost_usd"].is_number(), "{result}");
    }
    house.get("/v1/results/ffffffff").await.problem(404);
    let open = house.send("/v1/agents/echo/tasks", &json!({"input": "stop here"})).await.json();
    let path = format!("/v1/tasks/{}", open["id"].as_str().unwrap());
    house.until(&path, |task| task["status"] == "running").await;
    let none = house.get(&path.replace("tasks", "results")).await;
    assert!(none.problem(404).contains("no result yet"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_is_listed_by_session_and_shown_without_its_secrets() {
    let house = House::open().await;
    let keeper = "keeper".parse().unwrap();
    let body = json!({"said": "my key is hunter2", "response_url": "https://hooks.slack.com/x"}).to_string();
    let memory = &house.troupe.ports().stores.memory;
    for session in ["", "C42:1700/5", "a"] {
        memory.save(&keeper, session, 0, &body).await.unwrap();
    }
    let first = house.get("/v1/state/keeper?limit=2").await.json();
    let names: Vec<_> = first["items"].as_array().unwrap().iter().map(|row| row["session"].clone()).collect();
    assert_eq!(names, ["", "C42:1700/5"]);
    assert_eq!((&first["items"][0]["version"], &first["items"][0]["bytes"]), (&json!(1), &json!(body.len())));
    let rest = house.get(&format!("/v1/state/keeper?limit=2&cursor={}", first["next"].as_str().unwrap())).await.json();
    assert_eq!((&rest["items"][0]["session"], &rest["next"]), (&json!("a"), &Value::Null));
    assert_eq!(house.get("/v1/state/echo").await.json()["items"], json!([]));

    for (path, session) in [("", ""), ("C42:1700%2F5", "C42:1700/5"), ("a", "a")] {
        let shown = house.get(&format!("/v1/state/keeper/{path}")).await;
        let (memory, text) = (shown.json(), &shown.text);
        assert_eq!((&memory["session"], &memory["version"]), (&json!(session), &json!(1)));
        assert_eq!(memory["body"], json!({"said": "my key is ***", "response_url": "***"}));
        assert!(!text.contains("hunter2") && !text.contains("slack.com"), "{text}");
    }
    for missing in ["keeper/b", "keeper/%00", "echo/a", "No", "No/a"] {
        house.get(&format!("/v1/state/{missing}")).await.problem(404);
    }
    house.get("/v1/state/keeper?cursor=c1").await.problem(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_drops_what_is_kept_ready_and_nothing_of_what_is_remembered() {
    let house = House::open().await;
    let memory = &house.troupe.ports().stores.memory;
    for (agent, session) in [("keeper", "a"), ("keeper", "b"), ("gone", "a")] {
        memory.save(&agent.parse().unwrap(), session, 0, "{}").await.unwrap();
    }
    for (agent, dropped) in [("keeper", 2), ("keeper", 0), ("gone", 1), ("nobody", 0)] {
        let answer = house.send(&format!("/v1/state/{agent}:flush"), &Value::Null).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"agent": agent, "dropped": {"in_process": dropped}})));
    }
    let sessions = house.get("/v1/state/keeper").await.json();
    assert_eq!(sessions["items"].as_array().unwrap().len(), 2);
    assert_eq!(house.get("/v1/state/keeper/a").await.json()["version"], 1);
    for missing in ["keeper", "keeper:forget", "No:flush"] {
        house.send(&format!("/v1/state/{missing}"), &Value::Null).await.problem(404);
    }
}
