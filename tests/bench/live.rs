//! Publishing and consuming at once, on RabbitMQ and PostgreSQL: how many tasks a second, and how long one takes at a pace that
//! leaves room; beside the lean pipe doing the same, in the same rounds.
//!
//! A task takes from when it is handed to the bus's client until the broker has confirmed its answer. At a thousand a second the
//! first tenth is not counted. As in a drain, answers stay in their queue on all sides, and tables are cleaned before anybody is measured.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::sync::Semaphore;
use troupe_runtime::bus::Routing;
use troupe_runtime::bus::tap::{Passed, Tap};
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::domain::topic::TopicPattern;
use troupe_tests::postgres::Postgres;
use troupe_tests::rabbitmq::RabbitMq;

use crate::drain::{Answers, clean, question, take_out, texts};
use crate::figure::Figure;
use crate::node::{Node, Place};
use crate::pipe::{Pipe, Shape};

const NAMES: [&str; 4] = ["live_rabbitmq", "live_routed_rabbitmq", "paced_p50_rabbitmq", "paced_p99_rabbitmq"];
/// Tasks of a round, as fast as it goes.
const TASKS: usize = 20_000;
/// Events that await their confirm meanwhile.
const WINDOW: usize = 1_000;
/// Tasks of a round at a pace.
const PACED: usize = 5_000;
const EVERY: Duration = Duration::from_millis(1);

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    NAMES.map(str::to_owned).into()
}

/// All figures of this file.
pub(crate) async fn measure(dir: &Path, postgres: Option<&Postgres>, rounds: usize) -> Vec<Figure> {
    let (Some(server), Some(broker)) = (postgres, RabbitMq::start().await) else {
        return Vec::new();
    };
    let vhosts = broker.create("live", 3);
    let databases = [server.create("live_pipe").await, server.create("live_routed").await, server.create("live").await];
    let pipe = Pipe::open(&broker.url(&vhosts[0]), &databases[0], texts(), Shape::Lean).await;
    let routed = Pipe::open(&broker.url(&vhosts[2]), &databases[1], texts(), Shape::Routed).await;
    let (amqp, database) = (broker.url(&vhosts[1]), databases[2].clone());
    let place = Place { dir: dir.join("edge"), database_url: Some(database), amqp_url: Some(amqp) };
    let mut series: [Vec<f64>; 7] = <_>::default();
    for round in 0..=rounds {
        clean(&databases).await;
        let lean = piped(&pipe).await;
        clean(&databases).await;
        let through_topics = piped(&routed).await;
        clean(&databases).await;
        let lean_latencies = piped_at_a_pace(&pipe).await;
        let mut node = Node::unheard(place.open().await).await;
        clean(&databases).await;
        let ours = live(&node).await;
        clean(&databases).await;
        let latencies = at_a_pace(&node).await;
        take_out(&mut node, TASKS + PACED).await;
        node.stop().await;
        // The first round warms caches and statements.
        if round > 0 {
            let at = |latencies: &[f64], part: f64| latencies[(latencies.len() as f64 * part) as usize];
            let (p50, p99) = (at(&latencies, 0.5), at(&latencies, 0.99));
            let values = [ours, lean, through_topics, p50, at(&lean_latencies, 0.5), p99, at(&lean_latencies, 0.99)];
            series.iter_mut().zip(values).for_each(|(series, value)| series.push(value));
        }
    }
    let [ours, lean, through_topics, p50, lean_p50, p99, lean_p99] = series;
    let figure = |name: &str, unit, rounds, baseline, conditions: &str| Figure {
        name: name.to_owned(),
        unit,
        rounds,
        baseline: Some(baseline),
        conditions: conditions.to_owned(),
    };
    let at_once =
        format!("{TASKS} tasks of 1 KiB, published and worked off at once, each answer published and confirmed");
    let paced = format!("{PACED} tasks, {} a second, from publish to confirmed answer", 1000 / EVERY.as_millis());
    vec![
        figure(NAMES[0], "tasks/s", ours.clone(), ("tasks/s, the lean pipe", lean), &at_once),
        figure(NAMES[1], "tasks/s", ours, ("tasks/s, the routed pipe", through_topics), "the same"),
        figure(NAMES[2], "ms", p50, ("ms, the lean pipe", lean_p50), &paced),
        figure(NAMES[3], "ms", p99, ("ms, the lean pipe", lean_p99), &paced),
    ]
}

async fn piped(pipe: &Pipe) -> f64 {
    let begun = Instant::now();
    tokio::join!(pipe.fill(TASKS), pipe.drain(TASKS));
    TASKS as f64 / begun.elapsed().as_secs_f64()
}

async fn piped_at_a_pace(pipe: &Pipe) -> Vec<f64> {
    let ends = Arc::new(Mutex::new(vec![None; PACED]));
    let noted = ends.clone();
    let note = Arc::new(move |place: usize, at: Instant| {
        noted.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(at);
    });
    let (begun, _) = tokio::join!(pipe.paced(PACED, EVERY), pipe.work(PACED, note));
    let ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
    in_order(begun.into_iter().zip(ends.iter().map(|end| end.expect("each has an end"))))
}

async fn live(node: &Node) -> f64 {
    let (mut answers, agent) = (Answers::of(&node.ports, TASKS), agent());
    let begun = Instant::now();
    let room = Arc::new(Semaphore::new(WINDOW));
    let published = (0..TASKS).map(|_| {
        let (bus, room, event) = (&node.ports.bus, &room, question(&agent));
        async move {
            let _place = room.acquire().await.expect("open");
            bus.publish(event, Routing::Mandatory).await
        }
    });
    let answered = async {
        let mut count = 0;
        while count < TASKS {
            count += answers.more().await;
        }
    };
    let (published, ()) = tokio::join!(try_join_all(published), answered);
    published.expect("published");
    TASKS as f64 / begun.elapsed().as_secs_f64()
}

async fn at_a_pace(node: &Node) -> Vec<f64> {
    let (mut answers, agent) = (tap(node, PACED), agent());
    let begun = Mutex::new(HashMap::with_capacity(PACED));
    let publishing = async {
        let mut pace = tokio::time::interval(EVERY);
        let mut confirms = tokio::task::JoinSet::new();
        for _ in 0..PACED {
            let event = question(&agent);
            pace.tick().await;
            begun.lock().unwrap_or_else(PoisonError::into_inner).insert(event.id.clone(), Instant::now());
            let bus = node.ports.bus.clone();
            confirms.spawn(async move { bus.publish(event, Routing::Mandatory).await });
        }
        assert!(confirms.join_all().await.iter().all(Result::is_ok), "not all was published");
    };
    let answered = async {
        let mut ends = Vec::with_capacity(PACED);
        while ends.len() < PACED {
            // The tap has room for all of them.
            if let Some(Passed::Event(answer)) = answers.next().await {
                ends.push((answer.causationid.clone().expect("an answer says to what"), Instant::now()));
            }
        }
        ends
    };
    let ((), ends) = tokio::join!(publishing, answered);
    let begun = begun.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut spans: Vec<(Instant, Instant)> = ends.into_iter().map(|(id, end)| (begun[&id], end)).collect();
    spans.sort_unstable();
    in_order(spans.into_iter())
}

/// Latencies in milliseconds, in ascending order, without the first tenth of what was asked.
fn in_order(spans: impl Iterator<Item = (Instant, Instant)>) -> Vec<f64> {
    let mut latencies: Vec<f64> =
        spans.skip(PACED / 10).map(|(begun, end)| (end - begun).as_secs_f64() * 1000.0).collect();
    latencies.sort_by(f64::total_cmp);
    latencies
}

fn tap(node: &Node, room: usize) -> Tap {
    let answers: TopicPattern = "agent.output.*".parse().expect("a pattern");
    node.ports.taps.open(answers, room, 1).expect("a tap")
}

fn agent() -> AgentName {
    "bench".parse().expect("a name")
}
