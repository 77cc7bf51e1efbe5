//! One connection to Redis, shared by all operations, made when the first one needs it.
//!
//! Connecting has a tokio task and a limit of its own, for it may take longer than an operation may wait: who gives up
//! leaves it going, and whoever comes later finds it done. It ends within its limit, or with the link; what it comes to is
//! told to all who wait. A connection that has failed, or has let an operation wait too long, is dropped with
//! everything that is still on it: what was sent may be done later, and nothing depends on whether it is.
//!
//! Called by the tier for every operation, through the [breaker](super::breaker). What fails is counted here and said in
//! the log when it begins and when it is over; a caller learns only that there is no answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, TlsCertificates,
};
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::breaker::{Breaker, Standing};
use super::{Error, Options};
use crate::secret::{ExposeSecret as _, SecretString};

/// The code of an answer that says that something else lies under the key.
const WRONG_TYPE: &str = "WRONGTYPE";

type Opening = Shared<BoxFuture<'static, Result<MultiplexedConnection, Arc<str>>>>;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Nobody was asked: the server is left alone.
    Skipped,
    /// Under the key lies something that the operation is not for.
    WrongType,
    /// The server does not do that.
    Refused,
    /// The server did not answer, or not in time.
    Failed,
}

/// What went wrong last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub error: String,
}

pub(super) struct Link {
    client: Client,
    /// Where it is, without the password.
    place: Arc<str>,
    answer_timeout: Duration,
    connect_timeout: Duration,
    slot: Mutex<Option<Opening>>,
    breaker: Breaker,
    errors: AtomicU64,
    skipped: AtomicU64,
    last_error: Mutex<Option<LastError>>,
}

impl Link {
    /// A link that connects when it is used.
    pub(super) fn new(url: &SecretString, options: &Options) -> Result<Self, Error> {
        let (client, place) = addressed(url, options)?;
        Ok(Self {
            client,
            place: place.into(),
            answer_timeout: options.answer_timeout,
            connect_timeout: options.connect_timeout,
            slot: Mutex::new(None),
            breaker: Breaker::new(options.failures_max, options.rest),
            errors: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            last_error: Mutex::new(None),
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn standing(&self) -> Standing {
        self.breaker.standing()
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    pub(super) fn last_error(&self) -> Option<LastError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One operation, within its limit; the time that it waits for the connection counts.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, NoAnswer> {
        let Some(permit) = self.breaker.admit() else {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return Err(NoAnswer::Skipped);
        };
        let opening = self.opening();
        let asked = timeout(self.answer_timeout, async {
            let mut connection = opening.clone().await.map_err(Failure::Connect)?;
            command.query_async(&mut connection).await.map_err(Failure::Answer)
        });
        let failure = match asked.await {
            Ok(Ok(answer)) => {
                self.answered(permit.succeeded());
                return Ok(answer);
            }
            Ok(Err(Failure::Answer(error))) if error.code() == Some(WRONG_TYPE) => {
                self.answered(permit.succeeded());
                return Err(NoAnswer::WrongType);
            }
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Silence(self.answer_timeout),
        };
        if failure.is_of_the_connection(opening.peek().is_some()) {
            self.forget(&opening);
        }
        self.failed(failure.to_string(), permit.failed());
        Err(if matches!(&failure, Failure::Answer(error) if !error.is_io_error()) {
            NoAnswer::Refused
        } else {
            NoAnswer::Failed
        })
    }

    /// The connection, or the one that is being made.
    fn opening(&self) -> Opening {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || {
            let task = tokio::spawn(connect(self.client.clone(), self.connect_timeout));
            let task = AbortOnDropHandle::new(task);
            async move { task.await.unwrap_or_else(|error| Err(format!("connecting was cut off: {error}").into())) }
                .boxed()
                .shared()
        };
        slot.get_or_insert_with(made).clone()
    }

    /// Lets the next operation make another connection, unless one has been made already.
    fn forget(&self, opening: &Opening) {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|there| there.ptr_eq(opening)) {
            *slot = None;
        }
    }

    fn answered(&self, back: bool) {
        if back {
            tracing::info!(place = &*self.place, "Redis answers again");
        }
    }

    fn failed(&self, error: String, opened: bool) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        if opened {
            let place = &*self.place;
            tracing::warn!(place, error, "Redis is left alone for a while: memories are read from the database alone");
        }
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(LastError { at: Utc::now(), error });
    }
}

/// Why an operation came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Connect(Arc<str>),
    #[error("{0}")]
    Answer(RedisError),
    #[error("no answer within {0:?}")]
    Silence(Duration),
}

impl Failure {
    /// Whether the next operation needs another connection. One that is still being made is waited for.
    fn is_of_the_connection(&self, was_made: bool) -> bool {
        match self {
            Self::Connect(_) => true,
            // A replica now: the name of the server may lead to another one by now.
            Self::Answer(error) if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) => true,
            Self::Answer(error) => error.is_io_error() || error.is_unrecoverable_error(),
            Self::Silence(_) => was_made,
        }
    }
}

async fn connect(client: Client, limit: Duration) -> Result<MultiplexedConnection, Arc<str>> {
    // Limits are ours: operations share the connection, and each has its own.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    // Boxed, for it is large and rare.
    match timeout(limit, Box::pin(client.get_multiplexed_async_connection_with_config(&config))).await {
        Ok(connection) => connection.map_err(|error| error.to_string().into()),
        Err(_) => Err(format!("no connection within {limit:?}").into()),
    }
}

/// A client of the server, and where that is, for people: no password.
pub(super) fn addressed(url: &SecretString, options: &Options) -> Result<(Client, String), Error> {
    let url = url.expose_secret();
    let parsed = Url::parse(url).map_err(|error| Error::Address(error.to_string()))?;
    let Some(host) = parsed.host_str() else { return Err(Error::Address("it names no host".to_owned())) };
    let user = if parsed.username().is_empty() { String::new() } else { format!("{}@", parsed.username()) };
    let place = format!(
        "{}://{user}{host}:{}{}",
        parsed.scheme(),
        parsed.port().unwrap_or(6379),
        parsed.path().trim_end_matches('/')
    );
    let client = match &options.tls_ca {
        Some(path) if parsed.scheme() == "rediss" => {
            let authority = std::fs::read(path)
                .map_err(|error| Error::Authority { path: path.display().to_string(), cause: error.to_string() })?;
            Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(authority) })
        }
        _ => Client::open(url),
    };
    Ok((client.map_err(|error| Error::Address(error.to_string()))?, place))
}

/// Connects once, at once, and asks for the server's version and whether it runs scripts.
pub(super) async fn look(client: Client, limit: Duration) -> Result<String, String> {
    let mut connection = connect(client, limit).await.map_err(|error| error.to_string())?;
    let asked = async {
        let _: i64 = redis::cmd("EVAL").arg("return 1").arg(0).query_async(&mut connection).await?;
        let said: Vec<redis::Value> = redis::cmd("HELLO").query_async(&mut connection).await.unwrap_or_default();
        Ok::<_, RedisError>(version(&said))
    };
    match timeout(limit, asked).await {
        Ok(said) => said.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

/// What stands behind the word `version`.
fn version(said: &[redis::Value]) -> String {
    let text = |value: &redis::Value| redis::from_redis_value_ref::<String>(value).unwrap_or_default();
    let found = said.chunks_exact(2).find(|pair| text(&pair[0]) == "version");
    found.map_or_else(|| "of an unknown version".to_owned(), |pair| text(&pair[1]))
}
