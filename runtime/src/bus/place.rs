//! Where an event stands in its queue: by priority, then by age, and with every wait a little further ahead.
//!
//! Each priority is worth a time, the *aging*: an event of priority 5 goes before one of priority 4 unless that has waited for
//! longer than so. So nothing waits for ever, however much that is more urgent comes in. What counts is when an event came and
//! how urgent it is, and both never change: its place is fixed for as long as it waits, and any index can hold it.
//!
//! ```text
//! key = when it came + (9 - priority) x aging           the smallest goes first
//! ```
//!
//! The order that every adapter hands out in. Called by the adapters' queues; nothing here fails.

use std::time::Duration;

use chrono::Utc;

use crate::domain::event::Priority;

/// How many priorities there are.
pub(super) const RANKS: u8 = 10;

/// Where an event stands in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// When it would have come, in microseconds, had it the highest priority.
    key: i64,
    /// Its number; later events have higher ones.
    pub(super) seq: i64,
    /// 9 minus the priority.
    pub(super) rank: u8,
}

/// What a priority is worth, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aging(i64);

impl Aging {
    pub(super) fn new(aging: Duration) -> Self {
        Self(i64::try_from(aging.as_micros()).unwrap_or(i64::MAX / i64::from(RANKS)).min(i64::MAX / i64::from(RANKS)))
    }

    /// The place of an event that came at `since`, in microseconds since 1970.
    pub(super) const fn place(self, rank: u8, since: i64, seq: i64) -> Place {
        Place { key: since.saturating_add(self.ahead(rank)), seq, rank }
    }

    /// The place of an event whose number is the time when it came.
    pub(super) const fn numbered(self, rank: u8, seq: i64) -> Place {
        self.place(rank, seq, seq)
    }

    /// The lowest number of this rank that stands at `from` or behind it, where numbers are times.
    pub(super) fn first_seq(self, from: Place, rank: u8) -> i64 {
        let seq = from.key.saturating_sub(self.ahead(rank));
        if self.numbered(rank, seq) < from { seq.saturating_add(1) } else { seq }
    }

    const fn ahead(self, rank: u8) -> i64 {
        self.0.saturating_mul(rank as i64)
    }
}

impl Place {
    /// Before every event.
    pub(super) const FIRST: Self = Self { key: i64::MIN, seq: i64::MIN, rank: 0 };

    /// The first place behind this one.
    pub(super) const fn next(self) -> Self {
        Self { rank: self.rank.saturating_add(1), ..self }
    }
}

/// How many priorities go before this one.
pub(super) fn rank(priority: Priority) -> u8 {
    9 - u8::from(priority)
}

/// Now, in microseconds since 1970.
pub(super) fn now_us() -> i64 {
    Utc::now().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn at(priority: u8, since: i64, seq: i64) -> Place {
        Aging::new(Duration::from_mins(1)).place(rank(Priority::try_from(priority).unwrap()), since, seq)
    }

    #[test]
    fn the_urgent_go_first_and_the_older_before_the_younger() {
        let mut places = [at(0, 1, 1), at(9, 3, 3), at(9, 2, 2), at(9, 2, 1), at(5, 0, 0)];
        places.sort_unstable();
        assert_eq!(places, [at(9, 2, 1), at(9, 2, 2), at(9, 3, 3), at(5, 0, 0), at(0, 1, 1)]);
        assert!(Place::FIRST < places[0] && places[0].next() <= places[1]);
    }

    #[test]
    fn a_priority_is_worth_the_aging_and_no_more() {
        assert!(at(5, MINUTE - 1, 2) < at(4, 0, 1));
        assert!(at(5, MINUTE + 1, 2) > at(4, 0, 1));
        assert!(at(9, 9 * MINUTE - 1, 2) < at(0, 0, 1) && at(9, 9 * MINUTE + 1, 2) > at(0, 0, 1));
    }

    #[test]
    fn what_stands_behind_a_place_is_found_in_every_rank() {
        let aging = Aging::new(Duration::from_micros(10));
        let all = || (0..RANKS).flat_map(|rank| (0..200).map(move |seq| (rank, seq)));
        for (rank, seq) in all().step_by(7) {
            let from = aging.numbered(rank, seq);
            for (other, seq) in all() {
                assert_eq!(
                    aging.numbered(other, seq) >= from,
                    seq >= aging.first_seq(from, other),
                    "{from:?} {other} {seq}"
                );
            }
        }
        assert_eq!(aging.first_seq(Place::FIRST, 9), i64::MIN);
    }

    #[test]
    fn an_aging_beyond_all_time_is_strict_priority() {
        let aging = Aging::new(Duration::MAX);
        assert!(aging.place(0, now_us(), 9) < aging.place(1, 0, 1));
    }
}
