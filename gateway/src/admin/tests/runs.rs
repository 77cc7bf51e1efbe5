//! Runs: how they stand, their recordings, and their replays; with nothing asked of a model again.

use crate::recording;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_shown_under_its_own_its_step_s_and_its_task_s_id() {
    let house = House::open().await;
    let task = house.echoed("look at the clock").await;
    let run = task["runs"][0]["id"].as_str().unwrap();
    for id in [run, task["id"].as_str().unwrap(), task["steps"][0]["id"].as_str().unwrap(), &run[..30]] {
        let shown = house.get(&format!("/v1/runs/{id}")).await.json();
        assert_eq!((&shown["run_id"], &shown["task_id"]), (&json!(run), &task["id"]), "{id}");
        assert_eq!((&shown["status"], &shown["attempts"]), (&json!("complete"), &json!(1)));
        assert_eq!((&shown["spec_digest"], &shown["usage"]), (&task["spec_digest"], &task["usage"]));
        assert_eq!(shown["outcome_digest"].as_str().unwrap().len(), 64);
    }
    house.get("/v1/runs/00000000-0000-7000-8000-000000000000").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_a_recording_that_replays_without_its_node() {
    let house = House::open().await;
    let task = house.echoed("look at the clock").await;
    let run = task["runs"][0]["id"].as_str().unwrap();
    let journal = house.get(&format!("/v1/runs/{run}/journal")).await.json();
    assert_eq!((&journal["format"], &journal["masked"]), (&json!(1), &json!(false)));
    assert_eq!(journal["spec"]["name"], "echo");
    let file = recording::text(&journal);
    let report = recording::read(file.as_bytes()).replayed();
    assert_eq!((report.verified, report.entries.len()), (true, 3), "{report:?}");
    assert_eq!(journal["outcome_digest"].as_str(), report.outcome_digest.as_deref());

    let replayed = house.post(&format!("/v1/runs/{run}:replay")).await;
    assert_eq!(replayed.status, 200, "{}", replayed.text);
    assert_eq!(replayed.json(), serde_json::to_value(&report).unwrap(), "the node says the same");
    let problem = house.post(&format!("/v1/runs/{run}:dance")).await.problem(404);
    assert!(problem.contains(":replay"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_with_a_secret_says_that_it_was_masked() {
    let house = House::open().await;
    let task = house.echoed("hunter2 is my name").await;
    let id = task["id"].as_str().unwrap();
    let journal = house.get(&format!("/v1/runs/{id}/journal")).await.json();
    assert_eq!(journal["masked"], true);
    let file = recording::text(&journal);
    assert!(!file.contains("hunter2"));
    let report = recording::read(file.as_bytes()).replayed();
    assert_eq!((report.verified, report.masked), (true, true), "{report:?}");
    let replayed = house.post(&format!("/v1/runs/{id}:replay")).await.json();
    assert_eq!((&replayed["verified"], &replayed["masked"]), (&json!(true), &json!(false)), "the node has them");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_run_fits_as_far_as_it_is() {
    let house = House::open().await;
    let task = house.send("/v1/agents/echo/tasks", &json!({"input": "stop"})).await.json();
    let id = task["id"].as_str().unwrap();
    house.until(&format!("/v1/tasks/{id}"), |task| task["status"] == "running").await;
    let shown = house.get(&format!("/v1/runs/{id}")).await.json();
    assert_eq!((&shown["status"], &shown["outcome_digest"]), (&json!("in_progress"), &Value::Null));
    let report = house.post(&format!("/v1/runs/{id}:replay")).await.json();
    assert_eq!((&report["verified"], &report["outcome_digest"]), (&json!(true), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_of_an_open_run_leaves_it_alone() {
    let house = House::open().await;
    let task = house.send("/v1/agents/echo/tasks", &json!({"input": "stop"})).await.json();
    let id = task["id"].as_str().unwrap();
    let open = house.until(&format!("/v1/tasks/{id}"), |task| task["status"] == "running").await;
    let path = format!("/v1/runs/{id}:fork");
    let made = house.send(&path, &json!({"from_entry": 0, "set": {"limits.turns": 3}})).await;
    assert_eq!(made.status, 202, "{}", made.text);
    let fork = made.json();
    assert_eq!(made.headers["location"], format!("/v1/tasks/{}", fork["id"].as_str().unwrap()));
    assert_eq!((&fork["forked_from"]["task_id"], &fork["steps"][0]["copied"]), (&task["id"], &json!(0)));
    assert_ne!(fork["spec_digest"], open["spec_digest"]);
    let taken_up = |fork: &Value| fork["steps"][0]["epoch"] == 1;
    house.until(&format!("/v1/tasks/{}", fork["id"].as_str().unwrap()), taken_up).await;
    let detail = house.send(&path, &json!({"from_step": 1})).await.problem(422);
    assert!(detail.contains("0 answers of a model"), "{detail}");
    house.send("/v1/runs/00000000-0000-7000-8000-000000000000:fork", &json!({"from_step": 0})).await.problem(404);
    assert_eq!(house.get(&format!("/v1/tasks/{id}")).await.json(), open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_recording_of_a_fork_replays() {
    let house = House::open().await;
    let task = house.echoed("look, hunter2").await;
    let made = house.send(&format!("/v1/runs/{}:fork", task["id"].as_str().unwrap()), &json!({"from_step": 1})).await;
    assert_eq!(made.status, 202, "{}", made.text);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let ended = house.until(&format!("/v1/tasks/{id}"), |task| task["status"] == "succeeded").await;
    assert_eq!(ended["spec_digest"], task["spec_digest"]);
    let journal = house.get(&format!("/v1/runs/{id}/journal")).await.json();
    assert_eq!((&journal["masked"], &journal["brief"]["copied"]), (&json!(true), &json!(2)));
    let report = recording::read(recording::text(&journal).as_bytes()).replayed();
    assert_eq!((report.verified, report.masked), (true, true), "{report:?}");
    assert_eq!(report.entries.iter().filter(|entry| entry.copied).count(), 2);
    let replayed = house.post(&format!("/v1/runs/{id}:replay")).await.json();
    assert_eq!(replayed["verified"], true, "{replayed}");
}
