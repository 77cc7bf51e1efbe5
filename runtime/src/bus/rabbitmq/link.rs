//! One connection to the broker, kept up: connected with growing waits, watched, and connected again when it is lost.
//!
//! lapin's own recovery stays off: it brings back connections but no closed channel, and a delivery from before must not be
//! acknowledged afterwards. So a life of a connection is a value of its own, and whoever used the last one begins anew.
//! Each bus has two: one publishes, for a broker that is short of memory stops reading from those who do; the other one
//! consumes, declares and asks. The task of a link ends with the bus, never by an error.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use lapin::{Channel, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Options;
use crate::bus::Error;
use crate::retry::Backoff;

/// A connection that has lived so long was well: the next wait is the first again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// How often a connection is looked at beside what it tells by itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A connection that is kept up.
pub(super) struct Link {
    place: String,
    state: watch::Sender<State>,
    blocked: Mutex<Option<String>>,
    lost: AtomicU64,
}

/// How it stands.
#[derive(Clone)]
pub(super) enum State {
    /// For the first time, or right after a loss: worth waiting for.
    Connecting,
    /// There it is.
    Up(Arc<lapin::Connection>),
    /// The last try failed; the next one will come.
    Away(String),
}

/// Where to, and how.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) uri: AMQPUri,
    pub(super) tls: OwnedTLSConfig,
    /// Host, port and vhost, for people.
    pub(super) place: String,
}

impl Link {
    pub(super) fn new(place: String) -> Arc<Self> {
        let (state, _) = watch::channel(State::Connecting);
        Arc::new(Self { place, state, blocked: Mutex::default(), lost: AtomicU64::new(0) })
    }

    /// How it stands, to be watched.
    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Why the broker reads nothing from it, while it does not.
    pub(super) fn blocked(&self) -> Option<String> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// An error at once when it is known that an event cannot go out now.
    pub(super) fn refuse_hopeless(&self) -> Result<(), Error> {
        if let State::Away(error) = &*self.state.borrow() {
            return Err(self.away(error));
        }
        match self.blocked() {
            Some(reason) => Err(Error::Unavailable(format!("{} is blocked: {reason}", self.place))),
            None => Ok(()),
        }
    }

    fn away(&self, error: &str) -> Error {
        Error::Unavailable(format!("{} is away: {error}", self.place))
    }

    /// The connection; waits while it is being made, not while the broker is away.
    pub(super) async fn live(&self) -> Result<Arc<lapin::Connection>, Error> {
        let mut states = self.watch();
        loop {
            match &*states.borrow_and_update() {
                State::Up(connection) => return Ok(connection.clone()),
                State::Away(error) => return Err(self.away(error)),
                State::Connecting => {}
            }
            if states.changed().await.is_err() {
                return Err(Error::Unavailable("the bus is closed".to_owned()));
            }
        }
    }

    /// The connection, however long the broker is away; `None` when the bus is closed.
    pub(super) async fn some_day(&self, closed: &CancellationToken) -> Option<Arc<lapin::Connection>> {
        let mut states = self.watch();
        let up = states.wait_for(|state| matches!(state, State::Up(_)));
        match closed.run_until_cancelled(up).await?.ok().as_deref() {
            Some(State::Up(connection)) => Some(connection.clone()),
            _ => None,
        }
    }

    /// Ends when this connection is no longer the one. What waits for an answer on it may wait for ever: lapin does not end
    /// every wait with its connection.
    pub(super) async fn until_lost(&self, connection: &Arc<lapin::Connection>) -> Error {
        let mut states = self.watch();
        let is_other = |state: &State| !matches!(state, State::Up(other) if Arc::ptr_eq(other, connection));
        states.wait_for(is_other).await.ok();
        Error::Unavailable(format!("the connection to {} is lost", self.place))
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, Error> {
        let connection = self.live().await?;
        connection.create_channel().await.map_err(|error| super::wire::refused(&error, &self.place))
    }

    fn set_blocked(&self, reason: Option<String>) {
        if let Some(reason) = &reason {
            tracing::warn!(place = self.place, reason, "the broker takes no events");
        } else {
            tracing::info!(place = self.place, "the broker takes events again");
        }
        *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Keeps the connection up until the bus closes, then says goodbye.
    pub(super) async fn keep(self: Arc<Self>, target: Target, options: Options, role: &str, closed: CancellationToken) {
        let mut attempt = 0_u32;
        loop {
            let connecting = timeout(options.connect_timeout, connect(&target, &options, role));
            tokio::pin!(connecting);
            let Some(connected) = closed.run_until_cancelled(&mut connecting).await else {
                // It connects on a thread of its own, which does not like to be left alone.
                timeout(LOOK_EVERY, connecting).await.ok();
                return;
            };
            let error = match connected {
                Ok(Ok(connection)) => {
                    let begun = Instant::now();
                    let ended = self.watch_over(Arc::new(connection), &closed).await;
                    let Some(error) = ended else { return };
                    if begun.elapsed() >= HEALTHY_AFTER {
                        attempt = 0;
                    }
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(place = self.place, role, error, "the connection to the broker is lost");
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no connection within {:?}", options.connect_timeout)),
            };
            if let Some(error) = error {
                if attempt == 0 {
                    tracing::warn!(place = self.place, role, error, "the broker is away");
                }
                self.state.send_replace(State::Away(error));
            }
            attempt = attempt.saturating_add(1);
            let wait = pause(&options.backoff, attempt);
            if closed.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// Until it is lost: then why. `None` when the bus is closed.
    async fn watch_over(&self, connection: Arc<lapin::Connection>, closed: &CancellationToken) -> Option<String> {
        let mut events = connection.events_listener();
        self.state.send_replace(State::Up(connection.clone()));
        let mut last_error = None;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = closed.cancelled() => {
                    timeout(LOOK_EVERY, connection.close(200, "closed".into())).await.ok();
                    return None;
                }
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => self.set_blocked(Some(reason)),
                    Some(Event::ConnectionUnblocked) => self.set_blocked(None),
                    Some(Event::Error(error)) => last_error = Some(error.to_string()),
                    Some(_) => {}
                    None => last_error = Some("its events have ended".to_owned()),
                },
                // What it tells may come before anybody listens.
                _ = look.tick() => {
                    if connection.status().blocked() && self.blocked().is_none() {
                        self.set_blocked(Some("no reason was given".to_owned()));
                    }
                }
            }
            if !connection.status().connected() {
                self.state.send_replace(State::Connecting);
                if self.blocked().is_some() {
                    self.set_blocked(None);
                }
                return Some(last_error.unwrap_or_else(|| "it was closed".to_owned()));
            }
        }
    }
}

/// The wait before a try: the longer of two draws, so that few come back at once.
fn pause(backoff: &Backoff, attempt: u32) -> Duration {
    let (one, two) = {
        let mut rng = rand::rng();
        (backoff.delay(attempt, &mut rng), backoff.delay(attempt, &mut rng))
    };
    one.max(two)
}

/// Connects once.
pub(super) async fn connect(target: &Target, options: &Options, role: &str) -> Result<lapin::Connection, lapin::Error> {
    let mut uri = target.uri.clone();
    uri.query.heartbeat = Some(u16::try_from(options.heartbeat.as_secs()).unwrap_or(u16::MAX));
    uri.query.channel_max = None;
    let name = format!("troupe {role} (process {})", std::process::id());
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = lapin::runtime::default_runtime()?;
    lapin::Connection::connect_uri_with_config(uri, properties, target.tls.clone(), runtime).await
}
