//! The tiers before the store, against a real Redis: it may be well, away, frozen, flushed, stale, foreign, locked. No load
//! is ever answered by an older memory than was saved before it began, and none fails because of it.
//!
//! Each test has a server of its own. Without Redis it says `skipped`, and fails when `CI` is set.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test: what fails here fails it, and it says what it measured"
)]

#[path = "tiers/foreign.rs"]
mod foreign;
#[path = "tiers/race.rs"]
mod race;
#[path = "tiers/sick.rs"]
mod sick;
#[path = "tiers/suite.rs"]
mod suite;
#[path = "tiers/tls.rs"]
mod tls;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::sqlite::{self, Database};
use troupe_runtime::store::redis_cache::{Options, RedisMemory, Report};
use troupe_runtime::store::{self, Memory};
use troupe_tests::redis::Redis;

/// How long a server that has failed is left alone, in these tests.
const REST: Duration = Duration::from_millis(200);

/// A store in a file, and the tier in Redis before it.
struct Scene {
    redis: Redis,
    /// The store, by itself.
    store: Arc<dyn Memory>,
    tier: RedisMemory,
    _folder: TempDir,
}

impl Scene {
    async fn open() -> Option<Self> {
        Some(Self::before(Redis::start().await?).await)
    }

    async fn before(redis: Redis) -> Self {
        let url = redis.url();
        Self::at(redis, &url, options()).await
    }

    async fn at(redis: Redis, url: &str, options: Options) -> Self {
        troupe_tests::tls();
        let (folder, store) = stored().await;
        let tier = RedisMemory::new(store.clone(), &url.into(), options).expect("an address");
        Self { redis, store, tier, _folder: folder }
    }

    /// A memory of this text, over the one that is there.
    async fn save(&self, session: &str, body: &str) -> u64 {
        let there = self.store.load(&agent(), session).await.expect("the store").map_or(0, |memory| memory.version);
        self.tier.save(&agent(), session, there, body).await.expect("a save never fails because of Redis")
    }

    /// What is remembered.
    async fn load(&self, session: &str) -> Option<String> {
        let memory = self.tier.load(&agent(), session).await.expect("a load never fails because of Redis");
        memory.map(|memory| memory.body.to_string())
    }

    /// A save behind the tier's back, as a node does whose write-through is lost.
    async fn save_behind(&self, session: &str, body: &str) {
        let there = self.store.load(&agent(), session).await.expect("the store").map_or(0, |memory| memory.version);
        self.store.save(&agent(), session, there, body).await.expect("the store");
    }

    fn report(&self) -> Report {
        self.tier.report()
    }
}

/// A store in a file of its own, without anything before it.
async fn stored() -> (TempDir, Arc<dyn Memory>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let database = Database::open(folder.path(), &sqlite::Options::default()).await.expect("a file");
    (folder, store::sqlite::stores(database, store::Options::default()).memory)
}

fn options() -> Options {
    // What is counted must not depend on how busy the machine is; who tests the limit sets it.
    Options { rest: REST, answer_timeout: Duration::from_secs(2), ..Options::default() }
}

fn agent() -> AgentName {
    "support".parse().expect("a name")
}

fn key(session: &str) -> String {
    format!("troupe:memory:support:{session}")
}
