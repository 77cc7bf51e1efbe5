//! The cache in Redis, on the real binary, a real PostgreSQL and a real Redis: late, sick under load, flushed by a person.
//!
//! Another node is played by stores of the test's own on the same database: it saves memories, and whoever asks the node's
//! API must never be shown an older one than was saved before the question.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use troupe_runtime::postgres::{self, Database};
use troupe_runtime::store::tiers::{self, Tiers, tiered};
use troupe_runtime::store::{self, Stores};
use troupe_tests::Stage;
use troupe_tests::redis::Redis;
use troupe_tests::wait::{PATIENCE, until};

use super::crowd::Crowd;
use super::database;

const LIMIT: Duration = Duration::from_secs(30);
/// Commands a second.
const RATE: u32 = 50;
/// Sessions that are remembered.
const SESSIONS: usize = 24;
/// Whoever asks what is remembered.
const READERS: usize = 3;
/// Bytes of a memory: all of them together are more than the node keeps in its process, so that Redis is asked.
const MEMORY_BYTES: usize = 60_000;
/// A small cache in the process, and a Redis that is soon tried again.
const SETTINGS: &str = "store:\n  cache_bytes_max: 1 MiB\ncache:\n  rest: 500ms\n";

/// How long each sickness lasts.
fn fault() -> Duration {
    let long = std::env::var("TROUPE_CHAOS").is_ok_and(|how| how == "long");
    Duration::from_secs(if long { 10 } else { 1 })
}

/// Another node's way to the same memories.
async fn other_node(url: &str, redis: &Redis) -> (Stores, Tiers) {
    let database = Database::open(&url.into(), &postgres::Options::default()).await.expect("the database opens");
    let stores = store::postgres::stores(database, store::Options::default());
    let redis_url = Some(redis.url().into());
    tiered(stores, &tiers::Options { redis_url, ..tiers::Options::default() }).expect("an address")
}

async fn cache(stage: &Stage) -> Value {
    let (status, health) = stage.admin().get("/health").await;
    assert_eq!(status, 200, "a cache is no reason to be unhealthy: {health}");
    health["components"]["cache"].clone()
}

/// Waits until health says this of the cache; answers what it says.
async fn cache_is(stage: &Stage, wanted: &str) -> Value {
    until(&format!("a cache that is {wanted}"), PATIENCE, async || {
        Some(cache(stage).await).filter(|cache| cache["status"] == wanted)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_without_redis_takes_it_up_and_flushes_it() {
    let Some(redis) = Redis::prepare() else { return };
    let mut redis = redis.locked("hunter3");
    let Some((_server, mut stage, url)) = database::stage().await else { return };
    stage.set("REDIS_URL", &redis.url());
    let mut node = stage.start().await;
    let sick = cache_is(&stage, "degraded").await;
    assert_eq!((&sick["adapter"], &sick["hits"]), (&json!("redis"), &json!(0)), "{sick}");
    assert!(sick["place"].as_str().is_some_and(|place| place.starts_with("redis://127.0.0.1:")), "{sick}");
    assert!(sick["last_error"]["error"].is_string() && sick["error"].is_string(), "{sick}");
    let found = stage.run(&["doctor"], LIMIT).await;
    assert!(found.code == 3 && found.out.contains("check that it runs, REDIS_URL"), "{}\n{}", found.out, found.err);

    redis.resume().await;
    let well = cache_is(&stage, "healthy").await;
    assert_eq!(well["breaker"], "closed", "{well}");
    let found = stage.run(&["doctor"], LIMIT).await;
    assert!(found.out.contains("answers, Redis "), "{}\n{}", found.out, found.err);

    let (other, _tiers) = other_node(&url, &redis).await;
    let echo = "echo".parse().expect("a name");
    for session in ["a", "b", "c"] {
        other.memory.save(&echo, session, 0, "{\"said\":\"hello\"}").await.expect("a save");
    }
    let shown = stage.run(&["state", "show", "echo", "--session", "a"], LIMIT).await;
    assert!(shown.code == 0 && shown.out.contains("\"said\": \"hello\""), "{}\n{}", shown.out, shown.err);
    // Health is as it was a second ago, at worst.
    let hit = async || (cache(&stage).await["hits"] == 1).then_some(());
    until("a text from Redis", PATIENCE, hit).await;
    let flushed = stage.run(&["state", "flush", "echo", "-o", "json"], LIMIT).await;
    let report: Value = serde_json::from_str(&flushed.out).expect("a document");
    assert_eq!(report, json!({"agent": "echo", "dropped": {"in_process": 1, "redis": 3}}), "{}", flushed.err);
    assert_eq!(redis.tell(&["dbsize"]).await, "0");
    assert_eq!(stage.run(&["state", "show", "echo", "--session", "a"], LIMIT).await.code, 0, "it is still remembered");
    let metrics = stage.admin().text("/metrics").await;
    for line in [
        "troupe_cache_lookups_total{outcome=\"hit\",tier=\"redis\"} 1",
        "troupe_cache_lookups_total{outcome=\"miss\",tier=\"process\"} 2",
        "troupe_cache_breaker_open 0",
    ] {
        assert!(metrics.lines().any(|is| is == line), "no {line} in\n{metrics}");
    }
    redis.stop();
    let refused = stage.run(&["state", "flush", "echo"], LIMIT).await;
    assert!(refused.code == 1 && refused.err.contains("does no harm"), "{}: {}", refused.code, refused.err);
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
    for said in [node.log(), found.out, well.to_string(), metrics] {
        assert!(!said.contains("hunter3"), "a password is shown");
    }
}

/// What readers have seen.
#[derive(Default)]
struct Seen {
    reads: AtomicUsize,
    old: AtomicUsize,
    failed: AtomicUsize,
    slowest_us: AtomicU64,
    saves: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_a_redis_that_is_frozen_stopped_and_flushed_under_load_costs_nothing_but_time() {
    let Some(mut redis) = Redis::start().await else { return };
    let Some((_server, mut stage, url)) = database::stage().await else { return };
    let file = stage.path("node.yaml");
    stage.file("node.yaml", SETTINGS).set("TROUPE_CONFIG", &file.to_string_lossy()).set("REDIS_URL", &redis.url());
    let crowd = Crowd::gather(&mut stage).await;
    let node = stage.start().await;
    let (other, _tiers) = other_node(&url, &redis).await;
    let (floors, seen, enough) = ([const { AtomicU64::new(0) }; SESSIONS], Seen::default(), CancellationToken::new());
    for number in 0..SESSIONS {
        save(&other, &floors, number, &seen).await;
    }
    let (saving, reading) = (
        async {
            for number in (0..SESSIONS).cycle() {
                if enough.is_cancelled() {
                    break;
                }
                save(&other, &floors, number, &seen).await;
                sleep(Duration::from_millis(5)).await;
            }
        },
        join_all((0..READERS).map(|reader| read(&stage, &floors, reader, &seen, &enough))),
    );
    let begun = Instant::now();
    let sicken = async {
        sleep(fault()).await;
        redis.freeze();
        cache_is(&stage, "degraded").await;
        sleep(fault()).await;
        redis.thaw();
        cache_is(&stage, "healthy").await;
        redis.stop();
        cache_is(&stage, "degraded").await;
        sleep(fault()).await;
        redis.resume().await;
        cache_is(&stage, "healthy").await;
        for _ in 0..5 {
            redis.flush().await;
            sleep(fault() / 10).await;
        }
        enough.cancel();
    };
    let (posts, (), _, ()) = tokio::join!(crowd.keep_posting(&stage, RATE, enough.clone()), saving, reading, sicken);
    let took = begun.elapsed();
    let last = cache(&stage).await;
    let evidence = crowd.leave(&stage, node, posts).await;
    let count = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    println!(
        "Redis frozen, stopped, flushed within {took:.1?} under {RATE} commands/s: {} saves by another node, {} reads, {} old, \
         {} failed, slowest {:.1?}; the node's Redis: {} hits, {} misses, {} outdated, {} errors, {} skipped",
        count(&seen.saves),
        count(&seen.reads),
        count(&seen.old),
        count(&seen.failed),
        Duration::from_micros(seen.slowest_us.load(Ordering::SeqCst)),
        last["hits"],
        last["misses"],
        last["outdated"],
        last["errors"],
        last["skipped"],
    );
    evidence.holds();
    assert_eq!((count(&seen.old), count(&seen.failed)), (0, 0));
    assert!(count(&seen.reads) > 50 && count(&seen.saves) > 2 * SESSIONS, "too little was done");
    assert!(last["hits"].as_u64() > Some(0) && last["errors"].as_u64() > Some(0), "Redis was not asked: {last}");
}

/// Another node saves a memory.
async fn save(other: &Stores, floors: &[AtomicU64], number: usize, seen: &Seen) {
    let echo = "echo".parse().expect("a name");
    let over = floors[number].load(Ordering::SeqCst);
    let body = json!({"version": over + 1, "text": "x".repeat(MEMORY_BYTES)}).to_string();
    let saved = other.memory.save(&echo, &format!("s{number}"), over, &body).await.expect("a save");
    floors[number].store(saved, Ordering::SeqCst);
    seen.saves.fetch_add(1, Ordering::SeqCst);
}

/// Somebody who asks the node what it remembers, one session after the other.
async fn read(stage: &Stage, floors: &[AtomicU64], reader: usize, seen: &Seen, enough: &CancellationToken) {
    let admin = stage.admin();
    for number in (0..SESSIONS).cycle().skip(reader * SESSIONS / READERS) {
        if enough.is_cancelled() {
            return;
        }
        let floor = floors[number].load(Ordering::SeqCst);
        let begun = Instant::now();
        let (status, memory) = admin.get(&format!("/v1/state/echo/s{number}")).await;
        seen.slowest_us.fetch_max(begun.elapsed().as_micros() as u64, Ordering::SeqCst);
        if status != 200 {
            seen.failed.fetch_add(1, Ordering::SeqCst);
        } else if memory["version"].as_u64().unwrap_or(0) < floor || memory["version"] != memory["body"]["version"] {
            seen.old.fetch_add(1, Ordering::SeqCst);
        }
        seen.reads.fetch_add(1, Ordering::SeqCst);
    }
}
