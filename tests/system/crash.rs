//! The promise under power cuts: 200 Slack commands, ten times kill -9, nothing lost, nothing doubled, no call repeated.
//!
//! The node is killed at drawn moments (also while it starts, while it accepts, while it replies) and started again at
//! once on the same data and ports. Whoever posts does what a person does: sends the same command again until Slack
//! shows no error. What each side has seen goes to the judge in [`super::history`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};
use tokio::task::JoinSet;
use troupe_gateway::stand_in::SlackStandIn;
use troupe_gateway::stand_in::requests::{Asker, SignedRequest};
use troupe_tests::model::{Answer, Asked, ModelStandIn};
use troupe_tests::{Stage, seed, slack, wait};

use super::agents::two_turns;
use super::history::History;

const COMMANDS: usize = 200;
const KILLS: usize = 10;
/// The commands come within this time, so that every life of the node sees some.
const POSTING: Duration = Duration::from_secs(6);
/// A life of the node lasts this long, in milliseconds since its start.
const LIFE_MS: std::ops::Range<u64> = 40..1_100;
/// All work must be over by then.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two tries of one command.
const AGAIN: Duration = Duration::from_millis(25);
const TURNS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_commands_survive_ten_power_cuts() {
    let (_, mut rng) = seed::seeded("crash");
    let slack = SlackStandIn::start().await.expect("a stand-in for Slack");
    let model = ModelStandIn::start(think).await;
    let mut stage = Stage::new();
    stage.slack(&slack).set("STAND_IN_KEY", "none").agent("crasher", &two_turns(model.base_url()));

    let mut node = stage.start().await;
    let posts = post_all(&stage, &slack, &mut rng);
    let mut lives = vec![node.begun()];
    for _ in 0..KILLS {
        let life = Duration::from_millis(rng.random_range(LIFE_MS));
        tokio::time::sleep_until((node.begun() + life).into()).await;
        node.kill9();
        node = stage.spawn();
        lives.push(node.begun());
    }
    node.ready(&stage.admin()).await;
    let accepted = posts.join_all().await;

    let tasks = ended(&stage).await;
    let said = slack.wait_for(COMMANDS, LIMIT).await;
    assert!(said, "only {} of {COMMANDS} replies came", slack.replies().len());
    let journals = journals(&stage, &tasks).await;
    let attempts: u64 = tasks.iter().filter_map(|task| task["attempts"].as_u64()).sum();
    node.terminate();
    assert!(node.ended(LIMIT).await.success(), "the node drains with exit 0");

    let calls = model.calls();
    println!("{}", first_calls(&lives, &calls.iter().map(|call| call.at).collect::<Vec<_>>()));
    let history = History {
        accepted,
        tasks: tasks.iter().map(|task| (text(&task["input"]), text(&task["status"]))).collect(),
        replies: slack.replies().into_iter().map(|reply| (reply.reply_id, reply.text)).collect(),
        doubtful: doubtful(&stage).await,
        calls: calls.into_iter().map(|call| (call.task, call.turn, call.number)).collect(),
        journals,
    };
    println!(
        "{COMMANDS} commands, {KILLS} kills: {} calls of the model, {} answers lost on the way, {} replies, {} in doubt",
        history.calls.len(),
        history.lost_answers(),
        history.replies.len(),
        history.doubtful
    );
    let verdict = history.verdict(TURNS);
    assert!(verdict.is_empty(), "{} promises broken:\n{}", verdict.len(), verdict.join("\n"));
    assert_eq!(attempts, COMMANDS as u64, "a power cut is no failed attempt");
}

/// First the clock, then an answer that names the task; 20 to 60 ms each, by the number of the call.
fn think(asked: &Asked) -> (Duration, Answer) {
    let time = Duration::from_millis(20 + asked.number * 7 % 41);
    let answer = match asked.turn {
        0 => Answer::Tool("clock", json!({})),
        _ => Answer::Text(format!("done {}", asked.task)),
    };
    (time, answer)
}

/// Every command at a drawn moment, again and again until it is taken; answers the markers.
fn post_all(stage: &Stage, slack: &SlackStandIn, rng: &mut impl rand::Rng) -> JoinSet<String> {
    let (client, url) = (slack::client(), Arc::<str>::from(stage.public_url("/slack/events")));
    let mut posts = JoinSet::new();
    for number in 0..COMMANDS {
        let marker = format!("task-{number:03}");
        let trigger = format!("trigger-{number}");
        let request = Asker::default().slash_command("/crash", &marker, &trigger, &slack.response_url(number));
        let (client, url) = (client.clone(), url.clone());
        let after = Duration::from_millis(rng.random_range(0..POSTING.as_millis() as u64));
        posts.spawn(async move {
            tokio::time::sleep(after).await;
            let begun = Instant::now();
            while !taken(&client, &url, &request).await {
                assert!(begun.elapsed() < LIMIT, "no 2xx for {marker}");
                tokio::time::sleep(AGAIN).await;
            }
            marker
        });
    }
    posts
}

/// Whether a command was taken: 2xx, and not with the words of an apology (the bus was away, or no agent listens).
async fn taken(client: &reqwest::Client, url: &str, request: &SignedRequest) -> bool {
    let Some((status, body)) = slack::send(client, url, request).await else { return false };
    assert!((200..300).contains(&status) || status == 503, "{status}: {body}");
    (200..300).contains(&status) && body.trim().is_empty()
}

/// All tasks, once every one of them is over.
async fn ended(stage: &Stage) -> Vec<Value> {
    let admin = stage.admin();
    let terminal = |task: &Value| matches!(task["status"].as_str(), Some("succeeded" | "failed" | "cancelled"));
    wait::until("the end of all tasks", LIMIT, async || {
        let tasks = admin.tasks("crasher").await?;
        (tasks.len() >= COMMANDS && tasks.iter().all(terminal)).then_some(tasks)
    })
    .await
}

/// By task: the numbers of the calls whose answers its journal holds.
async fn journals(stage: &Stage, tasks: &[Value]) -> Vec<(String, Vec<u64>)> {
    let admin = stage.admin();
    let mut journals = Vec::new();
    for task in tasks {
        let run = text(&task["runs"][0]["id"]);
        let entries = admin.journal(&run).await;
        let results = entries.iter().filter(|entry| entry["kind"] == "model_result");
        let numbers = results.map(|entry| number(&entry["completion"]["request_id"])).collect();
        journals.push((text(&task["input"]), numbers));
    }
    journals
}

fn number(id: &Value) -> u64 {
    let number = id.as_str().and_then(|id| id.strip_prefix("chatcmpl-")).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{id} is no id of the model server"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().trim().to_owned()
}

/// Tries of replies that were begun in doubt, from the store itself: a metric would forget them with each life.
async fn doubtful(stage: &Stage) -> usize {
    let url = format!("sqlite://{}", stage.path("data").join("troupe.db").display());
    let mut database = sqlx::SqliteConnection::connect(&url).await.expect("the node's file");
    let row = sqlx::query("select coalesce(sum(doubtful), 0) from replies").fetch_one(&mut database).await;
    row.expect("the replies").get::<i64, _>(0).try_into().expect("a count")
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
