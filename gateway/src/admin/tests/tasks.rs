//! Tasks and journals, as people and programs look them up: by page, by the beginning of an id, by run or step; never
//! with a secret in them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_listed_newest_first_page_by_page() {
    let house = House::open().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(house.echoed(&format!("{n}")).await["id"].clone());
    }
    ids.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/tasks?limit=2".to_owned());
    loop {
        let page = house.get(&path).await.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|task| task["id"].clone()));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/tasks?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let count =
        async |query: &str| house.get(&format!("/v1/tasks?{query}")).await.json()["items"].as_array().unwrap().len();
    assert_eq!(count("status=succeeded&agent=echo&since=1h").await, 5);
    assert_eq!(count("status=failed").await, 0);
    assert_eq!(count("agent=keeper").await, 0);
    assert_eq!(count("since=2999-01-01T00:00:00Z").await, 0);
    for bad in ["status=done", "agent=No", "since=later", "cursor=x", "limit=0", "colour=red"] {
        house.get(&format!("/v1/tasks?{bad}")).await.problem(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_found_by_the_beginning_of_its_id_when_it_is_the_only_one() {
    let house = House::open().await;
    let id = house.echoed("one").await["id"].as_str().unwrap().to_owned();
    assert_eq!(house.get(&format!("/v1/tasks/{}", &id[..8])).await.json()["id"], id.as_str());
    assert_eq!(house.get(&format!("/v1/tasks/{}", id.to_uppercase())).await.json()["id"], id.as_str());
    let other = house.echoed("two").await["id"].as_str().unwrap().to_owned();
    let ambiguous = house.get(&format!("/v1/tasks/{}", &id[..4])).await;
    assert!(ambiguous.problem(409).contains("write more"));
    let candidates = ambiguous.json()["candidates"].clone();
    assert_eq!(candidates.as_array().unwrap().len(), 2);
    assert!(candidates.as_array().unwrap().contains(&json!(other)));
    for bad in ["zzzz", "ffffffff", "..", "%00", "%FF", "0-"] {
        let status = house.get(&format!("/v1/tasks/{bad}")).await.status;
        assert!((400..500).contains(&status), "{bad}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_found_by_its_run_its_step_or_its_task() {
    let house = House::open().await;
    for n in 0..3 {
        house.echoed(&format!("noise {n}")).await;
    }
    let task = house.echoed("hear me").await;
    let run = task["runs"][0]["id"].as_str().unwrap();
    let step = task["steps"][0]["id"].as_str().unwrap();
    for id in [task["id"].as_str().unwrap(), run, step, &run[..30], &step.replace('-', "")] {
        let journal = house.get(&format!("/v1/runs/{id}/journal")).await.json();
        assert_eq!((&journal["run_id"], &journal["task_id"]), (&json!(run), &task["id"]), "{id}");
        let entries = journal["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!((&entries[0]["kind"], &entries[0]["seq"]), (&json!("model_result"), &json!(0)));
        assert_eq!(
            (&entries[0]["step_id"], &entries[0]["completion"]["text"]),
            (&json!(step), &json!("you said hear me"))
        );
        assert_eq!(journal["status"], "complete");
    }
    house.get("/v1/runs/00000000-0000-7000-8000-000000000000/journal").await.problem(404);
    house.get("/v1/runs/nonsense/journal").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_not_shown_wherever_it_came_in() {
    let house = House::open().await;
    let said = "my key is hunter2, see https://hooks.slack.com/commands/T1/abc";
    let task = house.echoed(said).await;
    let id = task["id"].as_str().unwrap();
    for path in [format!("/v1/tasks/{id}"), "/v1/tasks".to_owned(), format!("/v1/runs/{id}/journal")] {
        let shown = house.get(&path).await.text;
        assert!(shown.contains("***") && !shown.contains("hunter2") && !shown.contains("T1/abc"), "{path}: {shown}");
    }
}
