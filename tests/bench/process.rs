//! The process: how soon a node is ready, what it holds while it idles, and what an idle agent adds to that.
//!
//! The real binary in a fresh folder each round (its tables are made too), with 20, 1,000 and 10,000 agents; the last of them
//! go again while the node runs, and what it then holds is looked at once more. What the specs alone take is measured in a
//! process of its own, which is this bench once more.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use troupe_runtime::config::{Agents, parse_agent};
use troupe_runtime::domain::agent::AgentSpec;
use troupe_tests::Stage;
use troupe_tests::node::{NodeProcess, resident_bytes};
use troupe_tests::wait::{PATIENCE, until};

use crate::figure::{Figure, median};

/// With the fewest agents the rows have no number.
const NAMES: [&str; 10] = [
    "start",
    "resident",
    "start_1000",
    "resident_1000",
    "start_10000",
    "resident_10000",
    "idle_10000",
    "changed_10000",
    "agent_bytes",
    "returned",
];
/// The argument that makes this bench hold specs and nothing else.
pub(crate) const CHILD: &str = "--hold-specs";
/// Agents of the node.
const FEW: usize = 20;
const MANY: usize = 1_000;
const MOST: usize = 10_000;
/// Rounds with the most of them, at most.
const ROUNDS_OF_MOST: usize = 3;
/// An idle node has done everything of its start by then.
const IDLE: Duration = Duration::from_secs(1);
/// Specs are older than this when their node starts, as they mostly are.
const RESTED: Duration = Duration::from_secs(4);
/// Changes of a spec in a round.
const CHANGES: usize = 5;
/// The processor time of an idle node is taken over so long.
const WATCHED: Duration = Duration::from_secs(15);
/// A node with the most agents is rid of them within this.
const LONG: Duration = Duration::from_secs(300);
const KIB: f64 = 1024.0;

/// What one number of agents came to, round by round.
#[derive(Default)]
struct Seen {
    starts: Vec<f64>,
    versions: Vec<f64>,
    resident: Vec<f64>,
    /// Milliseconds of processor time a second, at rest.
    busy: Vec<f64>,
    /// Milliseconds from the write of a changed spec to its effect.
    changed: Vec<f64>,
    /// Resident once all but a few have gone.
    left: Vec<f64>,
}

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    NAMES.map(str::to_owned).into()
}

/// All figures of this file that are wanted.
pub(crate) async fn measure(rounds: usize, wanted: impl Fn(&str) -> bool) -> Vec<Figure> {
    let any = |names: &[&str]| names.iter().any(|name| wanted(name));
    let mut figures = Vec::new();
    let apart = any(&["agent_bytes", "returned", "changed_10000"]);
    let few = if apart || any(&NAMES[..2]) { seen(FEW, rounds).await } else { Seen::default() };
    figures.extend(few.figures("", FEW));
    if any(&NAMES[2..4]) {
        figures.extend(seen(MANY, rounds).await.figures("_1000", MANY));
    }
    if apart || any(&NAMES[4..8]) {
        let most = seen(MOST, rounds.min(ROUNDS_OF_MOST)).await;
        figures.extend(most.figures("_10000", MOST));
        if apart {
            figures.extend(most.beside(&few));
        }
    }
    figures.retain(|figure| !figure.rounds.is_empty());
    figures
}

/// As a child of this bench: holds so many specs, and says what that takes, in bytes.
pub(crate) fn hold_specs() -> usize {
    let before = resident_bytes(std::process::id()).unwrap_or_default();
    let limits = Agents::default();
    let parsed = |number| parse_agent("bench.yaml", &spec(number), &limits).expect("a spec");
    let held: Vec<AgentSpec> = (0..MOST).map(parsed).collect();
    let after = resident_bytes(std::process::id()).unwrap_or_default();
    drop(held);
    (after.saturating_sub(before) as usize) / MOST
}

async fn seen(agents: usize, rounds: usize) -> Seen {
    let mut seen = Seen::default();
    for round in 0..=rounds {
        let mut stage = stage(agents);
        // A node reads again what was written just before it started, for its clock could be too coarse to tell.
        tokio::time::sleep(RESTED).await;
        let mut node = stage.spawn();
        let ready = node.ready(&stage.admin()).await;
        // The first round warms the file cache.
        if round > 0 {
            seen.starts.push(ready.as_secs_f64() * 1000.0);
            seen.versions.push(version(&stage));
            tokio::time::sleep(IDLE).await;
            seen.resident.extend(resident(&node));
            if agents != MANY {
                seen.changed.push(changed(&mut stage, round).await);
            }
            if agents == MOST {
                seen.busy.extend(busy(&node).await);
                seen.left.extend(left(&stage, &node).await);
            }
        }
        node.terminate();
        node.ended(PATIENCE).await;
    }
    seen
}

impl Seen {
    fn figures(&self, suffix: &str, agents: usize) -> Vec<Figure> {
        let start = Figure {
            name: format!("start{suffix}"),
            unit: "ms",
            rounds: self.starts.clone(),
            baseline: Some(("ms for --version", self.versions.clone())),
            conditions: format!("process start to /readyz, {agents} agents, fresh folder; asked every 5 ms"),
        };
        let resident = Figure {
            name: format!("resident{suffix}"),
            unit: "MiB",
            rounds: self.resident.iter().map(|bytes| bytes / KIB / KIB).collect(),
            baseline: None,
            conditions: format!("resident set, {agents} agents, idle for {} s", IDLE.as_secs()),
        };
        let idle = Figure {
            name: format!("idle{suffix}"),
            unit: "ms/s",
            rounds: self.busy.clone(),
            baseline: None,
            conditions: format!("processor time of a node with {agents} idle agents, over {} s", WATCHED.as_secs()),
        };
        vec![start, resident, idle]
    }

    /// What each agent adds to a node of few, and what is given back when the others go.
    fn beside(&self, few: &Self) -> Vec<Figure> {
        let least = median(&few.resident);
        let each = |bytes: &f64| (bytes - least) / (MOST - FEW) as f64;
        let specs = specs();
        let above = self.resident.iter().map(|bytes| bytes - least);
        let agent = Figure {
            name: "agent_bytes".to_owned(),
            unit: "B",
            rounds: self.resident.iter().map(each).collect(),
            baseline: Some(("B for its spec, parsed", vec![specs; self.resident.len()])),
            conditions: format!("(resident of {MOST} - of {FEW}) / {}; aim: 16384 beside its spec", MOST - FEW),
        };
        let returned = Figure {
            name: "returned".to_owned(),
            unit: "of 1",
            rounds: above.zip(&self.left).map(|(above, left)| 1.0 - (left - least) / above).collect(),
            baseline: None,
            conditions: format!(
                "of what {} agents took beyond {FEW}, the part that is not resident once they are removed by reload",
                MOST - FEW
            ),
        };
        let changed = Figure {
            name: "changed_10000".to_owned(),
            unit: "ms",
            rounds: self.changed.clone(),
            baseline: Some(("ms with 20 agents", few.changed.clone())),
            conditions: format!(
                "from the write of one of {MOST} specs to its effect in /v1/agents, the longest of {CHANGES} at random; aim: 1000"
            ),
        };
        vec![agent, returned, changed]
    }
}

fn resident(node: &NodeProcess) -> Option<f64> {
    node.resident_bytes().map(|bytes| bytes as f64)
}

/// Milliseconds of processor time that an idle node takes in a second.
async fn busy(node: &NodeProcess) -> Option<f64> {
    let (before, begun) = (processor_ms(node.id())?, Instant::now());
    tokio::time::sleep(WATCHED).await;
    Some((processor_ms(node.id())? - before) / begun.elapsed().as_secs_f64())
}

/// What the scheduler has given to all threads of a process.
fn processor_ms(process: u32) -> Option<f64> {
    let mut sum = 0.0;
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let times = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        sum += times.split_whitespace().next()?.parse::<f64>().ok()? / 1e6;
    }
    Some(sum)
}

/// How long it takes until a written spec has its effect, the longest of some.
async fn changed(stage: &mut Stage, round: usize) -> f64 {
    let (admin, mut longest, mut random) = (stage.admin(), Duration::ZERO, StdRng::seed_from_u64(round as u64));
    for change in 0..CHANGES {
        // Anywhere between two looks, which have a rhythm of their own.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_000))).await;
        let kind = format!("changed-{round}-{change}");
        stage.agent(&name(FEW / 2), &spec(FEW / 2).replace("type: bench", &format!("type: {kind}")));
        let begun = Instant::now();
        until("the change to have its effect", PATIENCE, async || {
            let agent = admin.try_get(&format!("/v1/agents/{}", name(FEW / 2))).await?.1;
            (agent["type"] == kind.as_str()).then_some(())
        })
        .await;
        longest = longest.max(begun.elapsed());
    }
    longest.as_secs_f64() * 1000.0
}

/// Resident once all but the first agents have been removed while the node runs.
async fn left(stage: &Stage, node: &NodeProcess) -> Option<f64> {
    for number in FEW..MOST {
        fs::remove_file(stage.path("agents").join(format!("{}.yaml", name(number)))).expect("a file of the stage");
    }
    let admin = stage.admin();
    until("the others to be gone", LONG, async || {
        let actors = admin.try_get("/v1/actors").await?.1;
        let actors = actors["items"].as_array()?;
        (actors.iter().filter(|actor| actor["kind"] == "agent").count() == FEW).then_some(())
    })
    .await;
    tokio::time::sleep(IDLE * 5).await;
    resident(node)
}

fn stage(agents: usize) -> Stage {
    let mut stage = Stage::new();
    for number in 0..agents {
        stage.agent(&name(number), &spec(number));
    }
    stage
}

fn name(number: usize) -> String {
    format!("agent-{number:05}")
}

fn spec(number: usize) -> String {
    format!(
        "name: {}\ntype: bench\nexecution_mode: autonomous\ninstructions: Answer.\n\
         llm_config: {{provider: scripted, model: at-once, script: [{{reply: done}}]}}\n",
        name(number)
    )
}

/// Bytes that one spec takes by itself.
fn specs() -> f64 {
    let own = std::env::current_exe().expect("the bench's own path");
    let said = Command::new(own).arg(CHILD).output().expect("the bench runs once more");
    String::from_utf8_lossy(&said.stdout).trim().parse().expect("a number of bytes")
}

/// How long the binary takes to say its version, in milliseconds.
fn version(stage: &Stage) -> f64 {
    let begun = Instant::now();
    let said = stage.command(&["--version"]).output().expect("the binary runs");
    assert!(said.status.success(), "troupe --version failed");
    begun.elapsed().as_secs_f64() * 1000.0
}
