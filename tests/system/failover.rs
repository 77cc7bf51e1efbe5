//! Two nodes on one database, and one of them goes: killed, restarted, stopped in order, frozen, cut off. The other goes
//! on with what it has left, nothing is done twice, and whoever wakes up later writes nothing for what was taken.
//!
//! Leases are the product's own (10 s, renewed every 3 s). Each task has three turns, and its second one is under way when
//! it happens: so there is a journal to go on from, and an answer that comes too late. A witness in the database says who
//! has written what ([`troupe_tests::pair`]). Times are printed; what is asserted has [`SLACK`], for a machine that is
//! busy is late at everything. A failure shows both logs and the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use futures::future::join_all;
use serde_json::json;
use tokio::sync::watch;
use troupe_tests::Stage;
use troupe_tests::admin::Admin;
use troupe_tests::model::{Answer, Asked, ModelStandIn};
use troupe_tests::node::NodeProcess;
use troupe_tests::pair::{Life, ONE, Pair, TWO};
use troupe_tests::proxy::Flow;
use troupe_tests::wait::{PATIENCE, until};

use super::agents::two_turns;
use super::crowd::{ended, journals, text};
use super::database;
use super::history::History;

const TURNS: usize = 3;
/// Tasks of the node that goes, and of the one that stays.
const LEFT: usize = 12;
const OWN: usize = 4;
/// From the last sign of life of a node to the claims of another one.
const DEAD: Duration = Duration::from_secs(15);
/// The same after a clean exit, or after a start of the same node.
const SOON: Duration = Duration::from_secs(2);
/// What a busy machine may add: less than what a lease that runs out would take, were [`SOON`] not kept at all.
const SLACK: Duration = Duration::from_secs(5);

/// Where the model waits until it is told.
struct Gates {
    /// The first call of a second turn: the one that is under way when it happens.
    first: watch::Sender<bool>,
    /// A further call of a second turn: by whoever has taken over.
    again: watch::Sender<bool>,
    /// The third turn.
    last: watch::Sender<bool>,
}

/// The two nodes at work.
struct Scene {
    // First, so that their logs are still there when they go.
    one: Option<NodeProcess>,
    _two: NodeProcess,
    pair: Pair,
    model: ModelStandIn,
    gates: Gates,
    markers: Vec<String>,
    /// The life of the first one, and its steps.
    life: Life,
    open: Vec<String>,
}

impl Gates {
    fn closed() -> Self {
        let [first, again, last] = [(); 3].map(|()| watch::Sender::new(false));
        Self { first, again, last }
    }

    /// The clock, the clock again, an answer that names the task.
    fn script(&self) -> impl Fn(&Asked) -> (Duration, Answer) + Send + Sync + 'static {
        let (first, again, last) = (self.first.subscribe(), self.again.subscribe(), self.last.subscribe());
        let asked_before = Arc::<Mutex<BTreeSet<String>>>::default();
        move |asked| {
            let clock = Answer::Tool("clock", json!({}));
            let answer = match asked.turn {
                0 => clock,
                1 => {
                    let mut before = asked_before.lock().unwrap_or_else(PoisonError::into_inner);
                    let gate = if before.insert(asked.task.clone()) { &first } else { &again };
                    Answer::Gated(gate.clone(), Box::new(clock))
                }
                _ => Answer::Gated(last.clone(), Box::new(Answer::Text(format!("done {}", asked.task)))),
            };
            (Duration::ZERO, answer)
        }
    }

    fn open_all(&self) {
        for gate in [&self.first, &self.again, &self.last] {
            gate.send_replace(true);
        }
    }
}

impl Scene {
    /// Both nodes, their steps in the second turn; the second node serves the agent too, or it does not.
    async fn open(second_serves: bool) -> Option<Self> {
        let (server, stage, url) = database::stage().await?;
        let mut pair = Pair::of(server, stage, &url).await;
        let gates = Gates::closed();
        let model = ModelStandIn::start(gates.script()).await;
        // A call that waits at a gate is not to be given up.
        let spec = two_turns(model.base_url()).replace("timeout: 10s", "timeout: 120s");
        pair.one.set("STAND_IN_KEY", "none").agent("crasher", &spec);
        if second_serves {
            pair.two.set("STAND_IN_KEY", "none").agent("crasher", &spec);
        } else {
            pair.two.agent("echo", super::agents::ECHO);
        }
        let one = pair.one.start().await;
        pair.witness().await;
        let two = pair.two.start().await;
        let own = if second_serves { OWN } else { 0 };
        let markers: Vec<String> = (0..LEFT + own).map(|number| format!("task-{number:04}")).collect();
        // One client for each: to make one takes so long that a connection beside it would be given up.
        let (of_one, of_two) = (pair.one.admin(), pair.two.admin());
        let ask = async |(number, marker): (usize, &String)| {
            ask(if number < LEFT { &of_one } else { &of_two }, marker).await;
        };
        join_all(markers.iter().enumerate().map(ask)).await;
        until("the second turns", PATIENCE, async || {
            let begun = model.calls().into_iter().filter(|call| call.turn == 1).count();
            (begun == markers.len()).then_some(())
        })
        .await;
        let life = pair.life(ONE).await;
        let open = pair.open(life.incarnation).await;
        assert_eq!(open.len(), LEFT, "the first node has what it was asked for");
        Some(Self { one: Some(one), _two: two, pair, model, gates, markers, life, open })
    }

    /// Plays a case to its end. One that fails shows all that there is to see.
    async fn plays(mut self, case: impl AsyncFnOnce(&mut Self)) {
        let played = AssertUnwindSafe(case(&mut self)).catch_unwind().await;
        if let Err(failure) = played {
            println!("{}", self.pair.report().await);
            resume_unwind(failure);
        }
    }

    fn one(&mut self) -> NodeProcess {
        self.one.take().expect("the first node is there")
    }

    /// Waits until every step that was left is claimed by this node; answers when each was.
    async fn taken(&self, by: &str) -> BTreeMap<String, SystemTime> {
        until(&format!("the claims by {by}"), PATIENCE, async || {
            let seen = self.pair.seen().await;
            let claims = seen.into_iter().filter(|seen| seen.who == by && seen.epoch == Some(2));
            // Seen again when it ends: the first one counts.
            let mut taken = BTreeMap::new();
            for claim in claims {
                taken.entry(claim.step).or_insert(claim.at);
            }
            self.open.iter().all(|step| taken.contains_key(step)).then_some(taken)
        })
        .await
    }

    /// Nothing of the first life was taken before it was over, and that was not before its lease had run out.
    async fn was_dead(&self, taken: &BTreeMap<String, SystemTime>) {
        let life = self.pair.life(ONE).await;
        if life.incarnation == self.life.incarnation {
            let ended = life.ended.expect("it was ended");
            assert!(ended >= life.lease, "ended {:?} before its lease", life.lease.duration_since(ended));
            assert!(taken.values().all(|at| *at >= ended), "taken before the end: {taken:?}, {ended:?}");
        }
    }

    /// Every task has one good end, no journaled call was made again, no attempt was charged, and the steps of the node
    /// that stayed were left alone.
    async fn judge(&self, asked: &Stage) {
        let tasks = ended(asked, self.markers.len()).await;
        let history = History {
            accepted: self.markers.clone(),
            tasks: tasks.iter().map(|task| (text(&task["input"]), text(&task["status"]))).collect(),
            calls: self.model.calls().into_iter().map(|call| (call.task, call.turn, call.number)).collect(),
            journals: journals(asked, &tasks).await,
            ..History::default()
        };
        let mut verdict = history.verdict_of_work(TURNS);
        let attempts: u64 = tasks.iter().filter_map(|task| task["attempts"].as_u64()).sum();
        if attempts != tasks.len() as u64 {
            verdict.push(format!("{attempts} attempts for {} tasks", tasks.len()));
        }
        let seen = self.pair.seen().await;
        let others = seen.iter().filter(|seen| !self.open.contains(&seen.step) && seen.epoch.is_some_and(|e| e > 1));
        verdict.extend(others.map(|seen| format!("a step of a node that lives was taken: {seen:?}")));
        let ends: Vec<_> = seen.iter().filter(|seen| seen.what == "result").map(|seen| &seen.step).collect();
        if ends.len() != ends.iter().collect::<BTreeSet<_>>().len() {
            verdict.push(format!("{} ends of {} steps", ends.len(), tasks.len()));
        }
        assert!(verdict.is_empty(), "{} promises broken:\n{}", verdict.len(), verdict.join("\n"));
    }

    /// The first node is away past its lease and comes back while the other one works on what it has taken.
    async fn away(&mut self, what: &str, goes: impl AsyncFnOnce(&Self), comes: impl AsyncFnOnce(&Self)) {
        let gone = SystemTime::now();
        goes(self).await;
        // Its answers come while it is away.
        self.gates.first.send_replace(true);
        let taken = self.taken(TWO).await;
        self.was_dead(&taken).await;
        let took = after(gone, &taken);
        let calls = || self.model.calls().into_iter().filter(|call| call.turn == 1).count();
        until("the calls of whoever took over", PATIENCE, async || (calls() == LEFT * 2 + OWN).then_some(())).await;
        let back = SystemTime::now();
        comes(self).await;
        let life = until("a new life of the first node", PATIENCE, async || {
            let life = self.pair.life(ONE).await;
            (life.incarnation > self.life.incarnation && life.ended.is_none()).then_some(life)
        })
        .await;
        let lives = life.started.duration_since(back).unwrap_or_default();
        self.gates.open_all();
        self.markers.push("task-9999".to_owned());
        ask(&self.pair.one.admin(), "task-9999").await;
        self.judge(&self.pair.two).await;
        let seen = self.pair.seen().await;
        let late = seen.iter().filter(|seen| seen.who == ONE && taken.get(&seen.step).is_some_and(|at| seen.at > *at));
        let late: Vec<_> = late.collect();
        println!(
            "{what}: {LEFT} steps taken over after {took:.1?}; it lives again {lives:.1?} after it was let go on, and has \
             written {} rows for what was taken",
            late.len()
        );
        assert!(late.is_empty(), "written for what was taken: {late:?}");
        let of_new_life = seen.iter().filter(|seen| seen.who == ONE && seen.owner == Some(life.incarnation)).count();
        assert!(of_new_life >= 2, "its new life has accepted and ended a task");
        assert!(took < DEAD + SLACK, "taken over after {took:?}");
    }
}

async fn ask(admin: &Admin, marker: &str) {
    let (status, task) = admin.post("/v1/agents/crasher/tasks", &[], &json!({"input": marker})).await;
    assert_eq!(status, 202, "{task}");
}

/// From a moment to the last of the claims.
fn after(moment: SystemTime, taken: &BTreeMap<String, SystemTime>) -> Duration {
    let last = taken.values().max().copied().unwrap_or(moment);
    last.duration_since(moment).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_taken_over_once_its_lease_has_run_out() {
    let Some(scene) = Scene::open(true).await else { return };
    let case = async |scene: &mut Scene| {
        let gone = SystemTime::now();
        scene.one().kill9();
        scene.gates.open_all();
        let taken = scene.taken(TWO).await;
        scene.was_dead(&taken).await;
        let took = after(gone, &taken);
        println!("kill -9 of a node: {LEFT} steps taken over after {took:.1?} (promised: {DEAD:?})");
        scene.judge(&scene.pair.two).await;
        assert!(took < DEAD + SLACK, "taken over after {took:?}");
    };
    scene.plays(case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_goes_on_with_its_own_steps_at_once() {
    // Nobody else could: the other node lives, and does not serve the agent.
    let Some(scene) = Scene::open(false).await else { return };
    let case = async |scene: &mut Scene| {
        scene.one().kill9();
        scene.gates.open_all();
        let begun = SystemTime::now();
        scene.one = Some(scene.pair.one.spawn());
        let taken = scene.taken(ONE).await;
        let life = scene.pair.life(ONE).await;
        assert!(life.incarnation > scene.life.incarnation, "{life:?} after {:?}", scene.life);
        let (of_process, of_life) = (after(begun, &taken), after(life.started, &taken));
        println!(
            "restart after kill -9: {LEFT} steps taken up {of_process:.1?} after the start of the process, {of_life:.1?} \
             after the start of its life (promised: {SOON:?})"
        );
        scene.judge(&scene.pair.one).await;
        assert!(of_life < SOON + SLACK, "taken up {of_life:?} after its start");
    };
    scene.plays(case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_in_order_is_taken_over_at_once() {
    let Some(scene) = Scene::open(true).await else { return };
    let case = async |scene: &mut Scene| {
        let (mut one, admin) = (scene.one(), scene.pair.one.admin());
        one.terminate();
        until("it to drain", PATIENCE, async || (admin.status("/readyz").await == Some(503)).then_some(())).await;
        // It finishes the entries that it is at, and no more.
        scene.gates.first.send_replace(true);
        let status = one.ended(PATIENCE).await;
        let gone = SystemTime::now();
        assert_eq!(status.code(), Some(0), "it drains with exit 0");
        let taken = scene.taken(TWO).await;
        let ended = scene.pair.life(ONE).await.ended.expect("it has given its lease back");
        let (of_exit, of_lease) = (after(gone, &taken), after(ended, &taken));
        println!(
            "SIGTERM: {LEFT} steps taken over {of_exit:.1?} after the exit, {of_lease:.1?} after the lease was given back \
             (promised: {SOON:?})"
        );
        scene.gates.open_all();
        scene.judge(&scene.pair.two).await;
        let calls = scene.model.calls().len();
        assert_eq!(calls, TURNS * (LEFT + OWN), "what was drained needs no second call");
        assert!(of_lease < SOON + SLACK, "taken over {of_lease:?} after its end");
    };
    scene.plays(case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_that_wakes_up_writes_nothing_for_what_was_taken() {
    let Some(scene) = Scene::open(true).await else { return };
    let case = async |scene: &mut Scene| {
        let one = scene.one();
        scene.away("SIGSTOP", async |_| one.freeze(), async |_| one.thaw()).await;
    };
    scene.plays(case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_line_was_torn_writes_nothing_for_what_was_taken() {
    let Some(scene) = Scene::open(true).await else { return };
    // What it says meanwhile arrives when the line heals.
    let torn = async |scene: &Scene| scene.pair.proxy.flows(Flow::Hold);
    let case = async |scene: &mut Scene| scene.away("a line that is torn", torn, heals).await;
    scene.plays(case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_the_server_refuses_writes_nothing_for_what_was_taken() {
    let Some(scene) = Scene::open(true).await else { return };
    let refused = async |scene: &Scene| {
        scene.pair.proxy.refuse();
        scene.pair.proxy.cut();
    };
    let case = async |scene: &mut Scene| scene.away("a server out of reach", refused, heals).await;
    scene.plays(case).await;
}

async fn heals(scene: &Scene) {
    scene.pair.proxy.pass();
}
