//! The crowd of a crash or chaos test: people who post Slack commands and do not give up, the servers around the node
//! that outlive it, and in the end what all of them have seen.
//!
//! Each command goes at its moment, again and again until Slack would show no error. The evidence goes to the judge in
//! [`super::history`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt as _;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use troupe_gateway::stand_in::SlackStandIn;
use troupe_gateway::stand_in::requests::{Asker, SignedRequest};
use troupe_tests::model::{Answer, Asked, ModelStandIn};
use troupe_tests::node::NodeProcess;
use troupe_tests::{Stage, slack, wait};

use super::agents::two_turns;
use super::history::History;

/// Model calls of a task.
pub(crate) const TURNS: usize = 2;
/// All work must be over by then.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two tries of one command; so much more each time.
const AGAIN: Duration = Duration::from_millis(25);
/// As long as the door is shut for long.
const AGAIN_MAX: Duration = Duration::from_millis(500);
/// Channels that commands come from.
const CHANNELS: usize = 16;
/// Journals that are read side by side.
const SIDE_BY_SIDE: usize = 8;

/// The people and the servers.
pub(crate) struct Crowd {
    pub(crate) slack: SlackStandIn,
    pub(crate) model: ModelStandIn,
}

/// A command that was taken.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) marker: String,
    pub(crate) tries: usize,
    /// When it was posted first.
    pub(crate) at: SystemTime,
}

/// Where commands are posted.
#[derive(Clone)]
struct Door {
    client: reqwest::Client,
    url: Arc<str>,
}

/// Commands on their way.
pub(crate) type Posts = JoinSet<Posted>;

/// What all sides have seen.
pub(crate) struct Evidence {
    pub(crate) history: History,
    pub(crate) posted: Vec<Posted>,
    /// When each call of the model came.
    pub(crate) calls: Vec<Instant>,
    /// From the first post of a command to its reply, with the moment of the post; in the order of posts.
    pub(crate) waits: Vec<(SystemTime, Duration)>,
    attempts: u64,
}

impl Crowd {
    /// The servers, and an agent of the stage that talks to them.
    pub(crate) async fn gather(stage: &mut Stage) -> Self {
        let slack = SlackStandIn::start().await.expect("a stand-in for Slack");
        let model = ModelStandIn::start(think).await;
        stage.slack(&slack).set("STAND_IN_KEY", "none").agent("crasher", &two_turns(model.base_url()));
        Self { slack, model }
    }

    /// Posts a command at each of these moments from now.
    pub(crate) fn post(&self, stage: &Stage, moments: impl IntoIterator<Item = Duration>) -> Posts {
        let door = Door::of(stage);
        let mut posts = JoinSet::new();
        for (number, after) in moments.into_iter().enumerate() {
            let (door, request) = (door.clone(), self.command(number));
            posts.spawn(async move {
                tokio::time::sleep(after).await;
                door.knock(number, &request).await
            });
        }
        posts
    }

    /// Posts so many commands a second until `enough`.
    pub(crate) async fn keep_posting(&self, stage: &Stage, rate: u32, enough: CancellationToken) -> Posts {
        let door = Door::of(stage);
        let (mut posts, mut ticks) = (JoinSet::new(), tokio::time::interval(Duration::from_secs(1) / rate));
        for number in 0.. {
            tokio::select! {
                () = enough.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let (door, request) = (door.clone(), self.command(number));
            posts.spawn(async move { door.knock(number, &request).await });
        }
        posts
    }

    fn command(&self, number: usize) -> SignedRequest {
        // In several channels, for the replies in one of them go one after the other.
        let asker = Asker { channel: format!("C{}", number % CHANNELS), ..Asker::default() };
        let trigger = format!("trigger-{number}");
        asker.slash_command("/crash", &marker(number), &trigger, &self.slack.response_url(number))
    }

    /// Waits for the end of everything that was posted, stops the node, and answers what was seen.
    pub(crate) async fn leave(&self, stage: &Stage, mut node: NodeProcess, posts: Posts) -> Evidence {
        let mut posted = posts.join_all().await;
        posted.sort_by_key(|posted| posted.at);
        let tasks = ended(stage, posted.len()).await;
        let said = self.slack.wait_for(posted.len(), LIMIT).await;
        assert!(said, "only {} of {} replies came", self.slack.replies().len(), posted.len());
        // Not so many but one for each: a repeated one would stand for one that is still on its way.
        wait::until("a reply to every command", LIMIT, async || {
            let ids: BTreeSet<_> = self.slack.replies().into_iter().map(|reply| reply.reply_id).collect();
            (ids.len() >= posted.len()).then_some(())
        })
        .await;
        let journals = journals(stage, &tasks).await;
        node.terminate();
        assert!(node.ended(LIMIT).await.success(), "the node drains with exit 0");
        // As the replies below: what is sent again until the end is counted until the end.
        let doubtful = doubtful(stage).await;
        let calls = self.model.calls();
        let replies = self.slack.replies();
        let wait = |posted: &Posted| {
            let reply = replies.iter().find(|reply| reply.text.split_whitespace().any(|word| word == posted.marker))?;
            Some((posted.at, SystemTime::from(reply.at).duration_since(posted.at).unwrap_or_default()))
        };
        Evidence {
            waits: posted.iter().filter_map(wait).collect(),
            calls: calls.iter().map(|call| call.at).collect(),
            attempts: tasks.iter().filter_map(|task| task["attempts"].as_u64()).sum(),
            history: History {
                accepted: posted.iter().map(|posted| posted.marker.clone()).collect(),
                tasks: tasks.iter().map(|task| (text(&task["input"]), text(&task["status"]))).collect(),
                replies: replies.into_iter().map(|reply| (reply.reply_id, reply.text)).collect(),
                doubtful,
                calls: calls.into_iter().map(|call| (call.task, call.turn, call.number)).collect(),
                journals,
            },
            posted,
        }
    }
}

impl Door {
    fn of(stage: &Stage) -> Self {
        Self { client: slack::client(), url: stage.public_url("/slack/events").into() }
    }

    /// Posts a command again and again until it is taken.
    async fn knock(&self, number: usize, request: &SignedRequest) -> Posted {
        let (at, begun, mut tries) = (SystemTime::now(), Instant::now(), 1);
        while !taken(&self.client, &self.url, request).await {
            assert!(begun.elapsed() < LIMIT, "no 2xx for {}", marker(number));
            tokio::time::sleep((AGAIN * tries as u32).min(AGAIN_MAX)).await;
            tries += 1;
        }
        Posted { marker: marker(number), tries, at }
    }
}

impl Evidence {
    /// Fails with every promise that was broken.
    pub(crate) fn holds(&self) {
        println!("{}", self.counts());
        let mut verdict = self.history.verdict(TURNS);
        if self.attempts != self.posted.len() as u64 {
            verdict.push(format!("{} attempts for {} tasks: no fault of theirs", self.attempts, self.posted.len()));
        }
        assert!(verdict.is_empty(), "{} promises broken:\n{}", verdict.len(), verdict.join("\n"));
    }

    /// The numbers, for people.
    fn counts(&self) -> String {
        let history = &self.history;
        let again: usize = self.posted.iter().map(|posted| posted.tries - 1).sum();
        let lost =
            history.accepted.iter().filter(|marker| !history.tasks.iter().any(|(task, _)| task == *marker)).count();
        let tasks = (history.tasks.len() + lost).saturating_sub(history.accepted.len());
        format!(
            "{} commands accepted, {again} posts refused and sent again; {lost} lost, {tasks} doubled; {} calls of the \
             model, {} of them for answers that were lost on the way; {} replies repeated, {} tries in doubt",
            history.accepted.len(),
            history.calls.len(),
            history.lost_answers(),
            history.repeated_replies(),
            history.doubtful
        )
    }

    /// How long nine of ten commands waited on a good day: those that were answered before `moment`.
    pub(crate) fn usual_before(&self, moment: SystemTime) -> Duration {
        let mut waits: Vec<Duration> =
            self.waits.iter().filter(|(at, wait)| *at + *wait < moment).map(|(_, wait)| *wait).collect();
        waits.sort_unstable();
        waits.get(waits.len() * 9 / 10).copied().unwrap_or_default()
    }

    /// From `moment` until every command that was posted from then on was answered within `soon`.
    pub(crate) fn normal_after(&self, moment: SystemTime, soon: Duration) -> Duration {
        let late = self.waits.iter().rfind(|(at, wait)| *at >= moment && *wait > soon);
        late.map_or(Duration::ZERO, |(at, _)| at.duration_since(moment).unwrap_or_default())
    }

    /// From `moment` until everything that was posted before had its reply.
    pub(crate) fn caught_up_after(&self, moment: SystemTime) -> Duration {
        let before = self.waits.iter().filter(|(at, _)| *at < moment);
        let last = before.map(|(at, wait)| *at + *wait).max();
        last.and_then(|last| last.duration_since(moment).ok()).unwrap_or_default()
    }
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

fn marker(number: usize) -> String {
    format!("task-{number:04}")
}

/// Whether a command was taken: 2xx, and not with the words of an apology (the bus was away, or no agent listens).
async fn taken(client: &reqwest::Client, url: &str, request: &SignedRequest) -> bool {
    let Some((status, body)) = slack::send(client, url, request).await else { return false };
    assert!((200..300).contains(&status) || status == 503, "{status}: {body}");
    (200..300).contains(&status) && body.trim().is_empty()
}

/// All tasks, once every one of them is over.
pub(crate) async fn ended(stage: &Stage, commands: usize) -> Vec<Value> {
    let admin = stage.admin();
    let terminal = |task: &Value| matches!(task["status"].as_str(), Some("succeeded" | "failed" | "cancelled"));
    wait::until("the end of all tasks", LIMIT, async || {
        let tasks = admin.tasks("crasher").await?;
        (tasks.len() >= commands && tasks.iter().all(terminal)).then_some(tasks)
    })
    .await
}

/// By task: the numbers of the calls whose answers its journal holds.
pub(crate) async fn journals(stage: &Stage, tasks: &[Value]) -> Vec<(String, Vec<u64>)> {
    let admin = stage.admin();
    let journal = async |task: &Value| {
        let run = text(&task["runs"][0]["id"]);
        let entries = admin.journal(&run).await;
        let results = entries.iter().filter(|entry| entry["kind"] == "model_result");
        let numbers = results.map(|entry| number(&entry["completion"]["request_id"])).collect();
        (text(&task["input"]), numbers)
    };
    futures::stream::iter(tasks).map(journal).buffered(SIDE_BY_SIDE).collect().await
}

fn number(id: &Value) -> u64 {
    let number = id.as_str().and_then(|id| id.strip_prefix("chatcmpl-")).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{id} is no id of the model server"))
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().trim().to_owned()
}

/// Tries of replies that were begun in doubt, from the store itself: a metric would forget them with each life.
async fn doubtful(stage: &Stage) -> usize {
    let sum = "select cast(coalesce(sum(doubtful), 0) as bigint) from replies";
    let sum: Result<i64, _> = if let Some(url) = stage.get("DATABASE_URL") {
        let mut server = sqlx::PgConnection::connect(url).await.expect("the server");
        sqlx::query_scalar(sum).fetch_one(&mut server).await
    } else {
        let url = format!("sqlite://{}", stage.path("data").join("troupe.db").display());
        let mut file = sqlx::SqliteConnection::connect(&url).await.expect("the node's file");
        sqlx::query_scalar(sum).fetch_one(&mut file).await
    };
    sum.expect("the replies").try_into().expect("a count")
}
