//! A Redis that is away, frozen, flushed, late, locked: every load has its memory, and what that costs has a limit.

use std::time::{Duration, Instant};

use troupe_runtime::store::redis_cache::{Options, Standing};
use troupe_tests::redis::Redis;
use troupe_tests::wait::{PATIENCE, until};

use super::{Scene, key, options};

/// Waits until a load has its text from Redis again.
async fn hits_again(scene: &Scene, session: &str) {
    let before = scene.report().hits;
    let hit = async || {
        scene.load(session).await;
        (scene.report().hits > before).then_some(())
    };
    until("a memory from Redis", PATIENCE, hit).await;
    assert_eq!(scene.report().breaker, Standing::Closed);
}

#[tokio::test]
async fn a_well_one_has_what_was_saved_and_what_was_loaded() {
    let Some(scene) = Scene::open().await else { return };
    scene.save("saved", "\"saved\"").await;
    assert_eq!(scene.load("saved").await.as_deref(), Some("\"saved\""));
    assert_eq!((scene.report().hits, scene.report().misses), (1, 0));
    scene.save_behind("loaded", "\"loaded\"").await;
    for _ in 0..2 {
        assert_eq!(scene.load("loaded").await.as_deref(), Some("\"loaded\""));
    }
    assert_eq!(scene.load("nothing").await, None);
    let report = scene.report();
    assert_eq!((report.hits, report.misses, report.written, report.errors), (2, 2, 2, 0), "{report:?}");
    let lives: i64 = scene.redis.tell(&["pttl", &key("saved")]).await.parse().unwrap();
    assert!((1..=24 * 3600 * 1000).contains(&lives), "it is kept for {lives} ms");
}

#[tokio::test]
async fn one_that_is_stopped_is_gone_without_and_taken_back() {
    let Some(mut scene) = Scene::open().await else { return };
    scene.save("s", "0").await;
    scene.redis.stop();
    for number in 1..20 {
        scene.save("s", &number.to_string()).await;
        assert_eq!(scene.load("s").await, Some(number.to_string()));
    }
    let report = scene.report();
    assert!(report.breaker != Standing::Closed && report.last_error.is_some(), "{report:?}");
    scene.redis.resume().await;
    hits_again(&scene, "s").await;
    assert_eq!(scene.load("s").await.as_deref(), Some("19"));
}

#[tokio::test]
async fn one_that_is_frozen_costs_its_limit_until_the_breaker_opens_and_then_nothing() {
    let Some(redis) = Redis::start().await else { return };
    let (url, limit) = (redis.url(), Options::default().answer_timeout);
    let scene = Scene::at(redis, &url, Options { answer_timeout: limit, ..Options::default() }).await;
    scene.save("s", "1").await;
    hits_again(&scene, "s").await;
    let before = scene.report().errors;
    scene.redis.freeze();
    // It still has version 1, and will have it when it moves again.
    let mut took = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        assert_eq!(scene.load("s").await.as_deref(), Some("1"));
        took.push(begun.elapsed());
    }
    let report = scene.report();
    assert_eq!((report.errors - before, report.breaker), (5, Standing::Open), "{report:?}");
    assert!(took[..5].iter().all(|took| *took >= limit), "{took:?}");
    let (sick, after) = (took[..5].iter().max().unwrap(), took[5..].iter().max().unwrap());
    println!("frozen: at most {sick:.1?} a load while it is asked (limit {limit:?}), then at most {after:.1?}");
    // The rest is the store's own time, on a machine that may be busy.
    assert!(*sick < limit + Duration::from_secs(3), "{took:?}");
    for number in 2..10 {
        scene.save("s", &number.to_string()).await;
        assert_eq!(scene.load("s").await, Some(number.to_string()));
    }
    scene.redis.thaw();
    hits_again(&scene, "s").await;
    assert_eq!(scene.load("s").await.as_deref(), Some("9"), "not the version that it was frozen with");
    assert!(scene.report().outdated >= 1, "{:?}", scene.report());
}

#[tokio::test]
async fn one_that_is_flushed_in_the_middle_fills_again() {
    let Some(scene) = Scene::open().await else { return };
    for number in 0..50 {
        scene.save("s", &number.to_string()).await;
        if number % 7 == 0 {
            scene.redis.flush().await;
        }
        for _ in 0..2 {
            assert_eq!(scene.load("s").await, Some(number.to_string()));
        }
    }
    let report = scene.report();
    assert_eq!((report.hits, report.misses, report.errors), (92, 8, 0), "{report:?}");
}

#[tokio::test]
async fn one_that_comes_later_is_taken_up() {
    let Some(redis) = Redis::prepare() else { return };
    let mut scene = Scene::before(redis).await;
    scene.save("s", "early").await;
    assert_eq!(scene.load("s").await.as_deref(), Some("early"));
    assert!(scene.report().last_error.is_some());
    scene.redis.resume().await;
    hits_again(&scene, "s").await;
}

#[tokio::test]
async fn a_wrong_password_is_said_and_mended_without_a_restart() {
    let Some(redis) = Redis::prepare() else { return };
    let mut redis = redis.locked("right");
    redis.resume().await;
    let wrong = redis.url().replace("right", "hunter2");
    let scene = Scene::at(redis, &wrong, options()).await;
    for number in 0..10 {
        scene.save("s", &number.to_string()).await;
        assert_eq!(scene.load("s").await, Some(number.to_string()));
    }
    let report = scene.report();
    assert!(report.breaker != Standing::Closed, "{report:?}");
    let said = report.last_error.as_ref().map(|last| last.error.to_lowercase()).unwrap_or_default();
    assert!(said.contains("password"), "{said}");
    assert!(!format!("{report:?}").contains("hunter2"), "{report:?}");
    scene.redis.tell(&["config", "set", "requirepass", "hunter2"]).await;
    hits_again(&scene, "s").await;
}

#[tokio::test]
async fn one_that_takes_no_writes_is_read_and_says_so() {
    let Some(scene) = Scene::open().await else { return };
    scene.save("s", "1").await;
    scene.redis.tell(&["config", "set", "maxmemory", "1"]).await;
    scene.save("s", "2").await;
    assert!(!scene.report().takes_writes);
    for _ in 0..10 {
        assert_eq!(scene.load("s").await.as_deref(), Some("2"), "it still has version 1");
    }
    let report = scene.report();
    assert!(report.last_error.is_some_and(|last| last.error.contains("OOM")) && report.outdated == 10);
    scene.redis.tell(&["config", "set", "maxmemory", "0"]).await;
    hits_again(&scene, "s").await;
    assert!(scene.report().takes_writes);
}
