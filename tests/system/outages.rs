//! A broker that goes, comes back, or takes nothing, under a steady load of webhooks: every one is answered 200, in time, and done
//! once. The spool is what makes it so.
//!
//! Nobody posts twice here: what Slack is told the first time counts. Times are printed, beside what is aimed at, and judged by
//! a person, for this machine has other things to do; that nothing is lost or doubled is asserted. `make test` runs it short,
//! `make chaos` long (`TROUPE_CHAOS=long`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use troupe_gateway::stand_in::SlackStandIn;
use troupe_gateway::stand_in::requests::Asker;
use troupe_tests::node::NodeProcess;
use troupe_tests::rabbitmq::RabbitMq;
use troupe_tests::wait::until;
use troupe_tests::{Stage, slack};

use super::agents::ECHO;

/// A killed broker reads its logs again, and a debug build works off what has come meanwhile.
const LIMIT: Duration = Duration::from_secs(240);
/// Channels that commands come from.
const CHANNELS: usize = 64;
/// What an answer shall not take where there is no outage.
const LONG: Duration = Duration::from_millis(50);
/// What a health may be old, and what a look at it may take on a busy machine.
const DEGRADED_WITHIN: Duration = Duration::from_secs(5);

/// How much of everything.
struct Amount {
    /// Webhooks a second.
    rate: u32,
    kills: usize,
    /// Load before each kill, and after the last one.
    between: Duration,
    /// How long the broker is left down before it is started again.
    down: Duration,
}

impl Amount {
    fn of_this_run() -> Self {
        if std::env::var("TROUPE_CHAOS").is_ok_and(|how| how == "long") {
            Self { rate: 200, kills: 5, between: Duration::from_secs(5), down: Duration::from_secs(5) }
        } else {
            Self { rate: 50, kills: 1, between: Duration::from_secs(2), down: Duration::from_secs(1) }
        }
    }
}

/// A broker, a node on it, and Slack.
struct Scene {
    // First, so that its log is still there when it goes.
    node: NodeProcess,
    broker: RabbitMq,
    slack: Arc<SlackStandIn>,
    stage: Stage,
}

/// A webhook and its answer.
#[derive(Debug, Clone)]
struct Post {
    at: Instant,
    took: Duration,
    answer: Option<(u16, String)>,
}

impl Scene {
    /// `None` without RabbitMQ.
    async fn open() -> Option<Self> {
        let broker = RabbitMq::start().await?;
        let (stage, slack) = set(&broker).await;
        let node = stage.start().await;
        let scene = Self { node, broker, slack, stage };
        scene.bus("connected", |bus| bus["connection"]["state"] == "connected").await;
        Some(scene)
    }

    /// Waits until the bus stands like this, as its health tells.
    async fn bus(&self, what: &str, stands: impl Fn(&Value) -> bool) -> Value {
        let admin = self.stage.admin();
        until(what, LIMIT, async || {
            let bus = admin.try_get("/health").await?.1["components"]["bus"].clone();
            stands(&bus).then_some(bus)
        })
        .await
    }

    /// Waits until nothing is spooled and the broker is well.
    async fn drained(&self) {
        self.bus("an empty spool", |bus| bus["spool"]["events"] == 0 && bus["status"] == "healthy").await;
    }

    /// How many events each emptying of the spool took, and how long, as the node tells; a lonely one is none.
    fn drains(&self) -> String {
        let log = self.node.log();
        let told = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let figures =
            told.filter(|line| line["message"] == "the spool is drained" && line["events"].as_u64() > Some(1));
        let rate = |events: f64, ms: f64| format!("{events} in {ms} ms ({:.0}/s)", events / (ms / 1e3).max(1e-3));
        let figure = |line: Value| {
            rate(line["events"].as_f64().unwrap_or_default(), line["took_ms"].as_f64().unwrap_or_default())
        };
        figures.map(figure).collect::<Vec<_>>().join(", ")
    }

    /// Posts so many commands a second until `enough`, each once.
    fn keep_posting(&self, rate: u32, enough: CancellationToken) -> tokio::task::JoinHandle<Vec<Post>> {
        let (slack, url) = (Arc::clone(&self.slack), self.stage.public_url("/slack/events"));
        tokio::spawn(async move {
            let (client, mut posts) = (slack::client(), JoinSet::new());
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            for number in 0.. {
                tokio::select! {
                    () = enough.cancelled() => break,
                    _ = ticks.tick() => {}
                }
                posts.spawn(post(client.clone(), url.clone(), Arc::clone(&slack), number));
            }
            posts.join_all().await
        })
    }

    /// Fails unless every command was taken and done once, and answered once.
    async fn holds(&self, posts: &[Post]) {
        let refused: Vec<_> = posts.iter().filter(|post| post.answer != Some((200, String::new()))).collect();
        assert!(refused.is_empty(), "{} of {} webhooks: {:?}", refused.len(), posts.len(), refused.first());
        let admin = self.stage.admin();
        let tasks = until("the end of all tasks", LIMIT, async || {
            let tasks = admin.tasks("echo").await?;
            let over = |task: &Value| matches!(task["status"].as_str(), Some("succeeded" | "failed" | "cancelled"));
            (tasks.len() >= posts.len() && tasks.iter().all(over)).then_some(tasks)
        })
        .await;
        let mut done: BTreeMap<&str, usize> = BTreeMap::new();
        for task in &tasks {
            assert_eq!(task["status"], "succeeded", "{task}");
            *done.entry(task["input"].as_str().unwrap_or_default().trim()).or_default() += 1;
        }
        let doubled = done.values().filter(|times| **times > 1).count();
        let lost = (0..posts.len()).filter(|number| !done.contains_key(marker(*number).as_str())).count();
        let said = self.slack.wait_for(posts.len(), LIMIT).await;
        let mut replies: BTreeMap<String, usize> = BTreeMap::new();
        for reply in self.slack.replies() {
            *replies.entry(reply.text).or_default() += 1;
        }
        let again = replies.values().filter(|times| **times > 1).count();
        println!(
            "{} webhooks, all 200; {lost} lost, {doubled} doubled; {} answered, {again} of them twice",
            posts.len(),
            replies.len()
        );
        assert_eq!((lost, doubled, again, said), (0, 0, 0, true));
        let dead = admin.get("/v1/dead-letters").await.1;
        assert_eq!(dead["items"].as_array().map(Vec::len), Some(0), "{dead}");
    }
}

/// A stage whose bus is on the broker, with an agent and Slack.
async fn set(broker: &RabbitMq) -> (Stage, Arc<SlackStandIn>) {
    let slack = Arc::new(SlackStandIn::start().await.expect("a stand-in"));
    let mut stage = Stage::new();
    let vhost = broker.create("outage", 1).remove(0);
    stage.slack(&slack).agent("echo", ECHO).set("AMQP_URL", &broker.url(&vhost));
    (stage, slack)
}

fn marker(number: usize) -> String {
    format!("webhook-{number:05}")
}

async fn post(client: reqwest::Client, url: String, slack: Arc<SlackStandIn>, number: usize) -> Post {
    let asker = Asker { channel: format!("C{}", number % CHANNELS), ..Asker::default() };
    let trigger = format!("trigger-{number}");
    let request = asker.slash_command("/echo", &marker(number), &trigger, &slack.response_url(number));
    let at = Instant::now();
    let answer = slack::send(&client, &url, &request).await;
    Post { at, took: at.elapsed(), answer }
}

/// The times of the posts before the first outage, within outages, and after them, for people. After an outage the node also
/// works off what has come meanwhile.
fn times(posts: &[Post], outages: &[(Instant, Instant)]) -> String {
    let during = |post: &&Post| outages.iter().any(|(from, to)| (*from..*to).contains(&post.at));
    let figure = |mut times: Vec<Duration>| {
        times.sort_unstable();
        let at = |part: usize| {
            times.get((times.len() * part / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        format!("p50 {:?}, p99 {:?}, max {:?} of {}", at(50), at(99), at(100), times.len())
    };
    let first = outages.first().map(|(from, _)| *from);
    let before = |post: &&Post| first.is_some_and(|first| post.at < first);
    let took = |posts: Vec<&Post>| figure(posts.into_iter().map(|post| post.took).collect());
    let inside = took(posts.iter().filter(during).collect());
    let calm = took(posts.iter().filter(before).collect());
    let later: Vec<&Post> = posts.iter().filter(|post| !during(post) && !before(post)).collect();
    let since = |post: &&&Post| outages.iter().filter(|(_, to)| *to <= post.at).map(|(_, to)| post.at - *to).min();
    let slow = later.iter().filter(|post| post.took > LONG);
    let (many, last) = (slow.clone().count(), slow.filter_map(|post| since(&post)).max().unwrap_or_default());
    let after = took(later);
    format!(
        "before {calm} (aim: p99 50 ms); during outages {inside} (aim: p99 1.2 s); after them {after} (aim: p99 50 ms), \
         {many} of these longer than {LONG:?}, posted up to {last:?} after an outage"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_again_and_again_costs_no_webhook() {
    let amount = Amount::of_this_run();
    let Some(mut scene) = Scene::open().await else { return };
    let enough = CancellationToken::new();
    let begun = Instant::now();
    let posting = scene.keep_posting(amount.rate, enough.clone());
    let mut outages = Vec::new();
    for _ in 0..amount.kills {
        tokio::time::sleep(amount.between).await;
        let from = Instant::now();
        scene.broker.crash();
        tokio::time::sleep(amount.down).await;
        scene.broker.resume().await;
        scene.bus("the connection", |bus| bus["connection"]["state"] == "connected").await;
        scene.drained().await;
        outages.push((from, Instant::now()));
    }
    tokio::time::sleep(amount.between).await;
    enough.cancel();
    let posts = posting.await.expect("the posts");
    let rate = posts.len() as f64 / begun.elapsed().as_secs_f64();
    println!("{} kills at {rate:.0} webhooks/s: {}", amount.kills, times(&posts, &outages));
    println!("drained, from the first confirm on: {}", scene.drains());
    let spooled = scene.stage.admin().text("/metrics").await;
    for line in spooled.lines().filter(|line| line.starts_with("troupe_spool_events_total")) {
        println!("{line}");
    }
    scene.holds(&posts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_short_of_memory_degrades_and_passes_by_itself() {
    let Some(scene) = Scene::open().await else { return };
    let enough = CancellationToken::new();
    let posting = scene.keep_posting(Amount::of_this_run().rate, enough.clone());
    let from = Instant::now();
    scene.broker.alarm(true);
    // The command that sets it takes seconds of its own where many tests run.
    let set = Instant::now();
    let bus = scene.bus("degraded", |bus| bus["status"] == "degraded").await;
    let seen = set.elapsed();
    scene.bus("spooled events", |bus| bus["spool"]["events"].as_u64() > Some(20)).await;
    scene.broker.alarm(false);
    let cleared = Instant::now();
    scene.drained().await;
    let drained = cleared.elapsed();
    enough.cancel();
    let posts = posting.await.expect("the posts");
    println!(
        "degraded after {seen:?} (aim 5 s); drained {drained:?} after the alarm; {}",
        times(&posts, &[(from, cleared + drained)])
    );
    assert!(seen < DEGRADED_WITHIN, "{seen:?}: {bus}");
    scene.holds(&posts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_without_any_broker_survives_the_node_and_is_done_when_there_is_one() {
    const WEBHOOKS: usize = 100;
    let Some(mut broker) = RabbitMq::start().await else { return };
    let (stage, slack) = set(&broker).await;
    broker.crash();
    // A node that has never seen its broker: not even the queues are there yet.
    let node = stage.start().await;
    let (client, url) = (slack::client(), stage.public_url("/slack/events"));
    let mut posts = Vec::new();
    for number in 0..WEBHOOKS {
        posts.push(post(client.clone(), url.clone(), Arc::clone(&slack), number).await);
    }
    node.kill9();
    let said = stage.run(&["doctor"], LIMIT).await;
    assert!(said.out.contains("100 events wait"), "{}", said.out);
    let node = stage.start().await;
    let mut scene = Scene { node, broker, slack, stage };
    scene.bus("what the former life has left", |bus| bus["spool"]["events"] == WEBHOOKS).await;
    scene.broker.resume().await;
    scene.drained().await;
    scene.holds(&posts).await;
    scene.node.terminate();
    assert!(scene.node.ended(LIMIT).await.success());
    let left: Vec<_> = std::fs::read_dir(scene.stage.path("data/spool")).expect("the spool").flatten().collect();
    let segments = left.iter().filter(|entry| entry.path().extension().is_some_and(|ext| ext == "segment")).count();
    assert_eq!(segments, 0, "{left:?}");
}
