//! A reload: the roster becomes what the folder of agents asks for.
//!
//! ```text
//! wanted ─► difference ─┬─ added, changed   made ready ─► spec kept, queue and bindings declared ─┐
//!                       └─ removed          bindings taken away, the queue stays ─────────────────┴─► roster
//! ```
//!
//! Called by the [watcher](crate::watcher), one after the other. An agent that cannot be changed (its new spec names a tool
//! that there is not, the bus or the store does not answer) stays as it is and is at fault; the others go on. Everything here
//! may be done twice. Between the declaration and the roster an event may come by a new binding and be done under the old
//! spec; none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use troupe_runtime::bus::{self, QueueSpec};
use troupe_runtime::config::{Problem, Wanted};
use troupe_runtime::domain::agent::{AgentSpec, ExecutionMode};
use troupe_runtime::domain::topic::{TopicPattern, inbox_agent, inbox_queue, own_patterns};
use troupe_runtime::fault::Faulty as _;
use troupe_runtime::ports::Ports;

use crate::difference::Difference;
use crate::roster::{Member, Roster};
use crate::served::Served;
use crate::troupe::error::Error;

/// What came of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// The roster is another one.
    pub(crate) changed: bool,
    /// Something could not be done now and can be in a moment.
    pub(crate) again: bool,
}

/// Makes the roster what is wanted, as far as that can be done now.
///
/// Cancelled, it has changed the roster or not; whatever it has declared is declared again by the next one.
pub(crate) async fn reload(ports: &Ports, roster: &Roster, wanted: &Wanted) -> Outcome {
    let members = roster.members();
    let mut faults = Faults::of(wanted);
    let there: BTreeMap<String, String> =
        members.iter().map(|(name, member)| (name.clone(), member.digest())).collect();
    let there = there.iter().map(|(name, digest)| (name.as_str(), digest.as_str())).collect();
    let asked = wanted.agents.iter().map(|(name, wish)| (name.as_str(), &*wish.digest)).collect();
    let Difference { added, changed, removed } = Difference::between(&there, &asked);

    let mut coming = Vec::new();
    for name in added.iter().chain(&changed) {
        let Some(wish) = wanted.agents.get(name) else { continue };
        match Served::prepare(ports, wish.spec.clone()) {
            Ok(served) => coming.push(Member { spec: wish.spec.clone(), served: Ok(Arc::new(served)) }),
            // It would answer nobody; the version that is there does.
            Err(reason) if members.get(name).is_some_and(|member| member.served.is_ok()) => {
                faults.add(name, format!("{name} is not changed: {reason}"));
            }
            Err(reason) => {
                tracing::error!(agent = name, %reason, "the agent is unavailable");
                coming.push(Member { spec: wish.spec.clone(), served: Err(reason.to_string()) });
            }
        }
    }
    let (mut put, mut gone, mut again) = (Vec::new(), Vec::new(), false);
    let enlisted = join_all(coming.iter().map(|member| enlist(ports, &member.spec))).await;
    for (member, enlisted) in coming.into_iter().zip(enlisted) {
        let name = member.spec.name.as_str();
        match enlisted {
            Ok(()) => put.push(member),
            Err(error) => {
                again |= error.fault().is_transient();
                faults.add(name, format!("{name} is not changed: {error}"));
            }
        }
    }
    let leaving: Vec<&Member> = removed.iter().filter_map(|name| members.get(name)).collect();
    let dismissed = join_all(leaving.iter().map(|member| dismiss(ports, &member.spec))).await;
    for (member, dismissed) in leaving.into_iter().zip(dismissed) {
        let name = member.spec.name.as_str();
        match dismissed {
            Ok(()) => gone.push(name.to_owned()),
            Err(error) => {
                again |= error.fault().is_transient();
                faults.add(name, format!("{name} is not removed: {error}"));
            }
        }
    }
    tell(&put, &gone, &added.iter().map(String::as_str).collect());
    for member in &put {
        ports.metrics.agent_known(&member.spec.name, member.spec.execution_mode);
    }
    let changed = !put.is_empty() || !gone.is_empty();
    roster.change(put, &gone);
    let other = faults.say_what_is_new(&roster.standing().problems);
    roster.find_fault(faults.of_agents, faults.all);
    if changed || other {
        roster.count_reload();
    }
    Outcome { changed, again }
}

/// Makes one agent known: its spec, which runs pin, and its queue with its bindings.
pub(crate) async fn enlist(ports: &Ports, spec: &AgentSpec) -> Result<(), Error> {
    let mut bindings = own_patterns(&spec.name);
    bindings.extend(spec.subscriptions.iter().cloned());
    ports.stores.specs.keep(spec).await?;
    bus::Error::unless_deferred(ports.bus.declare(queue(spec, bindings)).await)?;
    Ok(())
}

/// Nothing is routed to the agent any more; what waits in its queue stays.
async fn dismiss(ports: &Ports, spec: &AgentSpec) -> Result<(), Error> {
    bus::Error::unless_deferred(ports.bus.declare(queue(spec, Vec::new())).await)?;
    Ok(())
}

/// Nothing is routed to agents that were removed while the node was down. Only on the bus in the data folder, which is this
/// node's alone: on a broker another node may serve them.
pub(crate) async fn dismiss_strangers(ports: &Ports, members: &[Member]) -> Result<(), Error> {
    let health = ports.bus.health().await?;
    if health.connection.is_some() {
        return Ok(());
    }
    let here: BTreeSet<&str> = members.iter().map(|member| member.spec.name.as_str()).collect();
    for (name, _) in health.depths {
        let Some(agent) = inbox_agent(&name).filter(|agent| !here.contains(agent.as_str())) else { continue };
        tracing::info!(%agent, queue = name, "the agent is not configured; its queue is kept and gets nothing more");
        let queue = QueueSpec { name, bindings: Vec::new(), single_active_consumer: false };
        ports.bus.declare(queue).await?;
    }
    Ok(())
}

fn queue(spec: &AgentSpec, bindings: Vec<TopicPattern>) -> QueueSpec {
    let ordered = spec.runs_as == ExecutionMode::Continuous;
    QueueSpec { name: inbox_queue(&spec.name), bindings, single_active_consumer: ordered }
}

fn tell(put: &[Member], gone: &[String], added: &BTreeSet<&str>) {
    for member in put {
        let name = member.spec.name.as_str();
        if added.contains(name) {
            tracing::info!(agent = name, "the agent is added");
        } else {
            tracing::info!(agent = name, "the agent is changed; new runs take its new spec");
        }
    }
    for name in gone {
        tracing::info!(agent = name, "the agent is removed; its steps finish, its queue is kept");
    }
}

/// What is wrong, of single agents and in all.
struct Faults {
    of_agents: BTreeMap<String, Vec<String>>,
    all: Vec<String>,
}

impl Faults {
    fn of(wanted: &Wanted) -> Self {
        let of_agents = wanted.agents.iter().filter(|(_, wish)| !wish.problems.is_empty());
        let shown = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect();
        Self {
            of_agents: of_agents.map(|(name, wish)| (name.clone(), shown(&wish.problems))).collect(),
            all: shown(&wanted.problems),
        }
    }

    fn add(&mut self, name: &str, fault: String) {
        self.of_agents.entry(name.to_owned()).or_default().push(fault.clone());
        self.all.push(fault);
    }

    /// Logs what was not known, once; answers whether anything is other than it was.
    fn say_what_is_new(&self, before: &[String]) -> bool {
        for problem in self.all.iter().filter(|problem| !before.contains(problem)) {
            tracing::warn!(problem, "the configuration has a problem; the last good version stays");
        }
        if self.all.is_empty() && !before.is_empty() {
            tracing::info!("the configuration has no problem any more");
        }
        self.all != before
    }
}
