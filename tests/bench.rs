//! `make bench`: what the product does in a second, beside what the disk can do, measured in the same minutes.
//!
//! | name | value | baseline |
//! |---|---|---|
//! | `commits_1`, `commits_32` | single rows that raw clients commit a second: the raw limit | one client |
//! | `lonely` | how long one append to a journal takes when nobody else writes | one raw commit |
//! | `appends_1`, `appends_32`, `appends_256` | appends a second by this many steps at once | one raw client's commits |
//! | `run_1`, `run_32` | steps a second of runs of five entries, this many at once | one raw client's commits |
//! | `usual_…` | all of these on a disk whose syncs take 0.14 ms at least: the one that targets are of ([`usual`]) | the same |
//! | `slow_appends_256`, `slow_appends_1024`, `slow_commits_1` | the same on a disk whose syncs take 4 ms | on the usual disk |
//! | `tasks_1`, `tasks_32`, `tasks_256` | one-step tasks a second through a node's parts, this many in flight | one raw client's commits |
//! | `rows` | rows inserted, updated or deleted for one such task | those of the bus alone |
//! | `xact_commit_postgres`, `batch_postgres` | commits a task by the server's count, writes a commit, 256 in flight | our writer's count |
//! | `drain_…` | tasks a second from a full queue, answers published and confirmed; processor time and rows a task | the lean pipe ([`pipe`]); `…_routed_…`: with what topics cost the broker |
//! | `live_…`, `paced_…` | the same while the queue is filled; how long a task takes at 1,000 a second | the lean pipe |
//! | `thinking_…` | tasks a second with a model that takes 200 ms | places / 0.2 s |
//! | `poison_…` | how long a task takes while every step of another agent crashes; `poison_control_…`: while a well one has as many | while that one has nothing to do |
//! | `start`, `start_1000`, `start_10000` | from the start of the process to ready, with 20 agents, or so many | the same binary, printing its version |
//! | `resident`, `resident_1000`, `resident_10000` | memory of that node when it idles | – |
//! | `idle_10000` | processor time of the last of them | – |
//! | `changed_10000` | from the write of one of 10,000 specs to its effect | of one of 20 |
//! | `agent_bytes` | what an idle agent adds to it | its spec alone |
//! | `returned` | what the node gives back when 9,980 of 10,000 agents are removed | – |
//! | `cast`, `call` | messages a second through our counted mailbox | ractor alone |
//! | `restart` | from the kill of a child to the first answer of its next life, with a wait of zero | – |
//!
//! Those that name no database come once with `_sqlite` and once with `_postgres` at the end, in the same rounds; from `start`
//! to `returned` they are of the binary, the last three of actors without either.
//! Value and baseline come from the same interleaved rounds, after a warm-up: median [min .. max]. The ratio is the
//! median of the rounds' own ratios, so that a neighbour who comes and goes weighs on both sides. Called by
//! `make bench [ONLY=name]`; prints a table and writes `target/bench.json` (docs: the contract's format).

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench that cannot be set up says why and ends"
)]

#[path = "bench/actors.rs"]
mod actors;
#[path = "bench/brake.rs"]
mod brake;
#[path = "bench/commits.rs"]
mod commits;
#[path = "bench/drain.rs"]
mod drain;
#[path = "bench/figure.rs"]
mod figure;
#[path = "bench/journal.rs"]
mod journal;
#[path = "bench/live.rs"]
mod live;
#[path = "bench/load.rs"]
mod load;
#[path = "bench/node.rs"]
mod node;
#[path = "bench/pipe.rs"]
mod pipe;
#[path = "bench/poison.rs"]
mod poison;
#[path = "bench/process.rs"]
mod process;
#[path = "bench/processor.rs"]
mod processor;
#[path = "bench/sharing.rs"]
mod sharing;
#[path = "bench/slow.rs"]
mod slow;
#[path = "bench/state.rs"]
mod state;
#[path = "bench/tasks.rs"]
mod tasks;
#[path = "bench/thinking.rs"]
mod thinking;
#[path = "bench/usual.rs"]
mod usual;

use std::path::Path;

use figure::Figure;
use mimalloc::MiMalloc;
use troupe_tests::postgres::Postgres;

/// As in the product; the pipe has it too.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Rounds that count.
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    troupe_tests::tls();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [slow::CHILD, dir] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return slow::as_told(Path::new(dir)).await;
    }
    if let [usual::CHILD, dir] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return usual::child(Path::new(dir), ROUNDS).await;
    }
    if arguments.first().is_some_and(|first| first == process::CHILD) {
        return println!("{}", process::hold_specs());
    }
    let only = arguments.into_iter().next().filter(|only| !only.is_empty());
    let wanted = |name: &str| only.as_deref().is_none_or(|only| name.contains(only));
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the tree").join("target");
    // Beside the build, not in /tmp, which is memory on many machines.
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(&target).expect("a folder below target/");

    let groups = [
        tasks::names(),
        sharing::names(),
        journal::names(),
        usual::names(),
        slow::names(),
        drain::names(),
        live::names(),
        thinking::names(),
        process::names(),
        poison::names(),
        actors::names(),
    ];
    let [tasks, sharing, journal, usual, slow, drain, live, thinking, process, poison, actors] =
        groups.each_ref().map(|names| names.iter().any(|name| wanted(name)));
    let with_server = tasks || sharing || journal || drain || live || thinking;
    let postgres = if with_server { Postgres::start().await } else { None };
    if with_server && postgres.is_none() {
        println!("skipped on PostgreSQL, which is not installed (apt-get install postgresql)");
    }
    let postgres = postgres.as_ref();
    let folder = |name: &str| {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).expect("a folder below target/");
        folder
    };

    let mut figures = Vec::new();
    if journal {
        figures.extend(journal::measure(&folder("journal"), postgres, ROUNDS).await);
    }
    if usual {
        figures.extend(usual::measure(&folder("usual")));
    }
    if slow {
        figures.extend(slow::measure(&folder("slow"), ROUNDS).await);
    }
    if tasks {
        figures.extend(tasks::measure(&folder("tasks"), postgres, ROUNDS).await);
    }
    if sharing {
        figures.extend(sharing::measure(&folder("sharing"), postgres, ROUNDS).await);
    }
    if drain {
        figures.extend(drain::measure(&folder("drain"), postgres, ROUNDS).await);
    }
    if live {
        figures.extend(live::measure(&folder("live"), postgres, ROUNDS).await);
    }
    if thinking {
        figures.extend(thinking::measure(postgres, ROUNDS).await);
    }
    if process {
        figures.extend(process::measure(ROUNDS, wanted).await);
    }
    if actors {
        figures.extend(actors::measure(ROUNDS).await);
    }
    // Last: it has a log.
    if poison {
        figures.extend(poison::measure(&folder("poison"), ROUNDS).await);
    }
    figures.retain(|figure| wanted(&figure.name));
    if figures.is_empty() {
        eprintln!("nothing is called {only:?}; there are {}", groups.concat().join(", "));
        std::process::exit(2);
    }
    println!("{}", figure::table(&figures));
    let json = serde_json::to_string_pretty(&figures.iter().map(Figure::json).collect::<Vec<_>>()).expect("JSON");
    let file = target.join("bench.json");
    std::fs::write(&file, json + "\n").expect("target/bench.json can be written");
    println!("written to {}", file.strip_prefix(target.parent().unwrap_or(&target)).unwrap_or(&file).display());
}
