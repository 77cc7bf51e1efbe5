//! Watching events as they pass: a decorator over any bus, and the taps that people put on it.
//!
//! ```text
//! publish, send, replay ─► the bus ─► confirmed ─► offered to each tap whose pattern matches ─► its room, or a gap
//! ```
//!
//! A tap is for people. It is best effort: it holds no more than its room, and a reader that is too slow finds a gap with
//! the number of events that it missed; it never makes anybody wait. It sees what *this node* puts on the bus, once the
//! bus has confirmed it, in the order of the confirmations. It is no queue of the bus, so it needs nothing from an adapter,
//! and an event that nobody but a tap wants is as unroutable as before. Opened by [`crate::ports`]; the API hands taps
//! out. With no tap open, an event costs one look at a counter.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Bus, Consumer, DeadLetter, Error, Health, QueueSpec, Routing};
use crate::domain::event::Event;
use crate::domain::topic::TopicPattern;

/// What a tap sees.
#[derive(Debug, Clone, PartialEq)]
pub enum Passed {
    /// An event.
    Event(Arc<Event>),
    /// So many events passed that there was no room for.
    Missed(u64),
}

/// The taps of one node. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Taps {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    valves: Mutex<Valves>,
    /// As many as there are valves, for a look without the lock.
    open: AtomicUsize,
}

#[derive(Debug, Default)]
struct Valves {
    next: u64,
    closed: bool,
    open: Vec<Valve>,
}

/// The bus's end of a tap.
#[derive(Debug)]
struct Valve {
    id: u64,
    pattern: TopicPattern,
    events: mpsc::Sender<Passed>,
    missed: Arc<AtomicU64>,
}

/// One watcher's end. Dropping it ends it.
#[derive(Debug)]
pub struct Tap {
    id: u64,
    events: mpsc::Receiver<Passed>,
    missed: Arc<AtomicU64>,
    taps: Taps,
}

/// There are as many taps as there may be, or the node is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} taps are open, which is the limit; end one, or raise the limit")]
pub struct NoTap(pub usize);

impl Taps {
    /// Opens a tap with room for so many events, unless `max` are open.
    ///
    /// # Errors
    /// [`NoTap`].
    pub fn open(&self, pattern: TopicPattern, room: usize, max: usize) -> Result<Tap, NoTap> {
        let (sender, events) = mpsc::channel(room.max(1));
        let missed = Arc::new(AtomicU64::new(0));
        let id = self.valves(|valves| {
            if valves.closed || valves.open.len() >= max {
                return Err(NoTap(valves.open.len()));
            }
            valves.next += 1;
            valves.open.push(Valve { id: valves.next, pattern, events: sender, missed: Arc::clone(&missed) });
            Ok(valves.next)
        })?;
        Ok(Tap { id, events, missed, taps: self.clone() })
    }

    /// Shows an event to whoever watches its topic.
    pub fn offer(&self, event: &Arc<Event>) {
        if self.inner.open.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.valves(|valves| {
            for valve in valves.open.iter().filter(|valve| valve.pattern.matches(&event.topic)) {
                valve.offer(event);
            }
        });
    }

    /// Ends every tap, and lets none be opened any more: the node is stopping.
    pub fn close(&self) {
        self.valves(|valves| {
            valves.closed = true;
            valves.open.clear();
        });
    }

    fn valves<T>(&self, act: impl FnOnce(&mut Valves) -> T) -> T {
        let mut valves = self.inner.valves.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = act(&mut valves);
        self.inner.open.store(valves.open.len(), Ordering::Relaxed);
        answer
    }
}

impl Valve {
    /// The gap stands where it is: before the first event that there is room for again.
    fn offer(&self, event: &Arc<Event>) {
        let gap = self.missed.swap(0, Ordering::AcqRel);
        if gap > 0 && self.events.try_send(Passed::Missed(gap)).is_err() {
            self.missed.fetch_add(gap + 1, Ordering::AcqRel);
        } else if self.events.try_send(Passed::Event(Arc::clone(event))).is_err() {
            self.missed.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Tap {
    /// The next that passes; `None` when the node is stopping.
    pub async fn next(&mut self) -> Option<Passed> {
        if let Ok(passed) = self.events.try_recv() {
            return Some(passed);
        }
        // Everything that there was room for is read: a gap behind it must not wait for the next event.
        match self.missed.swap(0, Ordering::AcqRel) {
            0 => self.events.recv().await,
            gap => Some(Passed::Missed(gap)),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let id = self.id;
        self.taps.valves(|valves| valves.open.retain(|valve| valve.id != id));
    }
}

/// A bus whose events are shown to taps as they pass.
pub struct Tapped {
    bus: Arc<dyn Bus>,
    taps: Taps,
}

impl Tapped {
    /// Shows what passes `bus` to `taps`.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, taps: Taps) -> Arc<Self> {
        Arc::new(Self { bus, taps })
    }
}

#[async_trait]
impl Bus for Tapped {
    async fn declare(&self, queue: QueueSpec) -> Result<(), Error> {
        self.bus.declare(queue).await
    }

    async fn remove_queue(&self, queue: &str) -> Result<(), Error> {
        self.bus.remove_queue(queue).await
    }

    async fn publish(&self, event: Arc<Event>, routing: Routing) -> Result<usize, Error> {
        let queues = self.bus.publish(Arc::clone(&event), routing).await?;
        self.taps.offer(&event);
        Ok(queues)
    }

    async fn send(&self, queue: &str, event: Arc<Event>) -> Result<(), Error> {
        self.bus.send(queue, Arc::clone(&event)).await?;
        self.taps.offer(&event);
        Ok(())
    }

    async fn consume(&self, queue: &str, prefetch: usize) -> Result<Consumer, Error> {
        self.bus.consume(queue, prefetch).await
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Error> {
        self.bus.bury(letter).await
    }

    async fn dead_letters(&self, limit: usize, before: Option<&str>) -> Result<Vec<DeadLetter>, Error> {
        self.bus.dead_letters(limit, before).await
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>, Error> {
        self.bus.dead_letter(id).await
    }

    async fn replay(&self, id: &str) -> Result<Option<Event>, Error> {
        let replayed = self.bus.replay(id).await?;
        if let Some(event) = &replayed {
            self.taps.offer(&Arc::new(event.clone()));
        }
        Ok(replayed)
    }

    async fn purge(&self, id: &str) -> Result<bool, Error> {
        self.bus.purge(id).await
    }

    async fn health(&self) -> Result<Health, Error> {
        self.bus.health().await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bus::Options;
    use crate::bus::embedded::EmbeddedBus;
    use crate::sqlite;

    fn event(topic: &str, number: u64) -> Arc<Event> {
        Arc::new(Event::new(topic.parse().unwrap(), "/test", json!(number)))
    }

    fn numbers(passed: &[Passed]) -> Vec<Result<u64, u64>> {
        let number = |passed: &Passed| match passed {
            Passed::Event(event) => Ok(event.data.value().as_u64().unwrap()),
            Passed::Missed(missed) => Err(*missed),
        };
        passed.iter().map(number).collect()
    }

    async fn read(tap: &mut Tap, count: usize) -> Vec<Result<u64, u64>> {
        let mut passed = Vec::new();
        while passed.len() < count {
            passed.push(tap.next().await.unwrap());
        }
        numbers(&passed)
    }

    #[tokio::test]
    async fn a_tap_sees_what_matches_once_the_bus_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = sqlite::Database::open(dir.path(), &sqlite::Options::default()).await.unwrap();
        let taps = Taps::default();
        let bus = Tapped::new(EmbeddedBus::open(file, Options::default()).await.unwrap(), taps.clone());
        let bindings = vec!["a.#".parse().unwrap()];
        bus.declare(QueueSpec { name: "q".into(), bindings, single_active_consumer: false }).await.unwrap();
        let mut tap = taps.open("*.b".parse().unwrap(), 10, 1).unwrap();
        bus.publish(event("a.b", 1), Routing::Mandatory).await.unwrap();
        bus.publish(event("a.c", 2), Routing::Mandatory).await.unwrap();
        let stray = bus.publish(event("x.b", 3), Routing::Mandatory).await;
        assert!(matches!(stray, Err(Error::Unroutable(_))), "a tap is nobody who wants an event");
        bus.publish(event("y.b", 4), Routing::Optional).await.unwrap();
        bus.send("q", event("z.b", 5)).await.unwrap();
        assert_eq!(read(&mut tap, 3).await, [Ok(1), Ok(4), Ok(5)]);
    }

    #[tokio::test]
    async fn a_slow_reader_finds_the_gap_where_it_is() {
        let taps = Taps::default();
        let mut tap = taps.open("#".parse().unwrap(), 2, 1).unwrap();
        for number in 0..5 {
            taps.offer(&event("a", number));
        }
        assert_eq!(read(&mut tap, 1).await, [Ok(0)]);
        // Room for the gap, then none for the event.
        taps.offer(&event("a", 5));
        assert_eq!(read(&mut tap, 2).await, [Ok(1), Err(3)]);
        assert_eq!(read(&mut tap, 1).await, [Err(1)]);
        taps.offer(&event("a", 6));
        assert_eq!(read(&mut tap, 1).await, [Ok(6)]);
    }

    #[tokio::test]
    async fn taps_are_limited_and_end_with_their_reader_or_the_node() {
        let taps = Taps::default();
        let pattern = || "#".parse().unwrap();
        let first = taps.open(pattern(), 1, 1).unwrap();
        assert_eq!(taps.open(pattern(), 1, 1).unwrap_err(), NoTap(1));
        drop(first);
        let mut second = taps.open(pattern(), 1, 1).unwrap();
        taps.offer(&event("a", 1));
        taps.close();
        assert_eq!(read(&mut second, 1).await, [Ok(1)]);
        assert_eq!(second.next().await, None);
        assert!(taps.open(pattern(), 1, 9).is_err(), "no new ones while the node stops");
    }
}
