//! Agents that think for 200 ms: a node of its own process on RabbitMQ and PostgreSQL, a full queue, and as many steps at a time as
//! there are places. The limit is arithmetic: places / 0.2 s.
//!
//! Counted by when the results say that they were made, between the first and the last quarter of them, when all places are taken.
//! Steps that are open at a time say whether the node takes more than it has places for; the rest of the queue stays in the broker.

use std::time::Duration;

use futures::future::try_join_all;
use sqlx::{Connection as _, PgConnection};
use troupe_runtime::bus::Routing;
use troupe_runtime::domain::agent::AgentName;
use troupe_tests::Stage;
use troupe_tests::postgres::Postgres;
use troupe_tests::rabbitmq::RabbitMq;
use troupe_tests::wait::PATIENCE;

use crate::drain::question;
use crate::figure::Figure;
use crate::node::Place;

const NAMES: [&str; 4] = ["thinking_256", "thinking_1024", "thinking_open", "thinking_resident"];
/// Places of an agent actor.
const PLACES: usize = 256;
/// Agent actors, by line.
const INSTANCES: [usize; 2] = [1, 4];
/// Rounds of work for every place.
const TURNS: usize = 24;
/// One thought, in seconds.
const THOUGHT: f64 = 0.2;
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const WINDOW: usize = 512;

/// Seconds from the end of the first quarter of so many last results to the end of the third.
const HALF: &str = "\
    select extract(epoch from percentile_disc(0.75) within group (order by at) \
                            - percentile_disc(0.25) within group (order by at))::float8 \
    from (select execution_timestamp as at from execution_results order by execution_timestamp desc limit $1) r";

/// What a round came to.
struct Seen {
    rate: f64,
    open: f64,
    resident: f64,
}

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    NAMES.map(str::to_owned).into()
}

/// All figures of this file.
pub(crate) async fn measure(postgres: Option<&Postgres>, rounds: usize) -> Vec<Figure> {
    let (Some(server), Some(broker)) = (postgres, RabbitMq::start().await) else {
        return Vec::new();
    };
    let mut rates = INSTANCES.map(|_| Vec::new());
    let (mut open, mut resident) = (Vec::new(), Vec::new());
    let vhosts = broker.create("thinking", INSTANCES.len());
    for ((instances, vhost), rates) in INSTANCES.into_iter().zip(&vhosts).zip(&mut rates) {
        let database = server.create(&format!("thinking_{instances}")).await;
        let amqp = broker.url(vhost);
        for _ in 0..rounds {
            let seen = thinks(instances, &database, &amqp).await;
            rates.push(seen.rate);
            if instances == INSTANCES[1] {
                open.push(seen.open);
                resident.push(seen.resident);
            }
        }
    }
    let places = INSTANCES[1] * PLACES;
    let figure = |name: &str, unit, values: Vec<f64>, baseline: Option<(&'static str, f64)>, conditions: String| {
        let baseline = baseline.map(|(of, value)| (of, vec![value; values.len()]));
        Figure { name: name.to_owned(), unit, rounds: values, baseline, conditions }
    };
    let mut figures = Vec::new();
    for (line, (instances, rates)) in INSTANCES.into_iter().zip(rates).enumerate() {
        let at_a_time = instances * PLACES;
        let limit = ("tasks/s, the arithmetic limit", at_a_time as f64 / THOUGHT);
        let conditions = format!("model answers after 200 ms, {at_a_time} steps at a time, from a full quorum queue");
        figures.push(figure(NAMES[line], "tasks/s", rates, Some(limit), conditions));
    }
    let limit = ("places", places as f64);
    figures.push(figure(NAMES[2], "steps", open, Some(limit), "the most that were open at a time".to_owned()));
    let conditions = format!("the most that the node's process held, {places} steps at a time");
    figures.push(figure(NAMES[3], "MiB", resident, None, conditions));
    figures
}

/// Fills the queue of a node that does not run, and has one work it off.
async fn thinks(instances: usize, database: &str, amqp: &str) -> Seen {
    let mut stage = Stage::new();
    let spec = format!(
        "name: bench\ntype: bench\nexecution_mode: autonomous\ninstructions: Answer.\ninstances: {instances}\n\
         llm_config: {{provider: scripted, model: slow, script: [{{reply: done, delay: 200ms}}]}}\n"
    );
    stage.agent("bench", &spec).set("DATABASE_URL", database).set("AMQP_URL", amqp);
    // The tables and the queue.
    let mut node = stage.start().await;
    node.terminate();
    node.ended(PATIENCE).await;

    let folder = tempfile::tempdir().expect("a folder");
    let place = Place {
        dir: folder.path().to_owned(),
        database_url: Some(database.to_owned()),
        amqp_url: Some(amqp.to_owned()),
    };
    let (ports, agent) = (place.open().await, "bench".parse::<AgentName>().expect("a name"));
    let tasks = instances * PLACES * TURNS;
    for _ in 0..tasks / WINDOW {
        let published = (0..WINDOW).map(|_| ports.bus.publish(question(&agent), Routing::Mandatory));
        try_join_all(published).await.expect("published");
    }
    ports.close().await;

    let mut line = PgConnection::connect(database).await.expect("the database");
    let before = count(&mut line, "select count(*) from execution_results").await;
    let mut node = stage.start().await;
    let mut seen = Seen { rate: 0.0, open: 0.0, resident: 0.0 };
    while count(&mut line, "select count(*) from execution_results").await < before + tasks {
        let open = count(&mut line, "select count(*) from steps where status in ('running', 'waiting')").await;
        seen.open = seen.open.max(open as f64);
        let resident = node.resident_bytes().unwrap_or_default() as f64 / 1024.0 / 1024.0;
        seen.resident = seen.resident.max(resident);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let half: f64 = sqlx::query_scalar(HALF).bind(tasks as i64).fetch_one(&mut line).await.expect("the results");
    seen.rate = tasks as f64 / 2.0 / half;
    node.terminate();
    node.ended(PATIENCE).await;
    seen
}

async fn count(line: &mut PgConnection, query: &'static str) -> usize {
    let rows: i64 = sqlx::query_scalar(query).fetch_one(line).await.expect("the database answers");
    usize::try_from(rows).expect("a count")
}
