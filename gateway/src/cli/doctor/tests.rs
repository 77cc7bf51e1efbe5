//! What the doctor finds on real folders, ports and a small real node.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::*;

const GOOD: &str = "name: guide\ntype: assistant\nexecution_mode: autonomous\nllm_config:\n  provider: scripted\n  script: [{reply: hello}]\n";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// Sources whose folders are in `dir`, whose ports are free, and whose node is at `url`.
fn sources(dir: &Path, url: &str, more: &[(&str, &str)]) -> Sources {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let (agents, data) = (dir.join("agents").display().to_string(), dir.join("data").display().to_string());
    let own = [
        ("TROUPE_AGENTS_DIR", agents.as_str()),
        ("TROUPE_DATA_DIR", data.as_str()),
        ("TROUPE_HTTP_ADDR", "127.0.0.1:0"),
        ("TROUPE_ADMIN_ADDR", "127.0.0.1:0"),
        ("TROUPE_ADMIN_URL", url),
    ];
    let env = own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { env, ..Sources::default() }
}

/// An address of this machine where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn node(health: &'static str) -> String {
    let app =
        Router::new().route("/health", get(move || async move { health })).route("/v1/agents", get(|| async { "[]" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn find<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.what == what).unwrap_or_else(|| panic!("no {what} in {findings:#?}"))
}

#[tokio::test]
async fn a_fresh_machine_has_notices_and_nothing_broken() {
    let dir = folder(&[("agents/guide.yaml", GOOD)]);
    let findings = examine(&sources(dir.path(), &nobody().await, &[])).await;
    assert!(findings.iter().all(|finding| finding.health != Health::Broken), "{findings:#?}");
    assert_eq!(find(&findings, "node").health, Health::Notice);
    assert_eq!(find(&findings, "node").advice, "start one with `troupe up`");
    assert!(find(&findings, "data folder").seen.ends_with("will be made at the first start"));
    assert!(find(&findings, "Slack, inbound").seen.contains("SLACK_SIGNING_SECRET"));
    assert!(find(&findings, "agent specs").seen.starts_with("1 agent in "));
}

#[tokio::test]
async fn a_running_node_tells_of_its_parts_and_its_ports_are_not_tried() {
    let dir = folder(&[("agents/guide.yaml", GOOD)]);
    let url = node(r#"{"status":"unhealthy","components":{"state":{"status":"healthy"},"bus":{"status":"unhealthy","detail":"disk full"}}}"#).await;
    let findings = examine(&sources(dir.path(), &url, &[])).await;
    assert_eq!(find(&findings, "node").health, Health::Ok);
    assert_eq!(find(&findings, "node: state").health, Health::Ok);
    assert_eq!(find(&findings, "node: bus").health, Health::Broken);
    assert_eq!(find(&findings, "node: bus").seen, "unhealthy: disk full");
    assert!(!findings.iter().any(|finding| finding.what == "public address"));
}

#[tokio::test]
async fn broken_things_are_broken_each_with_advice() {
    let dir = folder(&[("agents/guide.yaml", "name: ["), ("data/troupe.db", "this is no database at all")]);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let more = [("TROUPE_HTTP_ADDR", addr.as_str())];
    let findings = examine(&sources(dir.path(), &nobody().await, &more)).await;
    for what in ["agent specs", "database", "public address"] {
        let finding = find(&findings, what);
        assert_eq!(finding.health, Health::Broken, "{finding:?}");
        assert!(!finding.advice.is_empty(), "{finding:?}");
    }
}

#[tokio::test]
async fn a_file_in_the_place_of_the_data_folder_is_found() {
    let dir = folder(&[("agents/guide.yaml", GOOD), ("data", "a file")]);
    assert_eq!(look::data_dir(&dir.path().join("data")).health, Health::Broken);
    assert_eq!(look::data_dir(dir.path()).health, Health::Ok);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "it leaves nothing behind");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_broken_and_its_password_stays_secret() {
    let dir = folder(&[("agents/guide.yaml", GOOD)]);
    let free = nobody().await.replace("http://", "");
    let url = format!("postgres://troupe:hunter2@{free}/troupe");
    let findings = examine(&sources(dir.path(), &nobody().await, &[("DATABASE_URL", &url)])).await;
    let finding = find(&findings, "database");
    assert_eq!((finding.health, finding.advice.as_str()), (Health::Broken, "check that it runs, and DATABASE_URL"));
    assert!(finding.seen.contains(&format!("troupe@{free}/troupe")), "{finding:?}");
    assert!(!format!("{findings:?}").contains("hunter2"), "a password is shown");
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_broken_and_its_password_stays_secret() {
    let dir = folder(&[("agents/guide.yaml", GOOD)]);
    let free = nobody().await.replace("http://", "");
    let url = format!("redis://:hunter2@{free}/0");
    let findings = examine(&sources(dir.path(), &nobody().await, &[("REDIS_URL", &url)])).await;
    let finding = find(&findings, "cache");
    assert_eq!(finding.health, Health::Broken);
    assert!(finding.seen.contains(&format!("redis://{free}/0")) && finding.advice.contains("REDIS_URL"), "{finding:?}");
    assert!(!format!("{findings:?}").contains("hunter2"), "a password is shown");
    let without = examine(&sources(dir.path(), &nobody().await, &[])).await;
    assert_eq!(find(&without, "cache").health, Health::Ok);
}

#[tokio::test]
async fn a_provider_is_reached_for_only_with_a_key() {
    let spec = |key: &str| {
        GOOD.replace("guide", key).replace(
            "  provider: scripted\n  script: [{reply: hello}]\n",
            &format!("  provider: openai\n  model: m\n  api_key: ${{{}}}\n", key.to_uppercase()),
        )
    };
    let dir = folder(&[("agents/a.yaml", &spec("alpha"))]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here: SocketAddr = listener.local_addr().unwrap();
    let base = format!("http://{here}/v1");
    let without = examine(&sources(dir.path(), &nobody().await, &[("OPENAI_BASE_URL", &base)])).await;
    let finding = find(&without, "models of openai");
    assert_eq!((finding.health, finding.seen.as_str()), (Health::Notice, "1 agent names it; ALPHA is not set"));
    let with =
        examine(&sources(dir.path(), &nobody().await, &[("OPENAI_BASE_URL", &base), ("ALPHA", "sk-secret-key")])).await;
    let finding = find(&with, "models of openai");
    assert_eq!(finding.health, Health::Ok, "{finding:?}");
    assert!(!format!("{with:?}").contains("sk-secret"), "a key is never shown");
    drop(listener);
    let gone =
        examine(&sources(dir.path(), &nobody().await, &[("OPENAI_BASE_URL", &base), ("ALPHA", "sk-secret-key")])).await;
    assert_eq!(find(&gone, "models of openai").health, Health::Broken);
}

#[test]
fn advice_stands_below_its_finding() {
    let findings = [Finding::ok("a", "well"), Finding::broken("database", "gone", "restore it")];
    let expected = "ok      a         well\nbroken  database  gone\n                  → restore it";
    assert_eq!(lines(&findings, Style::PLAIN), expected);
}
