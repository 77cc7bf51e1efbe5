//! The tiers before the store: the cache in the process, and Redis behind it where there is one.
//!
//! ```text
//! whoever loads ──► in the process ──► Redis (REDIS_URL) ──► the store, which decides in every case
//! ```
//!
//! [`crate::ports`] puts them before the stores, once. What the tiers keep can be dropped at any time, and nothing changes
//! but the time that a load takes.

use std::sync::Arc;

use serde::Serialize;

use super::cache::{self, CachedMemory, CachedSpecs};
use super::redis_cache::{self, RedisMemory};
use super::{Memory, Stores};
use crate::domain::agent::AgentName;
use crate::secret::SecretString;

/// Limits of the tiers.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Of the one in the process.
    pub process: cache::Options,
    /// Where Redis is, when there is one.
    pub redis_url: Option<SecretString>,
    /// Of the one in Redis.
    pub redis: redis_cache::Options,
}

/// The tiers, for whoever looks after them.
pub struct Tiers {
    process: Arc<CachedMemory>,
    redis: Option<Arc<RedisMemory>>,
}

/// How the tiers stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The one in the process.
    pub process: cache::Report,
    /// The one in Redis.
    pub redis: Option<redis_cache::Report>,
}

/// What was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    /// Memories of the one in the process.
    pub process: u64,
    /// Memories of the one in Redis, or why they are still there.
    pub redis: Option<Result<u64, String>>,
}

/// The same stores with memories and specs read through the tiers.
///
/// # Errors
/// The address of Redis is none; a server that does not answer is no error.
pub fn tiered(stores: Stores, options: &Options) -> Result<(Stores, Tiers), redis_cache::Error> {
    let redis = match &options.redis_url {
        Some(url) => Some(Arc::new(RedisMemory::new(stores.memory.clone(), url, options.redis.clone())?)),
        None => None,
    };
    let behind: Arc<dyn Memory> = match &redis {
        Some(redis) => redis.clone(),
        None => stores.memory.clone(),
    };
    let process = Arc::new(CachedMemory::new(behind, &options.process));
    let specs = Arc::new(CachedSpecs::new(stores.specs.clone(), &options.process));
    Ok((Stores { memory: process.clone(), specs, ..stores }, Tiers { process, redis }))
}

impl Tiers {
    /// How they stand; asks nobody.
    #[must_use]
    pub fn report(&self) -> Report {
        Report { process: self.process.report(), redis: self.redis.as_ref().map(|redis| redis.report()) }
    }

    /// Whether Redis answers, when there is one that is asked.
    pub async fn ping(&self) -> bool {
        match &self.redis {
            Some(redis) => redis.ping().await,
            None => true,
        }
    }

    /// Drops what this node and Redis keep of an agent's memories. What other nodes keep in their processes stays.
    pub async fn flush(&self, agent: &AgentName) -> Flushed {
        let redis = match &self.redis {
            Some(redis) => Some(redis.flush(agent).await),
            None => None,
        };
        Flushed { process: self.process.flush(agent), redis }
    }
}
