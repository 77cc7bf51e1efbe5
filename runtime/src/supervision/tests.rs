//! Supervision with real ractor actors on tokio's paused clock.
//!
//! A [`Boss`] embeds [`Children`] exactly as the head of `children.rs` says and passes on what becomes of them; a
//! [`Worker`] falls in whichever way it is told to. Nothing sleeps: a test waits for events, and the paused clock jumps
//! to the next timer whenever everybody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use ractor_cluster_derive::RactorMessage;
use tokio::sync::{Mutex, mpsc};

use super::*;

mod asked;
mod attending;
mod giving_up;
mod order;
mod restarting;
mod routines;
mod secrets;
mod stopping;
mod storm;
mod traps;

/// Longest a test waits for anything, on the paused clock.
const PATIENCE: Duration = Duration::from_hours(1);

struct Boss;

#[derive(RactorMessage)]
enum BossMessage {
    Child(ChildTimer),
    Start(ChildSpec, RpcReplyPort<Result<(), ChildrenError>>),
    Reset(String, RpcReplyPort<Result<(), ChildrenError>>),
    Remove(String, RpcReplyPort<Result<(), ChildrenError>>),
    Get(String, RpcReplyPort<Option<ActorCell>>),
    Mailbox(String, RpcReplyPort<Option<Mailbox<attending::Order>>>),
    /// The mailbox of a child that takes other messages than the boss believes.
    WrongMailbox(String, RpcReplyPort<bool>),
    Snapshot(RpcReplyPort<Vec<ChildView>>),
    StopAll(RpcReplyPort<Vec<ChildEvent>>),
}

struct BossState {
    children: Children,
    events: mpsc::UnboundedSender<ChildEvent>,
}

struct BossStart {
    tree: Tree,
    options: ChildrenOptions,
    events: mpsc::UnboundedSender<ChildEvent>,
}

impl BossState {
    fn tell(&self, events: Vec<ChildEvent>) {
        for event in events {
            self.events.send(event).ok();
        }
    }

    fn told(&self, outcome: Result<Vec<ChildEvent>, ChildrenError>) -> Result<(), ChildrenError> {
        outcome.map(|events| self.tell(events))
    }
}

impl Actor for Boss {
    type Msg = BossMessage;
    type State = BossState;
    type Arguments = BossStart;

    async fn pre_start(
        &self,
        myself: ActorRef<BossMessage>,
        start: BossStart,
    ) -> Result<BossState, ActorProcessingErr> {
        let children = Children::new(&myself, "root", start.tree, start.options, BossMessage::Child);
        Ok(BossState { children, events: start.events })
    }

    async fn handle(
        &self,
        _: ActorRef<BossMessage>,
        message: BossMessage,
        state: &mut BossState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BossMessage::Child(timer) => {
                let events = state.children.timer(timer).await;
                state.tell(events);
            }
            BossMessage::Start(spec, reply) => {
                let outcome = state.children.start(spec).await;
                reply.send(state.told(outcome))?;
            }
            BossMessage::Reset(id, reply) => {
                let outcome = state.children.reset(&id).await;
                reply.send(state.told(outcome))?;
            }
            BossMessage::Remove(id, reply) => {
                let outcome = state.children.remove(&id).await;
                reply.send(state.told(outcome))?;
            }
            BossMessage::Get(id, reply) => reply.send(state.children.get(&id))?,
            BossMessage::Mailbox(id, reply) => reply.send(state.children.mailbox(&id, MailboxOptions::default()))?,
            BossMessage::WrongMailbox(id, reply) => {
                let wrong = state.children.mailbox::<BossMessage>(&id, MailboxOptions::default());
                reply.send(wrong.is_some())?;
            }
            BossMessage::Snapshot(reply) => reply.send(state.children.snapshot())?,
            BossMessage::StopAll(reply) => reply.send(state.children.stop_all().await)?,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<BossMessage>,
        event: SupervisionEvent,
        state: &mut BossState,
    ) -> Result<(), ActorProcessingErr> {
        let events = state.children.handle(event).await;
        state.tell(events);
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<BossMessage>, state: &mut BossState) -> Result<(), ActorProcessingErr> {
        state.children.stop_all().await;
        Ok(())
    }
}

#[derive(Clone)]
struct Worker {
    id: &'static str,
    /// What happened, in order: "a up", "a down" (written by `post_stop`), "a did".
    diary: Diary,
    /// `pre_start` fails while this is set.
    broken: Arc<AtomicBool>,
    starts: Arc<AtomicU32>,
}

type Diary = Arc<std::sync::Mutex<Vec<String>>>;

#[derive(RactorMessage)]
enum WorkerMessage {
    Panic(String),
    Fail,
    /// A handler that takes this long.
    Work(Duration),
    Ping(RpcReplyPort<()>),
}

impl Worker {
    fn new(id: &'static str, diary: &Diary) -> Self {
        Self { id, diary: diary.clone(), broken: Arc::default(), starts: Arc::default() }
    }

    fn write(&self, what: &str) {
        self.diary.lock().expect("the diary").push(format!("{} {what}", self.id));
    }

    /// A spec whose waits are exact, so that a test can count them.
    fn spec(&self) -> ChildSpec {
        let worker = self.clone();
        ChildSpec::new(self.id, "worker", move |context| {
            let worker = worker.clone();
            async move { context.spawn(worker, ()).await }
        })
        .backoff(BackoffOptions { jitter: 0.0, ..BackoffOptions::default() })
        .revive_after(None)
    }
}

impl Actor for Worker {
    type Msg = WorkerMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<WorkerMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        self.starts.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err("no coffee".into());
        }
        self.write("up");
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<WorkerMessage>,
        message: WorkerMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WorkerMessage::Panic(text) => panic!("{text}"),
            WorkerMessage::Fail => return Err("on purpose".into()),
            WorkerMessage::Work(time) => {
                tokio::time::sleep(time).await;
                self.write("did");
            }
            WorkerMessage::Ping(reply) => reply.send(())?,
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<WorkerMessage>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.write("down");
        Ok(())
    }
}

/// A boss, its tree, and what became of its children.
struct Office {
    boss: ActorRef<BossMessage>,
    tree: Tree,
    diary: Diary,
    events: Mutex<mpsc::UnboundedReceiver<ChildEvent>>,
}

impl Office {
    async fn open(strategy: Strategy) -> Self {
        Self::open_for(strategy, 4).await
    }

    async fn open_for(strategy: Strategy, limit: usize) -> Self {
        Self::open_under(Tree::default(), ChildrenOptions { strategy, limit, ..ChildrenOptions::default() }).await
    }

    async fn open_under(tree: Tree, options: ChildrenOptions) -> Self {
        let (events, received) = mpsc::unbounded_channel();
        let start = BossStart { tree: tree.clone(), options, events };
        let (boss, _) = Actor::spawn(None, Boss, start).await.expect("a boss");
        Self { boss, tree, diary: Diary::default(), events: Mutex::new(received) }
    }

    /// An office in which these work, with the events of their starts taken out.
    async fn with(strategy: Strategy, workers: &[&'static str]) -> Self {
        let office = Self::open(strategy).await;
        for id in workers {
            let spec = office.worker(id).spec();
            office.start(spec).await.expect("taken in");
            assert_eq!(office.next().await, ChildEvent::Started { id: (*id).to_owned() });
        }
        office
    }

    fn worker(&self, id: &'static str) -> Worker {
        Worker::new(id, &self.diary)
    }

    async fn ask<T: Send + 'static>(&self, message: impl FnOnce(RpcReplyPort<T>) -> BossMessage) -> T {
        self.boss.call(message, Some(PATIENCE)).await.expect("the boss lives").expect("the boss answers")
    }

    async fn start(&self, spec: ChildSpec) -> Result<(), ChildrenError> {
        self.ask(|reply| BossMessage::Start(spec, reply)).await
    }

    async fn reset(&self, id: &str) -> Result<(), ChildrenError> {
        self.ask(|reply| BossMessage::Reset(id.to_owned(), reply)).await
    }

    async fn remove(&self, id: &str) -> Result<(), ChildrenError> {
        self.ask(|reply| BossMessage::Remove(id.to_owned(), reply)).await
    }

    async fn get(&self, id: &str) -> Option<ActorCell> {
        self.ask(|reply| BossMessage::Get(id.to_owned(), reply)).await
    }

    async fn tell(&self, id: &str, message: WorkerMessage) {
        let cell = self.get(id).await.expect("it runs");
        cell.send_message(message).expect("it takes messages");
    }

    /// What the boss says of a child.
    async fn view(&self, id: &str) -> ChildView {
        let all = self.ask(BossMessage::Snapshot).await;
        all.into_iter().find(|view| view.id == id).expect("a child of that name")
    }

    /// The state of all, "a running, b waiting".
    async fn states(&self) -> String {
        let all = self.ask(BossMessage::Snapshot).await;
        all.iter().map(|view| format!("{} {}", view.id, view.state)).collect::<Vec<_>>().join(", ")
    }

    /// The next thing that becomes of a child.
    async fn next(&self) -> ChildEvent {
        let mut events = self.events.lock().await;
        tokio::time::timeout(PATIENCE, events.recv()).await.expect("in time").expect("the boss lives")
    }

    /// Whether nothing more happens for an hour.
    async fn is_quiet(&self) -> bool {
        tokio::time::timeout(PATIENCE, self.events.lock().await.recv()).await.is_err()
    }

    /// Whether a worker answers.
    async fn answers(&self, id: &str) -> bool {
        let Some(cell) = self.get(id).await else { return false };
        let worker = ActorRef::<WorkerMessage>::from(cell);
        worker.call(WorkerMessage::Ping, Some(PATIENCE)).await.is_ok_and(|reply| reply.is_success())
    }

    fn diary(&self) -> Vec<String> {
        self.diary.lock().expect("the diary").clone()
    }
}

/// The ways to fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fall {
    Panic,
    Err,
    Kill,
    Normal,
}

impl Fall {
    const ALL: [Self; 4] = [Self::Panic, Self::Err, Self::Kill, Self::Normal];

    async fn happen_to(self, office: &Office, id: &str) {
        match self {
            Self::Panic => office.tell(id, WorkerMessage::Panic("tripped".into())).await,
            Self::Err => office.tell(id, WorkerMessage::Fail).await,
            Self::Kill => office.tree.kill(&format!("root/{id}")).expect("it runs"),
            Self::Normal => office.get(id).await.expect("it runs").stop(Some("home time".into())),
        }
    }

    const fn cause(self) -> &'static str {
        match self {
            Self::Panic => "tripped",
            Self::Err => "on purpose",
            Self::Kill => "killed",
            Self::Normal => "ended: home time",
        }
    }
}
