//! The bus on a real RabbitMQ: everything that every bus does, beside the embedded one; and what only a broker can do to one.
//!
//! One broker of our own for all cases, a fresh vhost for each; a line a case, with both adapters. An argument picks the cases
//! whose names contain it. Without RabbitMQ it says `skipped`, and fails when `CI` is set: there nothing may be passed over.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test: what fails here fails it, and it prints its own list"
)]

#[path = "rabbitmq/faults.rs"]
mod faults;
#[path = "rabbitmq/frames.rs"]
mod frames;
#[path = "rabbitmq/nodes.rs"]
mod nodes;
#[path = "rabbitmq/tls.rs"]
mod tls;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt as _;
use tempfile::TempDir;
use troupe_runtime::bus::conformance::{BoxHarness, Case, Harness, Verdict, cases};
use troupe_runtime::bus::embedded::EmbeddedBus;
use troupe_runtime::bus::rabbitmq::{self, RabbitBus};
use troupe_runtime::bus::{Bus, Options};
use troupe_runtime::sqlite::{self, Database};
use troupe_tests::rabbitmq::RabbitMq;

/// A vhost of one case; opening it again finds what was there.
struct Vhost {
    url: String,
    options: Options,
}

#[async_trait]
impl Harness for Vhost {
    async fn open(&mut self, options: Options) -> Result<Arc<dyn Bus>, String> {
        self.options = options;
        self.reopen().await
    }

    async fn reopen(&mut self) -> Result<Arc<dyn Bus>, String> {
        let options = rabbitmq::Options { bus: self.options.clone(), ..rabbitmq::Options::default() };
        let bus = RabbitBus::open(&self.url.as_str().into(), options).map_err(|error| error.to_string())?;
        Ok(bus)
    }
}

/// A folder of one case.
struct Folder {
    dir: TempDir,
    options: Options,
}

#[async_trait]
impl Harness for Folder {
    async fn open(&mut self, options: Options) -> Result<Arc<dyn Bus>, String> {
        self.options = options;
        self.reopen().await
    }

    async fn reopen(&mut self) -> Result<Arc<dyn Bus>, String> {
        // The lock goes with the last of the former life's tasks.
        let database = loop {
            match Database::open(self.dir.path(), &sqlite::Options::default()).await {
                Err(sqlite::Error::InUse(_)) => tokio::task::yield_now().await,
                opened => break opened.map_err(|error| error.to_string())?,
            }
        };
        let bus = EmbeddedBus::open(database, self.options.clone()).await.map_err(|error| error.to_string())?;
        Ok(bus)
    }
}

/// Runs a case; answers how long it took beside its verdict.
async fn run(case: Case, harness: BoxHarness) -> (Duration, Verdict) {
    let begun = Instant::now();
    let verdict = AssertUnwindSafe((case.run)(harness)).catch_unwind().await;
    (begun.elapsed(), verdict.unwrap_or_else(|_| Err("it panicked".to_owned())))
}

fn cell((took, verdict): &(Duration, Verdict)) -> String {
    format!("{:<6} {:>6} ms", if verdict.is_ok() { "ok" } else { "FAILED" }, took.as_millis())
}

/// Every behaviour of a bus, on both adapters; answers how many failed.
async fn conformance(broker: &RabbitMq, wanted: Option<&str>) -> usize {
    let cases: Vec<Case> =
        cases().into_iter().filter(|case| wanted.is_none_or(|wanted| case.name.contains(wanted))).collect();
    let vhosts = broker.create("case", cases.len());
    println!("{:<16} | {:<16} | behaviour", "embedded", "rabbitmq");
    let mut failed = 0;
    for (case, vhost) in cases.into_iter().zip(vhosts) {
        let folder = Folder { dir: tempfile::tempdir().unwrap(), options: Options::default() };
        let embedded = run(case, Box::new(folder)).await;
        let rabbitmq = run(case, Box::new(Vhost { url: broker.url(&vhost), options: Options::default() })).await;
        println!("{} | {} | {}", cell(&embedded), cell(&rabbitmq), case.name);
        for (adapter, (_, verdict)) in [("embedded", embedded), ("rabbitmq", rabbitmq)] {
            if let Err(what) = verdict {
                println!("FAILED on {adapter}: {}: {what}", case.name);
                failed += 1;
            }
        }
    }
    failed
}

/// What only a broker can do; answers how many failed.
async fn alone(broker: &mut RabbitMq, wanted: Option<&str>) -> usize {
    let chosen = nodes::CASES.into_iter().chain(faults::CASES).chain(frames::CASES).chain(tls::CASES);
    let chosen: Vec<_> = chosen.filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted))).collect();
    let vhosts = broker.create("alone", chosen.len());
    let mut failed = 0;
    for ((name, run), vhost) in chosen.into_iter().zip(vhosts) {
        let begun = Instant::now();
        let url = broker.url(&vhost);
        let outcome = AssertUnwindSafe(run(broker, url)).catch_unwind().await;
        let took = begun.elapsed().as_millis();
        match outcome.unwrap_or_else(|_| Err("it panicked".to_owned())) {
            Ok(seen) => println!("ok     {took:>6} ms | {name}\n         {seen}"),
            Err(what) => {
                println!("FAILED {took:>6} ms | {name}: {what}");
                failed += 1;
            }
        }
    }
    failed
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    troupe_tests::tls();
    let begun = Instant::now();
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let Some(mut broker) = RabbitMq::start().await else { return ExitCode::SUCCESS };
    println!("the broker answers after {:.1} s", begun.elapsed().as_secs_f64());
    let failed = conformance(&broker, wanted.as_deref()).await + alone(&mut broker, wanted.as_deref()).await;
    println!("{:.1} s, {failed} failed", begun.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
