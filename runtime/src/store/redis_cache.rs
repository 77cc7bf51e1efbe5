//! Redis as a read cache of what agents remember (`agent_states`), shared by the nodes of one database.
//!
//! ```text
//! load   Redis: a value? ──► the store: is it still the memory? ──► yes: that is the answer, its text came from Redis
//!                                                             └──► no: the store's own; Redis is told
//! save   the store commits ──► Redis is told, by compare-and-set: an older version never takes a newer one's place
//! ```
//!
//! Redis only ever proposes. Every load asks the store behind in the same breath ([`Memory::refresh`]): a value counts
//! when version, size and checksum are those of the row at that moment. So it does not matter what Redis says, nor when:
//! what was flushed, lost, delayed, damaged, written by another version or by somebody else's database is a miss. Nothing
//! is ever written back, and nothing waits for anybody else: no lock is kept there.
//!
//! Nor does it matter whether Redis answers. An operation has [`Options::answer_timeout`]; after some failures in a row
//! a [breaker] leaves the server alone. Every failure is a miss and counted; none reaches the caller.
//! [`super::tiers`] puts it before the stores, behind the cache in the process: it is asked for what that one does not have.

mod breaker;
mod link;
mod value;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis::cmd;
use serde::Serialize;
use tokio::time::timeout;

pub use self::breaker::Standing;
pub use self::link::LastError;
use self::link::{Link, NoAnswer};
use super::{Error as StoreError, Memory, Remembered, SessionFilter, SessionRow, payload};
use crate::domain::agent::AgentName;
use crate::fault::{Fault, Faulty};
use crate::secret::SecretString;

/// Keys that one round of a flush looks at, about.
const SCAN_KEYS: usize = 1000;

/// Writes a value unless the same or a newer one is there. What is no value of ours is written over, and so is the very one
/// that was just refused: a version that is damaged, or another database's, or of another past of this one, may be any
/// number.
///
/// Keys: the memory's. Arguments: the value, its version, the head of the refused value or nothing, milliseconds to keep it.
const PUT: &str = "\
    local there = redis.pcall('GETRANGE', KEYS[1], 0, tonumber(ARGV[5]) - 1) \
    local head = string.sub(ARGV[1], 1, tonumber(ARGV[5])) \
    if type(there) == 'string' and #there == #head and string.sub(there, 1, 8) == string.sub(head, 1, 8) \
       and there ~= ARGV[3] then \
      local version = tonumber(string.sub(there, 9, 28)) \
      if there == head or (version and version > tonumber(ARGV[2])) then return 0 end \
    end \
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4]) \
    return 1";

/// Limits of the tier.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time that one operation may take, the wait for the connection included.
    pub answer_timeout: Duration,
    /// Time that connecting may take; nobody waits for it longer than for an operation.
    pub connect_timeout: Duration,
    /// Failures in a row after which the server is left alone.
    pub failures_max: u32,
    /// For how long.
    pub rest: Duration,
    /// How long a memory is kept that nobody saves.
    pub keep: Duration,
    /// Bytes of a memory that is kept; larger ones are read from the database.
    pub memory_bytes_max: usize,
    /// What the keys begin with.
    pub key_prefix: String,
    /// Time that a flush may take.
    pub flush_timeout: Duration,
    /// The authority that `rediss://` trusts instead of the system's, as a PEM file.
    pub tls_ca: Option<PathBuf>,
    /// When a memory is packed: as in the rows.
    pub payload: payload::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            answer_timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_secs(1),
            failures_max: 5,
            rest: Duration::from_secs(5),
            keep: Duration::from_hours(24),
            memory_bytes_max: 1024 * 1024,
            key_prefix: "troupe:".to_owned(),
            flush_timeout: Duration::from_secs(10),
            tls_ca: None,
            payload: payload::Options::default(),
        }
    }
}

/// Why there can be no such tier. A server that does not answer is no reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("REDIS_URL: {0}; expected redis://user:password@host:port/0, or rediss:// for TLS")]
    Address(String),
    /// The certificates cannot be read.
    #[error("cache.tls_ca: {path}: {cause}; name a readable PEM file")]
    Authority {
        /// Which file.
        path: String,
        /// Why.
        cause: String,
    },
    /// Nobody answers there, or not as a Redis that would have us. Only a look says so.
    #[error(
        "Redis {place}: {cause}; check that it runs, REDIS_URL, its password and certificates, and that scripts may run"
    )]
    Silent {
        /// Which, without the password.
        place: String,
        /// What went wrong.
        cause: String,
    },
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Address(_) | Self::Authority { .. } => Fault::Permanent,
            Self::Silent { .. } => Fault::transient(),
        }
    }
}

/// How the tier stands, and what came of the loads so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where the server is, without the password.
    pub place: String,
    /// Whether it is asked.
    pub breaker: Standing,
    /// Whether the last write that it answered was not refused.
    pub takes_writes: bool,
    /// A value was the memory.
    pub hits: u64,
    /// There was no value.
    pub misses: u64,
    /// A value was another version, or another database's.
    pub outdated: u64,
    /// Something was there that is no value of ours.
    pub unreadable: u64,
    /// Operations that failed or took too long.
    pub errors: u64,
    /// Operations that were left out because of that.
    pub skipped: u64,
    /// Memories that were written there.
    pub written: u64,
    /// What went wrong last.
    pub last_error: Option<LastError>,
}

/// What a look at a server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Where it is, without the password.
    pub place: String,
    /// Its version.
    pub version: String,
}

/// Memories, as far as Redis has them.
pub struct RedisMemory {
    behind: Arc<dyn Memory>,
    link: Link,
    options: Options,
    takes_writes: AtomicBool,
    hits: AtomicU64,
    misses: AtomicU64,
    outdated: AtomicU64,
    unreadable: AtomicU64,
    written: AtomicU64,
}

/// What was found in Redis.
enum Found {
    /// A memory, and the head of its value.
    Memory(Remembered, Vec<u8>),
    /// None: nothing, or nothing that can be read, which has a head too.
    Nothing(Vec<u8>),
    /// Nobody knows.
    NoAnswer,
}

impl RedisMemory {
    /// A tier before `behind`. Nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Authority`].
    pub fn new(behind: Arc<dyn Memory>, url: &SecretString, options: Options) -> Result<Self, Error> {
        Ok(Self {
            behind,
            link: Link::new(url, &options)?,
            options,
            takes_writes: AtomicBool::new(true),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            outdated: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            written: AtomicU64::new(0),
        })
    }

    /// Connects once, at once, and changes nothing.
    ///
    /// # Errors
    /// [`Error::Silent`], and those of [`RedisMemory::new`].
    pub async fn look(url: &SecretString, options: &Options) -> Result<Look, Error> {
        let (client, place) = link::addressed(url, options)?;
        match link::look(client, options.connect_timeout).await {
            Ok(version) => Ok(Look { place, version }),
            Err(cause) => Err(Error::Silent { place, cause }),
        }
    }

    /// Whether the server answers now; it is not asked while it is left alone.
    pub async fn ping(&self) -> bool {
        self.link.ask::<String>(&cmd("PING")).await.is_ok()
    }

    /// How the tier stands.
    #[must_use]
    pub fn report(&self) -> Report {
        let [hits, misses, outdated, unreadable, written] =
            [&self.hits, &self.misses, &self.outdated, &self.unreadable, &self.written]
                .map(|count| count.load(Ordering::Relaxed));
        Report {
            place: self.link.place().to_owned(),
            breaker: self.link.standing(),
            takes_writes: self.takes_writes.load(Ordering::Relaxed),
            hits,
            misses,
            outdated,
            unreadable,
            errors: self.link.errors(),
            skipped: self.link.skipped(),
            written,
            last_error: self.link.last_error(),
        }
    }

    /// Drops what Redis has of an agent; answers how many memories that was.
    ///
    /// # Errors
    /// Why not, or not all, as text. What is left does no harm.
    pub async fn flush(&self, agent: &AgentName) -> Result<u64, String> {
        let limit = self.options.flush_timeout;
        let flushed = timeout(limit, self.flush_all(agent)).await;
        let flushed = flushed.map_err(|_| format!("it took longer than {limit:?}"))?;
        flushed.map_err(|no_answer| match (no_answer, self.link.last_error()) {
            (NoAnswer::WrongType, _) | (_, None) => "no answer".to_owned(),
            (_, Some(last)) => last.error,
        })
    }

    async fn flush_all(&self, agent: &AgentName) -> Result<u64, NoAnswer> {
        let pattern = format!("{}*", pattern_of(&self.key(agent, "")));
        let (mut cursor, mut dropped) = (0_u64, 0);
        loop {
            let scan = cmd("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_KEYS).to_owned();
            let (next, keys): (u64, Vec<Vec<u8>>) = self.link.ask(&scan).await?;
            if !keys.is_empty() {
                dropped += self.link.ask::<u64>(cmd("UNLINK").arg(&keys)).await?;
            }
            if next == 0 {
                return Ok(dropped);
            }
            cursor = next;
        }
    }

    /// Names of agents hold no colon: keys of two memories are never the same.
    fn key(&self, agent: &AgentName, session: &str) -> String {
        format!("{}memory:{agent}:{session}", self.options.key_prefix)
    }

    async fn find(&self, key: &str) -> Found {
        // One byte more than a value may have tells that it has more.
        let bytes_max = self.options.memory_bytes_max + value::HEAD_BYTES;
        let value = match self.link.ask::<Vec<u8>>(cmd("GETRANGE").arg(key).arg(0).arg(bytes_max)).await {
            Ok(value) if value.is_empty() => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                return Found::Nothing(value);
            }
            Ok(value) => value,
            Err(NoAnswer::WrongType) => return self.unreadable(key, &[], "it is no string"),
            Err(NoAnswer::Skipped | NoAnswer::Refused | NoAnswer::Failed) => return Found::NoAnswer,
        };
        if value.len() > bytes_max {
            return self.unreadable(key, &value, "it is too long");
        }
        match value::decode(&value, self.options.memory_bytes_max) {
            Ok(memory) => Found::Memory(memory, value::head(&value).to_vec()),
            Err(why) => self.unreadable(key, &value, &why),
        }
    }

    fn unreadable(&self, key: &str, value: &[u8], why: &str) -> Found {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(key, why, "what lies in Redis is no value of this version");
        Found::Nothing(value::head(value).to_vec())
    }

    /// Has Redis keep a memory that the store has; `refused` is the head of what was there and was not the memory.
    async fn put(&self, key: &str, memory: &Remembered, refused: &[u8]) {
        // Nothing is packed for a server that is not asked.
        if self.link.standing() == Standing::Open {
            return;
        }
        let taken = if memory.body.len() > self.options.memory_bytes_max {
            self.link.ask::<i64>(cmd("UNLINK").arg(key)).await.map(|_| 0)
        } else {
            let Ok(value) = value::encode(memory, self.options.payload).await else { return };
            let keep = u64::try_from(self.options.keep.as_millis()).unwrap_or(u64::MAX);
            let mut put = cmd("EVAL");
            put.arg(PUT).arg(1).arg(key).arg(&value).arg(memory.version).arg(refused).arg(keep).arg(value::HEAD_BYTES);
            self.link.ask::<u64>(&put).await
        };
        match taken {
            Ok(written) => {
                self.takes_writes.store(true, Ordering::Relaxed);
                self.written.fetch_add(written, Ordering::Relaxed);
            }
            Err(NoAnswer::Refused) => self.takes_writes.store(false, Ordering::Relaxed),
            Err(NoAnswer::Skipped | NoAnswer::WrongType | NoAnswer::Failed) => {}
        }
    }
}

#[async_trait]
impl Memory for RedisMemory {
    async fn load(&self, agent: &AgentName, session: &str) -> Result<Option<Remembered>, StoreError> {
        let key = self.key(agent, session);
        let (known, refused) = match self.find(&key).await {
            Found::Memory(known, head) => (Some(known), head),
            Found::Nothing(head) => (None, head),
            Found::NoAnswer => return self.behind.load(agent, session).await,
        };
        let now = match &known {
            Some(known) => self.behind.refresh(agent, session, known.clone()).await?,
            None => self.behind.load(agent, session).await?,
        };
        let is_known = known.as_ref().zip(now.as_ref()).is_some_and(|(known, now)| now.is(known));
        if is_known {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(now);
        }
        if known.is_some() {
            self.outdated.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(now) = &now {
            self.put(&key, now, &refused).await;
        }
        Ok(now)
    }

    /// Somebody knows it already: Redis is of no use.
    async fn refresh(
        &self,
        agent: &AgentName,
        session: &str,
        known: Remembered,
    ) -> Result<Option<Remembered>, StoreError> {
        self.behind.refresh(agent, session, known).await
    }

    async fn save(&self, agent: &AgentName, session: &str, over: u64, body: &str) -> Result<u64, StoreError> {
        let version = self.behind.save(agent, session, over, body).await?;
        self.put(&self.key(agent, session), &Remembered::new(version, body), &[]).await;
        Ok(version)
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, StoreError> {
        self.behind.sessions(filter).await
    }
}

/// A text as a pattern that matches itself alone.
fn pattern_of(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests;
