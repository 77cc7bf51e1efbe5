//! Which way an event goes: to the bus, or behind the others into the spool.
//!
//! ```text
//!             the bus fails or is slow                      few are left
//!   Direct ─────────────────────────────► Spooling ─────────────────────────► Handover
//!     ▲                                       ▲  the bus fails again, or takes too long │
//!     │                                       └─────────────────────────────────────────┤
//!     └──────────────────────────────────────────────────── none is left ───────────────┘
//! ```
//!
//! Direct means that the spool is empty: so an event never overtakes one that was answered before it. While anything is
//! spooled, events join it without asking the bus, for the drain asks for all of them; nobody waits the publish limit for
//! a bus that is known to be sick. Under a steady load the spool would never be found empty: so the last few are handed
//! over, during which newcomers wait for the few milliseconds that this takes. Pure bookkeeping, in memory; called by
//! [`super::Spool::publish`] and [`super::drain`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// To the bus.
    Direct,
    /// Into the spool.
    Spooling,
    /// Nowhere for a moment: the spool is about to be empty.
    Handover,
}

/// How the spool stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// Where events go.
    pub(super) mode: Mode,
    /// Events in the spool or on their way into it.
    pub(super) events: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Bytes that were moved aside.
    pub(super) isolated_bytes: u64,
    /// Why the bus does not take the next of them; `None` when it does, or was not asked yet.
    pub(super) bus_error: Option<String>,
    /// Since when.
    pub(super) failing_since: Option<Instant>,
    /// A queue that had no room, and its limit; since then the spool has not been empty.
    pub(super) full: Option<(String, u64)>,
}

/// The gate.
#[derive(Debug)]
pub(super) struct Gate {
    standing: watch::Sender<Standing>,
    bytes_max: u64,
}

/// A place in the spool that is not filled yet; it goes with the event to the disk. Dropped unfilled, it is given up.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    bytes: Option<u64>,
}

/// The spool has no room for another event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Gate {
    /// A gate before a spool that holds so much.
    pub(super) fn new(events: u64, bytes: u64, isolated_bytes: u64, bytes_max: u64) -> Self {
        let mode = if events == 0 { Mode::Direct } else { Mode::Spooling };
        let standing =
            Standing { mode, events, bytes, isolated_bytes, bus_error: None, failing_since: None, full: None };
        Self { standing: watch::Sender::new(standing), bytes_max }
    }

    /// How things stand.
    pub(super) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Told of every change.
    pub(super) fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Whether an event may go to the bus now; waits for the end of a handover, at most until `deadline`.
    pub(super) async fn is_direct(&self, deadline: Instant) -> bool {
        let mode = self.standing.borrow().mode;
        if mode != Mode::Handover {
            return mode == Mode::Direct;
        }
        let mut standing = self.watch();
        let over = timeout_at(deadline, standing.wait_for(|now| now.mode != Mode::Handover)).await;
        matches!(over, Ok(Ok(now)) if now.mode == Mode::Direct)
    }

    /// Waits until events go elsewhere than to the bus: what waits for the bus's answer then need not.
    pub(super) async fn turned(&self) {
        let mut standing = self.watch();
        if standing.wait_for(|now| now.mode != Mode::Direct).await.is_err() {
            // The sender is ours.
            std::future::pending::<()>().await;
        }
    }

    /// Takes a place in the spool: from now on others join it.
    pub(super) fn enter(self: &Arc<Self>, bytes: u64) -> Result<Place, Full> {
        let mut entered = false;
        self.standing.send_if_modified(|now| {
            if now.bytes + now.isolated_bytes + bytes > self.bytes_max {
                return false;
            }
            entered = true;
            now.events += 1;
            now.bytes += bytes;
            if now.mode == Mode::Direct {
                now.mode = Mode::Spooling;
            }
            true
        });
        if entered { Ok(Place { gate: Arc::clone(self), bytes: Some(bytes) }) } else { Err(Full) }
    }

    /// So much is out of the spool.
    pub(super) fn leave(&self, events: u64, bytes: u64) {
        self.standing.send_modify(|now| {
            now.events = now.events.saturating_sub(events);
            now.bytes = now.bytes.saturating_sub(bytes);
            if now.events == 0 {
                now.bytes = 0;
                now.mode = Mode::Direct;
                now.full = None;
            }
        });
    }

    /// So many bytes lie aside.
    pub(super) fn isolated(&self, bytes: u64) {
        self.standing.send_modify(|now| now.isolated_bytes = bytes);
    }

    /// The bus has said of the next event that its queue is full, or that it is something else.
    pub(super) fn finds(&self, full: Option<(String, u64)>) {
        self.standing.send_if_modified(|now| {
            let changed = now.full != full;
            now.full = full;
            changed
        });
    }

    /// The bus takes events again.
    pub(super) fn takes(&self) {
        self.standing.send_if_modified(|now| {
            now.failing_since = None;
            now.bus_error.take().is_some()
        });
    }

    /// The bus did not take the next event.
    pub(super) fn fails(&self, why: String) {
        self.standing.send_modify(|now| {
            now.failing_since = now.failing_since.or_else(|| Some(Instant::now()));
            now.bus_error = Some(why);
            if now.mode == Mode::Handover {
                now.mode = Mode::Spooling;
            }
        });
    }

    /// Lets nobody in for a moment, so that the last few leave an empty spool.
    pub(super) fn hand_over(&self) {
        self.standing.send_if_modified(|now| {
            let may = now.mode == Mode::Spooling && now.events > 0;
            if may {
                now.mode = Mode::Handover;
            }
            may
        });
    }

    /// Opens it again to everybody who would join the spool.
    pub(super) fn resume(&self) {
        self.standing.send_if_modified(|now| {
            let was = now.mode == Mode::Handover;
            if was {
                now.mode = Mode::Spooling;
            }
            was
        });
    }
}

impl Standing {
    /// For how long the bus has not taken the next event.
    pub(super) fn failing_for(&self) -> Option<Duration> {
        self.failing_since.map(|since| since.elapsed())
    }
}

impl Place {
    /// The event is on the disk.
    pub(super) fn fill(mut self) {
        self.bytes = None;
        // The drain may have asked for it while it was on its way.
        self.gate.standing.send_modify(|_| {});
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes {
            self.gate.leave(1, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate_of(events: u64, bytes: u64, isolated_bytes: u64) -> Arc<Gate> {
        Arc::new(Gate::new(events, bytes, isolated_bytes, 100))
    }

    fn gate() -> Arc<Gate> {
        gate_of(0, 0, 0)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_spooled_makes_the_others_follow_until_none_is_left() {
        let gate = gate();
        assert!(gate.is_direct(soon()).await);
        gate.enter(40).unwrap().fill();
        assert!(!gate.is_direct(soon()).await);
        gate.turned().await;
        gate.leave(1, 40);
        assert!(gate.is_direct(soon()).await);
        assert_eq!(gate.standing().bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_not_filled_is_given_up() {
        let gate = gate();
        drop(gate.enter(40).unwrap());
        assert!(gate.is_direct(soon()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_room_has_an_end_and_what_was_moved_aside_counts() {
        let gate = gate_of(1, 50, 30);
        assert_eq!(gate.enter(21).unwrap_err(), Full);
        gate.enter(20).unwrap().fill();
        gate.leave(1, 50);
        gate.isolated(80);
        assert_eq!(gate.enter(1).unwrap_err(), Full);
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_wait_for_a_handover_and_go_to_the_bus_after_it() {
        let gate = gate_of(2, 20, 0);
        gate.hand_over();
        let waits = async { gate.is_direct(soon()).await };
        let (direct, ()) = tokio::join!(waits, async {
            gate.leave(1, 10);
            gate.leave(1, 10);
        });
        assert!(direct);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handover_that_fails_or_lasts_sends_them_into_the_spool() {
        let gate = gate_of(1, 10, 0);
        gate.hand_over();
        let (direct, ()) = tokio::join!(gate.is_direct(soon()), async { gate.fails("away".into()) });
        assert!(!direct);
        assert_eq!((gate.standing().mode, gate.standing().bus_error.as_deref()), (Mode::Spooling, Some("away")));
        gate.takes();
        gate.hand_over();
        assert!(!gate.is_direct(soon()).await, "after its limit");
        gate.resume();
        assert_eq!(gate.standing().mode, Mode::Spooling);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_was_full_counts_as_full_until_the_spool_is_empty_or_sticks_at_something_else() {
        let gate = gate_of(2, 20, 0);
        let full = Some(("q".to_owned(), 5));
        gate.finds(full.clone());
        gate.fails("q is full".into());
        gate.takes();
        gate.leave(1, 10);
        assert_eq!(gate.standing().full, full, "others wait for the same room");
        gate.finds(None);
        assert_eq!(gate.standing().full, None);
        gate.finds(full);
        gate.leave(1, 10);
        assert_eq!(gate.standing().full, None);
    }
}
