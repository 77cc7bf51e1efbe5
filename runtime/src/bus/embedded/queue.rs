//! One queue in memory: what waits, what is in flight, who consumes.
//!
//! ```text
//!   on its way ─► waiting (window) ─► in flight ─┬─► settling ─► gone
//!                    ▲                           │
//!                    └── its consumer or itself ◄┘ dropped
//! ```
//!
//! Everything sits behind one lock a queue, which is never held over an await, and no two queues are locked at once.
//! An event is *taken* while it is on its way in or in flight: then a reading from disk must not bring it in a second
//! time. Nothing that may call back (a delivery, a channel of them) is dropped under the lock.
//! Called by the bus, its deliveries and its two tasks; nothing here fails.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Inner;
use super::delivery::Handle;
use super::window::{Body, Cache, Front, Waiting, Window};
use crate::bus::handing::Handing;
use crate::bus::line::{Gone, Line, Offer};
use crate::bus::place::Place;
use crate::bus::routes::Named;
use crate::bus::{Delivery, Error};
use crate::domain::event::Event;

/// Places that are read from disk at once.
const PLACES_AT_ONCE: usize = 4096;
/// Bodies that are read from disk at once.
const BODIES_AT_ONCE: usize = 256;

/// A queue, for whoever refers to it.
pub(super) struct Cell {
    id: i64,
    name: String,
    state: Mutex<Queue>,
}

impl Cell {
    pub(super) const fn new(id: i64, name: String, queue: Queue) -> Self {
        Self { id, name, state: Mutex::new(queue) }
    }

    pub(super) const fn id(&self) -> i64 {
        self.id
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Locks the queue; whoever gives somebody a reason to be served goes through [`Inner::at`] instead.
    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Named for Arc<Cell> {
    fn name(&self) -> &str {
        &self.name
    }
}

/// A queue's state.
pub(super) struct Queue {
    window: Window,
    cache: Arc<Cache>,
    /// Events that nobody has settled, wherever they are, those on their way in among them.
    depth: u64,
    /// Events whose transaction is under way. Younger ones of the same priority wait for them.
    on_the_way: BTreeSet<Place>,
    flights: HashMap<i64, Flight>,
    line: Line,
    last_token: u64,
    /// Something must be read before the next hand-over.
    wants: bool,
    /// The keeper knows.
    called: bool,
    /// The queue is being removed: nothing comes in any more.
    gone: bool,
}

/// An event that somebody holds.
struct Flight {
    token: u64,
    consumer: u64,
    place: Place,
    retrycount: u32,
    /// Its holder has decided; only the disk is awaited.
    settling: bool,
    event: Arc<Event>,
    bytes: usize,
}

/// What the keeper must read.
pub(super) enum Need {
    Nothing,
    /// Places from here on.
    Places {
        from: Place,
        limit: usize,
        /// Whatever was taken when the reading began.
        taken: HashSet<i64>,
    },
    /// The bodies of these.
    Bodies(Vec<Place>),
}

impl Queue {
    pub(super) fn new(window: Window, cache: Arc<Cache>, depth: u64, single_active: bool) -> Self {
        Self {
            window,
            cache,
            depth,
            on_the_way: BTreeSet::new(),
            flights: HashMap::new(),
            line: Line::new(single_active),
            last_token: 0,
            wants: false,
            called: false,
            gone: false,
        }
    }

    pub(super) const fn depth(&self) -> u64 {
        self.depth
    }

    pub(super) const fn single_active(&self) -> bool {
        self.line.single_active()
    }

    pub(super) const fn set_single_active(&mut self, single_active: bool) {
        self.line.set_single_active(single_active);
    }

    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }

    /// Lets nothing in any more, so that the queue can be removed; refused while something is in it or somebody consumes it.
    pub(super) fn give_up(&mut self, name: &str) -> Result<(), Error> {
        if self.gone {
            return Err(Error::NoQueue(name.to_owned()));
        }
        if self.depth > 0 {
            return Err(Error::holds(name, self.depth));
        }
        if !self.line.is_empty() {
            return Err(Error::consumed(name));
        }
        self.gone = true;
        Ok(())
    }

    /// The queue was not removed after all.
    pub(super) const fn go_on(&mut self) {
        self.gone = false;
    }

    /// Takes a place for an event that is about to be written; `false` when the queue is full.
    pub(super) fn reserve(&mut self, place: Place, max: u64) -> bool {
        if self.depth >= max {
            return false;
        }
        self.depth += 1;
        self.on_the_way.insert(place);
        true
    }

    /// The event was not written after all.
    pub(super) fn release(&mut self, place: Place) {
        if self.on_the_way.remove(&place) {
            self.depth = self.depth.saturating_sub(1);
        }
    }

    /// The event is durable.
    pub(super) fn arrive(&mut self, place: Place, event: &Arc<Event>, bytes: usize) {
        if self.on_the_way.remove(&place) {
            let body = self.cache.keep(event, bytes);
            self.window.insert(place, Waiting { retrycount: 0, redelivered: false, body });
        }
    }

    /// The event's wait between two deliveries is over.
    pub(super) fn promoted(&mut self, place: Place, retrycount: u32) {
        self.window.insert(place, Waiting { retrycount, redelivered: true, body: None });
    }

    /// Serves one more consumer; answers its number.
    pub(super) fn join(&mut self, way: Handing, prefetch: usize) -> u64 {
        self.line.join(way, prefetch)
    }

    /// A consumer is gone: what it holds goes back to its place.
    #[must_use]
    pub(super) fn part(&mut self, consumer: u64) -> Option<Handing> {
        let gone = self.line.part(consumer)?;
        let held: Vec<(i64, u64)> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.consumer == consumer && !flight.settling)
            .map(|(seq, flight)| (*seq, flight.token))
            .collect();
        for (seq, token) in held {
            self.put_back(seq, token);
        }
        Some(gone)
    }

    /// The bus closes: consumers see the end; what they hold can still be settled.
    pub(super) fn dismiss(&mut self) -> Gone {
        self.line.dismiss()
    }

    /// Its holder has decided what becomes of a delivery; `None` when it is its no longer.
    pub(super) fn settle(&mut self, seq: i64, token: u64) -> Option<(Place, u32)> {
        let flight = self.flights.get_mut(&seq).filter(|flight| flight.token == token && !flight.settling)?;
        flight.settling = true;
        Some((flight.place, flight.retrycount))
    }

    /// What its holder decided is durable; `left` when the event is no longer in the queue.
    pub(super) fn settled(&mut self, seq: i64, token: u64, left: bool) {
        if let Some(flight) = self.land(seq, token) {
            self.line.credit(flight.consumer);
            self.depth = self.depth.saturating_sub(u64::from(left));
        }
    }

    /// A delivery that nobody settled goes back to its place.
    pub(super) fn put_back(&mut self, seq: i64, token: u64) {
        if let Some(flight) = self.land(seq, token) {
            self.line.credit(flight.consumer);
            let body = self.cache.keep(&flight.event, flight.bytes);
            let waiting = Waiting { retrycount: flight.retrycount, redelivered: true, body };
            self.window.insert(flight.place, waiting);
        }
    }

    fn land(&mut self, seq: i64, token: u64) -> Option<Flight> {
        self.flights.get(&seq).filter(|flight| flight.token == token)?;
        self.flights.remove(&seq)
    }

    const fn token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    /// Hands out what can be handed out, best first, to the consumers in turn.
    pub(super) fn hand_over(&mut self, inner: &Arc<Inner>, cell: &Arc<Cell>) -> Gone {
        let mut gone = Gone::default();
        while let Some(index) = self.line.next() {
            match self.window.front() {
                Front::Ready if self.is_overtaking() => break,
                Front::Ready => {}
                Front::Empty => break,
                Front::BehindHorizon | Front::WithoutBody => {
                    self.wants = true;
                    break;
                }
            }
            let token = self.token();
            let closed = match self.line.offer(index) {
                Offer::Taken(way, consumer) => {
                    let Some((place, waiting, body)) = self.window.pop() else { break };
                    let flight = Flight::new(token, consumer, place, &waiting, &body);
                    let handed = way.hand(Delivery {
                        event: flight.event.clone(),
                        retrycount: waiting.retrycount,
                        redelivered: waiting.redelivered,
                        settle: Box::new(Handle::new(inner.clone(), cell.clone(), place.seq, token)),
                    });
                    gone.deliveries.extend(handed.err());
                    self.flights.insert(place.seq, flight);
                    None
                }
                Offer::Closed(consumer) => Some(consumer),
            };
            gone.ways.extend(closed.and_then(|consumer| self.part(consumer)));
        }
        gone
    }

    /// Whether an older event than the first, of the same priority, is about to arrive.
    fn is_overtaking(&self) -> bool {
        let Some(first) = self.window.first() else { return false };
        self.on_the_way.range(..first).any(|place| place.rank == first.rank)
    }

    /// Whether the keeper must be called; `true` once until it has come.
    pub(super) const fn must_call(&mut self) -> bool {
        let must = self.wants && !self.called;
        self.called |= must;
        must
    }

    /// The keeper has come: what is to be read?
    pub(super) fn need(&mut self) -> Need {
        (self.wants, self.called) = (false, false);
        let credit = self.line.credit_in_all();
        if credit == 0 {
            return Need::Nothing;
        }
        match self.window.front() {
            Front::Empty | Front::Ready => Need::Nothing,
            Front::WithoutBody => Need::Bodies(self.window.without_body(credit.min(BODIES_AT_ONCE))),
            Front::BehindHorizon => match self.window.begin_loading(PLACES_AT_ONCE) {
                Some((from, limit)) => Need::Places { from, limit, taken: self.taken() },
                None => Need::Nothing,
            },
        }
    }

    fn taken(&self) -> HashSet<i64> {
        self.on_the_way.iter().map(|place| place.seq).chain(self.flights.keys().copied()).collect()
    }

    /// Places were read; `taken` were taken when the reading began. Those that are taken by now are left out as well.
    pub(super) fn load(&mut self, read: &[(Place, u32)], complete: bool, mut taken: HashSet<i64>) {
        taken.extend(self.taken());
        self.window.finish_loading(read, complete, &taken);
    }

    /// Places could not be read.
    pub(super) const fn not_loaded(&mut self) {
        self.window.stop_loading();
    }

    /// A body was read.
    pub(super) fn fill(&mut self, place: Place, event: Event, bytes: usize) {
        let body = self.cache.hold(Arc::new(event), bytes);
        self.window.fill(place, body);
    }

    /// An event cannot be read, ever: the others must not wait for it. It counts no more; its row, if any, stays.
    pub(super) fn skip(&mut self, place: Place) -> bool {
        let there = self.window.forget(place);
        self.depth = self.depth.saturating_sub(u64::from(there));
        there
    }

    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.window.len()
    }
}

impl Flight {
    fn new(token: u64, consumer: u64, place: Place, waiting: &Waiting, body: &Body) -> Self {
        let (event, bytes) = (body.event().clone(), body.bytes());
        Self { token, consumer, place, retrycount: waiting.retrycount, settling: false, event, bytes }
    }
}
