//! Opening the bus: its limits, its address, its tasks; and a look at a broker for `troupe doctor`.
//!
//! An address that is none, or certificates that cannot be read, are errors; a broker that is away is none.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::letters::STREAM;
use super::link::{Link, Target, connect};
use super::links::Links;
use super::log::Log;
use super::publisher::Publisher;
use super::{Inner, RabbitBus, topology};
use crate::fault::{Fault, Faulty};
use crate::retry::{Backoff, BackoffOptions};
use crate::secret::{ExposeSecret as _, SecretString};

/// Limits of the adapter.
#[derive(Debug, Clone)]
pub struct Options {
    /// Limits of every bus.
    pub bus: crate::bus::Options,
    /// Time that an event has to be confirmed.
    pub publish_timeout: Duration,
    /// Events that await their confirm at once.
    pub publish_window: usize,
    /// Events that are being published, those that wait for their turn included; more are refused.
    pub publishes_max: usize,
    /// Largest frame of the connection that publishes, in bytes. The client library has 64 of them as its buffers.
    pub publish_frame_bytes: u32,
    /// Largest frame of the connections that consume, in bytes. A stranger's headers come in one frame, as large as the broker has let
    /// it be; a larger one ends the connection. Named, the buffers are taken when they are needed: a size that the broker names is
    /// written full of zeros first, and a broker without a limit would name 4 GiB.
    pub consume_frame_bytes: u32,
    /// Events of one queue that the broker hands over ahead of its consumers, for the most urgent to go first.
    pub lookahead: u16,
    /// Queues that one connection consumes; more begin another one.
    pub queues_per_connection: usize,
    /// How long the look-ahead may take to come in before the first hand-out.
    pub gather_timeout: Duration,
    /// How long the look-ahead is kept after the last consumer of a queue has left.
    pub linger: Duration,
    /// Time that the broker has to answer a question.
    pub answer_timeout: Duration,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Waits between two tries to connect.
    pub backoff: Backoff,
    /// Distance of heartbeats; a connection that says nothing for two of them is lost.
    pub heartbeat: Duration,
    /// The authority that `amqps://` trusts beside the system's, as a PEM file.
    pub tls_ca: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bus: crate::bus::Options::default(),
            publish_timeout: Duration::from_secs(2),
            publish_window: 1_000,
            publishes_max: 20_000,
            publish_frame_bytes: 32 * 1024,
            consume_frame_bytes: 128 * 1024,
            lookahead: 512,
            queues_per_connection: 1_000,
            gather_timeout: Duration::from_secs(1),
            linger: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            backoff: backoff(Duration::from_millis(200), Duration::from_secs(5)),
            heartbeat: Duration::from_secs(15),
            tls_ca: None,
        }
    }
}

/// Waits between two tries to connect: doubling from `base` to `cap`, with jitter, without an end.
#[must_use]
pub fn backoff(base: Duration, cap: Duration) -> Backoff {
    let options = BackoffOptions { tries: u32::MAX, base, cap: cap.max(base), retry_after_max: Duration::ZERO };
    Backoff::new(options).unwrap_or_default()
}

/// Why there can be no such bus. A broker that does not answer is no reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The address is none.
    #[error("AMQP_URL: {0}; expected amqp://user:password@host:port/vhost, or amqps:// for TLS")]
    Address(String),
    /// The certificates cannot be read.
    #[error("rabbitmq.tls_ca: {path}: {cause}; name a readable PEM file")]
    Authority {
        /// Which file.
        path: String,
        /// Why.
        cause: String,
    },
    /// Nobody answers there, or not as a broker that would have us. Only a look says so.
    #[error("RabbitMQ {place}: {cause}; check that it runs, AMQP_URL, its user, password, vhost and certificates")]
    Silent {
        /// Which, without the password.
        place: String,
        /// What went wrong.
        cause: String,
    },
}

impl Faulty for OpenError {
    fn fault(&self) -> Fault {
        match self {
            Self::Address(_) | Self::Authority { .. } => Fault::Permanent,
            Self::Silent { .. } => Fault::transient(),
        }
    }
}

impl RabbitBus {
    /// Opens the bus; the broker is connected to in the background.
    ///
    /// # Errors
    /// [`OpenError::Address`], [`OpenError::Authority`].
    pub fn open(url: &SecretString, options: Options) -> Result<Arc<Self>, OpenError> {
        let target = target(url, &options)?;
        let (work, out) = (Link::new(target.place.clone()), Link::new(target.place.clone()));
        let (publisher, outbound) = Publisher::new(out.clone(), options.clone());
        let publisher = Arc::new(publisher);
        let bindings = Log::new(topology::BINDINGS, work.clone(), publisher.clone(), options.clone());
        let letters = Log::new(STREAM, work.clone(), publisher.clone(), options.clone());
        let (closed, tasks) = (CancellationToken::new(), TaskTracker::new());
        let inner = Arc::new(Inner {
            place: target.place.clone(),
            target: target.clone(),
            links: Links::new(work.clone(), options.queues_per_connection),
            work,
            out,
            publisher,
            bindings,
            letters,
            made: watch::channel(false).0,
            wanted: std::sync::Mutex::default(),
            deferred: std::sync::atomic::AtomicUsize::default(),
            declaring: tokio::sync::Semaphore::new(super::DECLARED_AT_ONCE),
            intakes: std::sync::Mutex::default(),
            rooms: super::Rooms::default(),
            waits: super::Waits::default(),
            unroutable: std::sync::atomic::AtomicU64::new(0),
            closed: closed.clone(),
            hung_up: CancellationToken::new(),
            options,
            tasks: tasks.clone(),
            consuming: TaskTracker::new(),
        });
        let mut out = target.clone();
        out.uri.query.frame_max = Some(inner.options.publish_frame_bytes);
        for (link, target, role) in [(&inner.work, target, "consumes"), (&inner.out, out, "publishes")] {
            tasks.spawn(link.clone().keep(target, inner.options.clone(), role, inner.hung_up.clone()));
        }
        tasks.spawn(outbound.run(closed.clone()));
        tasks.spawn(inner.bindings.clone().follow(inner.made.subscribe(), closed.clone()));
        tasks.spawn(inner.letters.clone().follow(inner.made.subscribe(), closed));
        tasks.spawn(inner.clone().prepare());
        tasks.close();
        Ok(Arc::new(Self { inner }))
    }

    /// Looks whether there is a broker that would have us; answers where, without the password.
    ///
    /// # Errors
    /// [`OpenError`], with what to do.
    pub async fn look(url: &SecretString, options: &Options) -> Result<String, OpenError> {
        let target = target(url, options)?;
        let silent = |cause: String| OpenError::Silent { place: target.place.clone(), cause };
        let connected = timeout(options.connect_timeout, connect(&target, options, "looks")).await;
        let connection = connected
            .map_err(|_| silent(format!("no answer within {:?}", options.connect_timeout)))?
            .map_err(|error| silent(error.to_string()))?;
        connection.close(200, "seen".into()).await.ok();
        Ok(target.place)
    }
}

/// Where an address leads, and with which certificates.
fn target(url: &SecretString, options: &Options) -> Result<Target, OpenError> {
    // What is wrong with an address must not show the password in it.
    let mut uri: AMQPUri = url.expose_secret().parse().map_err(|_| OpenError::Address("it is none".to_owned()))?;
    // A bare slash names the vhost without a name, which nobody has; the usual one is meant.
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.frame_max.get_or_insert(options.consume_frame_bytes);
    let scheme = match uri.scheme {
        AMQPScheme::AMQP => "amqp",
        AMQPScheme::AMQPS => "amqps",
    };
    let place =
        format!("{scheme}://{}:{}/{}", uri.authority.host, uri.authority.port, uri.vhost.trim_start_matches('/'));
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .map_err(|error| OpenError::Authority { path: path.display().to_string(), cause: error.to_string() })
    };
    let cert_chain = options.tls_ca.as_ref().map(read).transpose()?;
    Ok(Target { uri, tls: OwnedTLSConfig { identity: None, cert_chain }, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let place = |url: &str| target(&url.into(), &Options::default()).map(|target| target.place);
        assert_eq!(place("amqp://u:secret@mq:5673/v").unwrap(), "amqp://mq:5673/v");
        for usual in ["amqps://u:secret@mq", "amqps://u:secret@mq/", "amqps://u:secret@mq/%2f"] {
            assert_eq!(place(usual).unwrap(), "amqps://mq:5671/");
            assert_eq!(target(&usual.into(), &Options::default()).unwrap().uri.vhost, "/");
        }
        let error = place("http://u:secret@mq").unwrap_err().to_string();
        assert!(error.starts_with("AMQP_URL") && !error.contains("secret"), "{error}");
    }
}
