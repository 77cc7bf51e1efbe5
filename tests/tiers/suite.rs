//! The store's conformance suite on a file, through the cache in the process and the one in Redis; the same on a server is
//! in `tests/postgres.rs`.

use async_trait::async_trait;
use tempfile::TempDir;
use troupe_runtime::sqlite::{self, Database};
use troupe_runtime::store::conformance::{Cell, Harness, Raw, cases};
use troupe_runtime::store::tiers::{self, tiered};
use troupe_runtime::store::{self, Stores};
use troupe_tests::cells::InFile;
use troupe_tests::redis::Redis;

/// A folder of its own; what Redis has outlives a crash of the node.
struct Storage<'r> {
    folder: TempDir,
    redis: &'r Redis,
}

#[async_trait]
impl Harness for Storage<'_> {
    async fn open(&mut self) -> Result<Stores, String> {
        let database = Database::open(self.folder.path(), &sqlite::Options::default()).await;
        let stores = store::sqlite::stores(database.map_err(|e| e.to_string())?, store::Options::default());
        let redis_url = Some(self.redis.url().as_str().into());
        let tiers = tiers::Options { redis_url, ..tiers::Options::default() };
        tiered(stores, &tiers).map(|(stores, _)| stores).map_err(|error| error.to_string())
    }

    async fn peek(&mut self, cell: &Cell) -> Result<Raw, String> {
        InFile::open(self.folder.path()).await.peek(cell).await
    }

    async fn poke(&mut self, cell: &Cell, raw: &Raw) -> Result<bool, String> {
        // Redis may have the memory whole, and answers it as long as the row's own checksum fits: no damage is seen then.
        self.redis.flush().await;
        InFile::open(self.folder.path()).await.poke(cell, raw).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_does_what_every_store_does_behind_redis() {
    let Some(redis) = Redis::start().await else { return };
    let mut failed = Vec::new();
    for case in cases() {
        redis.flush().await;
        let mut storage = Storage { folder: tempfile::tempdir().unwrap(), redis: &redis };
        if let Err(what) = case.run(&mut storage).await {
            failed.push(format!("FAILED  {}: {what}", case.name));
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    let said = redis.tell(&["info", "commandstats"]).await;
    assert!(said.contains("cmdstat_eval:") && said.contains("cmdstat_getrange:"), "Redis was not asked: {said}");
}
