//! Where an event stands in its queue: by priority, then by age. The order that every adapter hands out in.
//!
//! Called by the adapters' queues; nothing here fails.

use crate::domain::event::Priority;

/// Where an event stands in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// 9 minus the priority.
    pub(super) rank: u8,
    /// Its number; later events have higher ones.
    pub(super) seq: i64,
}

impl Place {
    /// Before every event.
    pub(super) const FIRST: Self = Self { rank: 0, seq: i64::MIN };

    pub(super) fn new(priority: Priority, seq: i64) -> Self {
        Self { rank: rank(priority), seq }
    }

    pub(super) const fn next(self) -> Self {
        Self { rank: self.rank, seq: self.seq.saturating_add(1) }
    }
}

/// How many priorities go before this one.
pub(super) fn rank(priority: Priority) -> u8 {
    9 - u8::from(priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urgent_go_first_and_the_older_before_the_younger() {
        let at = |priority: u8, seq| Place::new(Priority::try_from(priority).unwrap(), seq);
        let mut places = [at(0, 1), at(9, 3), at(9, 2), at(5, 0)];
        places.sort_unstable();
        assert_eq!(places, [at(9, 2), at(9, 3), at(5, 0), at(0, 1)]);
        assert!(Place::FIRST < places[0] && places[0].next() == places[1]);
    }
}
