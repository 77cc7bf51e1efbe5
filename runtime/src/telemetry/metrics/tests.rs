//! What `/metrics` says, line by line: names and labels are promises to dashboards, so they are held exactly here.
//! Each test has instruments of its own.

use super::*;
use crate::domain::chat::{Finish, Usage};

fn agent(name: &str) -> AgentName {
    name.parse().unwrap()
}

fn lines(metrics: &Metrics) -> Vec<String> {
    metrics.render().lines().map(str::to_owned).collect()
}

#[track_caller]
fn has(metrics: &Metrics, line: &str) {
    let lines = lines(metrics);
    assert!(lines.iter().any(|is| is == line), "no line {line:?} in\n{}", lines.join("\n"));
}

#[test]
fn the_four_metrics_of_the_plan_have_exactly_their_names_and_labels() {
    let metrics = Metrics::new();
    metrics.task_ended(&agent("researcher"), ExecutionMode::Autonomous, true, 0.2);
    metrics.task_ended(&agent("researcher"), ExecutionMode::Autonomous, true, 7.0);
    metrics.task_ended(&agent("researcher"), ExecutionMode::Autonomous, false, 0.2);
    let health = bus::Health {
        depths: vec![("agent.input.researcher".into(), 3)],
        dead_letters: 1,
        unroutable: 2,
        ..bus::Health::default()
    };
    metrics.bus_stands(&health, &[("researcher".parse().unwrap(), ExecutionMode::Autonomous)]);

    let of = r#"{agent="researcher",execution_mode="autonomous"}"#;
    has(&metrics, &format!("agent_task_success_total{of} 2"));
    has(&metrics, &format!("agent_task_failure_total{of} 1"));
    has(&metrics, &format!("agent_queue_depth{of} 3"));
    has(&metrics, &format!("agent_task_duration_seconds_count{of} 3"));
    has(&metrics, r#"agent_task_duration_seconds_bucket{agent="researcher",execution_mode="autonomous",le="0.25"} 2"#);
    has(&metrics, "# TYPE agent_task_duration_seconds histogram");
    has(&metrics, "# TYPE agent_task_success_total counter");
    has(&metrics, "# TYPE agent_task_failure_total counter");
    has(&metrics, "# TYPE agent_queue_depth gauge");
    has(&metrics, "troupe_dead_letters 1");
    has(&metrics, "troupe_unroutable_total 2");
    has(&metrics, r#"troupe_bus_depth{queue="agent.input.researcher"} 3"#);
    let connection = bus::Connection { state: "away", lost: 3, ..bus::Connection::default() };
    let away = bus::Health { connection: Some(connection), ..health };
    metrics.bus_stands(&away, &[("researcher".parse().unwrap(), ExecutionMode::Autonomous)]);
    has(&metrics, "troupe_bus_connected 0");
    has(&metrics, "troupe_bus_connections_lost_total 3");
    let text = metrics.render();
    assert!(!text.contains("agent_queue_depth{") && !text.contains("troupe_bus_depth{"), "{text}");
    assert!(!text.contains("otel_scope") && !text.contains("target_info"), "{text}");
}

#[test]
fn each_of_ten_thousand_agents_has_its_own_lines() {
    let metrics = Metrics::new();
    let agents: Vec<(AgentName, ExecutionMode)> =
        (0..10_000).map(|number| (format!("agent-{number}").parse().unwrap(), ExecutionMode::Autonomous)).collect();
    for (agent, mode) in &agents {
        metrics.agent_known(agent, *mode);
    }
    metrics.bus_stands(&bus::Health::default(), &agents);
    has(&metrics, r#"agent_task_success_total{agent="agent-9999",execution_mode="autonomous"} 0"#);
    has(&metrics, r#"agent_queue_depth{agent="agent-9999",execution_mode="autonomous"} 0"#);
    let text = metrics.render();
    assert!(!text.contains("otel_metric_overflow"), "some of it is of nobody");
}

#[test]
fn an_agent_stands_at_zero_before_its_first_task() {
    let metrics = Metrics::new();
    metrics.agent_known(&agent("writer"), ExecutionMode::Continuous);
    metrics.bus_stands(&bus::Health::default(), &[("writer".parse().unwrap(), ExecutionMode::Continuous)]);
    has(&metrics, r#"agent_task_failure_total{agent="writer",execution_mode="continuous"} 0"#);
    has(&metrics, r#"agent_queue_depth{agent="writer",execution_mode="continuous"} 0"#);
    has(&metrics, r#"troupe_agent_restarts_total{agent="writer"} 0"#);
}

#[test]
fn every_happening_has_its_line() {
    let metrics = Metrics::new();
    let completion = Completion {
        text: "so".to_owned(),
        tool_calls: Vec::new(),
        finish: Finish::Stop,
        usage: Usage { input_tokens: 12, output_tokens: 5, cost_microusd: 0 },
        provider: "openai".to_owned(),
        model: "gpt".to_owned(),
        request_id: None,
    };
    metrics.model_answered(&agent("a"), &completion, 0.1);
    metrics.model_failed(&agent("a"), "transient", 0.1);
    metrics.tool_called(&agent("a"), "clock", "error");
    metrics.attempt_failed(&agent("a"));
    metrics.agent_restarted(&agent("a"));
    metrics.http_answered("admin", "/v1/tasks/{id}", "GET", 404);
    has(&metrics, r#"troupe_model_calls_total{agent="a",model="gpt",outcome="ok",provider="openai"} 1"#);
    has(&metrics, r#"troupe_model_calls_total{agent="a",model="",outcome="transient",provider=""} 1"#);
    let chat = r#"gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_response_model="gpt""#;
    has(&metrics, &format!("gen_ai_client_operation_duration_seconds_count{{{chat}}} 1"));
    has(&metrics, &format!(r#"gen_ai_client_token_usage_sum{{agent="a",{chat},gen_ai_token_type="input"}} 12"#));
    has(&metrics, &format!(r#"gen_ai_client_token_usage_sum{{agent="a",{chat},gen_ai_token_type="output"}} 5"#));
    has(&metrics, r#"troupe_tool_calls_total{agent="a",outcome="error",tool="clock"} 1"#);
    has(&metrics, r#"troupe_step_attempts_total{agent="a"} 1"#);
    has(&metrics, r#"troupe_agent_restarts_total{agent="a"} 1"#);
    let route = r#"{listener="admin",method="GET",route="/v1/tasks/{id}",status="404"}"#;
    has(&metrics, &format!("troupe_http_requests_total{route} 1"));
}

#[test]
fn what_others_count_is_read_at_the_scrape() {
    let metrics = Metrics::new();
    let calls = Arc::new(Mutex::new(4_u64));
    let seen = Arc::clone(&calls);
    metrics.observe(names::SCRIPTED_MODEL_CALLS, move || {
        let labels = vec![(names::AGENT, "a".to_owned()), (names::RULE, "0".to_owned())];
        vec![Reading { labels, value: *seen.lock().unwrap() }]
    });
    has(&metrics, r#"troupe_scripted_model_calls_total{agent="a",rule="0"} 4"#);
    *calls.lock().unwrap() = 9;
    has(&metrics, r#"troupe_scripted_model_calls_total{agent="a",rule="0"} 9"#);
}

#[test]
fn a_closure_that_panics_takes_only_itself_away_and_comes_back() {
    let metrics = Metrics::new();
    let sick = Arc::new(Mutex::new(true));
    let is_sick = Arc::clone(&sick);
    metrics.observe(names::STORE_ROWS, move || {
        assert!(!*is_sick.lock().unwrap_or_else(PoisonError::into_inner), "on purpose");
        vec![Reading::plain(7)]
    });
    metrics.attempt_failed(&agent("a"));
    has(&metrics, r#"troupe_step_attempts_total{agent="a"} 1"#);
    assert!(!metrics.render().contains("troupe_store_rows_total 7"));
    *sick.lock().unwrap_or_else(PoisonError::into_inner) = false;
    has(&metrics, "troupe_store_rows_total 7");
}

#[test]
fn a_queue_that_is_gone_is_gone_and_a_silent_bus_has_no_depth() {
    let metrics = Metrics::new();
    let health = |queue: &str| bus::Health { depths: vec![(queue.to_owned(), 1)], ..bus::Health::default() };
    metrics.bus_stands(&health("old"), &[]);
    has(&metrics, r#"troupe_bus_depth{queue="old"} 1"#);
    metrics.bus_stands(&health("new"), &[]);
    has(&metrics, r#"troupe_bus_depth{queue="new"} 1"#);
    assert!(!metrics.render().contains(r#"queue="old""#));
    metrics.bus_silent();
    assert!(!metrics.render().contains("troupe_bus_depth{"));
}

#[test]
fn clones_count_together_and_two_nodes_do_not() {
    let (one, other) = (Metrics::new(), Metrics::new());
    one.clone().attempt_failed(&agent("a"));
    one.attempt_failed(&agent("a"));
    has(&one, r#"troupe_step_attempts_total{agent="a"} 2"#);
    assert!(!other.render().contains(r#"troupe_step_attempts_total{agent="a"} 2"#));
}
