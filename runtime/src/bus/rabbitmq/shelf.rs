//! What this process holds of one queue: events that the broker has handed over and nobody has settled.
//!
//! ```text
//!   the broker ─► ready, best first ─► in flight ─┬─► settling ─► acknowledged, gone
//!                   ▲                             │
//!                   └── its consumer or itself ◄──┘ dropped
//! ```
//!
//! A quorum queue of 3.10 knows no priorities and hands over by age. So a look-ahead of events is taken from it and the best
//! goes first: exact among those, which is everything while the queue is no longer than the look-ahead. An event that was
//! published here and is about to arrive holds up what is less urgent.
//!
//! Everything sits behind one lock, never held over an await. Nothing that may call back (a delivery, a channel of them) is
//! dropped under it. Called by the intake, its deliveries and the bus; nothing here fails.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::delivery::Handle;
use super::intake::Intake;
use super::wire::Past;
use crate::bus::Delivery;
use crate::bus::handing::Handing;
use crate::bus::line::{Gone, Line, Offer};
use crate::bus::place::{Aging, Place, RANKS, now_us, rank};
use crate::domain::event::Event;

/// What this process holds of one queue.
pub(super) struct Shelf {
    ready: BTreeMap<Place, Held>,
    flights: HashMap<i64, Flight>,
    line: Line,
    expected: HashMap<String, Expected>,
    /// How many of them there are of each rank.
    expected_ranks: [usize; RANKS as usize],
    aging: Aging,
    /// When the last event of each rank came that the broker handed over.
    last_since: [i64; RANKS as usize],
    last_seq: i64,
    last_token: u64,
    /// The life of the channel; what came in an earlier one cannot be acknowledged any more.
    life: u64,
    /// What was there at the beginning is still coming in: the best of it is not known yet.
    gathering: bool,
    /// Events in flight whose life is over: the broker hands them out again.
    stale: usize,
}

/// An event of the broker's.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) event: Arc<Event>,
    pub(super) past: Past,
    /// Its number on the channel.
    pub(super) tag: u64,
    /// It may have been handed out before.
    pub(super) redelivered: bool,
}

/// An event that a consumer has.
struct Flight {
    /// This hand-over of it: an older one's holder has nothing to say any more.
    token: u64,
    held: Held,
    place: Place,
    consumer: u64,
    life: u64,
    /// Its holder has decided.
    settling: bool,
}

/// An event that was published here and is on its way in.
struct Expected {
    rank: u8,
    copies: usize,
    /// The broker has it: it comes, unless somebody else is given it.
    confirmed: bool,
}

/// What its holder may do with an event, once it has decided.
pub(super) struct Settled {
    pub(super) held: Held,
    pub(super) life: u64,
}

impl Shelf {
    pub(super) fn new(single_active: bool, aging: Aging) -> Self {
        Self {
            ready: BTreeMap::new(),
            flights: HashMap::new(),
            line: Line::new(single_active),
            expected: HashMap::new(),
            expected_ranks: [0; RANKS as usize],
            aging,
            last_since: [i64::MIN; RANKS as usize],
            last_seq: 0,
            last_token: 0,
            life: 0,
            gathering: true,
            stale: 0,
        }
    }

    /// Events of the broker's that are here.
    pub(super) fn held(&self) -> usize {
        self.ready.len() + self.flights.len() - self.stale
    }

    /// Whether nobody is served.
    pub(super) const fn is_idle(&self) -> bool {
        self.line.is_empty()
    }

    /// A channel begins: events come in, none is handed out before they are [gathered](Self::gathered).
    pub(super) const fn begin(&mut self) -> u64 {
        self.life += 1;
        self.gathering = true;
        self.life
    }

    /// What was there is here: the best of it is known.
    pub(super) const fn gathered(&mut self) {
        self.gathering = false;
    }

    /// The channel is lost: the broker hands out again whatever came over it.
    #[must_use]
    pub(super) fn lose(&mut self) -> BTreeMap<Place, Held> {
        self.life += 1;
        self.gathering = true;
        self.expected.clear();
        self.expected_ranks = [0; RANKS as usize];
        self.last_since = [i64::MIN; RANKS as usize];
        self.stale = self.flights.len();
        std::mem::take(&mut self.ready)
    }

    /// An event has come in.
    pub(super) fn put(&mut self, held: Held) {
        if let Some(expected) = self.expected.get_mut(&held.event.id) {
            expected.copies -= 1;
            if expected.copies == 0 {
                self.expect_no_more(&held.event.id);
            }
        }
        self.last_seq += 1;
        let rank = rank(held.event.priority);
        let mut since = held.past.since.unwrap_or_else(now_us);
        if held.past.retrycount == 0 {
            // The broker's order is kept within a priority, whatever the clocks of the publishers say. What has failed comes
            // by another way, and goes by its age.
            let last = &mut self.last_since[usize::from(rank)];
            since = since.max(*last);
            *last = since;
        }
        self.ready.insert(self.aging.place(rank, since, self.last_seq), held);
    }

    /// An event of this rank is about to be published here.
    pub(super) fn announce(&mut self, id: &str, rank: u8) {
        let ranks = &mut self.expected_ranks;
        let fresh = || {
            ranks[usize::from(rank)] += 1;
            Expected { rank, copies: 0, confirmed: false }
        };
        self.expected.entry(id.to_owned()).or_insert_with(fresh).copies += 1;
    }

    /// It was published.
    pub(super) fn confirm(&mut self, id: &str) {
        if let Some(expected) = self.expected.get_mut(id) {
            expected.confirmed = true;
        }
    }

    /// It was not published, or nobody knows.
    pub(super) fn expect_no_more(&mut self, id: &str) {
        if let Some(expected) = self.expected.remove(id) {
            self.expected_ranks[usize::from(expected.rank)] -= 1;
        }
    }

    /// Everything that the broker had until now has come in: what is still expected was given to somebody else.
    pub(super) fn nothing_is_on_the_way(&mut self, confirmed: &[String]) {
        for id in confirmed {
            self.expect_no_more(id);
        }
    }

    /// The expected events that the broker has, when they hold up somebody: to be asked for.
    pub(super) fn awaited(&self) -> Vec<String> {
        let Some((first, _)) = self.ready.first_key_value() else { return Vec::new() };
        if !self.is_urgent_expected(first.rank) || self.line.next().is_none() {
            return Vec::new();
        }
        let confirmed = self.expected.iter().filter(|(_, expected)| expected.confirmed && expected.rank < first.rank);
        confirmed.map(|(id, _)| id.clone()).collect()
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

    /// Consumers see the end; what they hold can still be settled.
    pub(super) fn dismiss(&mut self) -> Gone {
        self.line.dismiss()
    }

    /// Its holder has decided what becomes of an event; `None` when it is its no longer.
    pub(super) fn settle(&mut self, seq: i64, token: u64) -> Option<Settled> {
        let flight = self.flights.get_mut(&seq).filter(|flight| flight.token == token && !flight.settling)?;
        if flight.life != self.life {
            self.land(seq, token);
            return None;
        }
        flight.settling = true;
        Some(Settled { held: flight.held.clone(), life: flight.life })
    }

    /// What its holder decided is done: the event is the broker's affair no more.
    pub(super) fn settled(&mut self, seq: i64, token: u64) {
        self.land(seq, token);
    }

    /// A delivery that nobody settled goes back to its place.
    pub(super) fn put_back(&mut self, seq: i64, token: u64) {
        if let Some(flight) = self.land(seq, token)
            && flight.life == self.life
        {
            self.ready.insert(flight.place, Held { redelivered: true, ..flight.held });
        }
    }

    fn land(&mut self, seq: i64, token: u64) -> Option<Flight> {
        self.flights.get(&seq).filter(|flight| flight.token == token)?;
        let flight = self.flights.remove(&seq)?;
        self.stale -= usize::from(flight.life != self.life);
        self.line.credit(flight.consumer);
        Some(flight)
    }

    /// Hands out what can be handed out, best first, to the consumers in turn.
    pub(super) fn hand_over(&mut self, intake: &Arc<Intake>) -> Gone {
        let mut gone = Gone::default();
        while let Some(index) = self.line.next() {
            if self.gathering || self.is_overtaking() {
                break;
            }
            let closed = match self.line.offer(index) {
                Offer::Taken(way, consumer) => {
                    let Some((place, held)) = self.ready.pop_first() else { break };
                    self.last_token += 1;
                    let token = self.last_token;
                    let handed = way.hand(Delivery {
                        event: held.event.clone(),
                        retrycount: held.past.retrycount,
                        redelivered: held.redelivered || held.past.retrycount > 0,
                        settle: Box::new(Handle::new(intake.clone(), place.seq, token)),
                    });
                    gone.deliveries.extend(handed.err());
                    let flight = Flight { token, held, place, consumer, life: self.life, settling: false };
                    self.flights.insert(place.seq, flight);
                    None
                }
                Offer::Closed(consumer) => Some(consumer),
            };
            gone.ways.extend(closed.and_then(|consumer| self.part(consumer)));
        }
        gone
    }

    /// Whether nothing is ready, or something more urgent is about to arrive.
    fn is_overtaking(&self) -> bool {
        let Some((first, _)) = self.ready.first_key_value() else { return true };
        self.is_urgent_expected(first.rank)
    }

    fn is_urgent_expected(&self, than: u8) -> bool {
        self.expected_ranks[..usize::from(than)].iter().any(|count| *count > 0)
    }
}
