//! `make bench`: what the product does in a second, beside what the disk can do, measured in the same minutes.
//!
//! | name | value | baseline |
//! |---|---|---|
//! | `tasks_1`, `tasks_32`, `tasks_256` | one-step tasks a second on embedded parts, this many in flight | one client that commits single rows to SQLite on the same disk |
//! | `rows` | rows inserted, updated or deleted for one such task | those of the bus alone |
//! | `start` | from the start of the process to ready, with 20 agents | the same binary, printing its version |
//! | `resident` | memory of that node when it idles | – |
//!
//! Value and baseline come from the same interleaved rounds, after a warm-up: median [min .. max]. The ratio is the
//! median of the rounds' own ratios, so that a neighbour who comes and goes weighs on both sides. Called by
//! `make bench [ONLY=name]`; prints a table and writes `target/bench.json` (docs: the contract's format).

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench that cannot be set up says why and ends"
)]

#[path = "bench/commits.rs"]
mod commits;
#[path = "bench/figure.rs"]
mod figure;
#[path = "bench/process.rs"]
mod process;
#[path = "bench/tasks.rs"]
mod tasks;

use std::path::Path;

use figure::Figure;

/// Rounds that count.
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    troupe_tests::tls();
    let only = std::env::args().nth(1).filter(|only| !only.is_empty());
    let wanted = |name: &str| only.as_deref().is_none_or(|only| name.contains(only));
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the tree").join("target");
    // Beside the build, not in /tmp, which is memory on many machines.
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(&target).expect("a folder below target/");

    let mut figures = Vec::new();
    if tasks::NAMES.iter().any(|name| wanted(name)) {
        figures.extend(tasks::measure(dir.path(), ROUNDS).await);
    }
    if process::NAMES.iter().any(|name| wanted(name)) {
        figures.extend(process::measure(ROUNDS).await);
    }
    figures.retain(|figure| wanted(figure.name));
    if figures.is_empty() {
        eprintln!("nothing is called {only:?}; there are {:?} and {:?}", tasks::NAMES, process::NAMES);
        std::process::exit(2);
    }
    println!("{}", figure::table(&figures));
    let json = serde_json::to_string_pretty(&figures.iter().map(Figure::json).collect::<Vec<_>>()).expect("JSON");
    let file = target.join("bench.json");
    std::fs::write(&file, json + "\n").expect("target/bench.json can be written");
    println!("written to {}", file.strip_prefix(target.parent().unwrap_or(&target)).unwrap_or(&file).display());
}
