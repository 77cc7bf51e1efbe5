//! Pings on tokio's paused clock: who does not answer is given up on within 15 s, who does is left in peace.
//!
//! A [`Ward`] supervises [`Patient`]s as a pool supervises agent actors: by a `Children`, under the kind that is pinged.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use ractor::SupervisionEvent;
use tokio::sync::mpsc;
use troupe_runtime::supervision::{
    BackoffOptions, ChildEvent, ChildTimer, Children, ChildrenOptions, Messages, RestartBudget, Then, ToSelf,
};

use super::*;

struct Ward {
    tree: Tree,
    events: mpsc::UnboundedSender<ChildEvent>,
}

#[derive(Debug, RactorMessage)]
enum WardMessage {
    Child(ChildTimer),
}

/// What a patient may have.
#[derive(Clone, Copy)]
enum Ailment {
    /// It never comes to the next message.
    Hangs,
    /// It comes to the next message after two seconds and a half.
    Rests,
    /// It blocks its thread, as nobody may, until it is let go.
    Blocks,
}

#[derive(Clone, Default)]
struct Patient {
    /// What every one of its lives has from its beginning.
    chronic: Arc<Mutex<Option<Ailment>>>,
    /// What its first life has from its beginning.
    at_first: Option<Ailment>,
    let_go: Arc<AtomicBool>,
    /// The way to its present life.
    way: Arc<Mutex<Option<ToSelf<Ailment>>>>,
    lives: Arc<AtomicU32>,
    /// Each life has a clone until it is really over.
    pulse: Arc<()>,
}

impl Patient {
    async fn live(self, mut messages: Messages<Ailment>) -> Result<(), ActorProcessingErr> {
        let _pulse = self.pulse.clone();
        let first = self.lives.fetch_add(1, Ordering::SeqCst) == 0;
        let to_self = messages.to_self();
        self.at_first
            .filter(|_| first)
            .into_iter()
            .chain(*self.chronic.lock().unwrap())
            .for_each(|it| to_self.send(it));
        *self.way.lock().unwrap() = Some(to_self);
        while let Some(ailment) = messages.next().await {
            match ailment {
                Ailment::Hangs => std::future::pending().await,
                Ailment::Rests => tokio::time::sleep(Duration::from_millis(2_500)).await,
                Ailment::Blocks => {
                    while !self.let_go.load(Ordering::SeqCst) {
                        std::thread::park_timeout(Duration::from_millis(1));
                    }
                }
            }
        }
        Ok(())
    }

    async fn catches(&self, ailment: Ailment) {
        while self.lives.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        self.way.lock().unwrap().as_ref().expect("it lives").send(ailment);
    }
}

impl Actor for Ward {
    type Msg = WardMessage;
    type State = Children;
    type Arguments = Vec<ChildSpec>;

    async fn pre_start(
        &self,
        myself: ActorRef<WardMessage>,
        specs: Vec<ChildSpec>,
    ) -> Result<Children, ActorProcessingErr> {
        let options = ChildrenOptions::default();
        let mut children = Children::new(&myself, "ward", self.tree.clone(), options, WardMessage::Child);
        for spec in specs {
            children.start(spec).await?;
        }
        Ok(children)
    }

    async fn handle(
        &self,
        _: ActorRef<WardMessage>,
        WardMessage::Child(timer): WardMessage,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        let events = children.timer(timer).await;
        events.into_iter().try_for_each(|event| self.events.send(event)).map_err(Into::into)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<WardMessage>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        let events = children.handle(event).await;
        let news = events.into_iter().filter(|event| *event != ChildEvent::NotMine);
        news.into_iter().try_for_each(|event| self.events.send(event)).map_err(Into::into)
    }
}

fn spec(id: &str, patient: &Patient) -> ChildSpec {
    let patient = patient.clone();
    let start = move |context: ChildContext| {
        let patient = patient.clone();
        async move { Ok(context.attend(|messages| patient.live(messages))) }
    };
    ChildSpec::new(id, AGENT, start)
        .backoff(BackoffOptions { jitter: 0.0, ..BackoffOptions::default() })
        .budget(RestartBudget { max: 3, window: Duration::from_mins(1) })
        .revive_after(None)
}

/// A ward with these patients, and the rounds that ping them.
async fn ward(options: Options, patients: &[(&str, &Patient)]) -> (Tree, mpsc::UnboundedReceiver<ChildEvent>) {
    let (events, told) = mpsc::unbounded_channel();
    let tree = Tree::default();
    let specs = patients.iter().map(|(id, patient)| spec(id, patient)).collect();
    Actor::spawn(None, Ward { tree: tree.clone(), events }, specs).await.unwrap();
    let pinged = tree.clone();
    tokio::spawn(async move {
        let mut misses = HashMap::new();
        loop {
            tokio::time::sleep(options.every).await;
            ping_all(&pinged, options, &mut misses).await;
        }
    });
    (tree, told)
}

#[tokio::test(start_paused = true)]
async fn who_hangs_is_killed_and_serves_again_within_15_seconds_three_times_and_is_unavailable_then() {
    let (mute, well) = (Patient::default(), Patient::default());
    let (tree, mut told) = ward(Options::default(), &[("mute/0", &mute), ("well/0", &well)]).await;
    *mute.chronic.lock().unwrap() = Some(Ailment::Hangs);
    mute.catches(Ailment::Hangs).await;
    for restarts in 1..=3 {
        let hung = Instant::now();
        let Some(ChildEvent::Restarting { id, cause, .. }) = told.recv().await else { panic!("no restart") };
        assert_eq!((id.as_str(), cause.as_str()), ("mute/0", "no answer to 3 pings in a row, 1000 ms each"));
        let Some(ChildEvent::Restarted { restarts: told, .. }) = told.recv().await else { panic!("not restarted") };
        assert_eq!(told, restarts);
        assert!(hung.elapsed() <= Duration::from_secs(15), "{restarts}: {:?}", hung.elapsed());
    }
    let Some(ChildEvent::Unavailable { reason, .. }) = told.recv().await else { panic!("it is tried on") };
    assert!(reason.starts_with("more than 3 restarts within 60 s"), "{reason}");
    assert_eq!((mute.lives.load(Ordering::SeqCst), well.lives.load(Ordering::SeqCst)), (4, 1));
    let falls = tree.ledger().of("ward/mute/0");
    assert_eq!(falls.iter().map(|fall| fall.then).collect::<Vec<_>>(), {
        use Then::{Restarted, Unavailable};
        [Restarted, Restarted, Restarted, Unavailable]
    });
    assert!(tree.ledger().of("ward/well/0").is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_misses_are_forgiven_and_whoever_answers_is_left_in_peace() {
    let patient = Patient::default();
    let tree = Tree::default();
    let (events, mut told) = mpsc::unbounded_channel();
    Actor::spawn(None, Ward { tree: tree.clone(), events }, vec![spec("a/0", &patient)]).await.unwrap();
    let (options, mut misses) = (Options::default(), HashMap::new());
    for _ in 0..3 {
        patient.catches(Ailment::Rests).await;
        ping_all(&tree, options, &mut misses).await;
        ping_all(&tree, options, &mut misses).await;
        assert_eq!(misses.values().copied().collect::<Vec<_>>(), [2]);
        tokio::time::sleep(options.timeout).await;
        ping_all(&tree, options, &mut misses).await;
        assert!(misses.is_empty());
    }
    assert!(told.try_recv().is_err());
    assert_eq!(patient.lives.load(Ordering::SeqCst), 1);
}

/// An abort is noticed at an await, as ractor's kill is, so whoever blocks its thread outlives it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_blocks_its_thread_is_left_behind_and_its_successor_serves_beside_it() {
    let patient = Patient { at_first: Some(Ailment::Blocks), ..Patient::default() };
    // Without it no ping ever times out: the blocked thread is the one that looked at the clock.
    let _watch = Watch::begin(Handle::current(), Duration::from_millis(20)).unwrap();
    let options = Options { every: Duration::from_millis(50), timeout: Duration::from_millis(100), misses_max: 2 };
    let (tree, mut told) = ward(options, &[("a/0", &patient)]).await;
    let first = tree.lives(AGENT).remove(0);
    assert!(matches!(told.recv().await, Some(ChildEvent::Restarting { .. })));
    assert!(matches!(told.recv().await, Some(ChildEvent::Restarted { restarts: 1, .. })));
    let second = tree.lives(AGENT).remove(0);
    assert_ne!(first.number(), second.number());
    let answer = timeout(Duration::from_secs(10), second.ping().expect("it is asked")).await;
    assert!(answer.is_ok_and(|told| told.is_ok()), "the successor serves");
    let lives = |patient: &Patient| Arc::strong_count(&patient.pulse);
    let before = lives(&patient);
    assert!(first.ping().is_some(), "and the other one blocks its thread still");
    patient.let_go.store(true, Ordering::SeqCst);
    let ends = async {
        while lives(&patient) == before || first.ping().is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), ends).await.expect("it ends at its next await");
    assert_eq!(tree.lives(AGENT).len(), 1, "its end is nobody's fall");
    assert_eq!(tree.ledger().of("ward/a/0").len(), 1);
}
