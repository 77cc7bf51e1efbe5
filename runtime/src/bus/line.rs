//! The consumers of one queue, served in turn, each within its prefetch; with a single active one, the eldest alone.
//!
//! Pure and without waiting: an adapter's queue holds one under its lock and asks whose turn it is. A way to a consumer that
//! is taken out may hold deliveries, and these call back when they are dropped: drop it after the lock.

use super::Delivery;
use super::handing::Handing;

/// What is to be dropped after the lock, for it may call back.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Gone {
    /// Ways to consumers that are served no more; deliveries may be on them.
    pub(super) ways: Vec<Handing>,
    /// What a consumer that went just then did not take.
    pub(super) deliveries: Vec<Delivery>,
}

/// The consumers of one queue.
#[derive(Debug)]
pub(super) struct Line {
    /// The eldest first.
    consumers: Vec<Served>,
    /// Whose turn it is.
    turn: usize,
    single_active: bool,
    last_id: u64,
}

/// Somebody who is served.
#[derive(Debug)]
struct Served {
    id: u64,
    way: Handing,
    /// Deliveries that it may still be given.
    credit: usize,
}

/// What became of an offer.
pub(super) enum Offer<'a> {
    /// It takes one, as consumer `id`; the credit for it is taken.
    Taken(&'a Handing, u64),
    /// It is gone.
    Closed(u64),
}

impl Line {
    pub(super) const fn new(single_active: bool) -> Self {
        Self { consumers: Vec::new(), turn: 0, single_active, last_id: 0 }
    }

    pub(super) const fn single_active(&self) -> bool {
        self.single_active
    }

    pub(super) const fn set_single_active(&mut self, single_active: bool) {
        self.single_active = single_active;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.consumers.is_empty()
    }

    /// Serves one more consumer; answers its number.
    pub(super) fn join(&mut self, way: Handing, prefetch: usize) -> u64 {
        self.last_id += 1;
        self.consumers.push(Served { id: self.last_id, way, credit: prefetch });
        self.last_id
    }

    /// Serves a consumer no more.
    #[must_use]
    pub(super) fn part(&mut self, consumer: u64) -> Option<Handing> {
        let index = self.consumers.iter().position(|served| served.id == consumer)?;
        Some(self.consumers.remove(index).way)
    }

    /// Serves nobody any more.
    pub(super) fn dismiss(&mut self) -> Gone {
        Gone { ways: self.consumers.drain(..).map(|served| served.way).collect(), deliveries: Vec::new() }
    }

    /// A consumer has settled one of its deliveries.
    pub(super) fn credit(&mut self, consumer: u64) {
        if let Some(served) = self.consumers.iter_mut().find(|served| served.id == consumer) {
            served.credit += 1;
        }
    }

    /// What all that are served may still be given.
    pub(super) fn credit_in_all(&self) -> usize {
        self.consumers.iter().take(self.eligible()).map(|served| served.credit).sum()
    }

    /// The next consumer in turn that may be given something.
    pub(super) fn next(&self) -> Option<usize> {
        let eligible = self.eligible();
        (0..eligible).map(|n| (self.turn + n) % eligible).find(|index| self.consumers[*index].credit > 0)
    }

    /// Offers the next delivery to whom [`Line::next`] has named.
    pub(super) fn offer(&mut self, index: usize) -> Offer<'_> {
        let served = &mut self.consumers[index];
        if served.way.is_closed() {
            return Offer::Closed(served.id);
        }
        served.credit -= 1;
        self.turn = index + 1;
        Offer::Taken(&served.way, served.id)
    }

    /// How many of the consumers, the eldest first, are served at all.
    fn eligible(&self) -> usize {
        if self.single_active { self.consumers.len().min(1) } else { self.consumers.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::handing::way;

    fn turns(line: &mut Line, count: usize) -> Vec<u64> {
        let mut served = Vec::new();
        for _ in 0..count {
            let Some(index) = line.next() else { break };
            let closed = match line.offer(index) {
                Offer::Taken(_, id) => {
                    served.push(id);
                    None
                }
                Offer::Closed(id) => Some(id),
            };
            drop(closed.and_then(|id| line.part(id)));
        }
        served
    }

    #[test]
    fn everybody_has_its_turn_within_its_credit() {
        let mut line = Line::new(false);
        let ((one, _r1), (two, _r2)) = (way(), way());
        let (one, two) = (line.join(one, 3), line.join(two, 1));
        assert_eq!(turns(&mut line, 9), [one, two, one, one]);
        line.credit(two);
        assert_eq!((line.credit_in_all(), turns(&mut line, 9)), (1, vec![two]));
    }

    #[test]
    fn the_eldest_alone_is_served_until_it_is_gone() {
        let mut line = Line::new(true);
        let ((one, r1), (two, _r2)) = (way(), way());
        let (one, two) = (line.join(one, 2), line.join(two, 1));
        assert_eq!(turns(&mut line, 9), [one, one]);
        line.credit(one);
        drop(r1);
        assert_eq!(turns(&mut line, 9), [two]);
    }
}
