//! The ports of one node, opened: what actors and doors are given instead of a database, a broker or an HTTP client.
//!
//! Opened once at start from the configuration; closed last. What cannot be opened is one clear error, and nothing is
//! half-started.

use std::path::Path;
use std::sync::Arc;

use crate::bus::embedded::EmbeddedBus;
use crate::bus::{self, Bus};
use crate::clock::{Clock, SystemClock};
use crate::domain::step::Incarnation;
use crate::model::Models;
use crate::sqlite::{self, Database};
use crate::store::{self, Stores};
use crate::telemetry::Metrics;
use crate::tool::Tools;

/// The ports of one node.
pub struct Ports {
    /// What the node must remember.
    pub stores: Stores,
    /// Durable queues.
    pub bus: Arc<dyn Bus>,
    /// Language models.
    pub models: Models,
    /// Built-in tools.
    pub tools: Tools,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counters and gauges.
    pub metrics: Metrics,
    /// This life of the node.
    pub incarnation: Incarnation,
    embedded: Embedded,
}

/// The parts that only an embedded node has, to be closed in order.
struct Embedded {
    database: Database,
    bus: Arc<EmbeddedBus>,
}

/// Limits of the embedded parts.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The file.
    pub sqlite: sqlite::Options,
    /// The store.
    pub store: store::sqlite::Options,
    /// The read cache before it.
    pub cache: store::cache::Options,
    /// The queues.
    pub bus: bus::Options,
}

/// Why the ports could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    Sqlite(#[from] sqlite::Error),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] bus::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Ports {
    /// Opens the embedded parts in `dir` and begins a new life of the node called `name`.
    pub async fn embedded(
        dir: &Path,
        name: &str,
        options: Options,
        models: Models,
        tools: Tools,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let database = Database::open(dir, &options.sqlite).await?;
        let stores = store::sqlite::stores(database.clone(), options.store);
        let stores = store::cache::cached(stores, &options.cache);
        let bus = EmbeddedBus::open(database.clone(), options.bus).await?;
        let incarnation = stores.nodes.start(name).await?;
        let ports = Self {
            stores,
            bus: bus.clone(),
            models,
            tools,
            clock: Arc::new(SystemClock),
            metrics,
            incarnation,
            embedded: Embedded { database, bus },
        };
        Ok(ports)
    }

    /// What the one writer has written so far.
    #[must_use]
    pub fn written(&self) -> sqlite::writer::Written {
        self.embedded.database.writer().written()
    }

    /// Settles what was acknowledged and closes the file.
    pub async fn close(&self) {
        self.embedded.bus.close().await;
        self.embedded.database.close().await;
    }
}
