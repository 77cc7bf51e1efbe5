//! Events by hand: published and watched with the command line and over HTTP, refused with the field that is wrong.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use troupe_tests::{Stage, slack};

use super::agents::ECHO;

const LIMIT: Duration = Duration::from_secs(30);

fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.agent("echo", ECHO);
    stage
}

#[tokio::test]
async fn an_event_is_published_and_its_answer_seen_by_a_tail() {
    let stage = stage();
    let _node = stage.start().await;
    // A tail that is there before anything passes: the answer to its request says so.
    let url = format!("{}/v1/events?topic=agent.%23", stage.get("TROUPE_ADMIN_URL").expect("the stage's"));
    let tail = reqwest::Client::builder().no_proxy().build().expect("a client").get(url).send().await.expect("a tail");
    assert_eq!(tail.status(), 200);
    assert_eq!(tail.headers()["content-type"], "text/event-stream");

    let data = r#"{"text": "by hand"}"#;
    let said = stage.run(&["events", "publish", "--topic", "agent.task.echo", "--data", data], LIMIT).await;
    assert_eq!((said.code, said.out.trim().len()), (0, 36), "an id and nothing else: {said:?}");
    assert!(said.err.contains("published at agent.task.echo, to 1 queue"), "{}", said.err);

    let mut seen = String::new();
    let mut chunks = tail.bytes_stream();
    let answered = async {
        while !seen.contains("echo: by hand") {
            let chunk = chunks.next().await.expect("the tail goes on").expect("a chunk");
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(LIMIT, answered).await.expect("the answer passes");
    assert!(seen.contains(&format!("id: {}", said.out.trim())), "{seen}");
    let shown: Vec<Value> = seen
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("a CloudEvent"))
        .collect();
    let topics: Vec<&str> = shown.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(topics, ["agent.task.echo", "agent.output.echo"]);
}

#[tokio::test]
async fn the_command_line_shows_events_as_they_pass_and_ends() {
    let stage = stage();
    let node = stage.start().await;
    let admin = stage.admin();
    let tailing = stage.run(&["events", "tail", "agent.task.*", "--count", "2", "-o", "json"], LIMIT);
    let publishing = async {
        // Until the tail has seen two: when it begins to look is its own affair.
        let mut number = 0;
        loop {
            let event =
                json!({"id": format!("e{number}"), "source": "/t", "type": "agent.task.echo", "data": {"text": "x"}});
            assert_eq!(admin.post("/v1/events", &[], &event).await.0, 202);
            number += 1;
        }
    };
    let said = tokio::select! {
        said = tailing => said,
        () = publishing => unreachable!("it goes on"),
    };
    assert_eq!(said.code, 0, "{}", said.err);
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|event| event["type"] == "agent.task.echo"), "{lines:?}");
    drop(node);
}

#[tokio::test]
async fn what_is_wrong_with_an_event_is_named() {
    let stage = stage();
    let _node = stage.start().await;
    let admin = stage.admin();
    let good = json!({"id": "e1", "source": "/t", "type": "agent.task.echo"});
    for (field, value) in [
        ("type", json!("a..b")),
        ("priority", json!(12)),
        ("source", Value::Null),
        ("traceparent", json!("x")),
        ("extra", json!(1)),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let (status, problem) = admin.post("/v1/events", &[], &bad).await;
        assert_eq!((status, &problem["field"]), (422, &json!(field)), "{problem}");
    }
    let mut stray = good;
    stray["type"] = json!("nobody.listens");
    let (status, problem) = admin.post("/v1/events", &[], &stray).await;
    assert_eq!((status, &problem["topic"]), (422, &json!("nobody.listens")), "{problem}");

    let said = stage.run(&["events", "publish", &stray.to_string()], LIMIT).await;
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{}", said.err);
    assert!(said.err.contains("nobody.listens"), "{}", said.err);
    for args in
        [vec!["events", "publish"], vec!["events", "publish", "{"], vec!["events", "publish", "{}", "--topic", "a"]]
    {
        let said = stage.run(&args, LIMIT).await;
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{args:?}: {}", said.err);
    }
    let answer =
        slack::client().get(format!("{}/v1/events?topic=a..b", stage.get("TROUPE_ADMIN_URL").expect("the stage's")));
    assert_eq!(answer.send().await.expect("an answer").status(), 400);
}

#[tokio::test]
async fn an_open_tail_does_not_hold_up_the_end_of_a_node() {
    let stage = stage();
    let mut node = stage.start().await;
    let tail = stage.run(&["events", "tail"], LIMIT);
    let stopping = async {
        let metrics = || async { stage.admin().text("/metrics").await };
        let open = r#"route="/v1/events",status="200"} 1"#;
        troupe_tests::wait::until("an open tail", LIMIT, async || metrics().await.contains(open).then_some(())).await;
        let begun = std::time::Instant::now();
        node.terminate();
        assert!(node.ended(LIMIT).await.success());
        assert!(begun.elapsed() < Duration::from_secs(4), "it took {:?} to stop", begun.elapsed());
    };
    let (said, ()) = tokio::join!(tail, stopping);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("ended the stream"), "{}", said.err);
}
