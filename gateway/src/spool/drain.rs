//! The drain: what is spooled goes to the bus, in order, when the bus is there.
//!
//! ```text
//! oldest segment ─► closed and read ─► damage moved aside ─► a window of publishes ─► position saved ─► segment removed
//!                                                                 │ the bus fails
//!                                                                 └─► wait, longer each time ─► from the first unconfirmed
//! ```
//!
//! Events begin to be published in the order in which they were taken, a window of them side by side; the bus keeps the
//! order in which they begin. After a failure everything behind the last confirmed one is published again: what the bus
//! already has is doubled, and the inbox is unique by event id. Its own tries are the only probe of a sick bus. One tokio
//! task, started by [`super::Spool::begin`] and ended by [`super::Spool::stop`]; a panic in it is a bug: nothing drains
//! until the next start, which finds everything.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use troupe_runtime::bus::{self, Bus, DeadLetter, Routing};
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::event_id_from;

use super::folder::{Closed, Position};
use super::record::{self, Piece, Stray};
use super::writer::{Request, framed};
use super::{Counts, Options, Shared};

/// The first wait after a failure; doubles.
const WAIT_FIRST: Duration = Duration::from_millis(50);
/// The cause of a dead letter that the drain writes.
const UNROUTABLE: &str = "unroutable";

/// The drain.
pub(super) struct Drain {
    pub(super) shared: Arc<Shared>,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) stop: CancellationToken,
    /// The bus has taken the last event that it was offered.
    proven: bool,
    /// Since when it answers.
    answers_since: Mutex<Option<Instant>>,
}

/// An event on its way out.
struct Waiting {
    event: Arc<Event>,
    stray: Stray,
    end: usize,
    bytes: u64,
}

/// What became of one event.
enum Fate {
    Published,
    Dropped,
    Buried,
}

/// Why an event is still here.
enum Trouble {
    /// The bus does not take it.
    Away(String),
    /// It answers that no queue wants it, and has not answered for long enough to be believed.
    Early(String),
}

/// A segment, read.
struct Batch {
    number: u64,
    events: Vec<Waiting>,
    /// What is left to be told to the gate once the segment is over.
    events_left: u64,
    bytes_left: u64,
}

impl Drain {
    pub(super) fn new(shared: Arc<Shared>, bus: Arc<dyn Bus>, stop: CancellationToken) -> Self {
        Self { shared, bus, stop, proven: false, answers_since: Mutex::new(None) }
    }

    /// Drains until it is told to stop.
    pub(super) async fn run(mut self) {
        let mut standing = self.shared.gate.watch();
        let mut before = u64::MAX;
        let mut drained = self.shared.counts.drained.load(Ordering::Relaxed);
        loop {
            let due = standing.wait_for(|now| now.events > 0);
            let due = tokio::select! {
                () = self.stop.cancelled() => break,
                due = due => due.is_ok(),
            };
            if !due {
                break;
            }
            let Some(closed) = self.take().await else {
                // On its way to the disk, or refused by it.
                let next = standing.changed();
                tokio::select! {
                    () = self.stop.cancelled() => break,
                    _ = next => continue,
                }
            };
            self.shared.since_ms.store(closed.since_ms.unwrap_or_default(), Ordering::Relaxed);
            let Options { handover_events, window, .. } = self.shared.options;
            // Few are left, or no fewer than the last time: the load is steady, and waiting for a gap would be in vain.
            let few = closed.events <= handover_events || (closed.events <= window as u64 && closed.events >= before);
            if few && self.proven {
                self.shared.gate.hand_over();
            }
            before = closed.events;
            if !self.segment(closed).await {
                break;
            }
            if self.shared.gate.standing().events == 0 {
                self.shared.since_ms.store(0, Ordering::Relaxed);
                (before, self.proven) = (u64::MAX, false);
                let took_ms = self.answers().take().map(|since| since.elapsed().as_millis() as u64);
                let now = self.shared.counts.drained.load(Ordering::Relaxed);
                tracing::info!(component = "spool", events = now - drained, took_ms, "the spool is drained");
                drained = now;
            }
        }
        self.shared.gate.resume();
    }

    async fn take(&self) -> Option<Closed> {
        let (reply, answer) = oneshot::channel();
        self.shared.requests.send(Request::Take(reply)).await.ok()?;
        answer.await.ok().flatten()
    }

    /// Brings one segment to its end; `false` when told to stop before.
    async fn segment(&mut self, closed: Closed) -> bool {
        let mut wait = Wait::new(self.shared.options.retry_max);
        let mut batch = loop {
            match self.read(closed).await {
                Ok(batch) => break batch,
                Err(error) => {
                    let why = format!("the spool cannot be read: {error}");
                    if !self.pause(&mut wait, why).await {
                        return false;
                    }
                }
            }
        };
        let mut done = 0;
        while done < batch.events.len() {
            let (confirmed, failed) = self.publish(&mut batch, done).await;
            if confirmed > done {
                wait = Wait::new(self.shared.options.retry_max);
            }
            done = confirmed;
            if let Some(why) = failed
                && !self.pause(&mut wait, why).await
            {
                return false;
            }
            if self.stop.is_cancelled() && done < batch.events.len() {
                return false;
            }
        }
        // Before the file is removed: newcomers need not wait for the disk.
        self.shared.gate.leave(batch.events_left, batch.bytes_left);
        let folder = Arc::clone(&self.shared.folder);
        if let Err(error) = blocking(move || folder.remove(batch.number)).await {
            tracing::warn!(component = "spool", %error, "a drained segment stays; the next start removes or repeats it");
        }
        true
    }

    /// Reads a segment and moves aside what is no record.
    async fn read(&self, closed: Closed) -> Result<Batch, String> {
        let shared = Arc::clone(&self.shared);
        let read = move || {
            let bytes = shared.folder.read(closed.number)?;
            let mut batch = Batch {
                number: closed.number,
                events: Vec::new(),
                events_left: closed.events,
                bytes_left: closed.bytes,
            };
            let mut begin = closed.from;
            for piece in record::pieces(&bytes, closed.from) {
                let damaged = match piece {
                    Piece::Torn(_) => continue,
                    Piece::Damaged(range) => range,
                    Piece::Record(record) => {
                        let range = begin..record.end;
                        if let Ok(event) = serde_json::from_slice(record.payload) {
                            let (event, bytes) = (Arc::new(event), framed(record.payload.len()));
                            batch.events.push(Waiting { event, stray: record.stray, end: record.end, bytes });
                            begin = record.end;
                            continue;
                        }
                        range
                    }
                };
                begin = damaged.end;
                isolate(&shared, closed.number, &damaged, &bytes)?;
            }
            Ok(batch)
        };
        blocking(read).await.map_err(|error| error.to_string())
    }

    /// Publishes from `from` on; answers how many are confirmed from the beginning, and why it went no further.
    async fn publish(&mut self, batch: &mut Batch, from: usize) -> (usize, Option<String>) {
        let window = self.shared.options.window;
        let (mut next, mut done, mut saved, mut proven) = (from, from, from, self.proven);
        let mut in_flight = FuturesOrdered::new();
        let failed = loop {
            // A sick bus is tried with one event: all of a window would be doubled with each try.
            let side_by_side = if proven { window } else { 1 };
            while next < batch.events.len() && in_flight.len() < side_by_side && !self.stop.is_cancelled() {
                let Waiting { event, stray, .. } = &batch.events[next];
                // Polled for the first time in this order: that is when it begins.
                in_flight.push_back(self.one(Arc::clone(event), *stray));
                next += 1;
            }
            match in_flight.next().await {
                None => break None,
                Some(Err(Trouble::Early(why))) => {
                    self.answers().get_or_insert_with(Instant::now);
                    break Some(why);
                }
                Some(Err(Trouble::Away(why))) => {
                    *self.answers() = None;
                    break Some(why);
                }
                Some(Ok(fate)) => {
                    self.count(&fate, &batch.events[done].event);
                    self.answers().get_or_insert_with(Instant::now);
                    self.shared.gate.takes();
                    proven = true;
                    let bytes = batch.events[done].bytes;
                    done += 1;
                    let last = done == batch.events.len();
                    // The last one leaves with the segment, when nothing of it is to be told any more.
                    if !last {
                        batch.events_left -= 1;
                        batch.bytes_left = batch.bytes_left.saturating_sub(bytes);
                        self.shared.gate.leave(1, bytes);
                    }
                    if done - saved >= window && !last {
                        saved = done;
                        self.save(batch.number, batch.events[done - 1].end).await;
                    }
                }
            }
        };
        drop(in_flight);
        self.proven = proven && failed.is_none();
        if done > saved && done < batch.events.len() {
            self.save(batch.number, batch.events[done - 1].end).await;
        }
        (done, failed)
    }

    /// One event, confirmed, or why not.
    async fn one(&self, event: Arc<Event>, stray: Stray) -> Result<Fate, Trouble> {
        let limit = self.shared.options.confirm_timeout;
        let away = |error: bus::Error| Trouble::Away(error.to_string());
        let silent = |_| Trouble::Away(format!("no confirmation within {limit:?}"));
        match timeout(limit, self.bus.publish(Arc::clone(&event), Routing::Mandatory)).await.map_err(silent)? {
            Ok(_) => Ok(Fate::Published),
            // A bus that has just come back may not have heard of all queues yet.
            Err(error @ (bus::Error::Unroutable(_) | bus::Error::NoQueue(_))) if !self.is_settled() => {
                Err(Trouble::Early(format!("{error}, yet")))
            }
            Err(bus::Error::Unroutable(_) | bus::Error::NoQueue(_)) if stray == Stray::Drop => Ok(Fate::Dropped),
            Err(error @ (bus::Error::Unroutable(_) | bus::Error::NoQueue(_) | bus::Error::TooLarge { .. })) => {
                let buried = self.bus.bury(letter(&event, &error));
                timeout(limit, buried).await.map_err(silent)?.map_err(away)?;
                Ok(Fate::Buried)
            }
            Err(error) => {
                let full = match &error {
                    bus::Error::QueueFull { queue, limit } => Some((queue.clone(), *limit)),
                    _ => None,
                };
                self.shared.gate.finds(full);
                Err(away(error))
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.answers().is_some_and(|since| since.elapsed() >= self.shared.options.settle)
    }

    fn answers(&self) -> MutexGuard<'_, Option<Instant>> {
        self.answers_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, fate: &Fate, event: &Event) {
        let Counts { drained, dropped, buried, .. } = &self.shared.counts;
        let (counter, topic) = match fate {
            Fate::Published => (drained, None),
            Fate::Dropped => (dropped, Some("it is let go, as it would have been at the door")),
            Fate::Buried => (buried, Some("it is a dead letter now")),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(then) = topic {
            let (topic, trace_id) = (event.topic.as_str(), event.traceparent.trace_id());
            tracing::warn!(component = "spool", trace_id, topic, event_id = %event.id, "no queue takes a spooled event; {then}");
        }
    }

    async fn save(&self, segment: u64, offset: usize) {
        let folder = Arc::clone(&self.shared.folder);
        let position = Position { segment, offset: offset as u64 };
        if let Err(error) = blocking(move || folder.save(position)).await {
            tracing::warn!(component = "spool", %error, "the position is not saved; a restart now would repeat more");
        }
    }

    /// Waits before the next try; `false` when told to stop.
    async fn pause(&self, wait: &mut Wait, why: String) -> bool {
        let rest = wait.next();
        if self.shared.gate.standing().bus_error.is_none() {
            tracing::warn!(component = "spool", cause = why, "the spool does not drain; it tries again and again");
        }
        self.shared.gate.fails(why);
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(rest) => true,
        }
    }
}

fn isolate(shared: &Shared, number: u64, range: &Range<usize>, bytes: &[u8]) -> io::Result<()> {
    let path = shared.folder.isolate(number, range, &bytes[range.clone()])?;
    shared.counts.isolated.fetch_add(1, Ordering::Relaxed);
    shared.count_aside()?;
    tracing::error!(
        component = "spool",
        segment = number,
        offset = range.start,
        bytes = range.len(),
        kept_in = %path.display(),
        "a record of the spool is damaged; it is moved aside and the others go on"
    );
    Ok(())
}

/// What keeps an event that was taken and that nobody wants.
fn letter(event: &Event, error: &bus::Error) -> DeadLetter {
    let cause = if matches!(error, bus::Error::TooLarge { .. }) { "too_large" } else { UNROUTABLE };
    DeadLetter {
        // The same event again is the same letter.
        id: event_id_from(&["spool", &event.id]),
        queue: event.topic.as_str().to_owned(),
        event: event.clone(),
        cause: cause.to_owned(),
        attempts: 1,
        first_error: error.to_string(),
        last_error: error.to_string(),
        at: Utc::now(),
    }
}

/// Waits that grow.
struct Wait {
    next: Duration,
    max: Duration,
    begun: Instant,
}

impl Wait {
    fn new(max: Duration) -> Self {
        Self { next: WAIT_FIRST.min(max), max, begun: Instant::now() }
    }

    fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.max);
        tracing::debug!(component = "spool", ?wait, after = ?self.begun.elapsed(), "the drain waits");
        wait
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
