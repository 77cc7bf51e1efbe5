//! The process: how soon a node is ready, and what it holds while it idles.
//!
//! The real binary in a fresh folder each round (its tables are made too), with 20 agents.

use std::time::{Duration, Instant};

use troupe_tests::Stage;
use troupe_tests::wait::PATIENCE;

use crate::figure::Figure;

const NAMES: [&str; 2] = ["start", "resident"];
/// Agents of the node.
const AGENTS: usize = 20;
/// An idle node has done everything of its start by then.
const IDLE: Duration = Duration::from_secs(1);

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    NAMES.map(str::to_owned).into()
}

/// All figures of this file.
pub(crate) async fn measure(rounds: usize) -> Vec<Figure> {
    let (mut starts, mut versions, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let stage = stage();
        let mut node = stage.spawn();
        let ready = node.ready(&stage.admin()).await;
        // The first round warms the file cache.
        if round > 0 {
            starts.push(ready.as_secs_f64() * 1000.0);
            versions.push(version(&stage));
            tokio::time::sleep(IDLE).await;
            resident.extend(node.resident_bytes().map(|bytes| bytes as f64 / 1024.0 / 1024.0));
        }
        node.terminate();
        node.ended(PATIENCE).await;
    }
    let mut figures = vec![Figure {
        name: NAMES[0].to_owned(),
        unit: "ms",
        rounds: starts,
        baseline: Some(("ms for --version", versions)),
        conditions: format!("process start to /readyz, {AGENTS} agents, fresh folder; asked every 5 ms"),
    }];
    if !resident.is_empty() {
        figures.push(Figure {
            name: NAMES[1].to_owned(),
            unit: "MiB",
            rounds: resident,
            baseline: None,
            conditions: format!("resident set, {AGENTS} agents, idle for {} s", IDLE.as_secs()),
        });
    }
    figures
}

fn stage() -> Stage {
    let mut stage = Stage::new();
    for number in 0..AGENTS {
        let spec = format!(
            "name: agent-{number}\ntype: bench\nexecution_mode: autonomous\ninstructions: Answer.\n\
             llm_config: {{provider: scripted, model: at-once, script: [{{reply: done}}]}}\n"
        );
        stage.agent(&format!("agent-{number}"), &spec);
    }
    stage
}

/// How long the binary takes to say its version, in milliseconds.
fn version(stage: &Stage) -> f64 {
    let begun = Instant::now();
    let said = stage.command(&["--version"]).output().expect("the binary runs");
    assert!(said.status.success(), "troupe --version failed");
    begun.elapsed().as_secs_f64() * 1000.0
}
