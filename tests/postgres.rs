//! The store against a real PostgreSQL: everything that every store does, and what only a server can do to one.
//!
//! One server of our own for all cases, a fresh database for each; a line a case. An argument picks the cases whose
//! names contain it. Without PostgreSQL it says `skipped`, and fails when `CI` is set: there nothing may be passed over.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test: what fails here fails it, and it prints its own list"
)]

#[path = "postgres/alone.rs"]
mod alone;
#[path = "postgres/fence.rs"]
mod fence;
#[path = "postgres/lookups.rs"]
mod lookups;
#[path = "postgres/plans.rs"]
mod plans;
#[path = "postgres/race.rs"]
mod race;
#[path = "postgres/server.rs"]
mod server;
#[path = "postgres/succession.rs"]
mod succession;
#[path = "postgres/tls.rs"]
mod tls;

use std::process::ExitCode;
use std::time::Instant;

use async_trait::async_trait;
use troupe_runtime::postgres::{Database, Options};
use troupe_runtime::store::conformance::{Cell, Harness, Raw, cases};
use troupe_runtime::store::tiers::{self, tiered};
use troupe_runtime::store::{self, Stores, postgres};
use troupe_tests::cells::OnServer;
use troupe_tests::postgres::Postgres;
use troupe_tests::redis::Redis;

/// What is before the store.
#[derive(Clone, Copy)]
enum Before<'r> {
    Nothing,
    Process,
    Redis(&'r Redis),
}

/// A database of one case; opening it again finds what was written.
struct Storage<'r> {
    url: String,
    before: Before<'r>,
    cells: Option<OnServer>,
}

#[async_trait]
impl Harness for Storage<'_> {
    async fn open(&mut self) -> Result<Stores, String> {
        let database = Database::open(&self.url.as_str().into(), &Options::default()).await;
        let stores = postgres::stores(database.map_err(|error| error.to_string())?, store::Options::default());
        let redis_url = match self.before {
            Before::Nothing => return Ok(stores),
            Before::Process => None,
            Before::Redis(redis) => Some(redis.url().into()),
        };
        let tiers = tiers::Options { redis_url, ..tiers::Options::default() };
        tiered(stores, &tiers).map(|(stores, _)| stores).map_err(|error| error.to_string())
    }

    async fn peek(&mut self, cell: &Cell) -> Result<Raw, String> {
        self.cells().await.peek(cell).await
    }

    async fn poke(&mut self, cell: &Cell, raw: &Raw) -> Result<bool, String> {
        // Redis may have the memory whole, and answers it as long as the row's own checksum fits: no damage is seen then.
        if let Before::Redis(redis) = self.before {
            redis.flush().await;
        }
        self.cells().await.poke(cell, raw).await
    }
}

impl Storage<'_> {
    async fn cells(&mut self) -> &mut OnServer {
        let cells = match self.cells.take() {
            Some(cells) => cells,
            None => OnServer::connect(&self.url).await,
        };
        self.cells.insert(cells)
    }
}

/// The list as it is worked off.
struct List {
    wanted: Option<String>,
    databases: usize,
    ran: usize,
    failed: Vec<String>,
}

impl List {
    fn wants(&self, name: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| name.contains(wanted))
    }

    /// A new database.
    async fn database(&mut self, postgres: &Postgres) -> String {
        self.databases += 1;
        postgres.create(&format!("case_{}", self.databases)).await
    }

    fn ended(&mut self, name: &str, begun: Instant, result: Result<(), String>) {
        self.ran += 1;
        let took = begun.elapsed().as_millis();
        match result {
            Ok(()) => println!("ok      {took:>5} ms  {name}"),
            Err(what) => {
                println!("FAILED  {took:>5} ms  {name}: {what}");
                self.failed.push(name.to_owned());
            }
        }
    }

    async fn conformance(&mut self, postgres: &Postgres, before: Before<'_>) {
        for case in cases() {
            let name = match before {
                Before::Nothing => case.name.to_owned(),
                Before::Process => format!("behind the cache: {}", case.name),
                Before::Redis(_) => format!("behind Redis: {}", case.name),
            };
            if self.wants(&name) {
                let begun = Instant::now();
                if let Before::Redis(redis) = before {
                    redis.flush().await;
                }
                let mut storage = Storage { url: self.database(postgres).await, before, cells: None };
                let result = case.run(&mut storage).await;
                postgres.remove(&format!("case_{}", self.databases)).await;
                self.ended(&name, begun, result);
            }
        }
    }

    async fn server(&mut self, postgres: &mut Postgres) {
        for (name, run) in server::CASES
            .into_iter()
            .chain(alone::CASES)
            .chain(succession::CASES)
            .chain(lookups::CASES)
            .chain(fence::CASES)
            .chain(race::CASES)
            .chain(tls::CASES)
        {
            if self.wants(name) {
                let begun = Instant::now();
                let url = self.database(postgres).await;
                let result = run(postgres, url).await;
                self.ended(name, begun, result);
            }
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    if let Some(racer) = race::racer() {
        race::run(racer).await;
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let Some(mut postgres) = Postgres::start().await else {
        println!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
        return if std::env::var_os("CI").is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    };
    let mut list = List { wanted, databases: 0, ran: 0, failed: Vec::new() };
    // First, for a crashed server reads through all databases there are before it answers again.
    list.server(&mut postgres).await;
    list.conformance(&postgres, Before::Nothing).await;
    list.conformance(&postgres, Before::Process).await;
    if let Some(redis) = Redis::start().await {
        list.conformance(&postgres, Before::Redis(&redis)).await;
    }
    let List { ran, failed, .. } = list;
    println!("{ran} cases in {:.1} s, {} failed", begun.elapsed().as_secs_f64(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
