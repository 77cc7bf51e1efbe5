//! The ready index of one queue: the best events that wait, in the order in which they are handed out.
//!
//! Memory holds a bounded number of places, the disk holds all of them. Exactness rests on one line, the *horizon*:
//! every ready event before it is in memory, every event at or behind it is on disk only. A better event is always on
//! this side of the line, so the first entry is the best one of the whole queue. When memory is drained, the keeper
//! reads on from the horizon.
//!
//! ```text
//!   first ──────────────────────► horizon ──────────────────► last
//!   in memory, all of them          on disk only (none when there is no horizon)
//! ```
//!
//! Pure and without waiting; called by [`super::queue`] under its lock. Nothing here fails.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bus::place::Place;
use crate::domain::event::Event;

/// The memory that bodies of waiting events may use, over all queues.
#[derive(Debug)]
pub(super) struct Cache {
    used: AtomicUsize,
    max: usize,
}

/// A body in memory, counted while it is there.
#[derive(Debug)]
pub(super) struct Body {
    event: Arc<Event>,
    bytes: usize,
    cache: Arc<Cache>,
}

impl Cache {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max })
    }

    /// Keeps a body while there is room; without room it stays on disk only.
    pub(super) fn keep(self: &Arc<Self>, event: &Arc<Event>, bytes: usize) -> Option<Body> {
        (self.used.load(Ordering::Relaxed) + bytes <= self.max).then(|| self.hold(event.clone(), bytes))
    }

    /// Keeps a body that is about to be handed out, room or not: the prefetch bounds these.
    pub(super) fn hold(self: &Arc<Self>, event: Arc<Event>, bytes: usize) -> Body {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Body { event, bytes, cache: self.clone() }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Body {
    pub(super) const fn event(&self) -> &Arc<Event> {
        &self.event
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.cache.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What is known of an event that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) retrycount: u32,
    pub(super) redelivered: bool,
    /// Absent when it must be read from disk first.
    pub(super) body: Option<Body>,
}

/// What stands first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Front {
    /// Nothing waits.
    Empty,
    /// The next places are on disk.
    BehindHorizon,
    /// The first event's body is on disk.
    WithoutBody,
    /// The first event can be handed out.
    Ready,
}

/// The ready index of one queue.
#[derive(Debug)]
pub(super) struct Window {
    entries: BTreeMap<Place, Waiting>,
    horizon: Option<Place>,
    /// While the keeper reads from disk: the first place that was left to the disk since it began, for the reading may
    /// have missed it.
    left: Option<Place>,
    loading: bool,
    /// Events up to this number may have been handed out before: by a former process, or before they left memory.
    doubtful_to: i64,
    max: usize,
}

impl Window {
    /// A window before any reading: all that the disk holds, up to number `last`, is behind the horizon.
    pub(super) fn new(max: usize, stored: bool, last: i64) -> Self {
        Self {
            entries: BTreeMap::new(),
            horizon: stored.then_some(Place::FIRST),
            left: None,
            loading: false,
            doubtful_to: last,
            max: max.max(1),
        }
    }

    /// Takes in an event that is ready and durable; behind the horizon it stays on disk.
    pub(super) fn insert(&mut self, place: Place, waiting: Waiting) {
        if self.horizon.is_some_and(|horizon| place >= horizon) {
            self.leave(place, &waiting);
            return;
        }
        self.entries.insert(place, waiting);
        if self.entries.len() > self.max
            && let Some((worst, waiting)) = self.entries.pop_last()
        {
            self.horizon = Some(worst);
            self.leave(worst, &waiting);
        }
    }

    fn leave(&mut self, place: Place, waiting: &Waiting) {
        if waiting.redelivered {
            self.doubtful_to = self.doubtful_to.max(place.seq);
        }
        if self.loading {
            self.left = Some(self.left.map_or(place, |left| left.min(place)));
        }
    }

    pub(super) fn front(&self) -> Front {
        match self.entries.first_key_value() {
            Some((_, waiting)) if waiting.body.is_some() => Front::Ready,
            Some(_) => Front::WithoutBody,
            None if self.horizon.is_some() => Front::BehindHorizon,
            None => Front::Empty,
        }
    }

    /// The first place in memory.
    pub(super) fn first(&self) -> Option<Place> {
        self.entries.first_key_value().map(|(place, _)| *place)
    }

    /// Takes the first event when its body is there.
    pub(super) fn pop(&mut self) -> Option<(Place, Waiting, Body)> {
        let first = self.entries.first_entry()?;
        first.get().body.as_ref()?;
        let (place, mut waiting) = first.remove_entry();
        let body = waiting.body.take()?;
        Some((place, waiting, body))
    }

    /// The first `max` places, those whose bodies are missing.
    pub(super) fn without_body(&self, max: usize) -> Vec<Place> {
        self.entries.iter().take(max).filter(|(_, waiting)| waiting.body.is_none()).map(|(place, _)| *place).collect()
    }

    /// Sets a body that was read; an event that has left memory meanwhile is not touched.
    pub(super) fn fill(&mut self, place: Place, body: Body) {
        if let Some(waiting) = self.entries.get_mut(&place) {
            waiting.body = Some(body);
        }
    }

    /// Forgets an event that cannot be handed out; whether it was there.
    pub(super) fn forget(&mut self, place: Place) -> bool {
        self.entries.remove(&place).is_some()
    }

    /// Begins to read on; answers from where and how much.
    pub(super) fn begin_loading(&mut self, chunk: usize) -> Option<(Place, usize)> {
        let from = self.horizon?;
        self.loading = true;
        self.left = None;
        Some((from, self.max.min(chunk)))
    }

    /// The reading failed; nothing is lost, for the horizon did not move.
    pub(super) const fn stop_loading(&mut self) {
        self.loading = false;
        self.left = None;
    }

    /// Takes in what was read: places with their retry counts, in order, all there is when `complete`. Those of `taken`
    /// are somebody's: in flight, or on their way in.
    pub(super) fn finish_loading(&mut self, read: &[(Place, u32)], complete: bool, taken: &HashSet<i64>) {
        let read_to = if complete { None } else { read.last().map(|(place, _)| place.next()).or(self.horizon) };
        self.horizon = match (read_to, self.left) {
            (Some(read_to), Some(left)) => Some(read_to.min(left)),
            (read_to, left) => read_to.or(left),
        };
        self.stop_loading();
        for (place, retrycount) in read {
            if taken.contains(&place.seq) || self.entries.contains_key(place) {
                continue;
            }
            let redelivered = *retrycount > 0 || place.seq <= self.doubtful_to;
            self.insert(*place, Waiting { retrycount: *retrycount, redelivered, body: None });
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::bus::place::Aging;

    /// Strictly by priority.
    fn place(rank: u8, seq: i64) -> Place {
        Aging::new(Duration::MAX).numbered(rank, seq)
    }

    fn ready(cache: &Arc<Cache>) -> Waiting {
        let event = Arc::new(Event::new("a".parse().unwrap(), "/t", serde_json::Value::Null));
        Waiting { retrycount: 0, redelivered: false, body: cache.keep(&event, 10) }
    }

    #[test]
    fn bodies_are_kept_while_there_is_room_and_counted_only_then() {
        let cache = Cache::new(25);
        let mut window = Window::new(100, false, 0);
        for seq in 1..=3 {
            window.insert(place(4, seq), ready(&cache));
        }
        assert_eq!(cache.used(), 20);
        assert_eq!(window.without_body(10), [place(4, 3)]);
        assert_eq!(window.pop().unwrap().0, place(4, 1));
        drop(window.pop());
        assert_eq!((cache.used(), window.front()), (0, Front::WithoutBody));
    }

    #[test]
    fn an_event_that_arrives_while_the_disk_is_read_is_not_missed() {
        let cache = Cache::new(1000);
        let mut window = Window::new(2, false, 0);
        for seq in 1..=3 {
            window.insert(place(4, seq), ready(&cache));
        }
        drop((window.pop(), window.pop()));
        assert_eq!(window.front(), Front::BehindHorizon);
        let (from, _) = window.begin_loading(10).unwrap();
        assert_eq!(from, place(4, 3));
        window.insert(place(4, 4), ready(&cache));
        window.finish_loading(&[(place(4, 3), 0)], true, &HashSet::new());
        assert!(window.forget(place(4, 3)));
        assert_eq!(window.front(), Front::BehindHorizon, "4 is on disk and known to be there");
    }

    #[test]
    fn what_was_handed_out_and_left_memory_comes_back_as_redelivered() {
        let cache = Cache::new(1000);
        let mut window = Window::new(1, false, 0);
        window.insert(place(4, 1), Waiting { redelivered: true, ..ready(&cache) });
        window.insert(place(0, 2), ready(&cache));
        assert_eq!(window.pop().unwrap().0, place(0, 2));
        let (from, _) = window.begin_loading(10).unwrap();
        window.finish_loading(&[(from, 0)], true, &HashSet::new());
        assert!(window.entries[&place(4, 1)].redelivered);
    }

    proptest! {
        /// Whatever arrives and leaves, and whenever the disk is read: always the best of all, never one twice.
        #[test]
        fn the_first_is_the_best_of_the_whole_queue(
            max in 1_usize..6,
            aging in 0_u64..30,
            acts in prop::collection::vec(prop::option::weighted(0.6, 0_u8..10), 1..120),
        ) {
            let cache = Cache::new(usize::MAX / 2);
            let mut window = Window::new(max, false, 0);
            let mut disk = BTreeSet::new();
            let aging = Aging::new(Duration::from_micros(aging));
            for (seq, act) in acts.into_iter().enumerate() {
                if let Some(rank) = act {
                    let place = aging.numbered(rank, seq as i64);
                    disk.insert(place);
                    window.insert(place, ready(&cache));
                } else {
                    if window.front() == Front::BehindHorizon {
                        let (from, limit) = window.begin_loading(3).unwrap();
                        let read: Vec<_> = disk.range(from..).take(limit).map(|place| (*place, 0)).collect();
                        window.finish_loading(&read, read.len() < limit, &HashSet::new());
                    }
                    if let Some(missing) = window.without_body(1).first() {
                        window.fill(*missing, ready(&cache).body.unwrap());
                    }
                    prop_assert_eq!(window.pop().map(|(place, ..)| place), disk.pop_first());
                }
                prop_assert!(window.len() <= max);
            }
        }
    }
}
