//! The state on a server: migrating, starting, and what an operator is told, on the real binary and a real PostgreSQL.
//!
//! Each test has a server of its own. Without PostgreSQL it says `skipped`, and fails when `CI` is set.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use troupe_tests::Stage;
use troupe_tests::postgres::Postgres;
use troupe_tests::stage::Said;
use troupe_tests::wait::{PATIENCE, until};

use super::agents::ECHO;

const LIMIT: Duration = Duration::from_secs(30);

/// A server with an empty database, and a stage whose nodes keep their state there.
pub(crate) async fn stage() -> Option<(Postgres, Stage, String)> {
    let Some(server) = Postgres::start().await else {
        assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
        #[expect(clippy::print_stdout, reason = "a test that was passed over says so")]
        {
            println!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
        }
        return None;
    };
    let url = server.create("troupe").await;
    let mut stage = Stage::new();
    stage.agent("echo", ECHO).set("DATABASE_URL", &url.replace("troupe@", "troupe:hunter2@"));
    Some((server, stage, url))
}

fn migrated(said: &Said) -> Value {
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    serde_json::from_str(&said.out).expect("a document")
}

#[tokio::test]
async fn tables_are_made_once_whoever_asks_and_however_often() {
    let Some((_server, stage, url)) = stage().await else { return };
    let asked = (0..4).map(|_| stage.run(&["migrate", "-o", "json"], LIMIT));
    let reports: Vec<Value> = join_all(asked).await.iter().map(migrated).collect();
    let newest = reports[0]["to"].as_i64().expect("a number");
    assert!(newest >= 2 && reports.iter().all(|report| report["to"] == newest), "{reports:?}");
    assert!(reports.iter().any(|report| report["from"] == 0), "somebody found nothing: {reports:?}");
    let seen = stage.run(&["doctor"], LIMIT).await;
    assert!(seen.out.contains(&format!("migration {newest} of {newest}")), "{}\n{}", seen.out, seen.err);
    let again = stage.run(&["migrate"], LIMIT).await;
    assert!(again.out.contains(&format!("up to date at migration {newest}")), "{}", again.out);

    let mut connection = PgConnection::connect(&url).await.expect("the server");
    let later = "insert into _sqlx_migrations values (999, 'later', now(), true, '', 1)";
    sqlx::query(later).execute(&mut connection).await.expect("a row of the future");
    for command in ["migrate", "up"] {
        let refused = stage.run(&[command], LIMIT).await;
        assert_eq!(refused.code, 78, "{}\n{}", refused.out, refused.err);
        assert!(refused.err.contains("migration 999") && refused.err.contains("newer troupe"), "{}", refused.err);
        assert!(!format!("{}{}", refused.out, refused.err).contains("hunter2"), "a password is shown");
    }
    for (table, columns) in [("agent_states", "agent_id"), ("execution_results", "execution_timestamp")] {
        let sql = "select count(*) from pg_indexes where tablename = $1 and indexdef like '%' || $2 || '%'";
        let asked = sqlx::query_scalar::<_, i64>(sql).bind(table).bind(columns).fetch_one(&mut connection).await;
        assert!(asked.expect("the catalogue") >= 1, "{table} has no index on {columns}");
    }
}

#[tokio::test]
async fn the_file_is_migrated_by_the_same_command() {
    let mut stage = Stage::new();
    stage.agent("echo", ECHO);
    let report = migrated(&stage.run(&["migrate", "-o", "json"], LIMIT).await);
    assert!(
        report["from"] == 0 && report["place"].as_str().is_some_and(|place| place.ends_with("troupe.db")),
        "{report}"
    );
    let mut node = stage.start().await;
    let busy = stage.run(&["migrate"], LIMIT).await;
    assert!(busy.code == 78 && busy.err.contains("in use by another node"), "{}: {}", busy.code, busy.err);
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
}

#[tokio::test]
async fn a_node_keeps_its_state_on_the_server_and_says_so() {
    let Some((_server, stage, url)) = stage().await else { return };
    let node = stage.start().await;
    let answer = stage.run(&["ask", "echo", "hello", "--wait"], LIMIT).await;
    assert_eq!(answer.code, 0, "{}\n{}", answer.out, answer.err);
    let mut connection = PgConnection::connect(&url).await.expect("the server");
    let results = sqlx::query_scalar::<_, i64>("select count(*) from execution_results where agent_id = 'echo'");
    assert_eq!(results.fetch_one(&mut connection).await.expect("the results"), 1);

    let (status, health) = stage.admin().get("/health").await;
    let part = &health["components"]["state"];
    assert_eq!((status, &part["status"], &part["adapter"]), (200, &json!("healthy"), &json!("postgres")), "{health}");
    assert!(part["place"].as_str().is_some_and(|place| place.starts_with("troupe@127.0.0.1:")), "{part}");
    assert!(!health.to_string().contains("hunter2"), "a password is shown");
    let metrics = stage.admin().text("/metrics").await;
    assert!(metrics.contains("troupe_store_batch_bucket{le=\"1\"}"), "no sizes of batches in\n{metrics}");

    node.kill9();
    let mut node = stage.start().await;
    let tasks = stage.admin().tasks("echo").await.expect("the tasks");
    assert_eq!((tasks.len(), &tasks[0]["status"]), (1, &json!("succeeded")), "{tasks:?}");
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
    assert!(!node.log().contains("hunter2"), "a password is logged");
}

#[tokio::test]
async fn a_start_waits_for_a_server_and_an_outage_is_seen_and_passes() {
    let Some((mut server, stage, _)) = stage().await else { return };
    server.crash();
    let mut node = stage.spawn();
    let waits = || node.log().contains("the start waits for the database");
    until("the node to wait", PATIENCE, async || waits().then_some(())).await;
    server.resume().await;
    node.ready(&stage.admin()).await;

    server.crash();
    let health = async |wanted: u16| {
        let seen = async || stage.admin().try_get("/health").await.filter(|(status, _)| *status == wanted);
        until(&format!("health {wanted}"), PATIENCE, seen).await.1
    };
    let sick = health(503).await;
    assert_eq!(sick["components"]["state"]["status"], "unhealthy", "{sick}");
    server.resume().await;
    health(200).await;
    let answer = stage.run(&["ask", "echo", "hello", "--wait"], LIMIT).await;
    assert_eq!(answer.code, 0, "{}\n{}", answer.out, answer.err);
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
}
