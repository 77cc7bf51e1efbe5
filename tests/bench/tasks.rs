//! Tasks a second: a node's own parts in this process, an agent whose model answers at once, a closed loop of askers.
//!
//! On both databases in the same rounds. `SQLite` keeps state and bus in one file with one writer; on `PostgreSQL` the
//! state goes to the server and the bus stays in the file. What the server itself says of commits and batches is in
//! [`crate::sharing`].

use std::path::Path;
use std::time::Duration;

use troupe_tests::postgres::Postgres;

use crate::commits::Commits;
use crate::figure::{Figure, median, percentile};
use crate::node::{Node, Place};

/// What is measured on each database.
const NAMES: [&str; 4] = ["tasks_1", "tasks_32", "tasks_256", "rows"];
/// In flight, by name.
const LOADS: [(&str, usize); 3] = [(NAMES[0], 1), (NAMES[1], 32), (NAMES[2], 256)];

const ROUND: Duration = Duration::from_secs(2);
const BASELINE_ROUND: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_secs(1);

/// One node, a raw client of its database, and what they did.
struct Subject {
    name: &'static str,
    node: Node,
    commits: Commits,
    loads: [Rounds; LOADS.len()],
    rows: Vec<f64>,
}

/// One load, round by round.
#[derive(Default)]
struct Rounds {
    rates: Vec<f64>,
    baselines: Vec<f64>,
    latencies_ms: Vec<f64>,
}

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    NAMES.iter().flat_map(|name| ["sqlite", "postgres"].map(|on| format!("{name}_{on}"))).collect()
}

/// All figures of this file.
pub(crate) async fn measure(dir: &Path, postgres: Option<&Postgres>, rounds: usize) -> Vec<Figure> {
    let mut subjects = vec![Subject {
        name: "sqlite",
        node: Node::start(&Place::new(&dir.join("sqlite"), None)).await,
        commits: Commits::open(dir).await,
        loads: <_>::default(),
        rows: Vec::new(),
    }];
    if let Some(server) = postgres {
        let (tasks, raw) = (server.create("tasks").await, server.create("tasks_raw").await);
        subjects.push(Subject {
            name: "postgres",
            node: Node::start(&Place::new(&dir.join("postgres"), Some(&tasks))).await,
            commits: Commits::on_server(&raw).await,
            loads: <_>::default(),
            rows: Vec::new(),
        });
    }
    for subject in &mut subjects {
        subject.warm_up().await;
    }
    for _ in 0..rounds {
        for subject in &mut subjects {
            subject.round().await;
        }
    }
    let mut figures = Vec::new();
    for subject in subjects {
        figures.extend(subject.figures().await);
    }
    figures
}

impl Subject {
    async fn warm_up(&mut self) {
        for (_, load) in LOADS {
            self.node.load(load, WARM_UP).await;
        }
        self.commits.rate(WARM_UP).await;
    }

    async fn round(&mut self) {
        for ((_, load), of_load) in LOADS.iter().zip(&mut self.loads) {
            let calm = self.commits.rate(BASELINE_ROUND).await;
            let before = self.node.ports.written();
            let asked = self.node.load(*load, ROUND).await;
            // Before and after, for the disk is not alone.
            of_load.baselines.push(f64::midpoint(calm, self.commits.rate(BASELINE_ROUND).await));
            // By now the relay has told and forgotten everything, and acknowledgements are on disk.
            let after = self.node.ports.written();
            if *load == LOADS[LOADS.len() - 1].1 {
                // Each asker's last task ended after the time was over.
                let tasks = asked.latencies_ms.len() + load;
                self.rows.push((after.rows - before.rows) as f64 / tasks as f64);
            }
            of_load.rates.push(asked.rate);
            of_load.latencies_ms.extend(asked.latencies_ms);
        }
    }

    async fn figures(self) -> Vec<Figure> {
        let Self { name, node, loads, rows, .. } = self;
        let embedded = name == "sqlite";
        let bus = if embedded { node.rows_of_an_event().await } else { 0.0 };
        let written = node.ports.written();
        node.stop().await;

        let mut figures: Vec<_> = LOADS
            .iter()
            .zip(loads)
            .map(|((what, load), rounds)| rounds.figure(format!("{what}_{name}"), *load))
            .collect();
        let batch = written.operations as f64 / written.transactions as f64;
        let conditions = format!(
            "inserted, updated or deleted, 256 in flight; the store's share is {:.1}, one of them the outbox's deletion; \
             {batch:.0} writes in a transaction over the whole run",
            median(&rows) - bus * 2.0
        );
        // A task is two events: the one it was made from, and its answer.
        let of_bus = embedded.then(|| ("by the bus alone", rows.iter().map(|_| bus * 2.0).collect()));
        figures.push(Figure {
            name: format!("{}_{name}", NAMES[3]),
            unit: "rows/task",
            rounds: rows,
            baseline: of_bus,
            conditions,
        });
        figures
    }
}

impl Rounds {
    fn figure(self, name: String, load: usize) -> Figure {
        let at = |share| percentile(&self.latencies_ms, share);
        Figure {
            name,
            unit: "tasks/s",
            rounds: self.rates,
            baseline: Some(("commits/s, one client", self.baselines)),
            conditions: format!(
                "{load} in flight; from publish to answer p50 {:.1} ms, p99 {:.1} ms",
                at(0.5),
                at(0.99)
            ),
        }
    }
}
