//! Which pool an agent is in: each mode has as many pools as its agents need, none with more children than a supervisor is to
//! have.
//!
//! ```text
//!   autonomous      the first pool of the mode, always there
//!   autonomous-2    the next one, once the first has no room for an agent
//!   autonomous-3    …
//! ```
//!
//! An agent is put into the first pool that has room for all of its children and stays there while it has its mode and the
//! pool its room; so a change of one agent moves nobody else. Kept by the [roster](super::Roster) under its lock, so a pool
//! that reads whom it has and a recovery that asks where somebody is see one and the same. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use troupe_runtime::domain::agent::{AgentSpec, ExecutionMode};

/// One of the pools of a mode; shown as its segment in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId {
    /// The mode whose runs it does.
    pub mode: ExecutionMode,
    /// Which of them, from 1.
    pub number: u32,
}

/// Who is where.
#[derive(Debug, Default)]
pub(super) struct Allotment {
    children_max: usize,
    places: BTreeMap<String, Place>,
    pools: BTreeMap<PoolId, Taken>,
}

/// An agent's place.
#[derive(Debug, Clone, Copy)]
struct Place {
    pool: PoolId,
    children: usize,
}

/// What is taken of a pool.
#[derive(Debug, Default)]
struct Taken {
    agents: BTreeSet<String>,
    children: usize,
}

impl PoolId {
    /// The pool that a mode has always.
    #[must_use]
    pub const fn first(mode: ExecutionMode) -> Self {
        Self { mode, number: 1 }
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = self.mode.as_str();
        if self.number == 1 { f.write_str(mode) } else { write!(f, "{mode}-{}", self.number) }
    }
}

impl Allotment {
    /// Nobody is anywhere; a pool has room for so many children, and for one agent however many it has.
    pub(super) fn new(children_max: usize) -> Self {
        Self { children_max, ..Self::default() }
    }

    /// Finds a place for an agent, the one that it has if it may stay.
    pub(super) fn put(&mut self, spec: &AgentSpec) {
        let (name, mode) = (spec.name.as_str(), spec.runs_as);
        // Its instances and its inbox.
        let children = spec.instances as usize + 1;
        let stays = self.take_out(name).filter(|pool| pool.mode == mode && self.has_room(*pool, children));
        let pool = stays.unwrap_or_else(|| self.first_with_room(mode, children));
        let taken = self.pools.entry(pool).or_default();
        taken.agents.insert(name.to_owned());
        taken.children += children;
        self.places.insert(name.to_owned(), Place { pool, children });
    }

    /// An agent is gone; answers where it was.
    pub(super) fn take_out(&mut self, name: &str) -> Option<PoolId> {
        let Place { pool, children } = self.places.remove(name)?;
        if let Some(taken) = self.pools.get_mut(&pool) {
            taken.agents.remove(name);
            taken.children -= children;
            if taken.agents.is_empty() {
                self.pools.remove(&pool);
            }
        }
        Some(pool)
    }

    /// Where an agent is.
    pub(super) fn of(&self, name: &str) -> Option<PoolId> {
        self.places.get(name).map(|place| place.pool)
    }

    /// Who is in a pool.
    pub(super) fn agents(&self, pool: PoolId) -> impl Iterator<Item = &str> {
        self.pools.get(&pool).into_iter().flat_map(|taken| &taken.agents).map(String::as_str)
    }

    /// The pools that have somebody.
    pub(super) fn pools(&self) -> impl Iterator<Item = PoolId> {
        self.pools.keys().copied()
    }

    fn has_room(&self, pool: PoolId, children: usize) -> bool {
        let Some(taken) = self.pools.get(&pool) else { return true };
        taken.children + children <= self.children_max
    }

    fn first_with_room(&self, mode: ExecutionMode, children: usize) -> PoolId {
        let mut pool = PoolId::first(mode);
        while !self.has_room(pool, children) {
            pool.number += 1;
        }
        pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, mode: &str, instances: u32) -> AgentSpec {
        let text = format!(
            "name: {name}\ntype: t\nexecution_mode: {mode}\ninstances: {instances}\ninstructions: x\n\
             llm_config: {{provider: scripted, model: m, script: [{{reply: x}}]}}\n"
        );
        let limits = troupe_runtime::config::NodeConfig::default().agents;
        troupe_runtime::config::parse_agent("a.yaml", &text, &limits).unwrap()
    }

    fn put(allotment: &mut Allotment, name: &str, mode: &str, instances: u32) -> String {
        allotment.put(&spec(name, mode, instances));
        allotment.of(name).unwrap().to_string()
    }

    #[test]
    fn a_pool_takes_whoever_has_room_in_it_and_the_next_one_the_others() {
        let mut all = Allotment::new(4);
        assert_eq!(put(&mut all, "a", "autonomous", 1), "autonomous");
        assert_eq!(put(&mut all, "b", "autonomous", 2), "autonomous-2", "its children stay together");
        assert_eq!(put(&mut all, "c", "autonomous", 1), "autonomous", "room is not left");
        assert_eq!(put(&mut all, "d", "autonomous", 1), "autonomous-3");
        assert_eq!(put(&mut all, "e", "continuous", 1), "continuous", "each mode has its own");
        assert_eq!(put(&mut all, "crowd", "autonomous", 9), "autonomous-4", "alone, where nobody has room for it");
        assert_eq!(all.agents(PoolId::first(ExecutionMode::Autonomous)).collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn who_changes_stays_while_there_is_room_and_nobody_else_is_moved() {
        let mut all = Allotment::new(4);
        for name in ["a", "b", "c"] {
            put(&mut all, name, "autonomous", 1);
        }
        assert_eq!(put(&mut all, "c", "autonomous", 3), "autonomous-2", "it grows into what is free");
        assert_eq!(put(&mut all, "a", "autonomous", 2), "autonomous-3", "there is no room for it beside b");
        assert_eq!(put(&mut all, "a", "autonomous", 1), "autonomous-3", "nor does it come back by itself");
        assert_eq!(put(&mut all, "b", "continuous", 1), "continuous");
        assert_eq!(all.take_out("c").unwrap().to_string(), "autonomous-2");
        assert_eq!(put(&mut all, "d", "autonomous", 1), "autonomous", "what is free is taken first");
        let pools: Vec<_> = all.pools().map(|pool| pool.to_string()).collect();
        assert_eq!(pools, ["autonomous", "autonomous-3", "continuous"], "an empty one is none");
        assert_eq!(all.take_out("nobody"), None);
    }
}
