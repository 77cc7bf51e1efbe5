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

use super::{Error, Memory, Remembered, Specs, Stores};
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

    /// Keeps a version unless a newer one is there, or `unless` says no at the moment of writing.
    fn keep(&self, key: Key, memory: Remembered, unless: impl Fn() -> bool) {
        self.kept.entry(key).and_compute_with(|there| {
            let newer = there.is_some_and(|there| there.value().version >= memory.version);
            if newer || unless() { Op::Nop } else { Op::Put(memory) }
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
            self.keep(key.clone(), memory.clone(), || saves.load(Ordering::SeqCst) != before);
        }
        Ok(loaded)
    }

    async fn save(&self, agent: &AgentName, session: &str, over: u64, body: &str) -> Result<u64, Error> {
        let key = (agent.clone(), session.to_owned());
        let saved = self.behind.save(agent, session, over, body).await;
        // From here on no load that began before may keep what it found.
        self.saves(&key).fetch_add(1, Ordering::SeqCst);
        match &saved {
            Ok(version) => self.keep(key, Remembered { version: *version, body: body.into() }, || false),
            // A conflict: another version is there. Anything else: it may be.
            Err(_) => self.kept.invalidate(&key),
        }
        saved
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
