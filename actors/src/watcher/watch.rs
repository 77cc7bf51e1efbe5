//! What is watched, and what the watcher must remember from life to life: how the folder of agents is looked at and read, the
//! last good version of each agent, what was wrong at the start.
//!
//! Made by whoever starts the node, a part of the [limits](crate::stage::Options) of the acting side; read by the
//! [watcher](crate::watcher) alone. What blocks is done on a thread for that.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::ActorProcessingErr;
use tokio::task::spawn_blocking;
use troupe_runtime::config::{LastGood, Loaded, Stamp, Wanted};
use troupe_runtime::live::Live;

/// When the folder is looked at and read.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often it is looked at.
    pub look_every: Duration,
    /// How long it must rest after a change before it is read.
    pub settle: Duration,
    /// It is read after so much time although it does not rest.
    pub settle_max: Duration,
    /// How often it is read although nothing seems to have changed.
    pub reread_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            look_every: Duration::from_millis(200),
            settle: Duration::from_millis(250),
            settle_max: Duration::from_secs(1),
            reread_every: Duration::from_mins(1),
        }
    }
}

/// What is watched, and what is remembered of it. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Watch {
    /// Looks at the folder from outside.
    look: Arc<dyn Fn() -> Stamp + Send + Sync>,
    /// Reads it.
    read: Arc<dyn Fn() -> Loaded + Send + Sync>,
    options: Live<Options>,
    memory: Arc<Mutex<Memory>>,
}

struct Memory {
    good: LastGood,
    /// What is wrong with the folder as it was read at the start.
    problems: Vec<String>,
    /// How it looked then; the first life takes it.
    stamp: Option<Stamp>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Watch {
    /// A watch over a folder that gave `loaded` at the start, when it looked like `stamp` at the latest.
    pub fn new(
        look: impl Fn() -> Stamp + Send + Sync + 'static,
        read: impl Fn() -> Loaded + Send + Sync + 'static,
        options: impl Into<Live<Options>>,
        stamp: Stamp,
        loaded: Loaded,
    ) -> Self {
        let mut good = LastGood::default();
        let problems = good.take_in(loaded).problems.iter().map(ToString::to_string).collect();
        let memory = Arc::new(Mutex::new(Memory { good, problems, stamp: Some(stamp) }));
        Self { look: Arc::new(look), read: Arc::new(read), options: options.into(), memory }
    }

    /// What was wrong with the folder at the start.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.remember(|memory| memory.problems.clone())
    }

    /// When it is looked at and read, as that is set now.
    pub(super) fn options(&self) -> Arc<Options> {
        self.options.get()
    }

    /// How the folder looked at the start; only the first who asks is told.
    pub(super) fn first_stamp(&self) -> Option<Stamp> {
        self.remember(|memory| memory.stamp.take())
    }

    /// Looks at the folder.
    pub(super) async fn look(&self) -> Result<Stamp, ActorProcessingErr> {
        let look = self.look.clone();
        Ok(spawn_blocking(move || look()).await?)
    }

    /// Reads it: what is wanted by it, the last good version for what is broken.
    pub(super) async fn read(&self) -> Result<Wanted, ActorProcessingErr> {
        let watch = self.clone();
        let read = move || {
            let loaded = (watch.read)();
            watch.remember(|memory| memory.good.take_in(loaded))
        };
        Ok(spawn_blocking(read).await?)
    }

    fn remember<T>(&self, act: impl FnOnce(&mut Memory) -> T) -> T {
        act(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
