//! The vitals: asks every agent actor whether it is there, and raises the alarm for one that does not come back.
//!
//! Started and restarted by the orchestrator after the pools; messaged only by its own timer. Owns nothing but its count
//! of misses, which begins anew with each of its lives. It decides one thing: that an agent actor *does not answer*.
//! Whether it *gets on* is another question, which each step answers for its own calls (`step/deed.rs`): an agent actor
//! awaits no model and no tool, so one that thinks for ten minutes answers within a millisecond.
//!
//! ```text
//!   every 3 s   all agent actors are pinged side by side ──► answered within 1 s: well
//!                                                       └──► a miss; three in a row: its pool is told to give up on it
//! ```
//!
//! So an actor that hangs is killed and in its backoff within `3 × every + timeout`, 10 s, of its last answer, and serves
//! again after the wait, at most two seconds later while its budget lasts; then it is unavailable, as after any other
//! fall. The kill, the charge and the restart are the pool's (its `Children`), asked for by way of the live tree: nobody
//! waits for a ping but this actor. A round that itself came late (the node was frozen, or has no CPU left) blames nobody.
//!
//! An agent actor that became unavailable is an event, `monitor.alert.critical`, with an id of its own for each time; it
//! is published again until the bus has it. When the vitals are down nobody is pinged, and everything else goes on.

pub(crate) mod options;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use ractor_cluster_derive::RactorMessage;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};
use troupe_runtime::bus::Routing;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::event_id_from;
use troupe_runtime::domain::topic::{Severity, Topic};
use troupe_runtime::supervision::{ActorState, ActorView, ChildContext, ChildSpec, Life, Shutdown, Tree};

pub use self::options::Options;
use self::watch::Watch;
use crate::agent::AGENT;
use crate::stage::Stage;

/// Its segment in the tree.
pub(crate) const VITALS: &str = "vitals";

/// The one message: look.
#[derive(Debug, Clone, Copy, RactorMessage)]
pub struct Look;

/// The vitals.
pub struct Vitals {
    stage: Arc<Stage>,
    tree: Tree,
}

/// What is remembered from round to round.
#[derive(Default)]
pub struct Chart {
    /// Pings in a row that this life of an actor did not answer.
    misses: HashMap<u64, u32>,
    /// Who is unavailable, since when, and whether the bus has the alarm.
    down: HashMap<(String, DateTime<Utc>), bool>,
    _watch: Option<Watch>,
}

impl Vitals {
    /// The child of the orchestrator.
    pub(crate) fn child(stage: &Arc<Stage>) -> ChildSpec {
        let stage = stage.clone();
        ChildSpec::new(VITALS, VITALS, move |context| Self::start(stage.clone(), context)).shutdown(Shutdown::Kill)
    }

    async fn start(stage: Arc<Stage>, context: ChildContext) -> Result<ActorCell, SpawnErr> {
        let tree = context.tree.clone();
        context.spawn(Self { stage, tree }, ()).await
    }

    /// Tells the bus of those that have become unavailable.
    async fn raise_alarms(&self, chart: &mut Chart) {
        let mut before = std::mem::take(&mut chart.down);
        for actor in self.tree.standing(AGENT, ActorState::Unavailable) {
            let key = (actor.path.clone(), actor.since);
            let told = before.remove(&key);
            if told.is_none() {
                let (path, cause) = (&actor.path, &actor.last_error);
                tracing::error!(path, cause, "an agent actor is unavailable: mend the cause, then restart the agent");
            }
            let told = told.unwrap_or_default() || self.raise(&actor).await;
            chart.down.insert(key, told);
        }
    }

    /// Publishes one alarm; whether the bus has it now. At the next round it is tried again, under the same id.
    async fn raise(&self, actor: &ActorView) -> bool {
        let publish = self.stage.ports.bus.publish(Arc::new(self.alarm(actor)), Routing::Optional);
        match timeout(self.stage.options.vitals.timeout, publish).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::warn!(path = actor.path, %error, "an alarm waits for the bus");
                false
            }
            Err(_) => false,
        }
    }

    fn alarm(&self, actor: &ActorView) -> Event {
        let node = &self.stage.options.lease.node;
        let agent = actor.path.rsplit('/').nth(1).unwrap_or_default();
        let data = json!({
            "alert": "agent_unavailable",
            "agent": agent,
            "path": actor.path,
            "node": node,
            "since": actor.since,
            "restarts": actor.restarts,
            "cause": actor.last_error,
        });
        let mut event = Event::new(Topic::alert(Severity::Critical), format!("/nodes/{node}"), data);
        event.id = event_id_from(&["alert", node, &actor.path, &actor.since.to_rfc3339()]);
        event.time = self.stage.ports.clock.now();
        event.subject = Some(agent.to_owned());
        event
    }
}

/// Pings everybody once.
async fn ping_all(tree: &Tree, options: Options, misses: &mut HashMap<u64, u32>) {
    let lives = tree.lives(AGENT);
    let begun = Instant::now();
    // All are asked, then all are waited for, by one deadline: a timer for each would be the costly part of a round.
    let asked: Vec<_> = lives.iter().map(Life::ping).collect();
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        answers.push(match answer {
            Some(answer) => timeout_at(begun + options.timeout, answer).await.is_ok_and(|told| told.is_ok()),
            None => false,
        });
    }
    // Somebody who was away itself, or had no CPU, cannot tell who was not there.
    if begun.elapsed() > options.timeout * 2 {
        let took_ms = begun.elapsed().as_millis() as u64;
        return tracing::warn!(took_ms, "a round of pings came late; it does not count");
    }
    let before = std::mem::take(misses);
    for (life, _) in lives.iter().zip(answers).filter(|(_, answers)| !answers) {
        let number = life.number();
        let in_a_row = before.get(&number).copied().unwrap_or_default() + 1;
        if in_a_row < options.misses_max {
            tracing::warn!(path = life.path, misses = in_a_row, "an agent actor does not answer");
            misses.insert(number, in_a_row);
        } else {
            let cause = format!("no answer to {in_a_row} pings in a row, {} ms each", options.timeout.as_millis());
            tree.give_up_on(life, &cause);
        }
    }
}

impl Actor for Vitals {
    type Msg = Look;
    type State = Chart;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Look>, (): ()) -> Result<Chart, ActorProcessingErr> {
        drop(myself.send_after(self.stage.options.vitals.every, || Look));
        let half = self.stage.options.vitals.timeout / 2;
        let watch = Watch::begin(Handle::current(), half).inspect_err(|error| {
            tracing::warn!(%error, "no thread for the night watch; a handler that blocks may hold up the pings");
        });
        Ok(Chart { _watch: watch.ok(), ..Chart::default() })
    }

    async fn handle(&self, myself: ActorRef<Look>, Look: Look, chart: &mut Chart) -> Result<(), ActorProcessingErr> {
        let begun = Instant::now();
        ping_all(&self.tree, self.stage.options.vitals, &mut chart.misses).await;
        self.raise_alarms(chart).await;
        let wait = self.stage.options.vitals.every.saturating_sub(begun.elapsed());
        drop(myself.send_after(wait, || Look));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
