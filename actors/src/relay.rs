//! The relay: tells the bus what the outbox holds.
//!
//! Started by the root, woken by steps that end ([`hint::RelayHint`]) and by its own timer; owns nothing but its place in the
//! loop. It publishes the end of a step, confirmed, and only then takes it out of the outbox; what it did twice is one
//! event, for its id is derived from the step. A failed task's event is put among the dead letters the same way. When
//! the relay dies it is started again and finds the outbox as it was; while the bus is away the outbox waits.
//!
//! An answer that is too large for an event is told in short. What the bus will never take is a dead letter, with the
//! cause `untold`: it must not stand in the way of the ends behind it.

pub mod hint;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use troupe_runtime::bus::{self, DeadLetter, Routing};
use troupe_runtime::domain::agent::SlackReply;
use troupe_runtime::domain::answer::{Answered, Origin};
use troupe_runtime::domain::ids::{TaskId, event_id_from};
use troupe_runtime::domain::outcome::{Failure, Outcome};
use troupe_runtime::domain::topic::{REPLY_QUEUE, inbox_queue};
use troupe_runtime::fault::Faulty as _;
use troupe_runtime::store::Told;
use troupe_runtime::supervision::ChildContext;

use self::hint::RelayMessage;
use crate::stage::Stage;

/// The part of an event's limit, in characters, that an answer told in short may have: a character takes up to six
/// bytes in JSON, and the question travels along.
const SHORT_PART: usize = 16;

/// The relay.
pub struct Relay {
    stage: Stage,
    replies: Arc<BTreeMap<String, SlackReply>>,
}

impl Relay {
    /// Starts one life of it; `replies` says where each agent's answers go.
    pub async fn start(
        stage: Stage,
        replies: Arc<BTreeMap<String, SlackReply>>,
        context: ChildContext,
    ) -> Result<ActorCell, SpawnErr> {
        context.spawn(Self { stage, replies }, ()).await
    }

    /// Tells everything that is in the outbox, batch by batch.
    async fn tell_all(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (outbox, limit) = (&self.stage.ports.stores.outbox, self.stage.options.relay_batch);
        // What another would tell by now is not told here too.
        while let Some(own) = self.stage.lease.own() {
            let pending = outbox.pending(own, limit).await?;
            let (full, mut told, mut failure) = (pending.len() == limit, Vec::with_capacity(pending.len()), None);
            let results = join_all(pending.iter().map(|end| self.tell(end))).await;
            for (end, result) in pending.iter().zip(results) {
                match result {
                    Ok(()) => told.push(end.seq),
                    Err(error) => failure = Some(error),
                }
            }
            if !told.is_empty() {
                outbox.told(told).await?;
            }
            if let Some(error) = failure {
                return Err(error.into());
            }
            if !full {
                break;
            }
        }
        Ok(())
    }

    async fn tell(&self, end: &Told) -> Result<(), bus::Error> {
        let bus = &self.stage.ports.bus;
        if let Outcome::Failed { failure } = &end.outcome {
            bus.bury(DeadLetter {
                id: event_id_from(&["dead-letter", &end.step.to_string()]),
                queue: inbox_queue(&end.agent),
                event: end.event.clone(),
                cause: failure.reason.as_str().to_owned(),
                attempts: end.attempt,
                first_error: failure.message.clone(),
                last_error: failure.message.clone(),
                at: end.at,
            })
            .await?;
        }
        let answered = Answered {
            task_id: end.task,
            agent: end.agent.clone(),
            outcome: end.outcome.clone(),
            origin: Origin::of(&end.event),
            reply: self.replies.get(end.agent.as_str()).copied().unwrap_or(SlackReply::Thread),
        };
        match self.publish(&answered, end).await {
            Err(bus::Error::TooLarge { limit, .. }) => {
                let short = Answered { outcome: in_short(&end.outcome, limit / SHORT_PART, end.task), ..answered };
                match self.publish(&short, end).await {
                    Err(error) if !error.fault().is_transient() => self.give_up(&short, end, &error).await,
                    told => told,
                }
            }
            Err(error) if !error.fault().is_transient() => self.give_up(&answered, end, &error).await,
            told => told,
        }
    }

    async fn publish(&self, answered: &Answered, end: &Told) -> Result<(), bus::Error> {
        let event = answered.event(end.step, &end.event, end.at);
        self.stage.ports.bus.publish(Arc::new(event), Routing::Optional).await.map(drop)
    }

    /// Puts an end that the bus will never take where an operator sees it.
    async fn give_up(&self, answered: &Answered, end: &Told, error: &bus::Error) -> Result<(), bus::Error> {
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

impl Actor for Relay {
    type Msg = RelayMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<RelayMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        self.stage.relay.set(myself.clone());
        drop(myself.send_interval(self.stage.options.sweep_every, || RelayMessage::Look));
        myself.cast(RelayMessage::Look)?;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<RelayMessage>,
        RelayMessage::Look: RelayMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.stage.relay.heard();
        if let Err(error) = self.tell_all().await {
            tracing::warn!(%error, "the outbox waits: the bus or the store does not answer");
            // Not until somebody ends a step: nobody can, and what is there waits already.
            drop(myself.send_after(self.stage.options.store_wait_max, || RelayMessage::Look));
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
