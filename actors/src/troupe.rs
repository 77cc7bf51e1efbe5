//! The running troupe as the doors see it: submit a task, wait for it, look at agents and actors, stop.
//!
//! A cheap handle; everything behind it is supervised. Who calls: the HTTP API, the demo, the tests.

pub(crate) mod error;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorRef};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use troupe_runtime::bus::{self, QueueSpec, Routing};
use troupe_runtime::domain::agent::{AgentName, AgentSpec};
use troupe_runtime::domain::event::{Event, Priority};
use troupe_runtime::domain::ids::{TaskId, event_id_from};
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::domain::topic::{REPLY_QUEUE, Topic, inbox_queue, reply_patterns};
use troupe_runtime::ports::Ports;
use troupe_runtime::store::Task;
use troupe_runtime::supervision::{ChildSpec, Shutdown, Tree};
use troupe_runtime::telemetry::metrics::Reading;
use troupe_runtime::telemetry::{Metrics, names};

pub use self::error::Error;
use crate::cleaner::Cleaner;
use crate::lease::{Hold, Lease};
use crate::orchestrator::{Orchestrator, OrchestratorMessage};
use crate::registry::{AgentFilter, AgentView, nearest};
use crate::relay::Relay;
use crate::reload::{dismiss_strangers, enlist};
use crate::root::{ORCHESTRATOR, Root, RootMessage};
use crate::roster::{Member, Roster, Standing};
use crate::served::Served;
use crate::stage::{Options, Stage};
use crate::watcher::Watcher;

/// How often a waiter looks at the store although nobody told it anything.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What is left of a drain for stopping the actors themselves.
const STOPPING: Duration = Duration::from_secs(2);
/// What of that the relay has for the ends in its hand; the lease is still to be given back after it.
const TELLING: Duration = Duration::from_secs(1);

/// What somebody asks an agent for through the API.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// The question: a text, or any JSON.
    pub input: Value,
    /// 0–9.
    pub priority: Priority,
    /// Which conversation it belongs to.
    pub session: Option<String>,
    /// The same key for the same agent leads to the same task.
    pub idempotency_key: Option<String>,
}

/// The running troupe.
#[derive(Clone)]
pub struct Troupe {
    stage: Arc<Stage>,
    tree: Tree,
    root: ActorRef<RootMessage>,
    roster: Roster,
}

impl Troupe {
    /// Prepares the agents, declares their queues, begins a new life of the node and starts the tree; `doors` are started after
    /// all that they need, and stopped before it.
    ///
    /// An agent that cannot be served is in the registry as unavailable and stops nobody else. The handle of the root's
    /// tokio task ends when the node is over.
    ///
    /// # Errors
    /// When the bus or the store does not answer, or the root cannot be started.
    pub async fn start(
        ports: Arc<Ports>,
        specs: Vec<impl Into<Arc<AgentSpec>>>,
        options: Options,
        doors: Vec<ChildSpec>,
    ) -> Result<(Self, JoinHandle<()>), Error> {
        let members = specs.into_iter().map(|spec| {
            let spec: Arc<AgentSpec> = spec.into();
            let served = Served::prepare(&ports, spec.clone()).map(Arc::new).map_err(|reason| {
                tracing::error!(agent = %spec.name, %reason, "the agent is unavailable");
                reason.to_string()
            });
            Member { spec, served }
        });
        let members = members.collect();
        Self::start_prepared(ports, members, options, doors).await
    }

    /// [`Troupe::start`] with agents that were prepared elsewhere, with models and tools of the caller's own.
    pub async fn start_prepared(
        ports: Arc<Ports>,
        members: Vec<Member>,
        options: Options,
        doors: Vec<ChildSpec>,
    ) -> Result<(Self, JoinHandle<()>), Error> {
        join_all(members.iter().map(|member| enlist(&ports, &member.spec)))
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        let reply_queue =
            QueueSpec { name: REPLY_QUEUE.to_owned(), bindings: reply_patterns(), single_active_consumer: false };
        bus::Error::unless_deferred(ports.bus.declare(reply_queue).await)?;

        let (asked, ttl) = (Instant::now(), options.lease.ttl);
        let own = ports.stores.nodes.start(&options.lease.node, ttl).await?;
        tracing::info!(node = options.lease.node, incarnation = %own, "the node lives");
        let lease = Hold::new(own, asked, ttl);
        observe(&ports.metrics, &lease);

        let tree = Tree::of_node(ports.clock.clone(), ports.models.redactor(), options.ledger);
        let stage = Arc::new(Stage::new(ports, options, lease));
        dismiss_strangers(&stage.ports, &members).await?;
        let roster = Roster::new(members, stage.options.pool_children_max);
        let (of_orchestrator, of_relay) = ((stage.clone(), roster.clone()), (stage.clone(), roster.clone()));
        let mut children = vec![
            Lease::child(&stage),
            ChildSpec::new(ORCHESTRATOR, "orchestrator", move |context| {
                Orchestrator::start(of_orchestrator.0.clone(), of_orchestrator.1.clone(), context)
            }),
            ChildSpec::new("relay", "relay", move |context| {
                Relay::start(of_relay.0.clone(), of_relay.1.clone(), context)
            })
            .shutdown(Shutdown::Drain(TELLING)),
        ];
        children.extend(doors);
        children.push(Cleaner::child(&stage));
        if let Some(watch) = &stage.options.watch {
            roster.find_fault(BTreeMap::new(), watch.problems());
            children.push(Watcher::child(&stage, &roster, watch));
        }
        let (root, over) = Actor::spawn(None, Root { tree: tree.clone() }, children)
            .await
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok((Self { stage, tree, root, roster }, over))
    }

    /// Publishes the task's event, confirmed, and answers the id that the task will have.
    pub async fn submit(&self, agent: &str, submission: Submission) -> Result<TaskId, Error> {
        let (task, event) = self.asked(agent, submission).await?;
        self.stage.ports.bus.publish(event, Routing::Mandatory).await?;
        Ok(task)
    }

    /// The event that asks for a task, not published yet, and the id that the task will have; for a door that has its
    /// own way to the bus.
    pub async fn asked(&self, agent: &str, submission: Submission) -> Result<(TaskId, Arc<Event>), Error> {
        let name = self.known(agent)?;
        let Submission { input, priority, session, idempotency_key } = submission;
        let mut event = Event::new(Topic::agent_task(&name), "/api", json!({"input": input, "session": session}));
        event.priority = priority;
        event.subject = session;
        if let Some(key) = idempotency_key {
            event.id = event_id_from(&["idempotency", agent, &key]);
            let earlier = self.stage.ports.stores.tasks.event(TaskId::derive(&event.id, agent)).await?;
            if earlier.is_some_and(|earlier| earlier.data != event.data) {
                return Err(Error::KeyReused(key));
            }
        }
        Ok((TaskId::derive(&event.id, agent), Arc::new(event)))
    }

    /// Waits until the task has ended, waits for a person, or `limit` has passed; answers it as it then stands.
    /// `None` = not accepted yet.
    pub async fn wait(&self, task: TaskId, limit: Duration) -> Result<Option<Task>, Error> {
        let mut ended = self.ended();
        let deadline = Instant::now() + limit;
        loop {
            let found = self.stage.ports.stores.tasks.task(task).await?;
            let settled = |task: &Task| task.status.is_terminal() || task.status == TaskStatus::Waiting;
            let now = Instant::now();
            if found.as_ref().is_some_and(settled) || now >= deadline {
                return Ok(found);
            }
            let look_again = deadline.min(now + LOOK_EVERY);
            let told = async {
                // A lagging or closed feed is no news: the look at the store is the truth.
                while ended.recv().await.is_ok_and(|id| id != task) {}
            };
            tokio::time::timeout_at(look_again, told).await.ok();
        }
    }

    /// Told the id of every task that ends on this node; a hint, the store is the truth.
    #[must_use]
    pub fn ended(&self) -> broadcast::Receiver<TaskId> {
        self.stage.ended.subscribe()
    }

    /// The registry.
    pub async fn agents(&self, filter: AgentFilter) -> Result<Vec<AgentView>, Error> {
        let mut views = self.views(None).await?;
        views.retain(|view| filter.admits(view));
        Ok(views)
    }

    /// One agent; also one that is gone from the configuration, until its steps have ended.
    pub async fn agent(&self, name: &str) -> Result<AgentView, Error> {
        let parsed: Option<AgentName> = name.parse().ok();
        let view = match parsed {
            Some(name) => self.views(Some(name)).await?.pop(),
            None => None,
        };
        if let Some(view) = view {
            return Ok(view);
        }
        let name = self.known(name)?;
        Err(Error::Unavailable(format!("the pool of {name} is starting")))
    }

    async fn views(&self, agent: Option<AgentName>) -> Result<Vec<AgentView>, Error> {
        let silent = || Error::Unavailable("a pool gave no answer in time".to_owned());
        let mut views = self.ask(|reply| OrchestratorMessage::Agents(agent, reply)).await?.ok_or_else(silent)?;
        for view in &mut views {
            view.problems = self.roster.problems(view.name.as_str());
        }
        Ok(views)
    }

    /// How the agents stand to the files that name them.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.roster.standing()
    }

    /// Starts an agent's actors again, with a fresh restart budget: those that are down, and those that run, whose steps are
    /// cut off and go on from their journals.
    pub async fn restart(&self, agent: &AgentName) -> Result<(), Error> {
        self.known(agent.as_str())?;
        if self.ask(|reply| OrchestratorMessage::Reset(agent.clone(), reply)).await? {
            Ok(())
        } else {
            Err(Error::Unavailable(format!("the pool of {agent} is starting")))
        }
    }

    /// Stops an agent's intake, or lets it in again. Steps under way go on to their ends, events wait on the bus. It holds
    /// on this node until its end, over falls of the agent's actors and of its pool.
    pub async fn pause(&self, agent: &AgentName, pause: bool) -> Result<(), Error> {
        self.known(agent.as_str())?;
        let now = self.stage.ports.clock.now();
        self.stage.standings.pause(agent.as_str(), pause, now);
        // A pool that is down reads it when it is back.
        if self.ask(|reply| OrchestratorMessage::Regate(agent.clone(), reply)).await? {
            Ok(())
        } else {
            Err(Error::Unavailable(format!("the pool of {agent} is starting")))
        }
    }

    /// Drops the queue of an agent that is gone from the configuration, once it is empty.
    ///
    /// # Errors
    /// [`Error::Configured`]; [`bus::Error::NoQueue`]; [`bus::Error::Kept`] while events are in it, or another node serves it.
    pub async fn drop_queue(&self, agent: &str) -> Result<(), Error> {
        let unknown = |_| Error::UnknownAgent { name: agent.chars().take(80).collect(), near: None };
        let name: AgentName = agent.parse().map_err(unknown)?;
        if self.roster.knows(agent) {
            return Err(Error::Configured(name));
        }
        Ok(self.stage.ports.bus.remove_queue(&inbox_queue(&name)).await?)
    }

    /// The live actors.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What the node stands on.
    #[must_use]
    pub fn ports(&self) -> &Arc<Ports> {
        &self.stage.ports
    }

    /// Whether the node holds its lease, and as whom.
    #[must_use]
    pub fn lease(&self) -> &Hold {
        &self.stage.lease
    }

    /// Whether an agent of this name is configured here.
    #[must_use]
    pub fn serves(&self, agent: &AgentName) -> bool {
        self.roster.knows(agent.as_str())
    }

    /// Steps that this node works on.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.stage.in_hand.len()
    }

    /// Stops intake, lets steps finish the entry they are at, stops everything and gives the lease back; at most `limit`.
    ///
    /// A step that is cut off by the end of the limit is no failed attempt: it goes on in the node's next life.
    pub async fn drain(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.stage.drain.cancel();
        let mut ended = self.ended();
        // Not for what is in hand but on nobody's table: it would be waited for in vain.
        while !self.stage.acting.is_empty() && Instant::now() + STOPPING < deadline {
            let look_again = Instant::now() + Duration::from_millis(20);
            tokio::time::timeout_at(look_again, ended.recv()).await.ok();
        }
        let left = self.stage.acting.len();
        if left > 0 {
            tracing::warn!(steps = left, "the drain cuts steps off; they go on in the next life");
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        if self.root.stop_and_wait(Some("drain".to_owned()), Some(left)).await.is_err() {
            self.root.kill();
        }
    }

    fn known(&self, name: &str) -> Result<AgentName, Error> {
        let unknown = || {
            let names = self.roster.names();
            let near = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
            Error::UnknownAgent { name: name.chars().take(80).collect(), near }
        };
        if self.roster.knows(name) { name.parse().map_err(|_| unknown()) } else { Err(unknown()) }
    }

    /// Asks the orchestrator, wherever it lives now.
    async fn ask<T, F>(&self, message: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(ractor::RpcReplyPort<T>) -> OrchestratorMessage,
    {
        let limit = self.stage.options.call_timeout;
        let silent = |who: &str| Error::Unavailable(format!("{who} gave no answer within {limit:?}"));
        let found = self.root.call(RootMessage::Orchestrator, Some(limit)).await;
        let Ok(CallResult::Success(Some(orchestrator))) = found else { return Err(silent("the root")) };
        match orchestrator.call(message, Some(limit * 2)).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            _ => Err(silent("the orchestrator")),
        }
    }
}

/// Has the lease read at every scrape.
fn observe(metrics: &Metrics, lease: &Hold) {
    let (held, lapses) = (lease.clone(), lease.clone());
    metrics.observe(names::LEASE_HELD, move || vec![Reading::plain(u64::from(held.own().is_some()))]);
    metrics.observe(names::LEASE_LAPSES, move || vec![Reading::plain(lapses.lapses())]);
}
