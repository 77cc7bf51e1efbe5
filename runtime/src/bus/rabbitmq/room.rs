//! Room in the queues: cheap while a queue is far from its limit, exact near it.
//!
//! The broker's own limit lets one too many in (3.10) and tells nobody which queue is full, so the publisher counts: what the
//! broker said at the last look, and what was published here since. Far from the limit that must do; near it each publisher looks
//! again, one after the other, and the next one waits until the event is in. What other nodes hold unacknowledged is not seen.
//!
//! The second half counts what waits in the shared ladder, by queue, as this process has put it there. Called by the bus.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A look at the broker is good for so long, far from the limit.
const LOOK_IS_FRESH: Duration = Duration::from_secs(5);

/// What is known of the room in each queue.
#[derive(Default)]
pub(super) struct Rooms {
    rooms: Mutex<HashMap<Arc<str>, Arc<Room>>>,
}

/// What is known of the room in one queue.
#[derive(Default)]
pub(super) struct Room {
    look: Mutex<Look>,
    /// Held by whoever publishes near the limit.
    pub(super) one_by_one: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default, Clone, Copy)]
struct Look {
    at: Option<Instant>,
    counted: u64,
    since: u64,
}

/// What to do before an event goes into a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is room.
    Plenty,
    /// There is room, but the last look is old.
    LookSometime,
    /// Look first.
    Near,
}

impl Rooms {
    pub(super) fn of(&self, queue: &Arc<str>) -> Arc<Room> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.entry(queue.clone()).or_default().clone()
    }
}

impl Room {
    fn look<T>(&self, act: impl FnOnce(&mut Look) -> T) -> T {
        act(&mut self.look.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts one more event, and says whether that can be done without looking.
    pub(super) fn enter(&self, limit: u64) -> Verdict {
        self.look(|look| {
            let Some(at) = look.at else { return Verdict::Near };
            if look.counted + look.since >= limit - limit / 4 {
                return Verdict::Near;
            }
            look.since += 1;
            if at.elapsed() < LOOK_IS_FRESH {
                return Verdict::Plenty;
            }
            // One of many looks; the others go on with what is known.
            look.at = Some(Instant::now());
            Verdict::LookSometime
        })
    }

    /// What was counted at the last look.
    pub(super) fn counted(&self) -> u64 {
        self.look(|look| look.counted)
    }

    /// The broker was looked at.
    pub(super) fn looked(&self, counted: u64) {
        self.look(|look| *look = Look { at: Some(Instant::now()), counted, since: 0 });
    }
}

/// What waits in the ladder, by queue: when each wait ends.
#[derive(Default)]
pub(super) struct Waits {
    queues: Mutex<HashMap<String, BTreeMap<Instant, u64>>>,
}

impl Waits {
    /// An event of a queue begins to wait.
    pub(super) fn begin(&self, queue: &str, wait: Duration) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = queues.entry(queue.to_owned()).or_default();
        *ends.entry(Instant::now() + wait).or_default() += 1;
        prune(ends);
    }

    /// How many events of a queue wait.
    pub(super) fn of(&self, queue: &str) -> u64 {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ends) = queues.get_mut(queue) else { return 0 };
        prune(ends);
        ends.values().sum()
    }
}

fn prune(ends: &mut BTreeMap<Instant, u64>) {
    *ends = ends.split_off(&Instant::now());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_far_from_its_limit_is_looked_at_now_and_then() {
        let room = Room::default();
        assert_eq!(room.enter(100), Verdict::Near, "nothing is known yet");
        room.looked(70);
        assert_eq!([room.enter(100), room.enter(100)], [Verdict::Plenty; 2]);
        tokio::time::advance(LOOK_IS_FRESH).await;
        assert_eq!([room.enter(100), room.enter(100)], [Verdict::LookSometime, Verdict::Plenty]);
        assert_eq!([room.enter(100), room.enter(100)], [Verdict::Plenty, Verdict::Near]);
        room.looked(0);
        assert_eq!([room.enter(3), room.enter(3)], [Verdict::Plenty; 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_counted_until_its_wait_is_over() {
        let waits = Waits::default();
        for seconds in [1, 1, 5] {
            waits.begin("q", Duration::from_secs(seconds));
        }
        assert_eq!((waits.of("q"), waits.of("other")), (3, 0));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(waits.of("q"), 1);
    }
}
