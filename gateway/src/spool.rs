//! What stands between the doors and the bus: an event that the bus does not take now is kept on the disk, and taken.
//!
//! ```text
//! door ─► Spool::publish ─┬─ Direct ────► bus, within publish_timeout ─► published
//!                         │                 │ away, slow, in doubt
//!                         └─ Spooling ──────┴─► disk, synced ─► taken; drained in order when the bus is there
//!                                                  │ full, broken
//!                                                  └─► refused, for now neither takes it
//! ```
//!
//! What the bus refuses for good (no queue, too large) and what it refuses because a queue is full is the publisher's to
//! know and is never spooled. An event that was spooled is on the disk before anybody is told that it is taken, and is
//! published at least once: after a time-out, a failure or a crash perhaps twice, which the inbox collapses by its id.
//! The form of the files and the reasons are in docs/adr/0019.
//!
//! The node opens it, the Slack door and the API publish through it, health and metrics look at it. A disk that fails is an
//! error of each append and no more; the spool owns its two tokio tasks and ends them in [`Spool::stop`].

mod drain;
mod folder;
mod gate;
mod record;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::Utc;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use troupe_runtime::bus::{self, Bus, Routing};
use troupe_runtime::domain::event::Event;
use troupe_runtime::fault::{Fault, Faulty};

use self::drain::Drain;
use self::folder::Folder;
use self::gate::Gate;
use self::writer::{Pen, Request};

pub use self::folder::{OpenError, look};
pub use self::record::Stray;

/// Where the spool lies in the data folder.
pub const FOLDER_NAME: &str = "spool";

/// What is said of a drain that a bug has ended.
const FALLEN: &str = "the drain has fallen; restart the node, which takes it up";

/// Limits of the spool.
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest wait for the bus's confirmation at the door. Slack allows 3 s for everything.
    pub publish_timeout: Duration,
    /// Longest wait for the disk.
    pub append_timeout: Duration,
    /// Bytes that it may hold, what was moved aside included; the files have up to one segment more.
    pub bytes_max: u64,
    /// A segment of so many bytes is closed.
    pub segment_bytes: u64,
    /// Appends that wait for the disk; the next ones wait for a place among them.
    pub appends_max: usize,
    /// Appends that share a sync.
    pub batch_max: usize,
    /// Events that are published side by side when it drains, and that a restart repeats at most.
    pub window: usize,
    /// So few events left are handed over while newcomers wait.
    pub handover_events: u64,
    /// Longest wait for the bus's confirmation when it drains.
    pub confirm_timeout: Duration,
    /// Longest wait between two tries of a bus that takes nothing.
    pub retry_max: Duration,
    /// How long the bus must have answered before it is believed that no queue wants an event.
    pub settle: Duration,
    /// Largest event, in bytes of JSON; the bus's limit.
    pub event_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            publish_timeout: Duration::from_secs(1),
            append_timeout: Duration::from_secs(1),
            bytes_max: 1024 * 1024 * 1024,
            segment_bytes: 4 * 1024 * 1024,
            appends_max: 4096,
            batch_max: 256,
            window: 256,
            handover_events: 16,
            confirm_timeout: Duration::from_secs(5),
            retry_max: Duration::from_secs(1),
            settle: Duration::from_secs(5),
            event_bytes_max: 1024 * 1024,
        }
    }
}

/// How an event was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The bus has it, in so many queues.
    Published(usize),
    /// The disk has it; it is published when the bus is there.
    Spooled,
}

/// Why an event was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The bus answered that it does not want it.
    #[error(transparent)]
    Bus(#[from] bus::Error),
    /// Neither the bus nor the disk takes it now.
    #[error("{bus}; and it cannot be kept until then: {spool}")]
    Neither {
        /// What is with the bus.
        bus: String,
        /// What is with the spool.
        spool: Failure,
    },
}

/// Why the disk did not take an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It holds what it may.
    #[error("the spool is full (spool.bytes_max = {0})")]
    Full(u64),
    /// The disk is full or broken.
    #[error("the spool cannot be written: {0}")]
    Disk(String),
    /// The disk does not answer.
    #[error("the spool was not written within spool.append_timeout = {0:?}")]
    Slow(Duration),
    /// The node is stopping.
    #[error("the spool is closed")]
    Closed,
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Bus(error) => error.fault(),
            Self::Neither { .. } => Fault::transient(),
        }
    }
}

/// How the spool stands, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Events that wait.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What it may hold.
    pub bytes_max: u64,
    /// When the oldest of them that is being drained was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<chrono::DateTime<Utc>>,
    /// Files with damaged records that wait for a person.
    pub isolated: u64,
    /// Why the bus does not take the next event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus_error: Option<String>,
    /// For how many seconds it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck_seconds: Option<u64>,
    /// Why the last append failed; none when it went well, or when what was full is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append_error: Option<String>,
}

/// What the spool has done since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events that were written.
    pub spooled: AtomicU64,
    /// Spooled events that the bus has.
    pub drained: AtomicU64,
    /// Spooled events that no queue wanted and that were let go.
    pub dropped: AtomicU64,
    /// Spooled events that no queue wanted and that are dead letters.
    pub buried: AtomicU64,
    /// Damaged records that were moved aside.
    pub isolated: AtomicU64,
    /// Appends that failed: nobody was told that these events are taken.
    pub failed: AtomicU64,
}

/// The spool of one node. Cheap to clone.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
    bus: Arc<dyn Bus>,
    tasks: Arc<Tasks>,
}

/// What the doors and the drain share.
struct Shared {
    options: Options,
    gate: Arc<Gate>,
    counts: Counts,
    folder: Arc<Folder>,
    requests: mpsc::Sender<Request>,
    /// When the first event of the segment that is drained was taken; 0 when none is.
    since_ms: AtomicU64,
    isolated_files: AtomicU64,
    append_error: Mutex<Option<Failure>>,
}

impl Shared {
    /// Counts what lies aside: a person may have taken something away.
    fn count_aside(&self) -> std::io::Result<()> {
        let (files, bytes) = self.folder.aside()?;
        self.isolated_files.store(files, Ordering::Relaxed);
        self.gate.isolated(bytes);
        Ok(())
    }
}

/// The tokio tasks of the spool.
struct Tasks {
    stop: CancellationToken,
    drain: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Spool {
    /// Opens the spool in `dir` and takes stock of what a former life has left; nothing is drained before
    /// [`Spool::begin`].
    ///
    /// # Errors
    /// [`OpenError`]: what was accepted may lie there, so a node does not start without it.
    pub async fn open(dir: &Path, bus: Arc<dyn Bus>, options: Options) -> Result<Self, OpenError> {
        let (place, dir) = (dir.to_owned(), dir.to_owned());
        let opened = tokio::task::spawn_blocking(move || Folder::open(&dir)).await;
        let (folder, left) = opened.map_err(|error| {
            let cause = std::io::Error::other(error);
            OpenError::Unreadable { path: place.clone(), cause }
        })??;
        let folder = Arc::new(folder);
        let (events, bytes) = left.segments.iter().fold((0, 0), |(e, b), closed| (e + closed.events, b + closed.bytes));
        if events > 0 || left.torn_bytes > 0 || left.isolated.0 > 0 {
            let (isolated, torn_bytes) = (left.isolated.0, left.torn_bytes);
            tracing::warn!(component = "spool", events, bytes, isolated, torn_bytes, "a former life has left events");
        }
        let (requests, asked) = mpsc::channel(options.appends_max.max(1));
        let limits = writer::Options { segment_bytes: options.segment_bytes, batch_max: options.batch_max.max(1) };
        let pen = Pen::new(Arc::clone(&folder), limits, left.segments, left.next);
        // Ends by itself when nobody can ask any more: it holds nothing that was not told.
        tokio::spawn(writer::run(pen, asked));
        let shared = Shared {
            gate: Arc::new(Gate::new(events, bytes, left.isolated.1, options.bytes_max)),
            options,
            counts: Counts::default(),
            folder,
            requests,
            since_ms: AtomicU64::new(0),
            isolated_files: AtomicU64::new(left.isolated.0),
            append_error: Mutex::new(None),
        };
        let tasks = Tasks { stop: CancellationToken::new(), drain: Mutex::new(None) };
        Ok(Self { shared: Arc::new(shared), bus, tasks: Arc::new(tasks) })
    }

    /// Begins to drain. Called once, when the queues are declared: before that everything would be unroutable.
    pub fn begin(&self) {
        let (shared, bus, stop) = (Arc::clone(&self.shared), Arc::clone(&self.bus), self.tasks.stop.clone());
        let drain = tokio::spawn(Drain::new(shared, bus, stop).run());
        *self.tasks.drain.lock().unwrap_or_else(PoisonError::into_inner) = Some(drain);
    }

    /// Publishes an event, or keeps it until it can be; `stray` is what becomes of it should no queue want it then.
    ///
    /// Cancelling leaves open whether it was taken.
    ///
    /// # Errors
    /// [`Error::Bus`] when the bus does not want it, [`Error::Neither`] when neither takes it now.
    pub async fn publish(&self, event: Arc<Event>, stray: Stray) -> Result<Taken, Error> {
        let deadline = Instant::now() + self.shared.options.publish_timeout;
        let mut bus_says = None;
        if self.shared.gate.is_direct(deadline).await {
            match self.direct(&event, deadline).await {
                Ok(queues) => return Ok(Taken::Published(queues)),
                Err(Doubt::Refused(error)) => return Err(error.into()),
                Err(Doubt::Unsure(why)) => bus_says = Some(why),
            }
        }
        let spool = match self.keep(&event, stray).await {
            Ok(()) => return Ok(Taken::Spooled),
            Err(Unkept::TooLarge(error)) => return Err(error.into()),
            Err(Unkept::Failed(failure)) => failure,
        };
        let bus = match bus_says.or_else(|| self.shared.gate.standing().bus_error) {
            Some(why) => why,
            // The bus takes what is spooled: out of turn is better than not at all.
            None => {
                match self.direct(&event, deadline.max(Instant::now() + self.shared.options.publish_timeout / 2)).await
                {
                    Ok(queues) => return Ok(Taken::Published(queues)),
                    Err(Doubt::Refused(error)) => return Err(error.into()),
                    Err(Doubt::Unsure(why)) => why,
                }
            }
        };
        Err(Error::Neither { bus, spool })
    }

    /// Whether there is room for another event of this queue, as far as the spool knows: for a door whose caller can wait.
    ///
    /// What waits in the spool for a full queue holds up all that comes after it. One more behind it helps nobody.
    ///
    /// # Errors
    /// [`bus::Error::QueueFull`] from when the drain has found the queue full until the spool is empty, or waits for
    /// something else.
    pub fn has_room(&self, queue: &str) -> Result<(), bus::Error> {
        match self.shared.gate.standing().full {
            Some((full, limit)) if full == queue => Err(bus::Error::QueueFull { queue: full, limit }),
            _ => Ok(()),
        }
    }

    async fn direct(&self, event: &Arc<Event>, deadline: Instant) -> Result<usize, Doubt> {
        let limit = self.shared.options.publish_timeout;
        let publishing = timeout_at(deadline, self.bus.publish(Arc::clone(event), Routing::Mandatory));
        let was_direct = self.shared.gate.standing().mode == gate::Mode::Direct;
        let answer = tokio::select! {
            biased;
            answer = publishing => answer,
            // Another event has found it out: nobody else needs to wait for the limit.
            () = self.shared.gate.turned(), if was_direct => {
                return Err(Doubt::Unsure("the bus does not answer".to_owned()));
            }
        };
        match answer {
            Ok(Ok(queues)) => Ok(queues),
            Ok(Err(error @ bus::Error::Unavailable(_))) => Err(Doubt::Unsure(error.to_string())),
            Ok(Err(error)) => Err(Doubt::Refused(error)),
            Err(_) => Err(Doubt::Unsure(format!("the bus has not confirmed within {limit:?}"))),
        }
    }

    async fn keep(&self, event: &Event, stray: Stray) -> Result<(), Unkept> {
        let payload = serde_json::to_vec(event)
            .map_err(|error| Unkept::TooLarge(bus::Error::Internal(format!("event: {error}"))))?;
        let limit = self.shared.options.event_bytes_max;
        if payload.len() > limit {
            return Err(Unkept::TooLarge(bus::Error::TooLarge { bytes: payload.len(), limit }));
        }
        let kept = self.append(payload, stray).await;
        let mut last = self.shared.append_error.lock().unwrap_or_else(PoisonError::into_inner);
        match kept {
            Ok(()) => {
                self.shared.counts.spooled.fetch_add(1, Ordering::Relaxed);
                *last = None;
                Ok(())
            }
            Err(failure) => {
                self.shared.counts.failed.fetch_add(1, Ordering::Relaxed);
                if last.is_none() {
                    tracing::error!(component = "spool", cause = %failure, "an event is not kept");
                }
                *last = Some(failure.clone());
                Err(Unkept::Failed(failure))
            }
        }
    }

    async fn append(&self, payload: Vec<u8>, stray: Stray) -> Result<(), Failure> {
        let Options { append_timeout, bytes_max, .. } = self.shared.options;
        let place = self.shared.gate.enter(writer::framed(payload.len())).map_err(|_| Failure::Full(bytes_max))?;
        let at_ms = Utc::now().timestamp_millis() as u64;
        let writing = async {
            let (reply, answer) = oneshot::channel();
            let append = Request::Append { at_ms, stray, payload, place, reply };
            self.shared.requests.send(append).await.map_err(|_| Failure::Closed)?;
            answer.await.map_err(|_| Failure::Closed)?.map_err(Failure::Disk)
        };
        timeout(append_timeout, writing).await.unwrap_or(Err(Failure::Slow(append_timeout)))
    }

    /// How it stands.
    #[must_use]
    pub fn report(&self) -> Report {
        let standing = self.shared.gate.standing();
        let fell = !self.tasks.stop.is_cancelled() && {
            let drain = self.tasks.drain.lock().unwrap_or_else(PoisonError::into_inner);
            drain.as_ref().is_some_and(JoinHandle::is_finished)
        };
        let failure = self.shared.append_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What was full and is empty has room again, though nothing has needed it yet.
        let failure = failure.filter(|failure| standing.events > 0 || !matches!(failure, Failure::Full(_)));
        let since = self.shared.since_ms.load(Ordering::Relaxed);
        Report {
            events: standing.events,
            bytes: standing.bytes,
            bytes_max: self.shared.options.bytes_max,
            oldest: (since > 0).then(|| chrono::DateTime::from_timestamp_millis(since as i64)).flatten(),
            isolated: self.shared.isolated_files.load(Ordering::Relaxed),
            stuck_seconds: standing.failing_for().map(|time| time.as_secs()),
            bus_error: if fell { Some(FALLEN.to_owned()) } else { standing.bus_error },
            append_error: failure.map(|failure| failure.to_string()),
        }
    }

    /// How it stands, with what lies aside counted anew; for whoever may wait for the disk.
    pub async fn examined(&self) -> Report {
        if self.shared.isolated_files.load(Ordering::Relaxed) > 0 {
            let shared = Arc::clone(&self.shared);
            // A folder that cannot be listed leaves the last count.
            tokio::task::spawn_blocking(move || shared.count_aside().ok()).await.ok();
        }
        self.report()
    }

    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Stops to drain; what is left is drained by the next life. Events that are on their way out are waited for, at most
    /// `limit`.
    pub async fn stop(&self, limit: Duration) {
        self.tasks.stop.cancel();
        let drain = self.tasks.drain.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut drain) = drain else { return };
        match timeout(limit, &mut drain).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(component = "spool", %error, "the drain fell; the next start goes on"),
            Err(_) => drain.abort(),
        }
        let events = self.shared.gate.standing().events;
        if events > 0 {
            tracing::warn!(component = "spool", events, "the spool is not empty; the next start drains it");
        }
    }
}

/// Why the bus does not have an event.
enum Doubt {
    /// It said so, and would say so again.
    Refused(bus::Error),
    /// It is away, or it may have it.
    Unsure(String),
}

/// Why the disk does not have an event.
enum Unkept {
    TooLarge(bus::Error),
    Failed(Failure),
}

#[cfg(test)]
mod tests;
