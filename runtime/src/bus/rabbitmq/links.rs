//! The connections that consume: as many as the queues need.
//!
//! Every queue that is consumed here has a channel, and a broker lets a connection have some two thousand of them. So a connection
//! takes a number of queues, and the next one begins another. The first is also the one that declares and asks. Called by the
//! bus when a queue is consumed for the first time; a connection that has no queue left stays for the next.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::link::Link;

/// The connections that consume.
pub(super) struct Links {
    /// Never empty.
    links: Mutex<Vec<Row>>,
    /// Queues that one of them takes.
    queues_max: usize,
}

/// A connection and how many queues it has.
struct Row {
    link: Arc<Link>,
    taken: Arc<AtomicUsize>,
}

/// A queue's place on a connection, free again when it is dropped.
pub(super) struct Seat {
    pub(super) link: Arc<Link>,
    taken: Arc<AtomicUsize>,
}

impl Links {
    pub(super) fn new(first: Arc<Link>, queues_max: usize) -> Self {
        let links = Mutex::new(vec![Row { link: first, taken: Arc::default() }]);
        Self { links, queues_max: queues_max.max(1) }
    }

    /// Takes a place; `another` makes a connection when all are full.
    pub(super) fn seat(&self, another: impl FnOnce() -> Arc<Link>) -> Seat {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let free = links.iter().position(|row| row.taken.load(Ordering::Relaxed) < self.queues_max);
        let index = free.unwrap_or_else(|| {
            links.push(Row { link: another(), taken: Arc::default() });
            links.len() - 1
        });
        let Row { link, taken } = &links[index];
        taken.fetch_add(1, Ordering::Relaxed);
        Seat { link: link.clone(), taken: taken.clone() }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|row| row.link.clone()).collect()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_connection_begins_when_all_are_full_and_free_places_are_taken_first() {
        let link = || Link::new("amqp://mq/".to_owned());
        let links = Links::new(link(), 2);
        let mut seats: Vec<Seat> = (0..5).map(|_| links.seat(link)).collect();
        assert_eq!(links.all().len(), 3);
        drop(seats.remove(0));
        seats.extend((0..2).map(|_| links.seat(link)));
        assert_eq!(links.all().len(), 3);
        seats.push(links.seat(link));
        assert_eq!(links.all().len(), 4);
    }
}
