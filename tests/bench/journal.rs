//! The journal: appends a second by many steps at once, one alone, and whole runs; beside raw commits, on both databases.
//!
//! In a round every load stands between two looks at what one raw client commits, and is held against their mean: a
//! neighbour who takes the disk away takes it from both.

use std::path::Path;
use std::time::Duration;

use troupe_tests::postgres::Postgres;

use crate::figure::{Figure, median, percentile};
use crate::load::{Client, Load, closed_loop};
use crate::state::{Appender, Runner, STEPS, State, entry_bytes};

/// What is measured on each database.
const NAMES: [&str; 8] =
    ["commits_1", "commits_32", "lonely", "appends_1", "appends_32", "appends_256", "run_1", "run_32"];

const LOAD: Duration = Duration::from_millis(600);
const BASELINE: Duration = Duration::from_millis(300);
const RAW_CLIENTS: usize = 32;
const APPENDERS: [usize; 3] = [1, 32, 256];
const RUNNERS: [usize; 2] = [1, 32];

/// What `LangGraph` on `PostgreSQL` did (0.2, a checkpoint a step, committed before the next), one run at a time and 16 at
/// once, in steps a second; on a machine where one raw client committed so many rows.
const PEER_STEPS: [f64; 2] = [533.0, 585.0];
const PEER_COMMITS: f64 = 5_000.0;

/// One database with all who work on it, and what they did, round by round.
struct Subject {
    state: State,
    appenders: Vec<Vec<Appender>>,
    runners: Vec<Vec<Runner>>,
    raw: Series,
    raw_many: Series,
    appends: Vec<Series>,
    runs: Vec<Series>,
}

/// One load, round by round, with its baseline.
#[derive(Default)]
struct Series {
    rates: Vec<f64>,
    /// The middle latency of each round, in milliseconds.
    middles: Vec<f64>,
    baselines: Vec<f64>,
    baseline_middles: Vec<f64>,
    latencies_ms: Vec<f64>,
    /// Operations in a transaction.
    batches: Vec<f64>,
}

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    NAMES.iter().flat_map(|name| ["sqlite", "postgres"].map(|on| format!("{name}_{on}"))).collect()
}

/// All figures of this file.
pub(crate) async fn measure(dir: &Path, postgres: Option<&Postgres>, rounds: usize) -> Vec<Figure> {
    let mut subjects = vec![Subject::new(State::sqlite(dir, RAW_CLIENTS).await).await];
    if let Some(server) = postgres {
        let url = server.create("journal").await;
        subjects.push(Subject::new(State::postgres(&url, RAW_CLIENTS).await).await);
    }
    // The first round warms caches and statements.
    for round in 0..=rounds {
        for subject in &mut subjects {
            subject.round(round > 0).await;
        }
    }
    let mut figures = Vec::new();
    for subject in subjects {
        figures.extend(subject.figures());
        subject.state.close().await;
    }
    figures
}

impl Subject {
    async fn new(state: State) -> Self {
        let mut appenders = Vec::new();
        for number in APPENDERS {
            appenders.push(state.appenders(number).await);
        }
        let runners = RUNNERS.map(|number| state.runners(number)).into();
        Self {
            state,
            appenders,
            runners,
            raw: Series::default(),
            raw_many: Series::default(),
            appends: APPENDERS.map(|_| Series::default()).into(),
            runs: RUNNERS.map(|_| Series::default()).into(),
        }
    }

    async fn round(&mut self, counts: bool) {
        let mut last = self.state.raw.load(1, BASELINE).await;
        for (clients, series) in self.appenders.iter_mut().zip(&mut self.appends) {
            last = between(&mut self.state, clients, last, series, counts).await;
        }
        for (clients, series) in self.runners.iter_mut().zip(&mut self.runs) {
            last = between(&mut self.state, clients, last, series, counts).await;
        }
        let many = self.state.raw.load(RAW_CLIENTS, LOAD).await;
        if counts {
            self.raw_many.baselines.push(last.rate);
            self.raw_many.take(many);
            self.raw.take(last);
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let name = |what: &str| format!("{what}_{}", self.state.name);
        let bytes = entry_bytes();
        let mut figures = vec![
            self.raw.figure(name("commits_1"), "commits/s", &format!("one client, rows of {bytes} bytes")),
            self.raw_many.figure(name("commits_32"), "commits/s", &format!("{RAW_CLIENTS} clients")),
            self.lonely(name("lonely")),
        ];
        for (number, series) in APPENDERS.iter().zip(&self.appends) {
            let conditions = format!("{number} steps at once, {bytes} bytes each");
            figures.push(series.figure(name(&format!("appends_{number}")), "appends/s", &conditions));
        }
        for ((number, series), peer) in RUNNERS.iter().zip(&self.runs).zip(PEER_STEPS) {
            let mut figure = series.figure(name(&format!("run_{number}")), "steps/s", "");
            figure.rounds.iter_mut().for_each(|rate| *rate *= f64::from(STEPS));
            let (plain, scaled) = (figure.value() / peer, figure.ratio().unwrap_or(f64::NAN) * PEER_COMMITS / peer);
            figure.conditions = format!(
                "runs of {STEPS} entries and their acceptance, {number} at once; {plain:.1} x LangGraph's {peer:.0}, \
                 {scaled:.1} x at its {PEER_COMMITS:.0} commits/s; {}",
                series.conditions()
            );
            figures.push(figure);
        }
        figures
    }

    fn lonely(&self, name: String) -> Figure {
        let alone = &self.appends[0];
        let micros = |rounds: &[f64]| rounds.iter().map(|ms| ms * 1000.0).collect();
        Figure {
            name,
            unit: "us",
            rounds: micros(&alone.middles),
            baseline: Some(("us a raw commit", micros(&alone.baseline_middles))),
            conditions: "the middle of one append after the other, nobody else writes".to_owned(),
        }
    }
}

impl Series {
    fn take(&mut self, load: Load) {
        self.rates.push(load.rate);
        self.middles.push(median(&load.latencies_ms));
        self.latencies_ms.extend(load.latencies_ms);
    }

    fn conditions(&self) -> String {
        let at = |share| percentile(&self.latencies_ms, share);
        let latencies = format!("p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99));
        if self.batches.is_empty() {
            return latencies;
        }
        format!("{latencies}; {:.0} writes a transaction", median(&self.batches))
    }

    fn figure(&self, name: String, unit: &'static str, conditions: &str) -> Figure {
        let baseline = (!self.baselines.is_empty()).then(|| ("commits/s, one client", self.baselines.clone()));
        let conditions = format!("{conditions}; {}", self.conditions());
        Figure { name, unit, rounds: self.rates.clone(), baseline, conditions }
    }
}

/// A load between two looks at the baseline, of which the first was taken before; answers the second.
async fn between<C: Client>(
    state: &mut State,
    clients: &mut Vec<C>,
    before: Load,
    series: &mut Series,
    counts: bool,
) -> Load {
    let written = state.written();
    let (back, load) = closed_loop(std::mem::take(clients), LOAD).await;
    *clients = back;
    let now = state.written();
    let after = state.raw.load(1, BASELINE).await;
    if counts {
        series.baselines.push(f64::midpoint(before.rate, after.rate));
        series.baseline_middles.push(f64::midpoint(median(&before.latencies_ms), median(&after.latencies_ms)));
        series.batches.push(
            (now.operations - written.operations) as f64 / (now.transactions - written.transactions).max(1) as f64,
        );
        series.take(load);
    }
    after
}
