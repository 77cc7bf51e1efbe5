//! Whose turn it is: instances in a ring, the ones that are down skipped.
//!
//! Called by the company for each step that is handed on; pure, so that a turn can be tested without an actor.

/// The ring of one agent's instances.
#[derive(Debug, Clone, Default)]
pub(super) struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// The next of `count` instances that is `live`; `None` when none is.
    pub(super) fn pick(&mut self, count: usize, live: impl Fn(usize) -> bool) -> Option<usize> {
        let picked = (0..count).map(|offset| (self.next + offset) % count).find(|&n| live(n))?;
        self.next = (picked + 1) % count;
        Some(picked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_turn() {
        let mut ring = RoundRobin::default();
        let turns: Vec<_> = (0..6).map(|_| ring.pick(3, |_| true).unwrap()).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn who_is_down_is_skipped_and_loses_nobody_else_s_turn() {
        let mut ring = RoundRobin::default();
        let turns: Vec<_> = (0..4).map(|_| ring.pick(3, |n| n != 1).unwrap()).collect();
        assert_eq!(turns, [0, 2, 0, 2]);
        assert_eq!(ring.pick(3, |_| false), None);
        assert_eq!(ring.pick(0, |_| true), None);
    }
}
