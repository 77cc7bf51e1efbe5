//! How much of a commit a task costs, by the server's own count, and how many writes share one.
//!
//! A node with its state on `PostgreSQL` works on 256 tasks at a time; `pg_stat_database` counts every transaction of
//! that database, ours and all reads. A server's processes tell their counts at times, and at the latest when they end:
//! so the node is started and stopped around the load, and its start is counted too, but for the tables' making.

use std::path::Path;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use troupe_tests::postgres::Postgres;
use troupe_tests::wait::{PATIENCE, until};

use crate::figure::Figure;
use crate::node::{Node, Place};

const NAMES: [&str; 2] = ["xact_commit_postgres", "batch_postgres"];

const LOAD: Duration = Duration::from_secs(3);
const TASKS: usize = 256;
const DATABASE: &str = "sharing";
const COMMITS: &str = "select xact_commit from pg_stat_database where datname = $1";
const CONNECTED: &str = "select numbackends from pg_stat_database where datname = $1";

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    NAMES.map(str::to_owned).into()
}

/// All figures of this file.
pub(crate) async fn measure(dir: &Path, postgres: Option<&Postgres>, rounds: usize) -> Vec<Figure> {
    let Some(server) = postgres else {
        return Vec::new();
    };
    let url = server.create(DATABASE).await;
    // The tables.
    Node::start(&Place::new(dir, Some(&url))).await.stop().await;
    let mut before = commits(server).await;
    let (mut by_server, mut by_us, mut batches, mut distribution) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for _ in 0..rounds {
        let node = Node::start(&Place::new(dir, Some(&url))).await;
        // Each asker's last task ended after the time was over.
        let tasks = (node.load(TASKS, LOAD).await.latencies_ms.len() + TASKS) as f64;
        let (ports, metrics) = (node.ports.clone(), node.ports.metrics.clone());
        node.stop().await;
        let written = ports.written();
        let now = commits(server).await;
        by_server.push((now - std::mem::replace(&mut before, now)) as f64 / tasks);
        by_us.push(written.transactions as f64 / tasks);
        batches.push(written.operations as f64 / written.transactions as f64);
        distribution = spread(&metrics.render());
    }
    vec![
        Figure {
            name: NAMES[0].to_owned(),
            unit: "commits/task",
            rounds: by_server,
            baseline: Some(("by our writer", by_us)),
            conditions: format!("pg_stat_database.xact_commit, reads and a start included, {TASKS} tasks in flight"),
        },
        Figure {
            name: NAMES[1].to_owned(),
            unit: "writes/commit",
            rounds: batches,
            baseline: None,
            conditions: format!("the last round's transactions by size: {distribution}"),
        },
    ]
}

/// What the server has counted, when nobody is connected who could know more.
async fn commits(server: &Postgres) -> i64 {
    let mut admin = PgConnection::connect(&server.url("postgres")).await.expect("the server answers");
    until("the connections' end", PATIENCE, async || {
        let connected = sqlx::query_scalar::<_, i32>(CONNECTED).bind(DATABASE).fetch_one(&mut admin);
        (connected.await.expect("a count") == 0).then_some(())
    })
    .await;
    let commits = sqlx::query_scalar(COMMITS).bind(DATABASE).fetch_one(&mut admin).await.expect("a count");
    admin.close().await.expect("a goodbye");
    commits
}

/// Shares of the buckets of `troupe_store_batch`, as a metrics page has them.
fn spread(page: &str) -> String {
    let buckets = page.lines().filter_map(|line| line.strip_prefix("troupe_store_batch_bucket{"));
    let buckets: Vec<(&str, f64)> = buckets
        .filter_map(|line| {
            let (labels, count) = line.rsplit_once(' ')?;
            let most = labels.split("le=\"").nth(1)?.split('"').next()?;
            Some((most, count.parse().ok()?))
        })
        .collect();
    let all = buckets.last().map_or(f64::NAN, |(_, count)| *count);
    let mut below = 0.0;
    let shares = buckets.into_iter().filter_map(|(most, count)| {
        let share = (count - std::mem::replace(&mut below, count)) / all * 100.0;
        (share >= 0.5).then(|| format!("to {most}: {share:.0} %"))
    });
    shares.collect::<Vec<_>>().join(", ")
}
