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
use std::sync::{Arc, Mutex, PoisonError};

use troupe_actors::watcher::Watch;
use troupe_runtime::config::{LivingSources, Loaded, NodeConfig, Problem, Problems, Stamp, load_agents};
use troupe_runtime::domain::agent::AgentSpec;
use troupe_runtime::secret::Secrets;

use super::dials::Dials;
use super::lacking::lacking;
use super::options;

/// What a running node's configuration is read from, and what it has an effect on.
#[derive(Debug)]
pub struct Upkeep {
    sources: LivingSources,
    secrets: Secrets,
    /// The settings that the node started with.
    config: NodeConfig,
    dials: Dials,
    /// How everything looked at the start, and what the folder gave; the watch takes it.
    begun: Mutex<Option<(Stamp, Loaded)>>,
}

impl Upkeep {
    /// For a node that starts with these settings. The stamp was taken before anything was read.
    #[must_use]
    pub fn new(
        sources: LivingSources,
        secrets: Secrets,
        (config, dials): (NodeConfig, Dials),
        begun: (Stamp, Loaded),
    ) -> Arc<Self> {
        Arc::new(Self { sources, secrets, config, dials, begun: Mutex::new(Some(begun)) })
    }

    /// What the node's parts look at.
    pub(super) const fn dials(&self) -> &Dials {
        &self.dials
    }

    /// A watch over all of it; the first one begins where the start has left off.
    pub(super) fn watch(self: &Arc<Self>) -> Watch {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (stamp, loaded) = begun.unwrap_or_else(|| (self.look(), self.read()));
        let (looking, reading) = (self.clone(), self.clone());
        Watch::new(move || looking.look(), move || reading.read(), options::watcher(&self.config), stamp, loaded)
    }

    fn look(&self) -> Stamp {
        let files = self.sources.files().into_iter().chain(self.secrets.files());
        Stamp::of_with(&self.config.agents.dir, files.collect())
    }

    /// Reads everything. An agent that lacks a secret is refused as if its file were broken.
    fn read(&self) -> Loaded {
        let (sources, mut problems) = self.sources.again(&self.secrets);
        let gone = self.secrets.renew();
        problems.extend(gone.iter().map(|gone| Problem::of(gone.path.display().to_string(), gone.to_string())));
        match NodeConfig::load(&sources, &self.secrets) {
            Ok(config) => {
                let turned = self.dials.turn(&config);
                problems.extend(turned.err().map(|error| Problem::of("SLACK_SIGNING_SECRET", error.to_string())));
            }
            Err(Problems(found)) => problems.extend(found),
        }
        let mut loaded = load_agents(&self.config.agents.dir, &self.config.agents);
        let lacks = |(spec, path): &(AgentSpec, PathBuf)| (path.clone(), lacking(spec, path, &self.secrets));
        let short: Vec<_> = loaded.agents.iter().map(lacks).filter(|(_, missing)| !missing.is_empty()).collect();
        for (path, missing) in short {
            loaded.refuse(&path, missing);
        }
        loaded.errors.extend(problems);
        loaded
    }
}
