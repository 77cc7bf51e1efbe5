//! Two nodes on one PostgreSQL and one Redis, saving and loading the same memories at once while Redis is flushed and the
//! lines to it are cut, slow and silent: no load answers an older version than was saved before it began.
//!
//! The same with the question taken out that makes it so: then old versions are answered, else the test proves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::postgres::{self, Database};
use troupe_runtime::store::redis_cache::Options;
use troupe_runtime::store::tiers::{self, Tiers, tiered};
use troupe_runtime::store::{self, Error, Memory, Remembered, SessionFilter, SessionRow, Stores, cache};
use troupe_tests::postgres::Postgres;
use troupe_tests::proxy::{Flow, Proxy};
use troupe_tests::redis::Redis;
use troupe_tests::seed;

use super::{agent, options};

const SESSIONS: usize = 6;
/// Whoever saves and loads, on each node.
const WORKERS: usize = 4;
/// What each of them does.
const OPERATIONS: usize = 500;

/// The store, believed to be as somebody remembers it: the question left out.
struct Credulous(Arc<dyn Memory>);

#[async_trait]
impl Memory for Credulous {
    async fn load(&self, agent: &AgentName, session: &str) -> Result<Option<Remembered>, Error> {
        self.0.load(agent, session).await
    }

    async fn refresh(&self, _: &AgentName, _: &str, known: Remembered) -> Result<Option<Remembered>, Error> {
        Ok(Some(known))
    }

    async fn save(&self, agent: &AgentName, session: &str, over: u64, body: &str) -> Result<u64, Error> {
        self.0.save(agent, session, over, body).await
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, Error> {
        self.0.sessions(filter).await
    }
}

/// What was seen of it.
#[derive(Default)]
struct Seen {
    loads: AtomicUsize,
    saves: AtomicUsize,
    conflicts: AtomicUsize,
    /// Loads that answered an older version than was saved before they began.
    old: AtomicUsize,
    /// Loads whose text is not their version's.
    mixed: AtomicUsize,
    failed: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_shown_an_older_memory_than_was_saved_anywhere() {
    let Some((seen, tiers)) = race(false).await else { return };
    let count = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    let (loads, saves, conflicts) = (count(&seen.loads), count(&seen.saves), count(&seen.conflicts));
    println!(
        "{loads} loads, {saves} saves, {conflicts} conflicts, {} old, {} failed",
        count(&seen.old),
        count(&seen.failed)
    );
    let mut from_redis = 0;
    for (node, tiers) in tiers {
        let report = tiers.report();
        println!("{node}: {report:?}");
        assert!(report.process.hits > 0 && report.process.outdated > 0, "{node} proves little");
        from_redis += report.redis.unwrap().hits;
    }
    assert!(from_redis > 0, "Redis was of no use to anybody");
    assert_eq!((count(&seen.old), count(&seen.mixed), count(&seen.failed)), (0, 0, 0));
    assert!(loads + saves + conflicts >= 2 * WORKERS * OPERATIONS && saves > 500, "too little was done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_question_old_memories_are_shown() {
    let Some((seen, _)) = race(true).await else { return };
    let old = seen.old.load(Ordering::SeqCst);
    println!("without the question {old} of {} loads were old", seen.loads.load(Ordering::SeqCst));
    assert!(old > 0, "the race would not notice");
}

/// Has two nodes do their work; answers what was seen.
async fn race(credulous: bool) -> Option<(Arc<Seen>, BTreeMap<&'static str, Tiers>)> {
    let (Some(redis), Some(server)) = (Redis::start().await, postgres().await) else { return None };
    let url = server.create("race").await;
    let proxy = Proxy::start(redis.port()).await;
    let (_, mut rng) = seed::seeded("two nodes and one Redis");
    let (mut nodes, mut all_tiers) = (Vec::new(), BTreeMap::new());
    for (name, redis_url) in [("one", redis.url()), ("two", redis.through(&proxy))] {
        let database = Database::open(&url.as_str().into(), &postgres::Options::default()).await.unwrap();
        let mut stores = store::postgres::stores(database, store::Options::default());
        if credulous {
            stores.memory = Arc::new(Credulous(stores.memory));
        }
        let redis = Options { answer_timeout: Duration::from_millis(50), rest: Duration::from_millis(20), ..options() };
        // Small, so that it forgets and Redis is asked.
        let process = cache::Options { memory_bytes_max: 400, ..cache::Options::default() };
        let (stores, tiers) =
            tiered(stores, &tiers::Options { process, redis_url: Some(redis_url.into()), redis }).unwrap();
        nodes.push(stores);
        all_tiers.insert(name, tiers);
    }
    let (seen, floors) = (Arc::new(Seen::default()), Arc::new([const { AtomicU64::new(0) }; SESSIONS]));
    let done = CancellationToken::new();
    let workers: Vec<_> = nodes
        .iter()
        .flat_map(|node| (0..WORKERS).map(move |_| node.clone()))
        .map(|node| tokio::spawn(work(node, floors.clone(), seen.clone(), StdRng::seed_from_u64(rng.random()))))
        .collect();
    let disturbing = async {
        while !done.is_cancelled() {
            match rng.random_range(0..6) {
                0 => redis.flush().await,
                1 => proxy.cut(),
                2 => proxy.flows(Flow::Delay(Duration::from_millis(rng.random_range(1..80)))),
                3 => proxy.flows(Flow::Swallow),
                _ => proxy.pass(),
            }
            tokio::time::sleep(Duration::from_millis(rng.random_range(1..60))).await;
        }
    };
    let working = async {
        for worker in workers {
            worker.await.unwrap();
        }
        done.cancel();
    };
    tokio::join!(disturbing, working);
    Some((seen, all_tiers))
}

async fn work(node: Stores, floors: Arc<[AtomicU64; SESSIONS]>, seen: Arc<Seen>, mut rng: StdRng) {
    for _ in 0..OPERATIONS {
        let number = rng.random_range(0..SESSIONS);
        let (session, floor) = (format!("s{number}"), &floors[number]);
        let saved_before = floor.load(Ordering::SeqCst);
        let Ok(loaded) = node.memory.load(&agent(), &session).await else {
            seen.failed.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        seen.loads.fetch_add(1, Ordering::SeqCst);
        let version = loaded.as_ref().map_or(0, |memory| memory.version);
        if version < saved_before {
            seen.old.fetch_add(1, Ordering::SeqCst);
        }
        if loaded.is_some_and(|memory| !memory.body.starts_with(&format!("{{\"version\":{version},"))) {
            seen.mixed.fetch_add(1, Ordering::SeqCst);
        }
        if rng.random_bool(0.4) {
            let body = format!("{{\"version\":{},\"by\":{}}}", version + 1, rng.random_range(0..1000));
            match node.memory.save(&agent(), &session, version, &body).await {
                Ok(version) => {
                    floor.fetch_max(version, Ordering::SeqCst);
                    seen.saves.fetch_add(1, Ordering::SeqCst);
                }
                Err(Error::Conflict(_)) => drop(seen.conflicts.fetch_add(1, Ordering::SeqCst)),
                Err(_) => drop(seen.failed.fetch_add(1, Ordering::SeqCst)),
            }
        }
    }
}

async fn postgres() -> Option<Postgres> {
    let server = Postgres::start().await;
    if server.is_none() {
        assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
        println!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
    }
    server
}
