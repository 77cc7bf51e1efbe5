//! The embedded bus, told to be sick: away, silent, or confirming into the void.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use troupe_runtime::bus::embedded::EmbeddedBus;
use troupe_runtime::bus::{self, Bus, Consumer, DeadLetter, Error, Health, QueueSpec, Routing};
use troupe_runtime::domain::event::Event;
use troupe_runtime::sqlite;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// It answers that it is not there.
    Away,
    /// It does not answer.
    Silent,
    /// It takes everything and does not say so.
    Doubtful,
    /// It is well for so many more publishes, then silent.
    WellFor(u64),
    /// It says that the queue is full.
    QueueFull,
}

pub(super) struct SickBus {
    inner: Arc<EmbeddedBus>,
    mood: watch::Sender<Mood>,
    /// Publishes that were begun.
    begun: watch::Sender<u64>,
}

impl SickBus {
    /// A well one with the queue `q` for `t.#`.
    pub(super) async fn open(dir: &Path) -> Arc<Self> {
        let file = sqlite::Database::open(dir, &sqlite::Options::default()).await.unwrap();
        let inner = EmbeddedBus::open(file, bus::Options::default()).await.unwrap();
        let bindings = vec!["t.#".parse().unwrap()];
        inner.declare(QueueSpec { name: "q".to_owned(), bindings, single_active_consumer: false }).await.unwrap();
        Arc::new(Self { inner, mood: watch::Sender::new(Mood::Well), begun: watch::Sender::new(0) })
    }

    pub(super) fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub(super) async fn consumer(&self) -> Consumer {
        self.inner.consume("q", 1000).await.unwrap()
    }

    /// Waits until a publish hangs.
    pub(super) async fn hangs(&self) {
        self.mood.subscribe().wait_for(|mood| *mood == Mood::WellFor(0)).await.unwrap();
    }

    /// Waits until so many publishes were begun.
    pub(super) async fn has_begun(&self, publishes: u64) {
        self.begun.subscribe().wait_for(|begun| *begun >= publishes).await.unwrap();
    }

    async fn silent(&self) -> Error {
        // Until it is well; then the old line is cut.
        self.mood.subscribe().wait_for(|mood| *mood == Mood::Well).await.unwrap();
        Error::Unavailable("cut off".to_owned())
    }
}

#[async_trait]
impl Bus for SickBus {
    async fn declare(&self, queue: QueueSpec) -> Result<(), Error> {
        self.inner.declare(queue).await
    }

    async fn remove_queue(&self, queue: &str) -> Result<(), Error> {
        self.inner.remove_queue(queue).await
    }

    async fn publish(&self, event: Arc<Event>, routing: Routing) -> Result<usize, Error> {
        self.begun.send_modify(|begun| *begun += 1);
        let mut mood = Mood::Well;
        self.mood.send_modify(|now| {
            mood = *now;
            if let Mood::WellFor(left) = now {
                *left = left.saturating_sub(1);
            }
        });
        match mood {
            Mood::Well => self.inner.publish(event, routing).await,
            Mood::WellFor(left) if left > 0 => self.inner.publish(event, routing).await,
            Mood::Away => Err(Error::Unavailable("away".to_owned())),
            Mood::QueueFull => Err(Error::QueueFull { queue: "q".to_owned(), limit: 0 }),
            Mood::Silent | Mood::WellFor(_) => Err(self.silent().await),
            Mood::Doubtful => {
                self.inner.publish(event, routing).await?;
                Err(self.silent().await)
            }
        }
    }

    async fn send(&self, queue: &str, event: Arc<Event>) -> Result<(), Error> {
        self.inner.send(queue, event).await
    }

    async fn consume(&self, queue: &str, prefetch: usize) -> Result<Consumer, Error> {
        self.inner.consume(queue, prefetch).await
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Error> {
        self.inner.bury(letter).await
    }

    async fn dead_letters(&self, limit: usize, before: Option<&str>) -> Result<Vec<DeadLetter>, Error> {
        self.inner.dead_letters(limit, before).await
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>, Error> {
        self.inner.dead_letter(id).await
    }

    async fn replay(&self, id: &str) -> Result<Option<Event>, Error> {
        self.inner.replay(id).await
    }

    async fn purge(&self, id: &str) -> Result<bool, Error> {
        self.inner.purge(id).await
    }

    async fn health(&self) -> Result<Health, Error> {
        self.inner.health().await
    }
}
