//! A bounded read cache in the process, in front of [`Memory`] and [`Specs`].
//!
//! What an agent remembers may change behind this node's back: another node saves it, a step's completion does, a save
//! goes on whose caller has stopped waiting, an operator restores a backup. So a kept memory is never an answer by
//! itself. Every load asks the store behind, and offers it what is kept ([`Memory::refresh`]): either that is still the
//! memory, by the row itself, or the answer brings the other one. What the cache saves is the text on its way, not
//! the question. Never written back, never a lock. Specs never change under their digest, and are kept as they are.
//!
//! [`super::tiers`] puts it before the stores, once. A full cache forgets; what fails is the store behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use moka::sync::Cache;
use serde::Serialize;

use super::{Error, Memory, Remembered, SessionFilter, SessionRow, Specs, Stores};
use crate::domain::agent::{AgentName, AgentSpec};

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

/// What came of the loads so far, and what is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was kept was the memory.
    pub hits: u64,
    /// Nothing was kept.
    pub misses: u64,
    /// What was kept was another version by then.
    pub outdated: u64,
    /// Memories that are kept.
    pub memories: u64,
    /// Their bytes.
    pub bytes: u64,
}

type Key = (AgentName, String);

/// Memories, the last known version of each.
pub struct CachedMemory {
    behind: Arc<dyn Memory>,
    kept: Cache<Key, Remembered>,
    hits: AtomicU64,
    misses: AtomicU64,
    outdated: AtomicU64,
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
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            outdated: AtomicU64::new(0),
        }
    }

    /// What came of the loads so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let [hits, misses, outdated] =
            [&self.hits, &self.misses, &self.outdated].map(|count| count.load(Ordering::Relaxed));
        let (memories, bytes) = (self.kept.entry_count(), self.kept.weighted_size());
        Report { hits, misses, outdated, memories, bytes }
    }

    /// Drops what is kept of an agent; answers how many memories that was.
    #[must_use]
    pub fn flush(&self, agent: &AgentName) -> u64 {
        let theirs: Vec<_> = self.kept.iter().map(|(key, _)| key).filter(|key| key.0 == *agent).collect();
        theirs.iter().filter(|key| self.kept.remove(&***key).is_some()).count() as u64
    }

    /// Keeps what the store has just said.
    fn keep(&self, key: Key, now: Option<&Remembered>) {
        match now {
            Some(memory) => self.kept.insert(key, memory.clone()),
            None => self.kept.invalidate(&key),
        }
    }
}

#[async_trait]
impl Memory for CachedMemory {
    async fn load(&self, agent: &AgentName, session: &str) -> Result<Option<Remembered>, Error> {
        let key = (agent.clone(), session.to_owned());
        let Some(known) = self.kept.get(&key) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            let now = self.behind.load(agent, session).await?;
            self.keep(key, now.as_ref());
            return Ok(now);
        };
        let now = self.behind.refresh(agent, session, known.clone()).await?;
        if now.as_ref().is_some_and(|now| now.is(&known)) {
            self.hits.fetch_add(1, Ordering::Relaxed);
        } else {
            self.outdated.fetch_add(1, Ordering::Relaxed);
            self.keep(key, now.as_ref());
        }
        Ok(now)
    }

    async fn refresh(&self, agent: &AgentName, session: &str, known: Remembered) -> Result<Option<Remembered>, Error> {
        let now = self.behind.refresh(agent, session, known).await?;
        self.keep((agent.clone(), session.to_owned()), now.as_ref());
        Ok(now)
    }

    async fn save(&self, agent: &AgentName, session: &str, over: u64, body: &str) -> Result<u64, Error> {
        let version = self.behind.save(agent, session, over, body).await?;
        self.keep((agent.clone(), session.to_owned()), Some(&Remembered::new(version, body)));
        Ok(version)
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

    #[tokio::test]
    async fn a_kept_memory_is_asked_for_again_and_its_text_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (database, stores) = opened(&dir).await;
        let cache = CachedMemory::new(stores.memory, &Options::default());
        cache.save(&support(), "s", 0, "{}").await.unwrap();
        let (first, second) = (cache.load(&support(), "s").await.unwrap(), cache.load(&support(), "s").await.unwrap());
        assert!(first.unwrap().is(&second.unwrap()), "the text was read again");
        assert_eq!(cache.load(&support(), "other").await.unwrap(), None);
        let Report { hits, misses, outdated, .. } = cache.report();
        assert_eq!((hits, misses, outdated), (2, 1, 0));
        // Without the store nobody knows whether it is still the one.
        database.close().await;
        assert!(cache.load(&support(), "s").await.is_err());
    }

    #[tokio::test]
    async fn a_save_behind_its_back_is_seen_by_the_next_load() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, stores) = opened(&dir).await;
        let here = CachedMemory::new(stores.memory.clone(), &Options::default());
        let there = CachedMemory::new(stores.memory, &Options::default());
        let version = here.save(&support(), "s", 0, "here").await.unwrap();
        there.save(&support(), "s", version, "there").await.unwrap();
        assert_eq!(&*here.load(&support(), "s").await.unwrap().unwrap().body, "there");
        assert!(matches!(here.save(&support(), "s", version, "late").await, Err(Error::Conflict(_))));
        assert_eq!(&*here.load(&support(), "s").await.unwrap().unwrap().body, "there");
        assert_eq!((here.report().hits, here.report().outdated), (1, 1));
    }

    #[tokio::test]
    async fn a_flush_drops_one_agent_s() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, stores) = opened(&dir).await;
        let cache = CachedMemory::new(stores.memory, &Options::default());
        let sales: AgentName = "sales".parse().unwrap();
        for (agent, session) in [(&support(), "a"), (&support(), "b"), (&sales, "a")] {
            cache.save(agent, session, 0, "{}").await.unwrap();
        }
        assert_eq!((cache.flush(&support()), cache.flush(&support())), (2, 0));
        for (agent, session) in [(&support(), "a"), (&support(), "b"), (&sales, "a")] {
            assert_eq!(&*cache.load(agent, session).await.unwrap().unwrap().body, "{}");
        }
        assert_eq!((cache.report().hits, cache.report().misses), (1, 2));
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
        let kept = cache.report().bytes;
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
