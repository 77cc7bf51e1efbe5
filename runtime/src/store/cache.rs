//! A bounded read cache in the process, in front of [`Memory`] and [`Specs`].
//!
//! It is never written back and never a lock: every save goes to the store first, and the version that the store
//! checks is what decides. A memory is kept with its version and is replaced by a newer one only; a load that was
//! under way while the same memory was saved is answered but not kept, so that nobody is shown an older version than
//! was saved through here. A save of another node, or one whose caller did not wait for it, is noticed at the next
//! conflict, which drops the kept version.
//! [`crate::ports`] wraps the stores once; a full cache forgets, and what fails is the store behind it.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use moka::ops::compute::Op;
use moka::sync::Cache;

use super::{Error, Memory, Remembered, SessionFilter, SessionRow, Specs, Stores};
use crate::domain::agent::{AgentName, AgentSpec};

/// Counters of saves: keys share them by hash, so that a busy agent rarely disturbs another.
const SAVE_COUNTERS: usize = 64;

/// Limits of the cache.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of all kept memories.
    pub memory_bytes_max: u64,
    /// Kept specs.
    pub specs_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory_bytes_max: 16 * 1024 * 1024, specs_max: 1000 }
    }
}

/// The same stores with memories and specs read through a cache.
#[must_use]
pub fn cached(stores: Stores, options: &Options) -> Stores {
    Stores {
        memory: Arc::new(CachedMemory::new(stores.memory, options)),
        specs: Arc::new(CachedSpecs::new(stores.specs, options)),
        ..stores
    }
}

type Key = (AgentName, String);

/// Memories, the newest known version of each.
pub struct CachedMemory {
    behind: Arc<dyn Memory>,
    kept: Cache<Key, Remembered>,
    /// Saves begun and ended, by the hash of the key.
    saves: [AtomicU64; SAVE_COUNTERS],
    hasher: RandomState,
}

impl CachedMemory {
    /// A cache before `behind`.
    #[must_use]
    pub fn new(behind: Arc<dyn Memory>, options: &Options) -> Self {
        let bytes = |(agent, session): &Key, memory: &Remembered| {
            u32::try_from(agent.as_str().len() + session.len() + memory.body.len() + 64).unwrap_or(u32::MAX)
        };
        Self {
            behind,
            kept: Cache::builder().name("memory").max_capacity(options.memory_bytes_max).weigher(bytes).build(),
            saves: std::array::from_fn(|_| AtomicU64::new(0)),
            hasher: RandomState::new(),
        }
    }

    fn saves(&self, key: &Key) -> &AtomicU64 {
        &self.saves[(self.hasher.hash_one(key) as usize) % SAVE_COUNTERS]
    }

    /// Keeps a version unless a newer one is there. Over an older one always: what was found must not be followed by what
    /// came before it. Over none only if `absent` allows it at the moment of writing: a newer one may have come and gone.
    fn keep(&self, key: Key, memory: Remembered, absent: impl Fn() -> bool) {
        self.kept.entry(key).and_compute_with(|there| match there {
            Some(there) if there.value().version >= memory.version => Op::Nop,
            None if !absent() => Op::Nop,
            _ => Op::Put(memory),
        });
    }
}

#[async_trait]
impl Memory for CachedMemory {
    async fn load(&self, agent: &AgentName, session: &str) -> Result<Option<Remembered>, Error> {
        let key = (agent.clone(), session.to_owned());
        if let Some(memory) = self.kept.get(&key) {
            return Ok(Some(memory));
        }
        let before = self.saves(&key).load(Ordering::SeqCst);
        let loaded = self.behind.load(agent, session).await?;
        if let Some(memory) = &loaded {
            let saves = self.saves(&key);
            self.keep(key.clone(), memory.clone(), || saves.load(Ordering::SeqCst) == before);
        }
        Ok(loaded)
    }

    async fn save(&self, agent: &AgentName, session: &str, over: u64, body: &str) -> Result<u64, Error> {
        let key = (agent.clone(), session.to_owned());
        let saved = self.behind.save(agent, session, over, body).await;
        // From here on no load that began before may keep what it found.
        self.saves(&key).fetch_add(1, Ordering::SeqCst);
        match &saved {
            Ok(version) => self.keep(key, Remembered { version: *version, body: body.into() }, || true),
            // A conflict: another version is there. Anything else: it may be.
            Err(_) => self.kept.invalidate(&key),
        }
        saved
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, Error> {
        self.behind.sessions(filter).await
    }
}

/// Specs, which never change under their digest.
pub struct CachedSpecs {
    behind: Arc<dyn Specs>,
    kept: Cache<String, Arc<AgentSpec>>,
}

impl CachedSpecs {
    /// A cache before `behind`.
    #[must_use]
    pub fn new(behind: Arc<dyn Specs>, options: &Options) -> Self {
        Self { behind, kept: Cache::builder().name("specs").max_capacity(options.specs_max).build() }
    }
}

#[async_trait]
impl Specs for CachedSpecs {
    async fn keep(&self, spec: &AgentSpec) -> Result<String, Error> {
        let digest = spec.digest();
        if !self.kept.contains_key(&digest) {
            self.behind.keep(spec).await?;
            self.kept.insert(digest.clone(), Arc::new(spec.clone()));
        }
        Ok(digest)
    }

    async fn spec(&self, digest: &str) -> Result<Option<AgentSpec>, Error> {
        if let Some(spec) = self.kept.get(digest) {
            return Ok(Some((*spec).clone()));
        }
        let found = self.behind.spec(digest).await?;
        if let Some(spec) = &found {
            self.kept.insert(digest.to_owned(), Arc::new(spec.clone()));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::sqlite::{self, Database};
    use crate::store::sqlite as adapter;

    async fn opened(dir: &tempfile::TempDir) -> (Database, Stores) {
        let database = Database::open(dir.path(), &sqlite::Options::default()).await.unwrap();
        (database.clone(), adapter::stores(database, crate::store::Options::default()))
    }

    fn support() -> AgentName {
        "support".parse().unwrap()
    }

    /// The store, but what a load has found arrives only when the test says so.
    struct Held {
        store: Arc<dyn Memory>,
        found: Notify,
        go: Notify,
    }

    #[async_trait]
    impl Memory for Held {
        async fn load(&self, agent: &AgentName, session: &str) -> Result<Option<Remembered>, Error> {
            let loaded = self.store.load(agent, session).await;
            self.found.notify_one();
            self.go.notified().await;
            loaded
        }

        async fn save(&self, agent: &AgentName, session: &str, over: u64, body: &str) -> Result<u64, Error> {
            self.store.save(agent, session, over, body).await
        }

        async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, Error> {
            self.store.sessions(filter).await
        }
    }

    #[tokio::test]
    async fn a_load_that_a_save_has_overtaken_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, stores) = opened(&dir).await;
        let version = stores.memory.save(&support(), "s", 0, "old").await.unwrap();
        let held = Arc::new(Held { store: stores.memory, found: Notify::new(), go: Notify::new() });
        let cache = Arc::new(CachedMemory::new(held.clone(), &Options::default()));

        let slow = tokio::spawn({
            let cache = cache.clone();
            async move { cache.load(&support(), "s").await }
        });
        held.found.notified().await;
        cache.save(&support(), "s", version, "new").await.unwrap();
        // The new version is forgotten, as in a full cache: the counter alone must keep the old one out.
        cache.kept.invalidate(&(support(), "s".to_owned()));
        held.go.notify_one();
        assert_eq!(&*slow.await.unwrap().unwrap().unwrap().body, "old", "it began before the save");

        held.go.notify_one();
        assert_eq!(&*cache.load(&support(), "s").await.unwrap().unwrap().body, "new");
    }

    #[tokio::test]
    async fn what_was_found_replaces_an_older_version_that_was_kept_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, stores) = opened(&dir).await;
        let first = stores.memory.save(&support(), "s", 0, "first").await.unwrap();
        let second = stores.memory.save(&support(), "s", first, "second").await.unwrap();
        let held = Arc::new(Held { store: stores.memory, found: Notify::new(), go: Notify::new() });
        let cache = Arc::new(CachedMemory::new(held.clone(), &Options::default()));
        let slow = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { cache.load(&support(), "s").await }
        });
        held.found.notified().await;
        // The save of the first version ends only now, while that of the second is committed and has not ended.
        let key = (support(), "s".to_owned());
        cache.saves(&key).fetch_add(1, Ordering::SeqCst);
        cache.keep(key, Remembered { version: first, body: "first".into() }, || true);
        held.go.notify_one();
        assert_eq!(slow.await.unwrap().unwrap().unwrap().version, second);
        assert_eq!(cache.load(&support(), "s").await.unwrap().unwrap().version, second, "older than what was shown");
    }

    #[tokio::test]
    async fn a_kept_memory_is_not_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let (database, stores) = opened(&dir).await;
        let stores = cached(stores, &Options::default());
        let version = stores.memory.save(&support(), "s", 0, "{}").await.unwrap();
        database.close().await;
        let kept = stores.memory.load(&support(), "s").await.unwrap();
        assert_eq!(kept, Some(Remembered { version, body: "{}".into() }));
        assert!(stores.memory.load(&support(), "other").await.is_err());
    }

    #[tokio::test]
    async fn a_save_of_another_node_is_noticed_at_the_conflict() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, stores) = opened(&dir).await;
        let here = CachedMemory::new(stores.memory.clone(), &Options::default());
        let there = CachedMemory::new(stores.memory, &Options::default());
        let version = here.save(&support(), "s", 0, "here").await.unwrap();
        there.save(&support(), "s", version, "there").await.unwrap();
        let over_old = here.save(&support(), "s", version, "late").await;
        assert!(matches!(over_old, Err(Error::Conflict(_))));
        assert_eq!(&*here.load(&support(), "s").await.unwrap().unwrap().body, "there");
    }

    #[tokio::test]
    async fn a_full_cache_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, stores) = opened(&dir).await;
        let cache = CachedMemory::new(stores.memory, &Options { memory_bytes_max: 4096, ..Options::default() });
        for number in 0..100 {
            cache.save(&support(), &number.to_string(), 0, &"x".repeat(200)).await.unwrap();
        }
        cache.kept.run_pending_tasks();
        let kept = cache.kept.weighted_size();
        assert!((200..=4096).contains(&kept), "{kept}");
        assert_eq!(cache.load(&support(), "0").await.unwrap().unwrap().body.len(), 200);
    }

    #[tokio::test]
    async fn a_spec_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let (database, stores) = opened(&dir).await;
        let stores = cached(stores, &Options::default());
        let spec: AgentSpec = serde_json::from_value(serde_json::json!({
            "name": "writer", "type": "t", "execution_mode": "autonomous", "runs_as": "autonomous", "models": [],
            "instructions": "", "subscriptions": [], "instances": 1, "tools": [], "permissions": [], "retries": 2,
            "limits": {"turns": 1, "tokens": 1, "timeout": {"secs": 1, "nanos": 0}}, "reply": "none",
            "restart": {"max": 3, "window": {"secs": 60, "nanos": 0}},
        }))
        .unwrap();
        let digest = stores.specs.keep(&spec).await.unwrap();
        let operations = database.writer().written().operations;
        assert_eq!(stores.specs.keep(&spec).await.unwrap(), digest);
        assert_eq!(database.writer().written().operations, operations);
        database.close().await;
        assert_eq!(stores.specs.spec(&digest).await.unwrap(), Some(spec));
    }
}
