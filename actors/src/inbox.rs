//! The inbox: takes what comes for one agent, accepts it, and hands it to the pool.
//!
//! A routine of the pool, started and restarted by it; nobody sends it anything. Owns the consumer of
//! `agent.input.<agent>`. It takes no more than it has free slots for, so the backlog stays in the broker; a delivery is
//! acknowledged after the accepting transaction. What comes is sent to the store while that still accepts what came before. When
//! it dies, or nobody could work any more, what is under way is left: unsettled deliveries are handed out again (the task's id
//! makes a second acceptance a duplicate), and a step that was accepted but not handed on is found by the recovery.
//! Without the node's lease it takes nothing: what waits goes back to the queue.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesOrdered;
use futures::{FutureExt as _, StreamExt as _};
use ractor::{ActorProcessingErr, ActorRef};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use troupe_runtime::bus::{Consumer, Delivery, Settle};
use troupe_runtime::domain::agent::{AgentName, ExecutionMode};
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::domain::topic::inbox_queue;
use troupe_runtime::fault::{Fault, Faulty as _};
use troupe_runtime::store::{Acceptance, Accepted, Claim, TaskFilter};
use troupe_runtime::supervision::{Alive, ChildContext};

use crate::places::Places;
use crate::pool::message::PoolMessage;
use crate::served::Served;
use crate::stage::Stage;
use crate::work::{Tenure, Work};

/// How long the inbox rests when the store does not accept.
const STORE_REST: Duration = Duration::from_millis(500);

/// What an inbox is made of.
#[derive(Clone)]
pub struct InboxParts {
    /// What the node stands on.
    pub stage: Arc<Stage>,
    /// For whom.
    pub agent: AgentName,
    /// What may come in now.
    pub gate: watch::Receiver<Gate>,
    /// Where accepted work goes.
    pub pool: ActorRef<PoolMessage>,
}

/// What an inbox may take in, as its company says.
#[derive(Default)]
pub struct Gate {
    /// On which terms; nothing without.
    pub terms: Option<Terms>,
    /// Whether anybody could work: no instance, no intake.
    pub open: bool,
}

/// On which terms work is taken. They may change between two events, and never within one.
#[derive(Clone)]
pub struct Terms {
    /// The spec that what comes is done with.
    pub served: Arc<Served>,
    /// Places for this agent's steps.
    pub places: Places,
}

/// A slot for a step of the agent, and one on the node.
type Slots = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Deliveries on their way to the store, in the order in which they were sent.
type UnderWay<'life> = FuturesOrdered<BoxFuture<'life, Vec<Answer>>>;

/// What became of a delivery.
enum Answer {
    /// A task; the event is to be acknowledged.
    New(Arc<Work>, Box<dyn Settle>),
    /// Of a task that was accepted before; it is to be acknowledged too.
    Known(Box<dyn Settle>),
    /// It can never be accepted, and is a dead letter.
    Rejected,
    /// It goes back to its queue.
    Refused,
}

/// Deliveries in hand that nobody has accepted yet: the most urgent goes first, whatever the bus could order, unless a lesser
/// one has waited here for so much longer ([`Options::aging`](crate::stage::Options::aging)).
struct Waiting {
    consumer: Consumer,
    /// By when each would have come had it the highest priority, and by coming.
    deliveries: BTreeMap<(Duration, u64), Delivery>,
    taken: u64,
    aging: Duration,
    begun: Instant,
}

/// An inbox.
pub struct Inbox {
    parts: InboxParts,
}

impl Inbox {
    /// Starts one life of it.
    #[must_use = "an inbox that is dropped is cut off"]
    pub fn start(parts: InboxParts, context: ChildContext) -> Alive {
        context.run(Self { parts }.life())
    }

    async fn life(self) -> Result<(), ActorProcessingErr> {
        tokio::select! {
            ended = self.run() => ended,
            // Lives on without intake until the pool stops it: an inbox that ended would be started again.
            () = self.parts.stage.drain.cancelled() => std::future::pending().await,
        }
    }

    async fn run(&self) -> Result<(), ActorProcessingErr> {
        let mut gate = self.parts.gate.clone();
        loop {
            gate.wait_for(Gate::is_open).await?;
            let owner = self.parts.stage.lease.held().await;
            tokio::select! {
                ended = self.take_all(owner) => ended?,
                // What waits goes back to the queue with the consumer.
                closed = gate.wait_for(|gate| !gate.open) => { closed?; }
                () = self.parts.stage.lease.lapsed() => {}
            }
        }
    }

    /// Takes whatever comes, for this incarnation of the node, until it is to take nothing.
    async fn take_all(&self, owner: Incarnation) -> Result<(), ActorProcessingErr> {
        let InboxParts { stage, agent, gate, .. } = &self.parts;
        let mut news = gate.clone();
        let Some(now) = news.borrow_and_update().terms.clone() else { return Ok(()) };
        if now.served.mode() == ExecutionMode::Continuous {
            tokio::select! {
                () = Box::pin(self.former_work_ends()) => {}
                // The next life of this looks at what they are now.
                changed = news.changed() => return Ok(changed?),
            }
        }
        let queue = inbox_queue(agent);
        let mut waiting =
            Waiting::new(stage.ports.bus.consume(&queue, stage.options.prefetch).await?, stage.options.aging);
        let mut under_way = FuturesOrdered::new();
        let ended = self.take_in(owner, now, news, &mut waiting, &mut under_way).await;
        // Nothing more is wanted here, but what was sent to the store may be accepted by now.
        while let Some(answers) = under_way.next().await {
            self.settle(answers)?;
        }
        ended
    }

    /// Sends what comes to the store, and hands on what was accepted. Who waited for one commit before sending the next would come too
    /// late for the transaction that begins with it.
    async fn take_in<'life>(
        &'life self,
        owner: Incarnation,
        mut now: Terms,
        mut news: watch::Receiver<Gate>,
        waiting: &mut Waiting,
        under_way: &mut UnderWay<'life>,
    ) -> Result<(), ActorProcessingErr> {
        let mut rests_until = None;
        loop {
            let slots = {
                // First somebody who needs a place, then the place: an idle agent takes none from the busy ones.
                let until = rests_until;
                let mut ready = pin!(async {
                    if let Some(until) = until {
                        sleep_until(until).await;
                    }
                    if !waiting.come().await {
                        return Err("the queue is gone".into());
                    }
                    self.free_slots(&now.places.slots, waiting.deliveries.len()).await
                });
                loop {
                    tokio::select! {
                        // What is accepted once they have changed is accepted on the new terms.
                        biased;
                        changed = news.changed() => {
                            changed?;
                            break None;
                        }
                        Some(answers) = under_way.next() => {
                            if self.settle(answers)? > 0 {
                                rests_until = Some(Instant::now() + STORE_REST);
                                break None;
                            }
                        }
                        slots = &mut ready => break Some(slots?),
                    }
                }
            };
            let Some(slots) = slots else {
                match news.borrow_and_update().terms.clone() {
                    Some(terms) => now = terms,
                    None => return Ok(()),
                }
                continue;
            };
            rests_until = None;
            let deliveries = waiting.best(slots.len());
            // In a box, as what else takes room only now and then: idle inboxes are many.
            under_way.push_back(self.take(owner, now.clone(), deliveries, slots).boxed());
        }
    }

    /// Waits until nothing is under way that was accepted before this life: it takes up no place here, and an agent that
    /// works in order has to finish it first.
    async fn former_work_ends(&self) {
        let InboxParts { stage, agent, .. } = &self.parts;
        let (agent, status) = (Some(agent.clone()), Some(TaskStatus::Running));
        let filter = TaskFilter { agent, status, limit: 1, ..TaskFilter::default() };
        let mut ended = stage.ended.subscribe();
        loop {
            let under_way = match stage.ports.stores.tasks.tasks(&filter).await {
                Ok(tasks) => tasks.first().map(|task| task.id),
                Err(error) => {
                    tracing::warn!(agent = %self.parts.agent, %error, "the inbox waits for the store");
                    tokio::time::sleep(STORE_REST).await;
                    continue;
                }
            };
            let Some(task) = under_way else { return };
            let told = async { while ended.recv().await.is_ok_and(|id| id != task) {} };
            tokio::time::timeout(stage.options.sweep_every, told).await.ok();
        }
    }

    /// Waits for one free place and takes what else is free and `wanted`, at most `accept_max`.
    async fn free_slots(&self, slots: &Arc<Semaphore>, wanted: usize) -> Result<Vec<Slots>, ActorProcessingErr> {
        let stage = &self.parts.stage;
        let mut free = vec![(slots.clone().acquire_owned().await?, stage.slots.clone().acquire_owned().await?)];
        while free.len() < wanted.min(stage.options.accept_max) {
            let Ok(own) = slots.clone().try_acquire_owned() else { break };
            let Ok(node) = stage.slots.clone().try_acquire_owned() else { break };
            free.push((own, node));
        }
        Ok(free)
    }

    /// Accepts deliveries into free places.
    async fn take(
        &self,
        owner: Incarnation,
        terms: Terms,
        deliveries: Vec<Delivery>,
        slots: Vec<Slots>,
    ) -> Vec<Answer> {
        let pairs = deliveries.into_iter().zip(slots);
        join_all(pairs.map(|(delivery, slots)| self.accept(owner, &terms, delivery, slots))).await
    }

    /// Acknowledges what was accepted and hands it to the pool; answers how many were refused.
    ///
    /// Here and not by each of them as it hears of its commit, which is in no order: a bus acknowledges what comes in order in one go.
    fn settle(&self, answers: Vec<Answer>) -> Result<usize, ActorProcessingErr> {
        let (mut work, mut refused) = (Vec::new(), 0);
        for answer in answers {
            match answer {
                Answer::New(fresh, settle) => {
                    settle.ack();
                    work.push(fresh);
                }
                Answer::Known(settle) => settle.ack(),
                Answer::Rejected => {}
                Answer::Refused => refused += 1,
            }
        }
        if !work.is_empty() {
            self.parts.pool.cast(PoolMessage::Accepted(work))?;
        }
        if refused > 0 {
            let agent = self.parts.agent.as_str();
            tracing::warn!(agent, events = refused, "the store does not accept; events stay on the bus");
        }
        Ok(refused)
    }

    /// Accepts one delivery; one that the store did not take now goes back.
    async fn accept(&self, owner: Incarnation, terms: &Terms, delivery: Delivery, slots: Slots) -> Answer {
        let (stage, served) = (&self.parts.stage, &terms.served);
        if stage.lease.own() != Some(owner) {
            return Answer::Refused;
        }
        let event = delivery.event.clone();
        let acceptance = Acceptance {
            agent: served.spec.name.clone(),
            mode: served.mode(),
            spec_digest: served.digest.clone(),
            event: event.clone(),
            owner,
        };
        match stage.ports.stores.tasks.accept(acceptance).await {
            Ok(Accepted::New(claim)) => Answer::New(Arc::new(self.work(terms, event, claim, slots)), delivery.settle),
            Ok(Accepted::Duplicate(task)) => {
                tracing::debug!(task_id = %task, event_id = event.id, "accepted before");
                Answer::Known(delivery.settle)
            }
            Err(error) if matches!(error.fault(), Fault::Permanent | Fault::Bug) => {
                tracing::error!(event_id = event.id, %error, "an event cannot be accepted");
                let rejected = delivery.settle.reject(&error.to_string()).await;
                rejected.map_or(Answer::Refused, |()| Answer::Rejected)
            }
            Err(error) => {
                tracing::debug!(event_id = event.id, %error, "not accepted now");
                Answer::Refused
            }
        }
    }

    fn work(&self, terms: &Terms, event: Arc<Event>, claim: Claim, (own, node): Slots) -> Work {
        Work {
            claim,
            tenure: Tenure::of(claim),
            run: claim.task.run(0),
            step_no: 0,
            copied: 0,
            event,
            accepted_at: self.parts.stage.ports.clock.now(),
            served: terms.served.clone(),
            claims: 1,
            slots: vec![own, node],
            places: Some(terms.places.clone()),
        }
    }
}

impl Gate {
    fn is_open(&self) -> bool {
        self.open && self.terms.is_some()
    }
}

impl Waiting {
    fn new(consumer: Consumer, aging: Duration) -> Self {
        Self { consumer, deliveries: BTreeMap::new(), taken: 0, aging, begun: Instant::now() }
    }

    /// Waits until there is a delivery and takes in all that are there; `false` when the queue is gone.
    async fn come(&mut self) -> bool {
        if self.deliveries.is_empty() {
            match self.consumer.deliveries.recv().await {
                Some(delivery) => self.put(delivery),
                None => return false,
            }
        }
        self.gather();
        true
    }

    fn gather(&mut self) {
        while let Some(delivery) = self.consumer.deliveries.try_recv() {
            self.put(delivery);
        }
    }

    /// Up to `max` deliveries in their order, those among them that came during the wait for a place.
    fn best(&mut self, max: usize) -> Vec<Delivery> {
        self.gather();
        (0..max).map_while(|_| self.deliveries.pop_first()).map(|(_, delivery)| delivery).collect()
    }

    fn put(&mut self, delivery: Delivery) {
        let behind = u32::from(9 - u8::from(delivery.event.priority));
        let key = self.begun.elapsed().saturating_add(self.aging.saturating_mul(behind));
        self.deliveries.insert((key, self.taken), delivery);
        self.taken += 1;
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde_json::json;
    use troupe_runtime::bus;
    use troupe_runtime::domain::event::Priority;

    use super::*;

    /// Of a delivery that nobody settles.
    #[derive(Debug)]
    struct Unsettled;

    #[async_trait]
    impl bus::Settle for Unsettled {
        fn ack(self: Box<Self>) {}

        async fn retry(self: Box<Self>, _cause: &str) -> Result<(), bus::Error> {
            Ok(())
        }

        async fn reject(self: Box<Self>, _cause: &str) -> Result<(), bus::Error> {
            Ok(())
        }
    }

    fn delivery(priority: u8) -> Delivery {
        let mut event = Event::new("agent.task.a".parse().unwrap(), "/test", json!(priority));
        event.priority = Priority::try_from(priority).unwrap();
        Delivery { event: Arc::new(event), retrycount: 0, redelivered: false, settle: Box::new(Unsettled) }
    }

    fn priorities(deliveries: &[Delivery]) -> Vec<u8> {
        deliveries.iter().map(|delivery| delivery.event.priority.into()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_urgent_go_first_until_the_others_have_waited_for_long_enough() {
        let (sender, deliveries) = bus::handing::way();
        let mut waiting = Waiting::new(Consumer { deliveries, guard: Box::new(()) }, Duration::from_secs(10));
        for priority in [0, 5, 9, 4, 5] {
            sender.hand(delivery(priority)).unwrap();
        }
        assert!(waiting.come().await);
        assert_eq!(priorities(&waiting.best(3)), [9, 5, 5]);
        // 4 and 0 wait; one priority is worth ten seconds.
        tokio::time::advance(Duration::from_secs(9)).await;
        sender.hand(delivery(5)).unwrap();
        assert_eq!(priorities(&waiting.best(1)), [5]);
        tokio::time::advance(Duration::from_secs(2)).await;
        sender.hand(delivery(5)).unwrap();
        assert_eq!(priorities(&waiting.best(1)), [4]);
        // However many urgent ones come in, the least of them has its turn.
        for _ in 0..79 {
            tokio::time::advance(Duration::from_secs(1)).await;
            sender.hand(delivery(9)).unwrap();
            assert_ne!(priorities(&waiting.best(1)), [0]);
        }
        assert_eq!(priorities(&waiting.best(2)), [0, 9]);
    }
}
