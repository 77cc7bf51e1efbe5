//! The roster: the agents of the node as they are to be now, shared by all who need to know.
//!
//! Written by the start and then by the watcher alone, one change after the other; read by the orchestrator and its pools at
//! the start of each life and at each change, by the recovery, the relay and the troupe's handle whenever they ask. A reader
//! sees all of a change or nothing. Nothing here waits or fails.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use troupe_runtime::domain::agent::{ExecutionMode, SlackReply};

use crate::pool::Member;
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
    departed: BTreeMap<String, SlackReply>,
    /// What is wrong with the newest version of an agent.
    faulty: BTreeMap<String, Vec<String>>,
    standing: Standing,
}

impl Roster {
    /// A roster of these agents.
    #[must_use]
    pub fn new(members: Vec<Member>) -> Self {
        let roster = Self::default();
        roster.write(|page| {
            page.members = members.into_iter().map(|m| (m.spec.name.as_str().to_owned(), m)).collect();
            page.standing.agents = page.members.len();
        });
        roster
    }

    /// The agents whose runs have this shape, by name.
    #[must_use]
    pub fn of_mode(&self, mode: ExecutionMode) -> BTreeMap<String, Member> {
        let mine = |(_, member): &(&String, &Member)| member.spec.runs_as == mode;
        self.read(|page| page.members.iter().filter(mine).map(|(n, m)| (n.clone(), m.clone())).collect())
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
                if page.departed.len() >= DEPARTED_MAX {
                    page.departed.pop_first();
                }
                page.departed.insert(name.clone(), member.spec.reply);
            }
            for member in put {
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
