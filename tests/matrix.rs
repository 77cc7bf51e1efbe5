//! The crash matrix, and the check of the checks.
//!
//! First a process is killed with -9 at every commit of a run, right before and right after it, and started again; on
//! SQLite and on PostgreSQL. Then the same checkers, and the conformance suite, are shown stores with one promise taken
//! out each: every one must be caught. A line a case; an argument picks the cases whose names contain it. Without
//! PostgreSQL its half is skipped, and that fails when `CI` is set.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test: what fails here fails it, and it prints its own list"
)]

#[path = "matrix/life.rs"]
mod life;
#[path = "matrix/mutants.rs"]
mod mutants;

use std::process::ExitCode;
use std::time::Instant;

use futures::StreamExt as _;
use life::{Storage, World};
use troupe_tests::judge::Expected;
use troupe_tests::killer::{Commit, Moment, Point};
use troupe_tests::postgres::Postgres;

/// Victims that live side by side.
const SIDE_BY_SIDE: usize = 4;

/// Where processes are killed: every commit of a run in its order, and those of a life that follows.
fn points() -> Vec<Point> {
    let entries = (0..6).map(Commit::Entry);
    let last = [Commit::Complete, Commit::Told, Commit::Claim, Commit::Question];
    let commits = [Commit::Accept].into_iter().chain(entries).chain(last);
    commits.flat_map(|commit| [Moment::Before, Moment::After].map(|moment| Point { commit, moment })).collect()
}

/// Kills one victim at each point; answers how many cases there were and what broke.
async fn matrix(world: &World, storage: &Storage<'_>, wanted: &str) -> (usize, Vec<String>) {
    let name = |point: &Point| format!("{} {point}", storage.name());
    let points: Vec<Point> = points().into_iter().filter(|point| name(point).contains(wanted)).collect();
    let cases = points.len();
    let lives = futures::stream::iter(points).map(|point| async move {
        let begun = Instant::now();
        (point, world.kill(storage, point, None).await, begun.elapsed())
    });
    let mut failed = Vec::new();
    let mut lives = lives.buffered(SIDE_BY_SIDE);
    while let Some((point, seen, took)) = lives.next().await {
        let (sight, wrong) = match seen {
            Ok(seen) => (life::sight(&seen), seen.verdict(&Expected::at(point))),
            Err(error) => (String::new(), vec![error]),
        };
        let result = if wrong.is_empty() { "ok" } else { "FAILED" };
        println!("{result:<7} {:>5} ms  {:<28} {sight}", took.as_millis(), name(&point));
        for wrong in wrong {
            println!("        {wrong}");
            failed.push(format!("{}: {wrong}", name(&point)));
        }
    }
    (cases, failed)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let begun = Instant::now();
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let world = World::open().await;
    println!("killed -9                                   calls of the model by turn, of look, book and pay");
    let (mut cases, mut failed) = matrix(&world, &Storage::Sqlite, &wanted).await;
    if let Some(postgres) = Postgres::start().await {
        let (more, broke) = matrix(&world, &Storage::Postgres(&postgres), &wanted).await;
        cases += more;
        failed.extend(broke);
    } else {
        println!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
        failed.extend(std::env::var_os("CI").map(|_| "skipped under CI".to_owned()));
    }
    println!("\nmutants, and who caught them");
    let (more, survived) = mutants::check(&world, &wanted).await;
    cases += more;
    failed.extend(survived);
    println!("\n{cases} cases in {:.1} s, {} failed", begun.elapsed().as_secs_f64(), failed.len());
    for what in &failed {
        println!("FAILED  {what}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
