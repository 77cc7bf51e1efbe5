//! Rows that were reported as unreadable, so that each is reported once and not at every look.
//!
//! One for each adapter; lists, the outbox and the search for orphans leave such rows out through it. Bounded: the ones
//! reported first are forgotten first, and reported again should somebody look.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::Error;

/// What was reported, up to a limit.
pub(super) struct Reported {
    rows: Mutex<Rows>,
    max: usize,
}

#[derive(Default)]
struct Rows {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Reported {
    /// Nothing yet; `max` rows are remembered.
    pub(super) fn new(max: usize) -> Self {
        Self { rows: Mutex::default(), max }
    }

    /// The row as it was read; nothing for one that cannot be, and `so` says once what becomes of it.
    pub(super) fn readable<T>(&self, row: Result<T, Error>, so: &str) -> Option<T> {
        row.inspect_err(|error| {
            if self.is_new(format!("{so}: {error}")) {
                tracing::error!(%error, "{so}");
            }
        })
        .ok()
    }

    fn is_new(&self, row: String) -> bool {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if !rows.known.insert(row.clone()) {
            return false;
        }
        rows.order.push_back(row);
        if rows.order.len() > self.max
            && let Some(oldest) = rows.order.pop_front()
        {
            rows.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Damage;

    #[test]
    fn a_row_is_new_once_until_it_is_forgotten() {
        let reported = Reported::new(2);
        let mut news = |row: &str| reported.is_new(row.to_owned());
        assert_eq!(["a", "a", "b", "a", "b"].map(&mut news), [true, false, true, false, false]);
        // The third pushes the first out.
        assert_eq!(["c", "b", "a"].map(&mut news), [true, false, true]);
    }

    #[test]
    fn what_can_be_read_is_handed_on() {
        let reported = Reported::new(2);
        assert_eq!(reported.readable(Ok(7), "it is left out"), Some(7));
        let damaged = || Err::<u8, _>(Error::Corrupt(Damage::of("tasks", "event: no JSON").at("task 1")));
        assert_eq!(reported.readable(damaged(), "it is left out"), None);
        assert!(!reported.is_new(format!("it is left out: {}", damaged().unwrap_err())));
        assert!(reported.is_new(format!("it is passed over: {}", damaged().unwrap_err())));
    }
}
