//! Bad starts: one clear line that says what to do, exit 78, nothing half-started.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use troupe_tests::stage::Said;
use troupe_tests::{Stage, ports};

use super::agents::{ECHO, two_turns};

const LIMIT: Duration = Duration::from_secs(20);

/// Ends with 78 and one line of error that holds these words.
fn refused(said: &Said, words: &[&str]) {
    assert_eq!(said.code, 78, "{}\n{}", said.out, said.err);
    let errors: Vec<_> = said.err.lines().filter(|line| words.iter().all(|word| line.contains(word))).collect();
    assert_eq!(errors.len(), 1, "one line with {words:?} in:\n{}", said.err);
    for noise in ["panicked", "RUST_BACKTRACE", "stack backtrace", "Error {"] {
        assert!(!said.err.contains(noise), "{noise} in:\n{}", said.err);
    }
}

fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.agent("echo", ECHO);
    stage
}

#[tokio::test]
async fn a_taken_port_is_named_and_leaves_no_trace() {
    let mut stage = stage();
    let port = ports::free_port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    let address = format!("127.0.0.1:{port}");
    stage.set("TROUPE_HTTP_ADDR", &address);
    refused(&stage.run(&["up"], LIMIT).await, &[&address, "TROUPE_HTTP_ADDR"]);
    assert!(!stage.path("data").exists(), "nothing is half-started");
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_is_named() {
    let mut stage = stage();
    // A file where a folder should be: refused for every user, root included.
    let data = stage.path("occupied/data");
    stage.file("occupied", "").set("TROUPE_DATA_DIR", &data.to_string_lossy());
    refused(&stage.run(&["up"], LIMIT).await, &["occupied", "TROUPE_DATA_DIR"]);
}

#[tokio::test]
async fn a_second_node_on_the_same_data_is_refused_and_harms_nothing() {
    let stage = stage();
    let mut node = stage.start().await;
    let mut second = Stage::new();
    second.agent("echo", ECHO).set("TROUPE_DATA_DIR", &stage.path("data").to_string_lossy());
    refused(&second.run(&["up"], LIMIT).await, &["data", "in use"]);
    assert_eq!(stage.admin().status("/readyz").await, Some(200), "the first one goes on");
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
}

#[tokio::test]
async fn a_broken_node_file_is_named_with_its_place() {
    let mut stage = stage();
    stage.file("node.yaml", "http:\n  addr: [not, an, address]\n  bogus: 1\n");
    stage.set("TROUPE_CONFIG", &stage.path("node.yaml").to_string_lossy());
    refused(&stage.run(&["up"], LIMIT).await, &["node.yaml:3:", "bogus"]);
}

#[tokio::test]
async fn administration_for_everybody_is_refused() {
    let mut stage = stage();
    stage.set("TROUPE_ADMIN_ADDR", &format!("0.0.0.0:{}", ports::free_port()));
    refused(&stage.run(&["up"], LIMIT).await, &["TROUPE_ADMIN_TOKEN"]);
    assert!(!stage.path("data").exists(), "nothing is half-started");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_and_left_alone() {
    let mut stage = stage();
    let rubbish = "no database ".repeat(1000);
    stage.file("data/troupe.db", &rubbish);
    refused(&stage.run(&["up"], LIMIT).await, &["troupe.db"]);
    assert_eq!(fs::read_to_string(stage.path("data/troupe.db")).expect("still there"), rubbish);
}

#[tokio::test]
async fn everything_that_is_wrong_with_the_agents_is_named_at_once() {
    let mut stage = stage();
    stage.agent("broken", "name: broken\ntype: [").agent("keyless", &two_turns("http://127.0.0.1:9/v1"));
    let said = stage.run(&["up"], LIMIT).await;
    refused(&said, &["broken.yaml:2:7"]);
    refused(&said, &["keyless.yaml:9:12", "STAND_IN_KEY"]);
    assert!(!stage.path("data").exists(), "nothing is half-started");
}
