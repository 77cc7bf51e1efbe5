//! Chaos on a real PostgreSQL under a steady load: the server goes and comes back, lines are cut at the commit, lines go
//! dead, slow, silent. Nothing accepted is lost, nothing is done twice, and the node comes back by itself.
//!
//! `make test` runs it short, `make chaos` long (`TROUPE_CHAOS=long`). What is drawn is drawn from a printed seed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand::{Rng, RngExt as _};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use troupe_tests::node::NodeProcess;
use troupe_tests::postgres::{COMMIT, Postgres};
use troupe_tests::proxy::{Cut, Flow, Proxy, Way};
use troupe_tests::wait::{PATIENCE, until};
use troupe_tests::{Stage, seed};

use super::crowd::{Crowd, Evidence};
use super::database;

/// Commands a second.
const RATE: u32 = 50;
/// Where the node is in trouble most of the time.
const LOW_RATE: u32 = 10;
/// From the server's return until new commands are answered as before, and the old ones are answered. A machine of one's
/// own takes a few seconds; one that is shared by many builds is slow at everything.
const NORMAL_AGAIN: Duration = Duration::from_secs(20);
/// A reply within this is as good as one before the fault.
const SOON: Duration = Duration::from_secs(1);
/// A silent server counts as gone after this, in these tests.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// A commit that was not answered is asked about for so long.
const DOUBT_TIMEOUT: Duration = Duration::from_secs(2);
/// What is seen late by a health that is looked at once a second, on a busy machine.
const SEEN_WITHIN: Duration = Duration::from_secs(20);
/// In the statement that writes a model's answer down.
const ENTRY: &[u8] = b"model_result";
/// Between two commits that are cut, in milliseconds.
const BETWEEN_CUTS_MS: std::ops::Range<u64> = 10..150;

/// How much of everything.
struct Amount {
    /// Load before the fault and after it.
    around: Duration,
    /// The fault.
    fault: Duration,
    /// Commits that are cut.
    cuts: usize,
}

impl Amount {
    fn of_this_run() -> Self {
        if std::env::var("TROUPE_CHAOS").is_ok_and(|how| how == "long") {
            Self { around: Duration::from_secs(8), fault: Duration::from_secs(10), cuts: 1_000 }
        } else {
            Self { around: Duration::from_secs(3), fault: Duration::from_secs(3), cuts: 40 }
        }
    }
}

/// A node whose state is on a server, a line to it that can be tampered with, and people.
struct Scene {
    // First, so that its log is still there when it goes.
    node: NodeProcess,
    server: Postgres,
    proxy: Proxy,
    stage: Arc<Stage>,
    crowd: Arc<Crowd>,
}

impl Scene {
    async fn open() -> Option<Self> {
        let (server, mut stage, url) = database::stage().await?;
        let proxy = Proxy::start(server.port()).await;
        let [answer, doubt] = [ANSWER_TIMEOUT, DOUBT_TIMEOUT].map(|limit| limit.as_secs());
        let limits = format!("postgres:\n  answer_timeout: {answer}s\n  doubt_timeout: {doubt}s\n");
        let limits = format!("{limits}  statement_timeout: 1s\n  lock_timeout: 1s\n  connect_timeout: 1s\n");
        let file = stage.path("node.yaml");
        stage.file("node.yaml", &limits).set("TROUPE_CONFIG", &file.to_string_lossy());
        stage.set("DATABASE_URL", &server.through(&proxy, &url));
        let crowd = Crowd::gather(&mut stage).await;
        let node = stage.start().await;
        Some(Self { node, server, proxy, stage: Arc::new(stage), crowd: Arc::new(crowd) })
    }

    /// Does something to the node under load; all that was posted meanwhile must end well. What the deed answers is
    /// answered, with what was seen.
    async fn under_load<T>(mut self, rate: u32, deed: impl AsyncFnOnce(&mut Self) -> T) -> (T, Evidence) {
        let (enough, crowd, stage) = (CancellationToken::new(), self.crowd.clone(), self.stage.clone());
        let until = enough.clone();
        let posting = tokio::spawn(async move { crowd.keep_posting(&stage, rate, until).await });
        let done = deed(&mut self).await;
        enough.cancel();
        let posts = posting.await.expect("the crowd posts");
        let Self { node, server: _server, proxy: _proxy, stage, crowd } = self;
        (done, crowd.leave(&stage, node, posts).await)
    }

    /// Waits until health says this; answers how long that took.
    async fn health(&self, wanted: u16) -> Duration {
        let begun = Instant::now();
        let admin = self.stage.admin();
        let mut last = None;
        let seen = async {
            until(&format!("health {wanted}"), Duration::MAX, async || {
                last = admin.try_get("/health").await;
                last.as_ref().is_some_and(|(status, _)| *status == wanted).then_some(())
            })
            .await;
        };
        let seen = timeout(PATIENCE, seen).await;
        assert!(seen.is_ok(), "waited {PATIENCE:?} in vain for health {wanted}; the last was {last:#?}");
        begun.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_under_load_costs_time_and_nothing_else() {
    let Some(scene) = Scene::open().await else { return };
    let Amount { around, fault, .. } = Amount::of_this_run();
    let outage = async |scene: &mut Scene| {
        sleep(around).await;
        let (begun, stopped) = (Instant::now(), SystemTime::now());
        scene.server.crash();
        let noticed = scene.health(503).await;
        sleep(fault.saturating_sub(begun.elapsed())).await;
        scene.server.resume().await;
        let back = SystemTime::now();
        let healthy = scene.health(200).await;
        sleep(around).await;
        (stopped, back, noticed, healthy)
    };
    let ((stopped, back, noticed, healthy), seen) = scene.under_load(RATE, outage).await;
    let soon = SOON.max(seen.usual_before(stopped) * 2);
    let (normal, caught_up) = (seen.normal_after(back, soon), seen.caught_up_after(back));
    let away = back.duration_since(stopped).unwrap_or_default();
    println!(
        "PostgreSQL away for {away:.1?} under {RATE} commands/s: noticed by health after {noticed:.1?}; after its return \
         healthy in {healthy:.1?}, the backlog answered in {caught_up:.1?}, new commands answered within {soon:.1?} from \
         {normal:.1?} on"
    );
    seen.holds();
    assert!(normal < NORMAL_AGAIN, "no normal service for {normal:?} after the server's return");
    assert!(caught_up < NORMAL_AGAIN, "the backlog took {caught_up:?} after the server's return");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_whose_line_is_cut_lose_and_double_nothing() {
    let Some(scene) = Scene::open().await else { return };
    let (_, mut rng) = seed::seeded("commits that are cut");
    let cuts = Amount::of_this_run().cuts;
    let cut_all = async |scene: &mut Scene| {
        let (mut unheard, mut unanswered) = (0, 0);
        for _ in 0..cuts {
            sleep(Duration::from_millis(rng.random_range(BETWEEN_CUTS_MS))).await;
            *if cut_a_commit(&scene.proxy, &mut rng).await { &mut unanswered } else { &mut unheard } += 1;
        }
        (unheard, unanswered)
    };
    let ((unheard, unanswered), seen) = scene.under_load(RATE, cut_all).await;
    println!("{unheard} commits cut before the server heard them, {unanswered} after it had answered");
    seen.holds();
}

/// Whether the server had heard the commit that was cut, or the entry: a lonely write commits itself.
async fn cut_a_commit(proxy: &Proxy, rng: &mut impl Rng) -> bool {
    let heard = rng.random_bool(0.5);
    let cut = if heard { Cut::Unanswered } else { Cut::Unheard };
    let at = if rng.random_bool(0.5) { COMMIT } else { ENTRY };
    proxy.arm(cut(Way::ToServer, at.to_vec()));
    until("a commit", PATIENCE, async || (!proxy.armed()).then_some(())).await;
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_stay_in_doubt_are_found_again() {
    let Some(scene) = Scene::open().await else { return };
    let doubt = async |scene: &mut Scene| {
        for _ in 0..3 {
            sleep(Duration::from_secs(1)).await;
            // Nobody can ask what became of it until the writer has given up asking.
            scene.proxy.refuse();
            scene.proxy.arm(Cut::Unanswered(Way::ToServer, COMMIT.to_vec()));
            until("a commit", PATIENCE, async || (!scene.proxy.armed()).then_some(())).await;
            sleep(DOUBT_TIMEOUT + Duration::from_secs(1)).await;
            scene.proxy.pass();
            scene.health(200).await;
        }
    };
    let ((), seen) = scene.under_load(RATE, doubt).await;
    seen.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sick_line_is_seen_and_survived() {
    let Some(scene) = Scene::open().await else { return };
    let ((), seen) = scene.under_load(LOW_RATE, sicknesses).await;
    seen.holds();
}

async fn sicknesses(scene: &mut Scene) {
    let fault = Amount::of_this_run().fault;
    // Slow, and a node that waits: nothing is wrong.
    scene.proxy.flows(Flow::Delay(Duration::from_millis(10)));
    sleep(fault).await;
    scene.health(200).await;
    // A peer that has gone without a word: only our own clock tells, and new lines are made.
    scene.proxy.pass();
    scene.proxy.deaden();
    let (noticed, mended) = (scene.health(503).await, scene.health(200).await);
    println!("dead lines: noticed after {noticed:.1?}, mended by new ones {mended:.1?} later");
    assert!(mended < ANSWER_TIMEOUT + SEEN_WITHIN, "dead lines were held on to for {mended:?}");
    let sick = [
        ("swallowed", Flow::Swallow),
        ("held back", Flow::Hold),
        ("trickling", Flow::Trickle { bytes: 8, every: Duration::from_millis(50) }),
    ];
    for (what, flow) in sick {
        scene.proxy.flows(flow);
        let noticed = scene.health(503).await;
        sleep(fault).await;
        scene.proxy.pass();
        let back = scene.health(200).await;
        println!("{what}: noticed after {noticed:.1?}, healthy {back:.1?} after it passed again");
        assert!(noticed < SEEN_WITHIN && back < SEEN_WITHIN, "{what}: noticed {noticed:?}, back {back:?}");
    }
    scene.proxy.refuse();
    scene.proxy.cut();
    let noticed = scene.health(503).await;
    scene.proxy.pass();
    let back = scene.health(200).await;
    println!("refused: noticed after {noticed:.1?}, healthy {back:.1?} after it was let in again");
    assert!(noticed < SEEN_WITHIN && back < SEEN_WITHIN, "refused: noticed {noticed:?}, back {back:?}");
}
