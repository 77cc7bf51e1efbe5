//! The promise under power cuts: 200 Slack commands, ten times kill -9, nothing lost, nothing doubled, no call repeated.
//!
//! The node is killed at drawn moments (also while it starts, while it accepts, while it replies) and started again at
//! once on the same data and ports; its state is in its file, or on a PostgreSQL that goes on. Whoever posts does what a
//! person does: sends the same command again until Slack shows no error ([`super::crowd`]).

use std::time::{Duration, Instant};

use rand::RngExt as _;
use troupe_tests::{Stage, seed};

use super::crowd::Crowd;
use super::database;

const COMMANDS: usize = 200;
const KILLS: usize = 10;
/// The commands come within this time, in milliseconds, so that every life of the node sees some.
const POSTING_MS: std::ops::Range<u64> = 0..6_000;
/// A life of the node lasts this long, in milliseconds since its start.
const LIFE_MS: std::ops::Range<u64> = 40..1_100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_commands_survive_ten_power_cuts() {
    power_cuts("crash", Stage::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_commands_survive_ten_power_cuts_with_their_state_on_a_server() {
    let Some((_server, stage, _)) = database::stage().await else { return };
    power_cuts("crash on PostgreSQL", stage).await;
}

async fn power_cuts(name: &str, mut stage: Stage) {
    let (_, mut rng) = seed::seeded(name);
    let crowd = Crowd::gather(&mut stage).await;
    let mut node = stage.start().await;
    let moments: Vec<u64> = (0..COMMANDS).map(|_| rng.random_range(POSTING_MS)).collect();
    let posts = crowd.post(&stage, moments.into_iter().map(Duration::from_millis));
    let mut lives = vec![node.begun()];
    for _ in 0..KILLS {
        let life = Duration::from_millis(rng.random_range(LIFE_MS));
        tokio::time::sleep_until((node.begun() + life).into()).await;
        node.kill9();
        node = stage.spawn();
        lives.push(node.begun());
    }
    node.ready(&stage.admin()).await;
    let seen = crowd.leave(&stage, node, posts).await;
    println!("{name}, {KILLS} kills: {}", first_calls(&lives, &seen.calls));
    seen.holds();
}

/// From the start of each life to its first call of the model; a life that ended before shows nothing.
fn first_calls(lives: &[Instant], calls: &[Instant]) -> String {
    let ends = lives.iter().skip(1).map(Some).chain([None]);
    let mut firsts: Vec<_> = lives
        .iter()
        .zip(ends)
        .filter_map(|(begun, end)| {
            let first = calls.iter().find(|at| *at >= begun && end.is_none_or(|end| *at < end))?;
            Some(first.duration_since(*begun))
        })
        .collect();
    firsts.sort_unstable();
    let [median, slowest] =
        [firsts.get(firsts.len() / 2), firsts.last()].map(|first| first.copied().unwrap_or_default());
    format!(
        "from kill -9 and start to the first call of the model: {median:?} [{:?} .. {slowest:?}] over {} lives (aim 2 s)",
        firsts.first().copied().unwrap_or_default(),
        firsts.len()
    )
}
