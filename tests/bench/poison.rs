//! What a poisoned agent costs its neighbours: how long their tasks take while every step of an agent beside them crashes,
//! beside how long they take when it has nothing to do, in the same rounds. As a control, how long they take while a well agent is
//! given as many tasks as the poisoned one: what of it is the load and not the poison.
//!
//! The poisoned agent's model panics, as a bug of ours would: each of its tasks is three crashes of a step, with the
//! product's waits between them, a dead letter at the end, and lines in the log, which is written to a file as a node's would be.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::interval;
use troupe_actors::roster::Member;
use troupe_actors::served::Served;
use troupe_runtime::bus::Routing;
use troupe_runtime::config::{Agents, parse_agent};
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::domain::chat::Completion;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::topic::Topic;
use troupe_runtime::model::{self, Model, Request};
use troupe_runtime::telemetry::logs;
use troupe_tests::wait::{PATIENCE, until};

use crate::figure::{Figure, percentile};
use crate::node::{Node, Place};

const NAMES: [&str; 4] = ["poison_p50", "poison_p99", "poison_control_p50", "poison_control_p99"];
/// The neighbours' tasks of a slice, and the mean of the time between two. They come at random: at a fixed pace none of them would ever
/// meet another, and whoever came beside them would be the first that they meet.
const TASKS: usize = 400;
const EVERY: Duration = Duration::from_millis(5);
/// Slices of a round. A hundredth of the tasks is as slow as a few syncs of the disk make them: short slices in turn, for these to
/// come to all alike.
const SLICES: usize = 5;
/// So long the agent beside them has been at it when a slice begins: every attempt of its tasks is among what goes on by then.
const LEAD: Duration = Duration::from_secs(2);
/// The pace of the tasks of the agent beside them.
const BESIDE_EVERY: Duration = Duration::from_millis(50);

/// The agents beside them: the one whose model panics, and the well one.
const TASTER: &str = "taster";
const WELL: &str = "well";

fn spec(name: &str) -> String {
    format!(
        "name: {name}\ntype: bench\nexecution_mode: autonomous\ninstructions: Taste.\n\
         llm_config: {{provider: scripted, model: taste, script: [{{reply: sweet}}]}}\n"
    )
}

/// A bug of ours.
struct Poison;

#[async_trait]
impl Model for Poison {
    #[expect(clippy::panic, reason = "that is what it is for")]
    async fn complete(&self, _request: &Request) -> Result<Completion, model::Error> {
        panic!("swallowed poison")
    }
}

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    NAMES.map(str::to_owned).into()
}

/// All figures of this file. The process has a log from here on.
pub(crate) async fn measure(dir: &Path, rounds: usize) -> Vec<Figure> {
    let options = logs::Options { output: logs::Output::File(dir.join("log")), ..logs::Options::default() };
    logs::install(options).expect("a log");
    let ports = Place::new(&dir.join("node"), None).open().await;
    let served = |name| {
        let spec = parse_agent("beside.yaml", &spec(name), &Agents::default()).expect("a spec");
        Served::prepare(&ports, spec).expect("it can be served")
    };
    let taster = Served { model: Arc::new(Poison), ..served(TASTER) };
    let members =
        [taster, served(WELL)].map(|served| Member { spec: served.spec.clone(), served: Ok(Arc::new(served)) });
    let mut node = Node::beside(ports, members.into()).await;
    node.listen().await;
    let mut series: [Vec<f64>; 6] = <_>::default();
    let mut letters = 0;
    for round in 0..=rounds {
        let (mut calm, mut accompanied, mut poisoned) = (Vec::new(), Vec::new(), Vec::new());
        for slice in 0..SLICES {
            // They come alike to all three.
            let seed = (round * SLICES + slice) as u64;
            calm.extend(node.as_they_come(TASKS, EVERY, seed).await);
            accompanied.extend(beside(&node, WELL, seed).await.0);
            let (latencies, swallowed) = beside(&node, TASTER, seed).await;
            poisoned.extend(latencies);
            letters += swallowed;
            // Nothing of this slice reaches into the next.
            until("the dead letters", PATIENCE, async || (given_up(&node).await == letters).then_some(())).await;
        }
        // The first round warms caches and statements.
        if round > 0 {
            let at = |latencies: &[f64]| [percentile(latencies, 0.5), percentile(latencies, 0.99)];
            let values = [at(&poisoned), at(&accompanied), at(&calm)].concat();
            series.iter_mut().zip(values).for_each(|(series, value)| series.push(value));
        }
    }
    node.stop().await;
    let [p50, p99, control_p50, control_p99, calm_p50, calm_p99] = series;
    let conditions = format!(
        "{SLICES} times {TASKS} tasks, {} a second at random, while {} tasks a second of another agent crash three times each; {letters} dead letters; \
         embedded parts; control: as many of a well agent",
        1000 / EVERY.as_millis(),
        1000 / BESIDE_EVERY.as_millis()
    );
    let figure = |name: &str, rounds, calm| Figure {
        name: name.to_owned(),
        unit: "ms",
        rounds,
        baseline: Some(("ms, while it has nothing to do", calm)),
        conditions: conditions.clone(),
    };
    vec![
        figure(NAMES[0], p50, calm_p50.clone()),
        figure(NAMES[1], p99, calm_p99.clone()),
        figure(NAMES[2], control_p50, calm_p50),
        figure(NAMES[3], control_p99, calm_p99),
    ]
}

/// The neighbours' latencies, and how many tasks the agent beside them was given meanwhile.
async fn beside(node: &Node, agent: &str, seed: u64) -> (Vec<f64>, u64) {
    let agent: AgentName = agent.parse().expect("a name");
    let (over, mut given) = (Notify::new(), 0);
    // Never left in the middle of a publication: one that was made and not counted would be waited for in vain.
    let giving = async {
        let mut pace = interval(BESIDE_EVERY);
        loop {
            tokio::select! {
                () = over.notified() => return,
                _ = pace.tick() => {}
            }
            let event = Event::new(Topic::agent_task(&agent), "/bench", json!({"input": "Taste this."}));
            node.ports.bus.publish(Arc::new(event), Routing::Mandatory).await.expect("published");
            given += 1;
        }
    };
    let asking = async {
        tokio::time::sleep(LEAD).await;
        let latencies = node.as_they_come(TASKS, EVERY, seed).await;
        over.notify_one();
        latencies
    };
    let (latencies, ()) = join(asking, giving).await;
    (latencies, given)
}

async fn given_up(node: &Node) -> u64 {
    node.ports.bus.health().await.expect("the bus").dead_letters
}
