//! The roster: the agents of the node as they are to be now, and in which pool, shared by all who need to know.
//!
//! Written by the start and then by the watcher alone, one change after the other; read by the orchestrator and its pools at
//! the start of each life and at each change, by the recovery, the relay and the troupe's handle whenever they ask. A reader
//! sees all of a change or nothing. Nothing here waits or fails.

mod allotment;
mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use troupe_runtime::domain::agent::{ExecutionMode, SlackReply};

use self::allotment::Allotment;
pub use self::allotment::PoolId;
pub use self::member::Member;
use crate::served::Served;

/// Agents that are gone and whose way of replying is still known, for answers that are on their way.
const DEPARTED_MAX: usize = 1000;

/// The agents of the node. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Roster(Arc<RwLock<Page>>);

/// How the agents stand to the files that name them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Agents that are configured.
    pub agents: usize,
    /// Everything that is wrong with the files as they are; the last good versions are served.
    pub problems: Vec<String>,
    /// How often the files have changed the roster, or what is known to be wrong, since the start.
    pub reloads: u64,
}

#[derive(Default)]
struct Page {
    members: BTreeMap<String, Member>,
    allotment: Allotment,
    departed: BTreeMap<String, SlackReply>,
    /// What is wrong with the newest version of an agent.
    faulty: BTreeMap<String, Vec<String>>,
    standing: Standing,
}

impl Roster {
    /// A roster of these agents, in pools of at most so many children.
    #[must_use]
    pub fn new(members: Vec<Member>, children_max: usize) -> Self {
        let roster = Self::default();
        roster.write(|page| page.allotment = Allotment::new(children_max));
        roster.change(members, &[]);
        roster
    }

    /// The pools that have somebody.
    #[must_use]
    pub fn pools(&self) -> BTreeSet<PoolId> {
        self.read(|page| page.allotment.pools().collect())
    }

    /// The agents of a pool, by name.
    #[must_use]
    pub fn of_pool(&self, pool: PoolId) -> BTreeMap<String, Member> {
        let member = |page: &Page, name: &str| Some((name.to_owned(), page.members.get(name)?.clone()));
        self.read(|page| page.allotment.agents(pool).filter_map(|name| member(page, name)).collect())
    }

    /// The pool that an agent is in.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<PoolId> {
        self.read(|page| page.allotment.of(name))
    }

    /// The pool for a run of this shape: the agent's own, or the first one of the mode when the agent is not there, or is in
    /// another mode by now.
    #[must_use]
    pub fn pool_for(&self, name: &str, mode: ExecutionMode) -> PoolId {
        self.pool(name).filter(|pool| pool.mode == mode).unwrap_or(PoolId::first(mode))
    }

    /// All agents, by name.
    #[must_use]
    pub fn members(&self) -> BTreeMap<String, Member> {
        self.read(|page| page.members.clone())
    }

    /// An agent, ready; `None` when it is not configured or cannot be served.
    #[must_use]
    pub fn served(&self, name: &str) -> Option<Arc<Served>> {
        self.read(|page| page.members.get(name)?.served.as_ref().ok().cloned())
    }

    /// Whether an agent of this name is configured.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.read(|page| page.members.contains_key(name))
    }

    /// The names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.read(|page| page.members.keys().cloned().collect())
    }

    /// Where an agent's answers go, also of one that has left.
    #[must_use]
    pub fn reply(&self, name: &str) -> SlackReply {
        self.read(|page| {
            let here = page.members.get(name).map(|member| member.spec.reply);
            here.or_else(|| page.departed.get(name).copied()).unwrap_or(SlackReply::Thread)
        })
    }

    /// What is wrong with the newest version of an agent; an earlier one is served.
    #[must_use]
    pub fn problems(&self, name: &str) -> Vec<String> {
        self.read(|page| page.faulty.get(name).cloned().unwrap_or_default())
    }

    /// How the agents stand to their files.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.read(|page| page.standing.clone())
    }

    /// Agents that come, or come anew, and others that go.
    pub(crate) fn change(&self, put: Vec<Member>, gone: &[String]) {
        self.write(|page| {
            for name in gone {
                let Some(member) = page.members.remove(name) else { continue };
                page.allotment.take_out(name);
                if page.departed.len() >= DEPARTED_MAX {
                    page.departed.pop_first();
                }
                page.departed.insert(name.clone(), member.spec.reply);
            }
            for member in put {
                page.allotment.put(&member.spec);
                page.members.insert(member.spec.name.as_str().to_owned(), member);
            }
            page.standing.agents = page.members.len();
        });
    }

    /// What is wrong, of single agents and in all.
    pub(crate) fn find_fault(&self, faulty: BTreeMap<String, Vec<String>>, problems: Vec<String>) {
        self.write(|page| (page.faulty, page.standing.problems) = (faulty, problems));
    }

    /// The files have had their effect once more.
    pub(crate) fn count_reload(&self) {
        self.write(|page| page.standing.reloads += 1);
    }

    fn read<T>(&self, look: impl FnOnce(&Page) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, act: impl FnOnce(&mut Page) -> T) -> T {
        act(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}
