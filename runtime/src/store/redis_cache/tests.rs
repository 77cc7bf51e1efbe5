//! What the tier does without a server, and how it spells keys; what it does with one is in the tests crate.

use tokio::time::Instant;

use super::*;
use crate::sqlite::{self, Database};
use crate::store;

async fn tier(url: &str) -> (tempfile::TempDir, RedisMemory) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), &sqlite::Options::default()).await.unwrap();
    let stores = store::sqlite::stores(database, store::Options::default());
    let tier = RedisMemory::new(stores.memory, &url.into(), Options::default()).unwrap();
    (dir, tier)
}

/// A port of this machine on which nobody listens: the listener goes before it is used.
fn nobody() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn without_a_server_everything_works_and_the_breaker_opens() {
    let (_dir, tier) = tier(&format!("redis://:hunter2@127.0.0.1:{}/3", nobody())).await;
    let agent: AgentName = "support".parse().unwrap();
    let mut version = 0;
    for number in 0..10 {
        version = tier.save(&agent, "s", version, &number.to_string()).await.unwrap();
        assert_eq!(&*tier.load(&agent, "s").await.unwrap().unwrap().body, number.to_string());
    }
    let report = tier.report();
    assert_eq!((report.breaker, report.errors, report.hits), (Standing::Open, 5, 0), "{report:?}");
    assert!(report.skipped >= 7, "{report:?}");
    assert!(report.place.starts_with("redis://127.0.0.1:") && report.place.ends_with("/3"), "{}", report.place);
    assert!(tier.flush(&agent).await.is_err());
    assert!(!format!("{report:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_its_limit_and_then_nothing() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_dir, tier) = tier(&format!("redis://127.0.0.1:{}", silent.local_addr().unwrap().port())).await;
    let agent: AgentName = "support".parse().unwrap();
    let begun = Instant::now();
    for _ in 0..200 {
        assert_eq!(tier.load(&agent, "s").await.unwrap(), None);
    }
    let (took, report) = (begun.elapsed(), tier.report());
    assert_eq!((report.breaker, report.errors, report.skipped), (Standing::Open, 5, 195), "{report:?}");
    assert!((250..10_000).contains(&took.as_millis()), "{took:?}");
    assert!(report.last_error.is_some_and(|last| last.error == "no answer within 50ms"));
}

#[tokio::test]
async fn an_address_that_is_none_is_an_error_without_its_password() {
    for bad in ["redis://", "redis://:hunter2@/0", "redis://:hunter2@host:99999", "redis://:hunter2@host/none"] {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path(), &sqlite::Options::default()).await.unwrap();
        let stores = store::sqlite::stores(database, store::Options::default());
        let error = RedisMemory::new(stores.memory, &bad.into(), Options::default()).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.starts_with("REDIS_URL: ") && !text.contains("hunter2"), "{bad}: {text}");
    }
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_is_an_error_that_names_the_file() {
    let options = Options { tls_ca: Some("/nowhere/ca.pem".into()), ..Options::default() };
    let error = RedisMemory::look(&"rediss://127.0.0.1".into(), &options).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

#[test]
fn a_pattern_matches_its_text_alone() {
    assert_eq!(pattern_of("troupe:memory:a-1:"), "troupe:memory:a\\-1:");
    assert_eq!(pattern_of("a*[b]?^\\"), "a\\*\\[b\\]\\?\\^\\\\");
}
