//! Tasks a second from a full queue: on RabbitMQ and PostgreSQL, and on the embedded parts; beside the lean pipe of the same
//! shape and what the client library does alone, in the same rounds.
//!
//! The queue is filled while no node runs. Then a node starts, works everything off with a model that answers at once, and
//! publishes each answer, confirmed; the rate is from the first answer to the last. As with the pipe, the answers stay in their
//! queue meanwhile; a tap counts them. What the process used of its processors is counted too. Before each of the three the tables of all
//! are cleaned: a cleaning that the server comes to do by itself would fall to whoever happens to be measured then.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::try_join_all;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use troupe_runtime::bus::Routing;
use troupe_runtime::bus::tap::{Passed, Tap};
use troupe_runtime::domain::agent::{AgentName, SlackReply};
use troupe_runtime::domain::answer::{Answered, Origin};
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::domain::topic::{Topic, TopicPattern};
use troupe_runtime::ports::Ports;
use troupe_tests::postgres::Postgres;
use troupe_tests::rabbitmq::RabbitMq;
use troupe_tests::wait::until;

use crate::figure::Figure;
use crate::node::{Node, Place};
use crate::pipe::{PATIENCE, Pipe, Shape, Texts};
use crate::processor::{Meter, Used};

const NAMES: [&str; 9] = [
    "drain_rabbitmq",
    "drain_routed_rabbitmq",
    "drain_embedded",
    "drain_cpu_rabbitmq",
    "drain_broker_rabbitmq",
    "drain_database_rabbitmq",
    "drain_rows_rabbitmq",
    "raw_publish_rabbitmq",
    "raw_consume_rabbitmq",
];

/// Tasks of a round.
const TASKS: usize = 20_000;
/// Between two looks at what was confirmed; a round takes some 400 of them.
const LOOK: Duration = Duration::from_millis(5);
/// Events that are published side by side.
const WINDOW: usize = 500;
/// Characters of a task's text.
const TEXT_CHARS: usize = 900;

/// What a drain came to.
struct Drained {
    rate: f64,
    /// Microseconds a task.
    used: Used,
    rows: f64,
}

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    NAMES.map(str::to_owned).into()
}

/// All figures of this file.
pub(crate) async fn measure(dir: &Path, postgres: Option<&Postgres>, rounds: usize) -> Vec<Figure> {
    let (Some(server), Some(broker)) = (postgres, RabbitMq::start().await) else {
        return Vec::new();
    };
    let vhosts = broker.create("bench", 3);
    let databases = [server.create("pipe").await, server.create("routed_pipe").await, server.create("drain").await];
    let pipe = Pipe::open(&broker.url(&vhosts[0]), &databases[0], texts(), Shape::Lean).await;
    let routed = Pipe::open(&broker.url(&vhosts[2]), &databases[1], texts(), Shape::Routed).await;
    let (amqp, database) = (broker.url(&vhosts[1]), databases[2].clone());
    let at_the_edge = Place { dir: dir.join("edge"), database_url: Some(database), amqp_url: Some(amqp) };
    let embedded = Place { dir: dir.join("embedded"), database_url: None, amqp_url: None };
    for place in [&at_the_edge, &embedded] {
        // The tables and the queues.
        Node::start(place).await.stop().await;
    }
    let meter = Meter::new(broker.id(), server.id());
    let mut series: [Vec<f64>; 13] = <_>::default();
    for round in 0..=rounds {
        let publish = pipe.fill(TASKS).await;
        let consume = pipe.consume(TASKS).await;
        pipe.fill(TASKS).await;
        clean(&databases).await;
        let before = meter.read();
        let lean = pipe.drain(TASKS).await;
        let pipes = meter.read().since(before, TASKS as f64);
        routed.fill(TASKS).await;
        clean(&databases).await;
        let through_topics = routed.drain(TASKS).await;
        clean(&databases).await;
        let ours = drained(&at_the_edge, meter).await;
        let alone = drained(&embedded, meter).await;
        // The first round warms caches and statements.
        if round > 0 {
            let Used { own, broker, database } = ours.used;
            let of_ours = [ours.rate, own, broker, database, ours.rows];
            let of_the_pipe = [lean, through_topics, pipes.own, pipes.broker, pipes.database];
            let values = of_ours.into_iter().chain(of_the_pipe).chain([alone.rate, publish, consume]);
            series.iter_mut().zip(values).for_each(|(series, value)| series.push(value));
        }
    }
    let [
        ours,
        own,
        brokers,
        databases,
        rows,
        lean,
        through_topics,
        lean_own,
        lean_brokers,
        lean_databases,
        alone,
        publish,
        consume,
    ] = series;
    let figure = |name: &str, unit, rounds, baseline, conditions: &str| Figure {
        name: name.to_owned(),
        unit,
        rounds,
        baseline,
        conditions: conditions.to_owned(),
    };
    let of_queue = format!("{TASKS} tasks of 1 KiB from a full quorum queue, each answer published and confirmed");
    let used = |name: &str, ours, lean, of: &str| {
        figure(
            name,
            "us/task",
            ours,
            Some(("us/task, the lean pipe", lean)),
            &format!("processor time of {of} meanwhile"),
        )
    };
    vec![
        figure(NAMES[0], "tasks/s", ours.clone(), Some(("tasks/s, the lean pipe", lean)), &of_queue),
        figure(NAMES[1], "tasks/s", ours.clone(), Some(("tasks/s, the routed pipe", through_topics)), "the same"),
        figure(NAMES[2], "tasks/s", alone, Some(("tasks/s on RabbitMQ and PostgreSQL", ours)), "the same in one file"),
        used(NAMES[3], own, lean_own, "this process"),
        used(NAMES[4], brokers, lean_brokers, "the broker"),
        used(NAMES[5], databases, lean_databases, "the database"),
        figure(NAMES[6], "rows/task", rows, None, "inserted, updated or deleted in PostgreSQL; one of them a deletion"),
        figure(NAMES[7], "events/s", publish, None, "the client library alone, 1000 confirms outstanding"),
        figure(NAMES[8], "events/s", consume, None, "the client library alone, an acknowledgement for 64"),
    ]
}

/// Does what the server would come to do by itself.
pub(crate) async fn clean(databases: &[String]) {
    for database in databases {
        let mut connection = PgConnection::connect(database).await.expect("the database");
        sqlx::raw_sql("vacuum (analyze)").execute(&mut connection).await.expect("it is cleaned");
        connection.close().await.expect("a goodbye");
    }
}

/// Fills the queue of a node that does not run, and has one work it off.
async fn drained(place: &Place, meter: Meter) -> Drained {
    let ports = place.open().await;
    let agent: AgentName = "bench".parse().expect("a name");
    for _ in 0..TASKS / WINDOW {
        let published = (0..WINDOW).map(|_| ports.bus.publish(question(&agent), Routing::Mandatory));
        try_join_all(published).await.expect("published");
    }
    ports.close().await;
    drop(ports);

    let ports = place.open().await;
    let mut answers = Answers::of(&ports, TASKS);
    let mut node = Node::unheard(ports).await;
    let mut count = 0;
    while count == 0 {
        count = answers.more().await;
    }
    let (begun, before, already) = (Instant::now(), meter.read(), count);
    while count < TASKS {
        count += answers.more().await;
    }
    let tasks = (TASKS - already) as f64;
    let (elapsed, used) = (begun.elapsed().as_secs_f64(), meter.read().since(before, tasks));
    take_out(&mut node, TASKS).await;
    let ports = node.ports.clone();
    node.stop().await;
    Drained { rate: tasks / elapsed, used, rows: ports.written().rows as f64 / TASKS as f64 }
}

/// Counts answers that the bus has confirmed; they stay in their queue.
pub(crate) struct Answers(Tap);

impl Answers {
    /// Those of a node on these parts, from now on; so many may come between two looks.
    pub(crate) fn of(ports: &Ports, room: usize) -> Self {
        let topic: TopicPattern = "agent.output.*".parse().expect("a pattern");
        Self(ports.taps.open(topic, room, 1).expect("a tap"))
    }

    /// How many more there are after a while. Looked at now and then: to be woken for each would be a turn of another thread for each.
    pub(crate) async fn more(&mut self) -> usize {
        tokio::time::sleep(LOOK).await;
        let mut more = 0;
        while let Some(passed) = self.0.next().now_or_never() {
            more += match passed.expect("the node runs") {
                Passed::Event(_) => 1,
                Passed::Missed(more) => more as usize,
            };
        }
        more
    }
}

/// Takes so many answers out of their queue, for the next round.
pub(crate) async fn take_out(node: &mut Node, answers: usize) {
    node.listen().await;
    let heard = node.heard.clone();
    until("the queue of answers to be empty", PATIENCE, async || {
        (heard.load(Ordering::Relaxed) >= answers).then_some(())
    })
    .await;
}

/// A task of 1 KiB for an agent.
pub(crate) fn question(agent: &AgentName) -> Arc<Event> {
    Arc::new(Event::new(Topic::agent_task(agent), "/bench", json!({"text": "x".repeat(TEXT_CHARS)})))
}

/// What the product sends for such a task, as long as it is.
pub(crate) fn texts() -> Texts {
    let agent: AgentName = "bench".parse().expect("a name");
    let question = question(&agent);
    let task = TaskId::derive(&question.id, agent.as_str());
    let outcome = Outcome::Succeeded { output: "done".to_owned() };
    let answered = Answered { task_id: task, agent, outcome, origin: Origin::of(&question), reply: SlackReply::Thread };
    let answer = answered.event(task.run(0).step(0), &question, question.time);
    let text = |event: &Event| serde_json::to_string(event).expect("JSON");
    Texts { question: text(&question), id: question.id.clone(), answer: text(&answer).into() }
}
