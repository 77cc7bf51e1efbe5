//! Port: what time it is.
//!
//! Everything that writes a date into a row, an event or a view asks a [`Clock`], so that a test can say what the date
//! is. Waiting is another matter: delays, time-outs and restart windows are monotonic and belong to tokio's clock,
//! which tests pause; a clock that an administrator sets back must not make a time-out longer.
//!
//! Called by whoever stamps something; handed out as `Arc<dyn Clock>`. It cannot fail.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

/// The date, in UTC.
pub trait Clock: Debug + Send + Sync {
    /// Now.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// A clock that stands still until it is moved; for tests and replays.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<DateTime<Utc>>,
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub const fn at(now: DateTime<Utc>) -> Self {
        Self { now: Mutex::new(now) }
    }

    /// Puts the clock to `now`, also backwards, as an administrator may.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Moves the clock forward. Stands still when the date would leave the calendar.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(later) = chrono::Duration::from_std(by).ok().and_then(|by| now.checked_add_signed(by)) {
            *now = later;
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
        let seen: Arc<dyn Clock> = clock.clone();
        assert_eq!(seen.now(), DateTime::UNIX_EPOCH);
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(seen.now().timestamp_millis(), 1_500);
        clock.set(DateTime::UNIX_EPOCH);
        assert_eq!(seen.now(), DateTime::UNIX_EPOCH);
    }

    #[test]
    fn a_manual_clock_does_not_leave_the_calendar() {
        let clock = ManualClock::at(DateTime::<Utc>::MAX_UTC);
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), DateTime::<Utc>::MAX_UTC);
    }

    #[test]
    fn the_system_clock_is_the_machines() {
        let (before, now, after) = (Utc::now(), SystemClock.now(), Utc::now());
        assert!(before <= now && now <= after, "{before} <= {now} <= {after}");
    }
}
