//! The embedded bus: durable queues in the node's SQLite file, woken in process.
//!
//! The disk holds every event until it is settled; memory holds the best of each queue ([`window`]) and what is in
//! flight ([`queue`]). Every write goes through the file's group-commit writer, many events a statement. What must
//! not be left half done when a caller goes away (a commit and what memory knows of it) runs in a task of its own.
//!
//! ```text
//! publish ─► routes ─► one row a queue, committed ─► queue ─► consumer ─► delivery ─► acker ─► deleted, many at once
//!                                                     ▲ ▲
//!                       what memory has no room for ──┘ └── what has waited for its retry     (keeper)
//! ```
//!
//! Who calls: [`crate::ports`] opens it; everybody else knows the port. A disk that is full or does not answer makes
//! publishing fail with [`Error::Unavailable`] and lets acknowledgements wait; nothing that was confirmed is lost.

mod delivery;
#[cfg(test)]
mod interleavings;
mod keeper;
mod letters;
mod queue;
mod statements;
mod window;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::delivery::Ack;
use self::keeper::Errands;
use self::letters::{Bury, Purge, Replay};
use self::queue::{Cell, Queue};
use self::statements::{Declare, Forget, Put};
use self::window::{Cache, Window};
use super::handing::way;
use super::place::{Aging, Place, now_us, rank};
use super::routes::Routes;
use super::{Bus, Consumer, DeadLetter, Error, Health, Options, PREFETCH_MAX, QueueSpec, Routing, detached};
use crate::domain::event::Event;
use crate::domain::topic::TopicPattern;
use crate::sqlite::{self, Database};

/// Declarations that are under way at a time, at most.
const DECLARED_AT_ONCE: usize = 128;
/// How long a task waits after the disk refused, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Durable queues in the node's file. One per file.
pub struct EmbeddedBus {
    inner: Arc<Inner>,
    tasks: TaskTracker,
}

/// What the bus shares with its consumers, deliveries and tasks.
struct Inner {
    database: Database,
    options: Options,
    aging: Aging,
    known: Mutex<Known>,
    /// One declaration of a queue after the other, so that memory and disk see them in one order; those of different queues side
    /// by side, so that they share transactions. A queue's is found by its name.
    declaring: [tokio::sync::Mutex<()>; DECLARED_AT_ONCE],
    cache: Arc<Cache>,
    last_seq: AtomicI64,
    unroutable: AtomicU64,
    acks: mpsc::UnboundedSender<Ack>,
    errands: Errands,
    closed: CancellationToken,
}

/// The queues of the file.
#[derive(Default)]
struct Known {
    routes: Routes<Arc<Cell>>,
    by_id: HashMap<i64, Arc<Cell>>,
}

/// The one table between the file's errors and the bus's.
impl From<sqlite::Error> for Error {
    fn from(error: sqlite::Error) -> Self {
        match error {
            sqlite::Error::Full(_) | sqlite::Error::Unavailable(_) | sqlite::Error::Closed => {
                Self::Unavailable(error.to_string())
            }
            sqlite::Error::Statement(_)
            | sqlite::Error::Corrupt(_)
            | sqlite::Error::Directory { .. }
            | sqlite::Error::InUse(_)
            | sqlite::Error::Open { .. }
            | sqlite::Error::Migration { .. } => Self::Internal(error.to_string()),
        }
    }
}

impl EmbeddedBus {
    /// Takes up the queues in the file. Everything in them is ready: deliveries in flight were a former process's.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the file does not answer, [`Error::Internal`] when it cannot be understood.
    pub async fn open(database: Database, options: Options) -> Result<Arc<Self>, Error> {
        let stored = statements::stored(&database).await?;
        let cache = Cache::new(options.cache_bytes_max);
        let (acks, to_acker) = mpsc::unbounded_channel();
        let mut known = Known::default();
        for queue in stored.queues {
            let window = Window::new(options.index_events_max, queue.depth > 0, stored.last_seq);
            let state = Queue::new(window, cache.clone(), queue.depth, queue.single_active);
            known.set(&Arc::new(Cell::new(queue.id, queue.name, state)), queue.patterns);
        }
        let inner = Arc::new(Inner {
            database,
            aging: Aging::new(options.aging),
            options,
            known: Mutex::new(known),
            declaring: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            cache,
            last_seq: AtomicI64::new(stored.last_seq),
            unroutable: AtomicU64::new(0),
            acks,
            errands: Errands::default(),
            closed: CancellationToken::new(),
        });
        if let Some(due) = stored.next_due {
            inner.errands.due_at(due);
        }
        let tasks = TaskTracker::new();
        tasks.spawn(delivery::acker(inner.clone(), to_acker));
        tasks.spawn(keeper::keeper(inner.clone()));
        tasks.close();
        Ok(Arc::new(Self { inner, tasks }))
    }

    /// Ends every consumer and returns once all acknowledgements so far are durable. Publishing is refused from now on.
    pub async fn close(&self) {
        self.inner.stop();
        self.tasks.wait().await;
    }
}

impl Drop for EmbeddedBus {
    fn drop(&mut self) {
        self.inner.stop();
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn declare(&self, queue: QueueSpec) -> Result<(), Error> {
        self.inner.refuse_closed()?;
        let inner = self.inner.clone();
        detached(async move { inner.declare(queue).await }).await
    }

    async fn remove_queue(&self, queue: &str) -> Result<(), Error> {
        self.inner.refuse_closed()?;
        let (inner, queue) = (self.inner.clone(), queue.to_owned());
        detached(async move { inner.remove(&queue).await }).await
    }

    async fn publish(&self, event: Arc<Event>, routing: Routing) -> Result<usize, Error> {
        self.inner.refuse_closed()?;
        loop {
            let cells = self.inner.routes(|routes| routes.of(&event.topic));
            if cells.is_empty() {
                return match routing {
                    Routing::Optional => Ok(0),
                    Routing::Mandatory => {
                        self.inner.unroutable.fetch_add(1, Ordering::Relaxed);
                        Err(Error::Unroutable(event.topic.to_string()))
                    }
                };
            }
            match self.inner.put(&cells, event.clone()).await {
                // Removed since the routes were looked at, and the event is in none of the others.
                Err(Error::NoQueue(_)) => tokio::task::yield_now().await,
                put => return put.map(|()| cells.len()),
            }
        }
    }

    async fn send(&self, queue: &str, event: Arc<Event>) -> Result<(), Error> {
        self.inner.refuse_closed()?;
        let cell = self.inner.cell(queue)?;
        self.inner.put(&[cell], event).await
    }

    async fn consume(&self, queue: &str, prefetch: usize) -> Result<Consumer, Error> {
        self.inner.refuse_closed()?;
        let cell = self.inner.cell(queue)?;
        let prefetch = prefetch.clamp(1, PREFETCH_MAX);
        let (handing, deliveries) = way();
        let joined = self.inner.at(&cell, |state| (!state.is_gone()).then(|| state.join(handing, prefetch)));
        let consumer = joined.ok_or_else(|| Error::NoQueue(queue.to_owned()))?;
        let guard = Box::new(Guard { inner: self.inner.clone(), cell, consumer });
        Ok(Consumer { deliveries, guard })
    }

    async fn bury(&self, mut letter: DeadLetter) -> Result<(), Error> {
        letter.clip();
        Ok(self.inner.database.writer().submit(Bury(letter)).await?)
    }

    async fn dead_letters(&self, limit: usize, before: Option<&str>) -> Result<Vec<DeadLetter>, Error> {
        Ok(letters::list(&self.inner.database, limit, before).await?)
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>, Error> {
        Ok(letters::one(&self.inner.database, id).await?)
    }

    async fn replay(&self, id: &str) -> Result<Option<Event>, Error> {
        self.inner.refuse_closed()?;
        let Some(letter) = letters::one(&self.inner.database, id).await? else { return Ok(None) };
        self.inner.replay(letter).await
    }

    async fn purge(&self, id: &str) -> Result<bool, Error> {
        Ok(self.inner.database.writer().submit(Purge(id.to_owned())).await?)
    }

    async fn health(&self) -> Result<Health, Error> {
        let cells = self.inner.routes(|routes| routes.queues());
        let mut depths: Vec<(String, u64)> =
            cells.iter().map(|cell| (cell.name().to_owned(), cell.lock().depth())).collect();
        depths.sort_unstable();
        let dead_letters = letters::count(&self.inner.database).await?;
        Ok(Health {
            adapter: "embedded",
            depths,
            dead_letters,
            unroutable: self.inner.unroutable.load(Ordering::Relaxed),
            connection: None,
        })
    }
}

impl Known {
    fn set(&mut self, cell: &Arc<Cell>, patterns: Vec<TopicPattern>) {
        self.routes.set(cell, patterns);
        self.by_id.insert(cell.id(), cell.clone());
    }

    fn forget(&mut self, cell: &Arc<Cell>) {
        self.routes.remove(cell.name());
        self.by_id.remove(&cell.id());
    }
}

impl Inner {
    fn known<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn routes<T>(&self, act: impl FnOnce(&mut Routes<Arc<Cell>>) -> T) -> T {
        self.known(|known| act(&mut known.routes))
    }

    fn numbered(&self, id: i64) -> Option<Arc<Cell>> {
        self.known(|known| known.by_id.get(&id).cloned())
    }

    fn cell(&self, queue: &str) -> Result<Arc<Cell>, Error> {
        self.routes(|routes| routes.named(queue).cloned()).ok_or_else(|| Error::NoQueue(queue.to_owned()))
    }

    /// Does something to a queue, then hands out what can be handed out.
    fn at<T>(self: &Arc<Self>, cell: &Arc<Cell>, act: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = cell.lock();
        let answer = act(&mut queue);
        let gone = queue.hand_over(self, cell);
        let wants = queue.must_call();
        drop(queue);
        drop(gone);
        if wants {
            self.errands.call(cell);
        }
        answer
    }

    fn refuse_closed(&self) -> Result<(), Error> {
        if self.closed.is_cancelled() { Err(Error::Unavailable("the bus is closed".to_owned())) } else { Ok(()) }
    }

    fn stop(&self) {
        self.closed.cancel();
        for cell in self.routes(|routes| routes.queues()) {
            let gone = cell.lock().dismiss();
            drop(gone);
        }
    }

    /// What whoever declares or removes a queue holds meanwhile.
    fn turn(&self, queue: &str) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        queue.hash(&mut hasher);
        &self.declaring[hasher.finish() as usize % DECLARED_AT_ONCE]
    }

    async fn declare(&self, spec: QueueSpec) -> Result<(), Error> {
        let QueueSpec { name, bindings, single_active_consumer } = spec;
        let _one_by_one = self.turn(&name).lock().await;
        let (known, patterns) =
            self.routes(|routes| (routes.named(&name).cloned(), routes.patterns(&name).map(<[_]>::to_vec)));
        if let (Some(cell), Some(mut patterns)) = (&known, patterns) {
            // Each start declares everything again; what is so already costs no write.
            let mut wanted = bindings.clone();
            wanted.sort_unstable();
            wanted.dedup();
            patterns.sort_unstable();
            patterns.dedup();
            if wanted == patterns && cell.lock().single_active() == single_active_consumer {
                return Ok(());
            }
        }
        let operation =
            Declare { name: name.clone(), single_active: single_active_consumer, patterns: bindings.clone() };
        let id = self.database.writer().submit(operation).await?;
        let cell = known.unwrap_or_else(|| {
            let window = Window::new(self.options.index_events_max, false, 0);
            Arc::new(Cell::new(id, name, Queue::new(window, self.cache.clone(), 0, single_active_consumer)))
        });
        cell.lock().set_single_active(single_active_consumer);
        self.known(|known| known.set(&cell, bindings));
        Ok(())
    }

    /// Nothing may come in from the first look on, or an event could be confirmed and removed.
    async fn remove(&self, name: &str) -> Result<(), Error> {
        let _one_by_one = self.turn(name).lock().await;
        let cell = self.cell(name)?;
        let patterns = self.routes(|routes| routes.patterns(name).map(<[_]>::to_vec)).unwrap_or_default();
        cell.lock().give_up(name)?;
        self.known(|known| known.forget(&cell));
        let removed = self.database.writer().submit(Forget { queue: cell.id() }).await;
        if matches!(removed, Ok(true)) {
            return Ok(());
        }
        cell.lock().go_on();
        self.known(|known| known.set(&cell, patterns));
        removed?;
        let why = "events that cannot be read lie in it".to_owned();
        Err(Error::Kept { queue: name.to_owned(), why })
    }

    /// The number of an event: when it came, in microseconds, and higher than every number before.
    fn number(&self) -> i64 {
        let now = now_us();
        let after = |last: i64| now.max(last + 1);
        let last = self.last_seq.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        after(last.unwrap_or_else(|last| last))
    }

    /// Takes a place in each queue, or in none.
    fn reserve(self: &Arc<Self>, cells: &[Arc<Cell>], event: &Event) -> Result<Reserved, Error> {
        let limit = self.options.queue_events_max;
        let mut reserved = Reserved { inner: self.clone(), places: Vec::with_capacity(cells.len()) };
        for cell in cells {
            let place = self.aging.numbered(rank(event.priority), self.number());
            let mut queue = cell.lock();
            if queue.is_gone() {
                return Err(Error::NoQueue(cell.name().to_owned()));
            }
            if !queue.reserve(place, limit) {
                return Err(Error::QueueFull { queue: cell.name().to_owned(), limit });
            }
            reserved.places.push((cell.clone(), place));
        }
        Ok(reserved)
    }

    /// Makes the event durable in all of the queues, then lets them have it.
    async fn put(self: &Arc<Self>, cells: &[Arc<Cell>], event: Arc<Event>) -> Result<(), Error> {
        let body = self.options.body(&event)?;
        let reserved = self.reserve(cells, &event)?;
        let inner = self.clone();
        detached(async move {
            let bytes = body.len();
            inner.database.writer().submit(Put { rows: reserved.rows(), body }).await?;
            reserved.arrive(&event, bytes);
            Ok(())
        })
        .await
    }

    async fn replay(self: &Arc<Self>, letter: DeadLetter) -> Result<Option<Event>, Error> {
        let cell = self.cell(&letter.queue)?;
        let event = Arc::new(letter.event.again());
        let body = self.options.body(&event)?;
        let reserved = self.reserve(std::slice::from_ref(&cell), &event)?;
        let inner = self.clone();
        detached(async move {
            let bytes = body.len();
            let operation = Replay { id: letter.id, put: Put { rows: reserved.rows(), body } };
            if !inner.database.writer().submit(operation).await? {
                return Ok(None);
            }
            reserved.arrive(&event, bytes);
            Ok(Some(Event::clone(&event)))
        })
        .await
    }
}

/// Places of an event that is on its way in. Dropped before it has arrived, they are given up.
struct Reserved {
    inner: Arc<Inner>,
    places: Vec<(Arc<Cell>, Place)>,
}

impl Reserved {
    fn rows(&self) -> Vec<(i64, i64, u8)> {
        self.places.iter().map(|(cell, place)| (place.seq, cell.id(), place.rank)).collect()
    }

    /// The event is durable.
    fn arrive(mut self, event: &Arc<Event>, bytes: usize) {
        for (cell, place) in std::mem::take(&mut self.places) {
            self.inner.at(&cell, |queue| queue.arrive(place, event, bytes));
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        for (cell, place) in &self.places {
            self.inner.at(cell, |queue| queue.release(*place));
        }
    }
}

/// Ends a consumer when it is dropped.
struct Guard {
    inner: Arc<Inner>,
    cell: Arc<Cell>,
    consumer: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let gone = self.inner.at(&self.cell, |queue| queue.part(self.consumer));
        drop(gone);
    }
}

fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}
