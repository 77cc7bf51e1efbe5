//! Children: the part of an actor's state that makes it a supervisor.
//!
//! Any actor becomes a supervisor by holding a [`Children`], by passing two things on to it, and by looking at what
//! comes back:
//!
//! ```text
//!   pre_start               Children::new(&myself, path, tree, options, Msg::Child), then start(spec) one by one
//!   handle(Msg::Child(t))   children.timer(t).await            a wait is over
//!   handle_supervisor_evt   children.handle(event).await       ALWAYS override it: ractor's own stops the parent
//!   post_stop               children.stop_all().await          ALWAYS: ractor would cut the children off
//! ```
//!
//! What happens to one child, told by the [`ChildEvent`]s:
//!
//! ```text
//!               start ok                exit that calls for a restart, or a failed start
//!   Starting ───────────► Running ────────────────────► within budget ──► BackingOff ──(timer)──► Starting
//!                            │                            over budget ──► Unavailable ──(reset, revive)──► Starting
//!                            └── any other exit ──► Stopped (temporary: forgotten)
//! ```
//!
//! - A supervisor never sleeps and does no I/O: every wait is a timer message to itself, and a timer of a former life
//!   is told by its generation and ignored.
//! - A failed start (an error, a panic or a time-out of `pre_start` or of the start function) emits no supervision
//!   event in ractor; here it is charged to the budget like a crash. Nothing a child does reaches its supervisor as an
//!   error, so nothing a child does can stop it.
//! - **One for one**: a child's fall is its own affair. **Rest for one** (`order.rs`): those started after it stand on
//!   it; they are brought down in reverse order, it is started again, then they are, in order.
//! - Over budget nothing is escalated by itself; whoever embeds this sees [`ChildEvent::Unavailable`] and may stop.
//! - When the supervisor itself dies, ractor kills the children that are actors of its own; dropping this cuts the routines off
//!   and takes all of them out of the tree.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorCell, ActorId, ActorRef, Message, SupervisionEvent};

pub use self::event::{ChildEvent, ChildTimer, ChildrenError};
use self::life::{Child, Phase};
use super::alive::Alive;
use super::budget::RestartBudget;
use super::child::{ChildSpec, ChildView};
use super::exit::Exit;
use super::mailbox::{Mailbox, MailboxOptions};
use super::tree::Tree;
use super::wake::Wake;

mod asked;
mod event;
mod life;
mod order;
mod stopping;

/// Whom a child's fall takes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Nobody.
    #[default]
    OneForOne,
    /// Those that were started after it.
    RestForOne,
}

/// The ends of a supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildrenOptions {
    /// Whom a child's fall takes along.
    pub strategy: Strategy,
    /// Children at a time; one more is refused.
    pub limit: usize,
    /// How long [`Children::stop_all`] waits for a killed child that does not reach an await.
    pub kill_wait: Duration,
}

impl Default for ChildrenOptions {
    fn default() -> Self {
        Self { strategy: Strategy::default(), limit: 100_000, kill_wait: Duration::from_secs(5) }
    }
}

/// The supervised children of one actor.
pub struct Children {
    path: Arc<str>,
    supervisor: ActorCell,
    tree: Tree,
    options: ChildrenOptions,
    wake: Arc<dyn Fn(Duration, ChildTimer) + Send + Sync>,
    /// By place, which is the order of starting.
    places: BTreeMap<u64, Box<Child>>,
    by_id: HashMap<String, u64>,
    by_actor: HashMap<ActorId, u64>,
    next_place: u64,
    closing: bool,
}

impl Children {
    /// No children yet. `message` makes the supervisor's own message of a timer, usually a variant: `Msg::Child`.
    pub fn new<M: Message>(
        supervisor: &ActorRef<M>,
        path: impl Into<Arc<str>>,
        tree: Tree,
        options: ChildrenOptions,
        message: impl Fn(ChildTimer) -> M + Clone + Send + Sync + 'static,
    ) -> Self {
        let myself = supervisor.clone();
        let wake = move |after: Duration, timer: ChildTimer| {
            let message = message.clone();
            if after.is_zero() {
                // tokio's clock counts whole milliseconds. A supervisor that is gone is not to be told.
                drop(myself.cast(message(timer)));
            } else {
                // Its tokio task ends by itself: after the wait, which is bounded, whether anybody is left to tell or not.
                drop(myself.send_after(after, move || message(timer)));
            }
        };
        Self {
            path: path.into(),
            supervisor: supervisor.get_cell(),
            tree,
            options,
            wake: Arc::new(wake),
            places: BTreeMap::new(),
            by_id: HashMap::new(),
            by_actor: HashMap::new(),
            next_place: 0,
            closing: false,
        }
    }

    /// Takes a child in and starts it, waiting for its `pre_start`. A failed start is no error here but the first
    /// failure of the child. Under [`Strategy::RestForOne`] it waits (no event) while an earlier one is down.
    pub async fn start(&mut self, spec: ChildSpec) -> Result<Vec<ChildEvent>, ChildrenError> {
        self.admit(&spec)?;
        let place = self.next_place;
        self.next_place += 1;
        let entry = self.tree.insert(format!("{}/{}", self.path, spec.id), spec.kind);
        let (wake, parent, id) = (Arc::clone(&self.wake), Arc::clone(&self.path), spec.id.clone());
        entry.supervised(Arc::new(move |what| {
            wake(Duration::ZERO, ChildTimer { parent: Arc::clone(&parent), id: id.clone(), wake: what });
        }));
        self.by_id.insert(spec.id.clone(), place);
        self.places.insert(place, Box::new(Child::new(spec, entry)));
        Ok(self.settle(place).await)
    }

    /// Takes in what ractor reports. An event about another actor comes back as one [`ChildEvent::NotMine`]; an actor
    /// that holds several of these, or links actors of its own, asks [`Children::owns`] first.
    pub async fn handle(&mut self, event: SupervisionEvent) -> Vec<ChildEvent> {
        if !self.owns(&event) {
            return vec![ChildEvent::NotMine];
        }
        let ended = Exit::of(&event, self.tree.redactor())
            .and_then(|(cell, exit)| Some((self.by_actor.remove(&cell.get_id())?, exit)));
        // It holds the state of the former life, whose own children leave the tree with it.
        drop(event);
        let Some((place, exit)) = ended else {
            return Vec::new();
        };
        let mut events: Vec<ChildEvent> = self.ended(place, &exit).into_iter().collect();
        events.extend(self.settle(place).await);
        events
    }

    /// A routine has ended; one of a life that is past already counts for nothing.
    async fn over(&mut self, place: u64, life: u64, exit: &Exit) -> Vec<ChildEvent> {
        let present = self.places.get(&place).and_then(|child| child.alive.as_ref());
        if !present.is_some_and(|alive| alive.is_routine(life)) {
            return Vec::new();
        }
        let mut events: Vec<ChildEvent> = self.ended(place, exit).into_iter().collect();
        events.extend(self.settle(place).await);
        events
    }

    /// Whether an event is about the present life of a child here.
    #[must_use]
    pub fn owns(&self, event: &SupervisionEvent) -> bool {
        event.actor_id().is_some_and(|id| self.by_actor.contains_key(&id))
    }

    /// A wait is over: performs the restart that is due, or kills what did not drain in time. Or somebody asks for a
    /// restart, or says that a life does not answer (`asked.rs`).
    pub async fn timer(&mut self, timer: ChildTimer) -> Vec<ChildEvent> {
        let Some(place) = self.by_id.get(&timer.id).copied().filter(|_| timer.parent == self.path) else {
            return Vec::new();
        };
        let generation = match timer.wake {
            Wake::Wait(generation) => generation,
            Wake::Restart { why } => return self.restart_at(place, &why).await,
            Wake::GiveUp { life, cause } => return self.give_up_on(place, life, &cause).await,
            Wake::Over { life, exit } => return self.over(place, life, &exit).await,
        };
        let Some(child) = self.places.get_mut(&place).filter(|child| child.generation == generation) else {
            return Vec::new();
        };
        match child.phase {
            Phase::BackingOff { .. } => child.wait_for_turn(),
            Phase::Unavailable { .. } => {
                child.forgive();
                child.wait_for_turn();
            }
            Phase::Stopping(_) => child.alive.iter().for_each(Alive::kill),
            Phase::Waiting | Phase::Running | Phase::Stopped { .. } => {}
        }
        self.settle(place).await
    }

    /// What an operator's reset does: the budget is whole again, and a child that is down is started at once. A
    /// running child goes on undisturbed.
    pub async fn reset(&mut self, id: &str) -> Result<Vec<ChildEvent>, ChildrenError> {
        let place = self.place(id)?;
        if let Some(child) = self.places.get_mut(&place) {
            child.forgive();
            if matches!(child.phase, Phase::BackingOff { .. } | Phase::Unavailable { .. } | Phase::Stopped { .. }) {
                child.wait_for_turn();
            }
        }
        Ok(self.settle(place).await)
    }

    /// Whether there is a child of that name, running or not, one that is being brought down among them.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// As [`Children::reset`], under another budget from now on.
    pub async fn renew(&mut self, id: &str, budget: RestartBudget) -> Result<Vec<ChildEvent>, ChildrenError> {
        let place = self.place(id)?;
        if let Some(child) = self.places.get_mut(&place) {
            child.grant(budget);
        }
        self.reset(id).await
    }

    /// The actor of a child, while it runs; a routine is none.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<ActorCell> {
        self.running(id).and_then(|child| child.alive.as_ref()?.actor().cloned())
    }

    /// Whether a child lives and is not being brought down.
    #[must_use]
    pub fn runs(&self, id: &str) -> bool {
        self.running(id).is_some()
    }

    /// The bounded way to a child's present life, while it runs and if `M` is what it takes.
    #[must_use]
    pub fn mailbox<M: Send + 'static>(&self, id: &str, options: MailboxOptions) -> Option<Mailbox<M>> {
        Mailbox::of(self.running(id)?.alive.as_ref()?.mailbox()?, options)
    }

    /// All children in the order of starting.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ChildView> {
        self.places.values().map(|child| child.view()).collect()
    }

    /// One child.
    #[must_use]
    pub fn view(&self, id: &str) -> Option<ChildView> {
        self.places.get(self.by_id.get(id)?).map(|child| child.view())
    }

    /// The supervisor's path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How many there are, dead ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn admit(&self, spec: &ChildSpec) -> Result<(), ChildrenError> {
        let parent = Arc::clone(&self.path);
        if self.closing {
            return Err(ChildrenError::Closing(parent));
        }
        if !spec.has_good_id() {
            return Err(ChildrenError::BadId(spec.id.clone()));
        }
        if self.by_id.contains_key(&spec.id) {
            return Err(ChildrenError::Duplicate { parent, id: spec.id.clone() });
        }
        if self.places.len() >= self.options.limit {
            return Err(ChildrenError::Full { parent, limit: self.options.limit });
        }
        Ok(())
    }

    fn place(&self, id: &str) -> Result<u64, ChildrenError> {
        let unknown = || ChildrenError::Unknown { parent: Arc::clone(&self.path), id: id.to_owned() };
        self.by_id.get(id).copied().ok_or_else(unknown)
    }

    fn running(&self, id: &str) -> Option<&Child> {
        let place = self.by_id.get(id)?;
        self.places.get(place).map(|child| &**child).filter(|child| child.phase == Phase::Running)
    }
}
