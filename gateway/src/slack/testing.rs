//! A bus and a reply store in memory that do what a test tells them: take, refuse, hang, and remember what was settled.
//!
//! The real ones have their own conformance suites; what is tested here is what the doors do when theirs fail.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::watch;
use troupe_runtime::bus::handing::Handing;
use troupe_runtime::bus::{self, Bus, Consumer, DeadLetter, Delivery, Health, QueueSpec, Routing, Settle};
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::store::{self, Replies, ReplyOutcome, ReplyRow, ReplyState};

/// How a publish goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Takes,
    Hangs,
    Fails,
    Unroutable,
    TooLarge,
}

/// How a delivery was settled, in the order of settling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settled {
    Acked(String),
    Retried(String),
    Rejected(String, String),
    Dropped(String),
}

#[derive(Debug)]
pub(super) struct TestBus {
    pub(super) mood: Mutex<Mood>,
    published: watch::Sender<Vec<Arc<Event>>>,
    pub(super) declared: Mutex<Vec<QueueSpec>>,
    settled: Arc<watch::Sender<Vec<Settled>>>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    sender: Option<Handing>,
    waiting: VecDeque<(Arc<Event>, u32, bool)>,
}

impl TestBus {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            mood: Mutex::new(Mood::Takes),
            published: watch::Sender::new(Vec::new()),
            declared: Mutex::default(),
            settled: Arc::new(watch::Sender::new(Vec::new())),
            queue: Arc::default(),
        })
    }

    pub(super) fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(super) fn events(&self) -> Vec<Arc<Event>> {
        self.published.borrow().clone()
    }

    /// Waits until so many events were taken.
    pub(super) async fn published(&self, n: usize) {
        self.published.subscribe().wait_for(|events| events.len() >= n).await.unwrap();
    }

    /// Hands an event to the consumer of the only queue.
    pub(super) fn deliver(&self, event: Event, retrycount: u32, redelivered: bool) {
        hand(&self.queue, &self.settled, Arc::new(event), retrycount, redelivered);
    }

    /// Waits until so many deliveries are settled and answers how.
    pub(super) async fn settled(&self, n: usize) -> Vec<Settled> {
        let mut settled = self.settled.subscribe();
        settled.wait_for(|settled| settled.len() >= n).await.unwrap().clone()
    }

    pub(super) fn settled_so_far(&self) -> Vec<Settled> {
        self.settled.borrow().clone()
    }
}

fn hand(
    queue: &Arc<Mutex<Queue>>,
    settled: &Arc<watch::Sender<Vec<Settled>>>,
    event: Arc<Event>,
    retrycount: u32,
    redelivered: bool,
) {
    let mut open = queue.lock().unwrap();
    let Some(sender) = &open.sender else {
        open.waiting.push_back((event, retrycount, redelivered));
        return;
    };
    let settle = TestSettle {
        event: Some(Arc::clone(&event)),
        retrycount,
        settled: Arc::clone(settled),
        queue: Arc::clone(queue),
    };
    sender.hand(Delivery { event, retrycount, redelivered, settle: Box::new(settle) }).unwrap();
}

#[async_trait]
impl Bus for TestBus {
    async fn declare(&self, queue: QueueSpec) -> Result<(), bus::Error> {
        self.declared.lock().unwrap().push(queue);
        Ok(())
    }

    async fn remove_queue(&self, queue: &str) -> Result<(), bus::Error> {
        Err(bus::Error::NoQueue(queue.to_owned()))
    }

    async fn publish(&self, event: Arc<Event>, routing: Routing) -> Result<usize, bus::Error> {
        assert_eq!(routing, Routing::Mandatory);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Takes => {
                self.published.send_modify(|events| events.push(event));
                Ok(1)
            }
            Mood::Hangs => std::future::pending().await,
            Mood::Fails => Err(bus::Error::Unavailable("disk full".to_owned())),
            Mood::Unroutable => Err(bus::Error::Unroutable(event.topic.to_string())),
            Mood::TooLarge => Err(bus::Error::TooLarge { bytes: 2, limit: 1 }),
        }
    }

    async fn send(&self, queue: &str, _: Arc<Event>) -> Result<(), bus::Error> {
        Err(bus::Error::NoQueue(queue.to_owned()))
    }

    async fn consume(&self, _: &str, _: usize) -> Result<Consumer, bus::Error> {
        let (sender, deliveries) = bus::handing::way();
        let waiting = {
            let mut queue = self.queue.lock().unwrap();
            queue.sender = Some(sender);
            std::mem::take(&mut queue.waiting)
        };
        for (event, retrycount, redelivered) in waiting {
            hand(&self.queue, &self.settled, event, retrycount, redelivered);
        }
        Ok(Consumer { deliveries, guard: Box::new(()) })
    }

    async fn bury(&self, _: DeadLetter) -> Result<(), bus::Error> {
        Ok(())
    }

    async fn dead_letters(&self, _: usize, _: Option<&str>) -> Result<Vec<DeadLetter>, bus::Error> {
        Ok(Vec::new())
    }

    async fn dead_letter(&self, _: &str) -> Result<Option<DeadLetter>, bus::Error> {
        Ok(None)
    }

    async fn replay(&self, _: &str) -> Result<Option<Event>, bus::Error> {
        Ok(None)
    }

    async fn purge(&self, _: &str) -> Result<bool, bus::Error> {
        Ok(false)
    }

    async fn health(&self) -> Result<Health, bus::Error> {
        Ok(Health::default())
    }
}

/// A retry comes back at once, one higher; the ladder's waits are the bus's own affair.
#[derive(Debug)]
struct TestSettle {
    event: Option<Arc<Event>>,
    retrycount: u32,
    settled: Arc<watch::Sender<Vec<Settled>>>,
    queue: Arc<Mutex<Queue>>,
}

impl TestSettle {
    fn note(&self, settled: Settled) {
        self.settled.send_modify(|all| all.push(settled));
    }
}

#[async_trait]
impl Settle for TestSettle {
    fn ack(mut self: Box<Self>) {
        let event = self.event.take().unwrap();
        self.note(Settled::Acked(event.id.clone()));
    }

    async fn retry(mut self: Box<Self>, _: &str) -> Result<(), bus::Error> {
        let event = self.event.take().unwrap();
        self.note(Settled::Retried(event.id.clone()));
        hand(&self.queue, &self.settled, event, self.retrycount + 1, false);
        Ok(())
    }

    async fn reject(mut self: Box<Self>, cause: &str) -> Result<(), bus::Error> {
        let event = self.event.take().unwrap();
        self.note(Settled::Rejected(event.id.clone(), cause.to_owned()));
        Ok(())
    }
}

impl Drop for TestSettle {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            self.note(Settled::Dropped(event.id.clone()));
        }
    }
}

/// Replies in memory, by the rules of the port.
#[derive(Debug, Default)]
pub(super) struct TestReplies {
    pub(super) rows: Mutex<HashMap<TaskId, ReplyRow>>,
    pub(super) broken: Mutex<bool>,
}

impl TestReplies {
    fn check(&self) -> Result<(), store::Error> {
        if *self.broken.lock().unwrap() { Err(store::Error::Unavailable("disk full".to_owned())) } else { Ok(()) }
    }

    pub(super) fn row(&self, task: TaskId) -> ReplyRow {
        self.rows.lock().unwrap()[&task].clone()
    }
}

#[async_trait]
impl Replies for TestReplies {
    async fn begin(&self, task: TaskId) -> Result<ReplyState, store::Error> {
        self.check()?;
        let mut rows = self.rows.lock().unwrap();
        let row = rows.entry(task).or_insert_with(|| ReplyRow {
            status: "pending".to_owned(),
            attempts: 0,
            doubtful: 0,
            ts: None,
            last_error: None,
        });
        let state = match row.status.as_str() {
            "sent" => return Ok(ReplyState::Sent),
            "given_up" => return Ok(ReplyState::GivenUp),
            "sending" => ReplyState::Doubtful,
            _ => ReplyState::Clear,
        };
        row.attempts += 1;
        row.doubtful += u32::from(state == ReplyState::Doubtful);
        "sending".clone_into(&mut row.status);
        Ok(state)
    }

    async fn settle(&self, task: TaskId, outcome: ReplyOutcome) -> Result<(), store::Error> {
        self.check()?;
        let mut rows = self.rows.lock().unwrap();
        let row = rows.get_mut(&task).unwrap();
        match outcome {
            ReplyOutcome::Sent { ts } => {
                "sent".clone_into(&mut row.status);
                row.ts = ts;
            }
            ReplyOutcome::NotSent { error } => {
                "pending".clone_into(&mut row.status);
                row.last_error = Some(error);
            }
            ReplyOutcome::GivenUp { error } => {
                "given_up".clone_into(&mut row.status);
                row.last_error = Some(error);
            }
        }
        Ok(())
    }

    async fn reply(&self, task: TaskId) -> Result<Option<ReplyRow>, store::Error> {
        self.check()?;
        Ok(self.rows.lock().unwrap().get(&task).cloned())
    }
}
