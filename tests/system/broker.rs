//! A node on RabbitMQ and PostgreSQL: it starts without its broker, and a broker that is killed under load costs time and nothing
//! else, for tasks and model calls alike. What the doors do meanwhile is in [`super::outages`].
//!
//! Each test has servers of its own. Without RabbitMQ or PostgreSQL it says `skipped`, and fails when `CI` is set.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use troupe_tests::Stage;
use troupe_tests::node::NodeProcess;
use troupe_tests::postgres::Postgres;
use troupe_tests::rabbitmq::RabbitMq;
use troupe_tests::wait::{PATIENCE, until};

use super::crowd::{Crowd, Evidence};
use super::database;

/// Commands a second.
const RATE: u32 = 50;
/// Load before and after a fault.
const AROUND: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(30);

/// An agent that its model never answers.
const HOPELESS: &str = r"
name: hopeless
type: test
execution_mode: autonomous
llm_config:
  provider: scripted
  model: rules
  script:
    - {fail: 400}
instructions: Fail.
retries: 0
";

struct Scene {
    // First, so that its log is still there when it goes.
    node: Option<NodeProcess>,
    broker: RabbitMq,
    _server: Postgres,
    stage: Arc<Stage>,
    crowd: Arc<Crowd>,
}

impl Scene {
    /// Servers and people; no node yet.
    async fn set() -> Option<Self> {
        let broker = RabbitMq::start().await?;
        let (server, mut stage, _) = database::stage().await?;
        stage.set("AMQP_URL", &broker.url("/")).agent("hopeless", HOPELESS);
        let crowd = Arc::new(Crowd::gather(&mut stage).await);
        Some(Self { node: None, broker, _server: server, stage: Arc::new(stage), crowd })
    }

    /// Waits until health says this of the bus; answers how long that took.
    async fn bus(&self, what: &str, so: impl Fn(&Value) -> bool) -> Duration {
        let (begun, admin) = (Instant::now(), self.stage.admin());
        until(&format!("a bus that is {what}"), PATIENCE, async || {
            let (_, health) = admin.try_get("/health").await?;
            so(&health["components"]["bus"]).then_some(())
        })
        .await;
        begun.elapsed()
    }

    /// Does something to the broker under load; all that was posted meanwhile must be taken at the first try, and end well.
    async fn under_load<T>(mut self, deed: impl AsyncFnOnce(&mut Self) -> T) -> (T, Evidence) {
        let node = self.stage.start().await;
        let (enough, crowd, stage) = (CancellationToken::new(), self.crowd.clone(), self.stage.clone());
        let until = enough.clone();
        let posting = tokio::spawn(async move { crowd.keep_posting(&stage, RATE, until).await });
        let done = deed(&mut self).await;
        enough.cancel();
        let posts = posting.await.expect("the crowd posts");
        let seen = self.crowd.leave(&self.stage, node, posts).await;
        (done, seen)
    }
}

fn connected(bus: &Value) -> bool {
    bus["status"] == "healthy" && bus["connection"]["state"] == "connected"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_without_its_broker_and_serves_when_it_is_there() {
    let Some(mut scene) = Scene::set().await else { return };
    scene.broker.crash();
    let doctor = scene.stage.run(&["doctor"], LIMIT).await;
    assert!(
        doctor.out.contains("RabbitMQ amqp://127.0.0.1") && doctor.out.contains("check that it runs"),
        "{}",
        doctor.out
    );
    scene.node = Some(scene.stage.start().await);
    scene.bus("away", |bus| bus["status"] == "degraded" && bus["connection"]["state"] == "away").await;
    let posts = scene.crowd.post(&scene.stage, [Duration::ZERO]);
    // Taken by the spool; the answer comes when there is a broker.
    scene.bus("keeping it", |bus| bus["spool"]["events"] == 1).await;
    scene.broker.resume().await;
    let served = scene.bus("well", connected).await;
    assert!(scene.crowd.slack.wait_for(1, PATIENCE).await, "no reply came");
    println!("served {served:.1?} after the broker answered");
    let doctor = scene.stage.run(&["doctor"], LIMIT).await;
    assert!(doctor.out.contains("answers") && !doctor.out.contains("under-the-stage"), "{}", doctor.out);
    dead_letters(&scene.stage).await;
    let node = scene.node.take().expect("a node");
    scene.crowd.leave(&scene.stage, node, posts).await.holds();
}

/// A failed task is a dead letter in the broker; a replay is a new task in the same trace.
async fn dead_letters(stage: &Stage) {
    let admin = stage.admin();
    let (status, _) = admin.post("/v1/agents/hopeless/tasks", &[], &json!({"input": "fail"})).await;
    assert_eq!(status, 202);
    let letter = until("a dead letter", PATIENCE, async || {
        let (_, letters) = admin.try_get("/v1/dead-letters").await?;
        letters["items"].as_array()?.first().cloned()
    })
    .await;
    let id = letter["id"].as_str().expect("an id").to_owned();
    let shown = stage.run(&["dlq", "show", &id, "-o", "json"], LIMIT).await;
    assert_eq!(shown.code, 0, "{}{}", shown.out, shown.err);
    let shown: Value = serde_json::from_str(&shown.out).expect("a document");
    let (status, replayed) = admin.post(&format!("/v1/dead-letters/{id}:replay"), &[], &json!({})).await;
    assert!(status < 300, "{status}: {replayed}");
    // The agent fails again: another letter, of another event in the same trace, and the first one is gone.
    let again = until("the replay's letter", PATIENCE, async || {
        let (_, letters) = admin.try_get("/v1/dead-letters").await?;
        let letters = letters["items"].as_array()?;
        letters.iter().find(|letter| letter["id"] != *id).filter(|_| letters.len() == 1).cloned()
    })
    .await;
    let trace = |letter: &Value| letter["event"]["traceparent"].as_str().map(|trace| trace[3..35].to_owned());
    assert!(trace(&shown).is_some() && trace(&shown) == trace(&again), "{shown}\n{again}");
    let purged = stage.run(&["dlq", "purge", again["id"].as_str().expect("an id")], LIMIT).await;
    assert_eq!(purged.code, 0, "{}{}", purged.out, purged.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_under_load_costs_time_and_nothing_else() {
    let Some(scene) = Scene::set().await else { return };
    let outages = async |scene: &mut Scene| {
        let mut told = Vec::new();
        for _ in 0..2 {
            sleep(AROUND).await;
            let stopped = SystemTime::now();
            scene.broker.crash();
            let noticed = scene.bus("away", |bus| bus["status"] == "degraded").await;
            scene.broker.resume().await;
            let back = SystemTime::now();
            let well = scene.bus("well", connected).await;
            told.push((stopped, back, noticed, well));
        }
        sleep(AROUND).await;
        told
    };
    let (told, seen) = scene.under_load(outages).await;
    for (stopped, back, noticed, well) in told {
        let away = back.duration_since(stopped).unwrap_or_default();
        println!(
            "broker away for {away:.1?} under {RATE} commands/s: noticed after {noticed:.1?}, well and the spool empty \
             {well:.1?} after its return, everything from before answered {:.1?} after it",
            seen.caught_up_after(back)
        );
    }
    seen.holds();
    let refused = seen.posted.iter().filter(|posted| posted.tries > 1).count();
    assert_eq!(refused, 0, "commands were refused while the broker was away");
}
