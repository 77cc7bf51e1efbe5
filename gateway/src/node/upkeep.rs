//! The upkeep of a node: reads its configuration again when any file of it is another one, and gives each change its effect.
//!
//! ```text
//!               ┌ .env, node file ─► variables, settings ─► dials
//! watcher ─► read ─ secret files ──► values of the next call
//!               └ folder of agents ─► roster (the watcher's own)
//! ```
//!
//! Made by `up`, asked by the [watcher](troupe_actors::watcher) on threads that may wait. What is wrong changes nothing of what it
//! stands for and is told with the problems of the folder: in the log, and in `/health` → `components.config`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use troupe_actors::watcher::Watch;
use troupe_runtime::config::{
    Kept, LivingSources, Loaded, NodeConfig, NodeKey, Problem, Problems, Stamp, load_agents_again,
};
use troupe_runtime::domain::agent::AgentSpec;
use troupe_runtime::secret::Secrets;
use troupe_runtime::telemetry::logs::Filter;

use super::dials::Dials;
use super::lacking::lacking;

/// What a running node's configuration is read from, and what it has an effect on.
#[derive(Debug)]
pub struct Upkeep {
    sources: LivingSources,
    secrets: Secrets,
    /// The settings that the node started with.
    started: NodeConfig,
    dials: Dials,
    /// Where the filter of the log is changed; nothing to be changed without one.
    log: OnceLock<Filter>,
    now: Mutex<Now>,
    /// How everything looked at the start, and what the folder gave; the watch takes it.
    begun: Mutex<Option<(Stamp, Loaded)>>,
    /// What the files of the folder gave.
    kept: Mutex<Kept>,
}

/// What was read last.
#[derive(Debug)]
struct Now {
    config: NodeConfig,
    /// Keys that are set otherwise than at the start, and wait for a restart.
    waiting: Vec<String>,
}

impl Upkeep {
    /// For a node that starts with these settings. The stamp was taken before anything was read.
    #[must_use]
    pub fn new(
        sources: LivingSources,
        secrets: Secrets,
        (config, dials): (NodeConfig, Dials),
        (stamp, loaded, kept): (Stamp, Loaded, Kept),
    ) -> Arc<Self> {
        let (started, now) = (config.clone(), Mutex::new(Now { config, waiting: Vec::new() }));
        let (begun, kept) = (Mutex::new(Some((stamp, loaded))), Mutex::new(kept));
        Arc::new(Self { sources, secrets, started, dials, log: OnceLock::new(), now, begun, kept })
    }

    /// Has changes of `log.filter` their effect there; the first one counts.
    pub fn logs_with(&self, filter: Filter) {
        self.log.set(filter).ok();
    }

    /// What the node's parts look at.
    pub(super) const fn dials(&self) -> &Dials {
        &self.dials
    }

    /// Keys whose change waits for a restart.
    pub(super) fn needs_restart(&self) -> Vec<String> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).waiting.clone()
    }

    /// A watch over all of it; the first one begins where the start has left off.
    pub(super) fn watch(self: &Arc<Self>) -> Watch {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (stamp, loaded) = begun.unwrap_or_else(|| (self.look(), self.read()));
        let (looking, reading) = (self.clone(), self.clone());
        Watch::new(move || looking.look(), move || reading.read(), self.dials.watcher.clone(), stamp, loaded)
    }

    fn look(&self) -> Stamp {
        let files = self.sources.files().into_iter().chain(self.secrets.files());
        Stamp::of_with(&self.started.agents.dir, files.collect())
    }

    /// Reads everything. An agent that lacks a secret is refused as if its file were broken.
    fn read(&self) -> Loaded {
        let (sources, mut problems) = self.sources.again(&self.secrets);
        let gone = self.secrets.renew();
        problems.extend(gone.iter().map(|gone| Problem::of(gone.path.display().to_string(), gone.to_string())));
        match NodeConfig::load(&sources, &self.secrets) {
            Ok(config) => problems.extend(self.turn(config)),
            Err(Problems(found)) => problems.extend(found),
        }
        let limits = self.dials.agents.get();
        let mut loaded = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.age() >= self.dials.watcher.get().reread_every {
                kept.forget();
            }
            load_agents_again(&limits.dir, &limits, &mut kept)
        };
        let lacks = |(spec, path): &(Arc<AgentSpec>, PathBuf)| (path.clone(), lacking(spec, path, &self.secrets));
        let short: Vec<_> = loaded.agents.iter().map(lacks).filter(|(_, missing)| !missing.is_empty()).collect();
        for (path, missing) in short {
            loaded.refuse(&path, missing);
        }
        loaded.errors.extend(problems);
        loaded
    }

    /// Gives good settings their effect, as far as they have one now; answers what is wrong with them after all.
    fn turn(&self, config: NodeConfig) -> Option<Problem> {
        if let Err(error) = self.log.get().map_or(Ok(()), |log| log.set(&config.log.filter)) {
            return Some(Problem::of("log.filter", error.to_string()));
        }
        if let Err(error) = self.dials.turn(&config) {
            return Some(Problem::of("SLACK_SIGNING_SECRET", error.to_string()));
        }
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let live = |keys: Vec<NodeKey>, live| -> Vec<String> {
            keys.into_iter().filter(|key| key.live == live).map(|key| key.key).collect()
        };
        for key in live(now.config.differences(&config), true) {
            tracing::info!(key, "a setting has changed");
        }
        let waiting = live(self.started.differences(&config), false);
        for key in waiting.iter().filter(|key| !now.waiting.contains(*key)) {
            tracing::warn!(key, "a changed setting needs a restart of the node");
        }
        *now = Now { config, waiting };
        None
    }
}
