//! The relay: tells the bus what the outbox holds.
//!
//! Started by the root, woken by steps that end ([`hint::RelayHint`]) and by its own timer. It publishes the end of a step,
//! confirmed, and only then takes it out of the outbox; what it did twice is one event, for its id is derived from the step. A
//! failed task's event is put among the dead letters the same way.
//!
//! ```text
//! a step ends ─┬─ outbox row, in the completing transaction ──────► read when memory has lost something ─┐
//!              └─ the same end, in memory, as long as there is room ─► told, many at a time ◄───────────┘
//!                                                                      └─► confirmed ─► outbox row deleted
//! ```
//!
//! It owns the queue of ends in memory, which is only there so that nobody has to read what somebody has just written: when the
//! relay dies, or the queue overflows, or what is in it says too much, or the bus was away, the outbox has all of it.
//!
//! An answer that is too large for an event is told in short. What the bus will never take is a dead letter, with the
//! cause `untold`: it must not stand in the way of the ends behind it.

pub mod hint;
mod round;

use std::collections::HashSet;
use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::sync::mpsc;
use tokio::time::Instant;
use troupe_runtime::bus::{self, DeadLetter, Routing};
use troupe_runtime::domain::answer::{Answered, Origin};
use troupe_runtime::domain::ids::{TaskId, event_id_from};
use troupe_runtime::domain::outcome::{Failure, Outcome};
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::domain::topic::{REPLY_QUEUE, inbox_queue};
use troupe_runtime::fault::Faulty as _;
use troupe_runtime::store::Told;
use troupe_runtime::supervision::ChildContext;

use self::hint::{End, RelayMessage};
use self::round::{Round, Untold};
use crate::roster::Roster;
use crate::stage::Stage;

/// The part of an event's limit, in characters, that an answer told in short may have: a character takes up to six
/// bytes in JSON, and where the question came from travels along.
const SHORT_PART: usize = 16;

/// The relay.
pub struct Relay {
    stage: Arc<Stage>,
    roster: Roster,
}

/// What it has before it.
pub struct Desk {
    /// Ends in memory; each is in the outbox too.
    ends: mpsc::Receiver<End>,
    /// Ends that were read from the outbox last: they may come by memory yet.
    read: HashSet<i64>,
    /// The outbox has to be read.
    behind: bool,
    /// Nothing is told before: the bus or the store did not answer.
    rests_until: Option<Instant>,
    /// Whose ends these are.
    teller: Option<Incarnation>,
}

impl Relay {
    /// Starts one life of it; the roster says where each agent's answers go.
    pub async fn start(stage: Arc<Stage>, roster: Roster, context: ChildContext) -> Result<ActorCell, SpawnErr> {
        context.spawn(Self { stage, roster }, ()).await
    }

    /// Tells everything that is there.
    async fn tell_all(&self, desk: &mut Desk) -> Result<(), Untold> {
        loop {
            desk.behind |= self.stage.relay.is_behind();
            // What another would tell by now is not told here too.
            let own = self.stage.lease.own();
            desk.behind |= own != desk.teller;
            desk.teller = own;
            let Some(own) = own else {
                desk.forget();
                return Ok(());
            };
            if desk.behind {
                self.catch_up(desk, own).await?;
                desk.behind = false;
            }
            self.tell_what_comes(desk).await?;
            if !self.stage.relay.is_behind() {
                return Ok(());
            }
            desk.behind = true;
        }
    }

    /// Tells everything that is in the outbox, many ends at a time.
    async fn catch_up(&self, desk: &mut Desk, own: Incarnation) -> Result<(), Untold> {
        let (mut round, limit) = (self.round(), self.stage.options.relay_batch);
        let (mut after, mut full) = (i64::MIN, true);
        while full && !round.has_failed() && self.stage.lease.own() == Some(own) {
            // Committed by now, so it is among what is read from here on, or was before.
            desk.forget();
            let mut reading = self.stage.ports.stores.outbox.pending(own, after, limit);
            let page = loop {
                tokio::select! {
                    page = &mut reading => break page?,
                    () = round.next() => {}
                }
            };
            desk.read = page.iter().map(|end| end.seq).collect();
            full = page.len() == limit;
            after = page.last().map_or(after, |end| end.seq);
            for end in page {
                while !round.has_room() && !round.has_failed() {
                    round.next().await;
                }
                if round.has_failed() {
                    break;
                }
                round.push(Box::pin(self.tell_read(end)));
            }
        }
        round.close().await
    }

    /// Tells what comes by memory, many ends at a time, until there is no more, or some of it did not come this way.
    async fn tell_what_comes(&self, desk: &mut Desk) -> Result<(), Untold> {
        let mut round = self.round();
        loop {
            let takes = !self.stage.relay.may_be_behind();
            while takes
                && round.has_room()
                && let Ok(end) = desk.ends.try_recv()
            {
                self.take(&mut round, desk, end);
            }
            if round.is_empty() || round.has_failed() {
                return round.close().await;
            }
            tokio::select! {
                () = round.next() => {}
                Some(end) = desk.ends.recv(), if takes && round.has_room() => self.take(&mut round, desk, end),
            }
        }
    }

    fn round(&self) -> Round<'_> {
        Round::new(&*self.stage.ports.stores.outbox, self.stage.options.relay_window)
    }

    fn take<'a>(&'a self, round: &mut Round<'a>, desk: &mut Desk, end: End) {
        if !desk.read.remove(&end.told.seq) {
            round.push(Box::pin(self.tell_one(end)));
        }
    }

    /// Tells an end of those in memory; answers its place.
    async fn tell_one(&self, end: End) -> Result<i64, bus::Error> {
        self.tell(&end.told).await?;
        Ok(end.told.seq)
    }

    /// The same for one of those read.
    async fn tell_read(&self, end: Told) -> Result<i64, bus::Error> {
        self.tell(&end).await?;
        Ok(end.seq)
    }

    async fn tell(&self, end: &Told) -> Result<(), bus::Error> {
        let bus = &self.stage.ports.bus;
        if let Outcome::Failed { failure } = &end.outcome {
            bus.bury(DeadLetter {
                id: event_id_from(&["dead-letter", &end.step.to_string()]),
                queue: inbox_queue(&end.agent),
                event: (*end.event).clone(),
                cause: failure.reason.as_str().to_owned(),
                attempts: end.attempt,
                first_error: failure.message.clone(),
                last_error: failure.message.clone(),
                at: end.at,
            })
            .await?;
        }
        let answered = |outcome: Outcome| Answered {
            task_id: end.task,
            agent: end.agent.clone(),
            outcome,
            origin: Origin::of(&end.event),
            reply: self.roster.reply(end.agent.as_str()),
        };
        match self.publish(answered(end.outcome.clone()), end).await {
            Err(bus::Error::TooLarge { limit, .. }) => {
                let short = answered(in_short(&end.outcome, limit / SHORT_PART, end.task));
                match self.publish(short.clone(), end).await {
                    Err(error) if !error.fault().is_transient() => self.give_up(short, end, &error).await,
                    told => told,
                }
            }
            Err(error) if !error.fault().is_transient() => {
                self.give_up(answered(end.outcome.clone()), end, &error).await
            }
            told => told,
        }
    }

    async fn publish(&self, answered: Answered, end: &Told) -> Result<(), bus::Error> {
        let event = answered.event(end.step, &end.event, end.at);
        self.stage.ports.bus.publish(Arc::new(event), Routing::Optional).await.map(drop)
    }

    /// Puts an end that the bus will never take where an operator sees it.
    async fn give_up(&self, answered: Answered, end: &Told, error: &bus::Error) -> Result<(), bus::Error> {
        tracing::error!(task_id = %end.task, agent = %end.agent, %error, "the end of a task cannot be told; it is a dead letter");
        let letter = DeadLetter {
            id: event_id_from(&["untold", &end.step.to_string()]),
            queue: REPLY_QUEUE.to_owned(),
            event: answered.event(end.step, &end.event, end.at),
            cause: "untold".to_owned(),
            attempts: 1,
            first_error: error.to_string(),
            last_error: error.to_string(),
            at: end.at,
        };
        self.stage.ports.bus.bury(letter).await
    }
}

impl Desk {
    fn new(ends: mpsc::Receiver<End>) -> Self {
        Self { ends, read: HashSet::new(), behind: true, rests_until: None, teller: None }
    }

    /// Leaves what came by memory to the outbox.
    fn forget(&mut self) {
        while self.ends.try_recv().is_ok() {}
    }
}

impl Actor for Relay {
    type Msg = RelayMessage;
    type State = Desk;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<RelayMessage>, (): ()) -> Result<Desk, ActorProcessingErr> {
        let ends = self.stage.relay.begin(myself.clone());
        myself.cast(RelayMessage::Sweep)?;
        Ok(Desk::new(ends))
    }

    async fn handle(
        &self,
        myself: ActorRef<RelayMessage>,
        message: RelayMessage,
        desk: &mut Desk,
    ) -> Result<(), ActorProcessingErr> {
        self.stage.relay.heard();
        match message {
            RelayMessage::Sweep => {
                desk.behind = true;
                drop(myself.send_after(self.stage.options.sweep_every, || RelayMessage::Sweep));
            }
            // Whoever ends a step meanwhile need not find out again.
            RelayMessage::Look if desk.rests_until.is_some_and(|until| Instant::now() < until) => return Ok(()),
            RelayMessage::Look => {}
        }
        desk.rests_until = None;
        if let Err(error) = self.tell_all(desk).await {
            tracing::warn!(%error, "the outbox waits: the bus or the store does not answer");
            let rest = self.stage.options.store_wait_max;
            desk.behind = true;
            desk.rests_until = Some(Instant::now() + rest);
            drop(myself.send_after(rest, || RelayMessage::Look));
        }
        Ok(())
    }
}

/// The same end with at most `max` characters of text; all of it is in the task.
fn in_short(outcome: &Outcome, max: usize, task: TaskId) -> Outcome {
    let cut = |text: &String| {
        let short: String = text.chars().take(max).collect();
        if short.len() == text.len() {
            return short;
        }
        format!("{short} … [shortened; all of it: troupe tasks show {task}]")
    };
    match outcome {
        Outcome::Succeeded { output } => Outcome::Succeeded { output: cut(output) },
        Outcome::Failed { failure } => {
            Outcome::Failed { failure: Failure { message: cut(&failure.message), ..failure.clone() } }
        }
        Outcome::Cancelled { reason } => Outcome::Cancelled { reason: cut(reason) },
    }
}
