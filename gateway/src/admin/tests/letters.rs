//! Dead letters and events: what was given up is seen, replayed and removed; what is published arrives or is refused
//! with its topic.

use troupe_runtime::bus::{DeadLetter, QueueSpec};
use troupe_runtime::domain::event::Event;

use super::*;

/// A task that failed for good, and its dead letter.
async fn buried(house: &House, text: &str) -> Value {
    let task = house.echoed(text).await;
    assert_eq!(task["status"], "failed");
    let of_task = |letter: &&Value| letter["event"]["id"] == task["event_id"];
    let all = |body: &Value| body["items"].as_array().unwrap().iter().find(of_task).cloned();
    let list = house.until("/v1/dead-letters", |body| all(body).is_some()).await;
    all(&list).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_shown_replayed_and_gone() {
    let house = House::open().await;
    let letter = buried(&house, "fail one").await;
    assert_eq!((&letter["queue"], &letter["cause"]), (&json!("agent.input.echo"), &json!("model")));
    let path = format!("/v1/dead-letters/{}", letter["id"].as_str().unwrap());
    assert_eq!(house.get(&path).await.json()["id"], letter["id"]);
    let replayed = house.post(&format!("{path}:replay")).await;
    assert_eq!(replayed.status, 200, "{}", replayed.text);
    let event = &replayed.json()["event"];
    assert_ne!(event["id"], letter["event"]["id"]);
    assert_eq!(event["causationid"], letter["event"]["id"]);
    assert!(house.get(&path).await.problem(404).contains("no dead letter"));
    house.post(&format!("{path}:replay")).await.problem(404);
    house.post(&path).await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_removed_once() {
    let house = House::open().await;
    let letter = buried(&house, "fail two").await;
    let path = format!("/v1/dead-letters/{}", letter["id"].as_str().unwrap());
    let removed = sent(house.request(Method::DELETE, &path)).await;
    assert_eq!((removed.status, removed.text.as_str()), (204, ""));
    sent(house.request(Method::DELETE, &path)).await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_page_by_page() {
    let house = House::open().await;
    for n in 0..3 {
        buried(&house, &format!("fail {n}")).await;
    }
    let first = house.get("/v1/dead-letters?limit=2").await.json();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let next = first["next"].as_str().unwrap();
    let rest = house.get(&format!("/v1/dead-letters?limit=2&cursor={next}")).await.json();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
    house.get("/v1/dead-letters?limit=none").await.problem(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_its_agent_or_is_refused_with_its_topic() {
    let house = House::open().await;
    let event = json!({"specversion": "1.0", "id": "evt-1", "source": "/test", "type": "agent.task.echo",
        "data": {"text": "fail by event", "response_url": "https://hooks.slack.com/x"}});
    let accepted = house.send("/v1/events", &event).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    assert_eq!((&accepted.json()["id"], &accepted.json()["queues"]), (&json!("evt-1"), &json!(1)));
    let letters = house.until("/v1/dead-letters", |body| !body["items"].as_array().unwrap().is_empty()).await;
    assert_eq!(letters["items"][0]["event"]["data"], json!({"text": "fail by event", "response_url": "***"}));

    let mut stray = event.clone();
    stray["type"] = json!("nobody.listens");
    let refused = house.send("/v1/events", &stray).await;
    assert!(refused.problem(422).contains("nobody.listens"));
    assert_eq!(refused.json()["topic"], "nobody.listens");
    let mut strange = event;
    strange["myextension"] = json!(1);
    assert!(house.send("/v1/events", &strange).await.problem(422).contains("myextension"));
    let cloud = house.request(Method::POST, "/v1/events").header("content-type", "application/cloudevents+json");
    sent(cloud.body("[]")).await.problem(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_never_had_a_queue_is_replayed_by_its_topic() {
    let house = House::open().await;
    let event: Event =
        serde_json::from_value(json!({"id": "e1", "source": "/t", "type": "news.today", "data": 1})).unwrap();
    let letter = DeadLetter {
        id: "letter-1".to_owned(),
        queue: "news.today".to_owned(),
        event,
        cause: "unroutable".to_owned(),
        attempts: 1,
        first_error: String::new(),
        last_error: String::new(),
        at: chrono::Utc::now(),
    };
    let bus = house.troupe.ports().bus.clone();
    bus.bury(letter).await.unwrap();
    let replay = "/v1/dead-letters/letter-1:replay";
    assert!(house.post(replay).await.problem(422).contains("news.today"));
    assert_eq!(house.get("/v1/dead-letters/letter-1").await.status, 200, "it stays until somebody wants it");

    let queue = QueueSpec {
        name: "readers".to_owned(),
        bindings: vec!["news.#".parse().unwrap()],
        single_active_consumer: false,
    };
    bus.declare(queue).await.unwrap();
    let replayed = house.post(replay).await;
    assert_eq!((replayed.status, &replayed.json()["event"]["causationid"]), (200, &json!("e1")), "{}", replayed.text);
    let delivery = bus.consume("readers", 1).await.unwrap().next(1).await.remove(0);
    assert_eq!((delivery.event.data.value(), delivery.event.id == "e1"), (json!(1), false));
    house.get("/v1/dead-letters/letter-1").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn tails_are_limited_by_name_masked_and_honest_about_what_they_missed() {
    let house = House::open_with(|setup| setup.options.tails_max = 1).await;
    let url = format!("http://{}/v1/events", house.admin);
    let mut tail = house.http.get(&url).header("last-event-id", "e0").send().await.unwrap();
    assert!(house.get("/v1/events?topic=agent.*").await.problem(503).contains("admin.tails_max = 1"));
    let event = json!({"id": "e1", "source": "/t", "type": "agent.task.echo",
        "data": {"text": "hunter2", "response_url": "https://hooks.slack.com/x"}});
    assert_eq!(house.send("/v1/events", &event).await.status, 202);
    let mut seen = String::new();
    while !seen.contains("agent.task.echo") {
        seen.push_str(&String::from_utf8_lossy(&tail.chunk().await.unwrap().unwrap()));
    }
    assert!(seen.starts_with("event: gap\ndata: {\"after\":\"e0\"}\n\n"), "{seen}");
    assert!(seen.contains("id: e1\n") && !seen.contains("hunter2") && !seen.contains("hooks.slack.com"), "{seen}");
    house.troupe.ports().taps.close();
    while tail.chunk().await.unwrap().is_some() {}
    house.get("/v1/events").await.problem(503);
}
