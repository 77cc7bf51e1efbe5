//! Health, readiness and metrics: each tells of its own trouble, and of no more than its listener may know.
//! The store is really closed here, not played to be.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_part_says_how_it_is() {
    let house = House::open().await;
    let answer = house.get("/health").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    assert_eq!(body["status"], "healthy");
    let parts = &body["components"];
    for part in ["state", "bus", "cache", "config", "agents"] {
        assert_eq!(parts[part]["status"], "healthy", "{part}");
    }
    assert_eq!((&parts["cache"]["adapter"], &parts["cache"]["hits"]), (&json!("in-process"), &json!(0)));
    for part in ["scheduler", "cluster"] {
        assert_eq!(parts[part], json!({"status": "off"}), "{part}");
    }
    assert_eq!((&parts["agents"]["by_status"]["ready"], &parts["config"]["agents"]), (&json!(2), &json!(2)));
    assert!(parts["state"]["written"]["transactions"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_degrades_and_a_closed_store_is_unhealthy() {
    let problems = || vec!["agents/x.yaml:3:1: hunter2".into()];
    let report = move || ConfigReport { agents: 1, problems: problems(), ..ConfigReport::default() };
    let house = House::open_with(|setup| setup.config = Arc::new(report)).await;
    let degraded = house.get("/health").await;
    assert_eq!((degraded.status, &degraded.json()["status"]), (200, &json!("degraded")));
    assert_eq!(degraded.json()["components"]["config"]["problems"], json!(["agents/x.yaml:3:1: ***"]));

    house.troupe.ports().close().await;
    let sick = house.get("/health").await;
    assert_eq!((sick.status, &sick.json()["status"]), (503, &json!("unhealthy")));
    assert_eq!(sick.json()["components"]["state"]["status"], "unhealthy");
    let public = sent(house.http.get(format!("http://{}/health", house.public))).await;
    assert_eq!((public.status, public.json()), (503, json!({"status": "unhealthy"})));
    let lost = house.get("/v1/tasks").await;
    lost.problem(503);
    assert_eq!(lost.headers["retry-after"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bus_that_is_away_does_not_take_is_kept_and_told() {
    let house = House::open().await;
    house.troupe.ports().close().await;
    let accepted = house.send("/v1/agents/echo/tasks", &json!({"input": "x"})).await;
    assert_eq!((accepted.status, &accepted.json()["status"]), (202, &json!("received")), "{}", accepted.text);
    let event = json!({"id": "e1", "source": "/test", "type": "agent.task.echo"});
    let accepted = house.send("/v1/events", &event).await;
    assert_eq!((accepted.status, &accepted.json()["spooled"]), (202, &json!(true)), "{}", accepted.text);
    assert_eq!(accepted.json()["queues"], Value::Null);
    // The store is in the same file, so the whole is unhealthy; the bus alone would not be.
    let stuck = async {
        loop {
            let bus = house.get("/health").await.json()["components"]["bus"].clone();
            if bus["spool"]["bus_error"].is_string() {
                return bus;
            }
        }
    };
    let bus = tokio::time::timeout(PATIENCE, stuck).await.unwrap();
    assert_eq!((&bus["status"], &bus["spool"]["events"]), (&json!("degraded"), &json!(2)), "{bus}");
    assert_eq!(bus["spool"]["status"], "degraded");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_door_tells_one_word_and_readiness_follows_the_flag() {
    let house = House::open().await;
    let public = async || sent(house.http.get(format!("http://{}/health", house.public))).await;
    assert_eq!((public().await.status, public().await.json()), (200, json!({"status": "healthy"})));
    sent(house.http.post(format!("http://{}/health", house.public))).await.problem(405);
    assert_eq!(house.get("/readyz").await.status, 200);
    house.course.drain();
    assert_eq!((public().await.status, public().await.json()), (503, json!({"status": "unhealthy"})));
    assert_eq!((house.get("/readyz").await.status, house.get("/livez").await.status), (503, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_tell_of_tasks_queues_and_requests() {
    let house = House::open().await;
    house.echoed("hi").await;
    house.echoed("fail").await;
    house.get("/v1/tasks/ffffffff").await;
    house.get("/nowhere/at/all").await;
    let answer = house.get("/metrics").await;
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let has = |line: &str| assert!(answer.text.lines().any(|is| is == line), "no {line:?} in\n{}", answer.text);
    let of = r#"{agent="echo",execution_mode="autonomous"}"#;
    has(&format!("agent_task_success_total{of} 1"));
    has(&format!("agent_task_failure_total{of} 1"));
    has(&format!("agent_task_duration_seconds_count{of} 2"));
    has(&format!("agent_queue_depth{of} 0"));
    has(r#"agent_queue_depth{agent="keeper",execution_mode="continuous"} 0"#);
    has(r#"troupe_bus_depth{queue="agent.input.echo"} 0"#);
    has(r#"troupe_http_requests_total{listener="admin",method="GET",route="/v1/tasks/{task}",status="404"} 1"#);
    has(r#"troupe_http_requests_total{listener="admin",method="GET",route="none",status="404"} 1"#);
    assert!(!answer.text.contains("nowhere"), "paths that callers make up are no labels");
}
