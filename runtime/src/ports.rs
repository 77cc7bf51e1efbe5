//! The ports of one node, opened: what actors and doors are given instead of a database, a broker or an HTTP client.
//!
//! ```text
//! no DATABASE_URL   state and bus in the one file of the data folder
//! DATABASE_URL      state on the server, the bus still in the file of the data folder
//! AMQP_URL          the bus in RabbitMQ, wherever the state is; a broker that is away is connected to when it is back
//! REDIS_URL         a read cache beside the one in the process; it is connected when it is first used
//! ```
//!
//! Opened once at start from the configuration; closed last. What cannot be opened is one clear error, and nothing is
//! half-started.

use std::path::Path;
use std::sync::Arc;

use crate::bus::embedded::EmbeddedBus;
use crate::bus::rabbitmq::{self, RabbitBus};
use crate::bus::tap::{Tapped, Taps};
use crate::bus::{self, Bus};
use crate::clock::{Clock, SystemClock};
use crate::fault::{Fault, Faulty};
use crate::group_commit::Written;
use crate::model::Models;
use crate::secret::SecretString;
use crate::store::tiers::Tiers;
use crate::store::{self, Stores};
use crate::telemetry::Metrics;
use crate::tool::Tools;
use crate::{postgres, sqlite};

/// The ports of one node.
pub struct Ports {
    /// What the node must remember.
    pub stores: Stores,
    /// Durable queues.
    pub bus: Arc<dyn Bus>,
    /// Where people watch what this node puts on the bus.
    pub taps: Taps,
    /// Language models.
    pub models: Models,
    /// Built-in tools.
    pub tools: Tools,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counters and gauges.
    pub metrics: Metrics,
    /// What is before the store: for reports and for flushing, for loads go through [`Ports::stores`].
    pub cache: Tiers,
    state: State,
    queues: Queues,
    file: sqlite::Database,
}

/// Where the state is kept.
enum State {
    /// In the file, beside the bus.
    File,
    /// On a server.
    Server(postgres::Database),
}

/// Where the bus is.
enum Queues {
    /// In the file of the data folder.
    Embedded(Arc<EmbeddedBus>),
    /// In a broker.
    RabbitMq(Arc<RabbitBus>),
}

/// Where the state is kept, and the limits of everything that is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The server that keeps the state; the file in the data folder when there is none.
    pub database_url: Option<SecretString>,
    /// The file.
    pub sqlite: sqlite::Options,
    /// The server's users.
    pub postgres: postgres::Options,
    /// The store.
    pub store: store::Options,
    /// The tiers before it: in the process, and in Redis where there is one.
    pub cache: store::tiers::Options,
    /// The broker that is the bus; the file in the data folder when there is none.
    pub amqp_url: Option<SecretString>,
    /// The queues: limits of every bus, and the broker's users.
    pub rabbitmq: rabbitmq::Options,
}

/// How the state is kept, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StateReport {
    /// `sqlite` or `postgres`.
    pub adapter: &'static str,
    /// The file, or the server without its password.
    pub place: String,
    /// What the one writer has written so far.
    pub written: Written,
    /// Writes that wait for the next transaction.
    pub waiting: usize,
}

/// What bringing the tables up to date came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Migrated {
    /// Which database, without its password.
    pub place: String,
    /// The last migration before; 0 = it was empty.
    pub from: i64,
    /// The last migration now.
    pub to: i64,
}

/// Why the ports could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    Sqlite(#[from] sqlite::Error),
    /// The server.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] bus::Error),
    /// The broker: its address, not that it is away.
    #[error(transparent)]
    RabbitMq(#[from] rabbitmq::OpenError),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The cache in Redis: its address, not that it is away.
    #[error(transparent)]
    Redis(#[from] store::redis_cache::Error),
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Sqlite(error) => error.fault(),
            Self::Postgres(error) => error.fault(),
            Self::Bus(error) => error.fault(),
            Self::RabbitMq(error) => error.fault(),
            Self::Store(error) => error.fault(),
            Self::Redis(error) => error.fault(),
        }
    }
}

impl Queues {
    fn port(&self) -> Arc<dyn Bus> {
        match self {
            Self::Embedded(bus) => bus.clone(),
            Self::RabbitMq(bus) => bus.clone(),
        }
    }
}

impl Ports {
    /// Opens what `options` name, and the embedded parts in `dir`.
    ///
    /// # Errors
    /// The first part that cannot be opened; what was opened before it is closed again.
    pub async fn open(
        dir: &Path,
        options: Options,
        models: Models,
        tools: Tools,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let file = sqlite::Database::open(dir, &options.sqlite).await?;
        // On the heap: whoever starts a node would carry it in every future.
        let opened = Box::pin(Self::open_on(file.clone(), options, (models, tools, metrics))).await;
        if opened.is_err() {
            file.close().await;
        }
        opened
    }

    async fn open_on(
        file: sqlite::Database,
        options: Options,
        (models, tools, metrics): (Models, Tools, Metrics),
    ) -> Result<Self, Error> {
        let (state, stores) = match &options.database_url {
            None => (State::File, store::sqlite::stores(file.clone(), options.store)),
            Some(url) => {
                let server = postgres::Database::open(url, &options.postgres).await?;
                (State::Server(server.clone()), store::postgres::stores(server, options.store))
            }
        };
        let counted = metrics.clone();
        let committed = move |operations: usize| counted.committed(operations);
        match &state {
            State::File => file.writer().on_commit(committed),
            State::Server(server) => server.writer().on_commit(committed),
        }
        let (stores, cache) = store::tiers::tiered(stores, &options.cache)?;
        let queues = match &options.amqp_url {
            None => Queues::Embedded(EmbeddedBus::open(file.clone(), options.rabbitmq.bus).await?),
            Some(url) => Queues::RabbitMq(RabbitBus::open(url, options.rabbitmq)?),
        };
        let taps = Taps::default();
        Ok(Self {
            stores,
            bus: Tapped::new(queues.port(), taps.clone()),
            taps,
            models,
            tools,
            clock: Arc::new(SystemClock),
            metrics,
            cache,
            state,
            queues,
            file,
        })
    }

    /// What the one writer of the state has written so far; the embedded bus beside it in the same file is counted too.
    #[must_use]
    pub fn written(&self) -> Written {
        match &self.state {
            State::File => self.file.writer().written(),
            State::Server(server) => server.writer().written(),
        }
    }

    /// How the state is kept.
    #[must_use]
    pub fn state(&self) -> StateReport {
        let written = self.written();
        match &self.state {
            State::File => {
                let (place, waiting) = (self.file.place(), self.file.writer().depth());
                StateReport { adapter: "sqlite", place, written, waiting }
            }
            State::Server(server) => {
                let (place, waiting) = (server.place().to_owned(), server.writer().depth());
                StateReport { adapter: "postgres", place, written, waiting }
            }
        }
    }

    /// Settles what was acknowledged and closes the databases.
    pub async fn close(&self) {
        match &self.queues {
            Queues::Embedded(bus) => bus.close().await,
            Queues::RabbitMq(bus) => bus.close().await,
        }
        if let State::Server(server) = &self.state {
            server.close().await;
        }
        self.file.close().await;
    }
}

/// Brings the tables of the state up to date and opens nothing else; two nodes may do so at once.
///
/// # Errors
/// The database cannot be reached, or was migrated by a newer binary.
pub async fn migrate(dir: &Path, options: &Options) -> Result<Migrated, Error> {
    let (place, (from, to)) = match &options.database_url {
        None => sqlite::Database::migrate(dir, &options.sqlite).await?,
        Some(url) => postgres::Database::migrate(url, &options.postgres).await?,
    };
    Ok(Migrated { place, from, to })
}
