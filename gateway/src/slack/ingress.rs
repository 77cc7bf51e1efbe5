//! The door that Slack knocks at: `POST /slack/events`, and under two more names the same handler.
//!
//! ```text
//! not configured ─► 503      body too large ─► 413 · too slow ─► 408      ssl_check ─► 200
//!   signature    ─► 401      signed nonsense ─► 400      challenge, not for us ─► 200
//!   publish, confirmed, within 1 s ─► 200
//!        no agent listens  ─► 200 (a command is told so)
//!        bus away, or slow ─► on the disk, 200
//!        the disk as well  ─► 503 for events, which Slack sends again; 200 and an apology for commands, which it does not
//! ```
//!
//! MUST answer within Slack's 3 s; MUST NOT write any part of a body to the log; MUST NOT drop a request for being a
//! retry: the first one may be the one that was lost, and the event id collapses the two.
//!
//! Called by the public listener; what it accepts goes through [`crate::spool`]. It owns nothing that outlives a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use troupe_runtime::bus;
use troupe_runtime::live::Live;

use super::inbound::{self, Inbound, Kind, SlackEvent};
use super::signature::{NO_RETRY, SigningSecrets};
use crate::spool::{self, Spool, Stray, Taken};

/// What the door needs.
#[derive(Clone)]
pub struct Ingress {
    /// Where events go.
    pub spool: Spool,
    /// Who may sign now; empty when Slack is not configured.
    pub secrets: Live<SigningSecrets>,
    /// Its limits.
    pub options: IngressOptions,
    /// What it has seen so far.
    pub stats: Arc<IngressStats>,
    /// What time it is.
    pub now: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    /// Bytes of bodies that may still be read.
    room: Arc<Semaphore>,
}

/// Limits of the door.
#[derive(Debug, Clone)]
pub struct IngressOptions {
    /// Largest body, in bytes.
    pub body_bytes_max: usize,
    /// Longest wait for the whole body.
    pub body_timeout: Duration,
    /// How far a timestamp may be from now, in both directions.
    pub skew_seconds_max: i64,
    /// Bytes of bodies of all requests together; beyond it bodies are read later.
    pub bodies_bytes_max: usize,
}

impl Default for IngressOptions {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            body_timeout: Duration::from_secs(5),
            skew_seconds_max: 300,
            bodies_bytes_max: 128 * 1024 * 1024,
        }
    }
}

/// What the door has seen, for telemetry.
#[derive(Debug, Default)]
pub struct IngressStats {
    /// Events that are on the bus.
    pub accepted: AtomicU64,
    /// Events that are on the disk until the bus takes them.
    pub spooled: AtomicU64,
    /// Events that no queue wanted.
    pub unrouted: AtomicU64,
    /// Well-formed requests that are not for us.
    pub ignored: AtomicU64,
    /// Requests whose signature was refused.
    pub refused: AtomicU64,
    /// Signed requests that could not be read, and bodies that were too large or too slow.
    pub malformed: AtomicU64,
    /// Events that neither the bus nor the disk took.
    pub unavailable: AtomicU64,
    /// Times that Slack said that it withholds events.
    pub rate_limited: AtomicU64,
}

impl Ingress {
    /// A door with this spool behind it.
    #[must_use]
    pub fn new(spool: Spool, secrets: impl Into<Live<SigningSecrets>>, options: IngressOptions) -> Self {
        let room = Arc::new(Semaphore::new(options.bodies_bytes_max.min(Semaphore::MAX_PERMITS)));
        Self { spool, secrets: secrets.into(), options, stats: Arc::default(), now: Arc::new(Utc::now), room }
    }

    async fn receive(&self, request: Request) -> Result<Response, Turned> {
        let secrets = self.secrets.get();
        if secrets.is_empty() {
            return Err(Turned::NotConfigured);
        }
        let (parts, body) = request.into_parts();
        // The permit stands for the memory of the body and goes with it.
        let (body, _permit) = self.read(&parts.headers, body).await?;
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if inbound::is_ssl_check(content_type, &body) {
            return Ok(StatusCode::OK.into_response());
        }
        if let Err(reason) = secrets.verify(&parts.headers, &body, (self.now)(), self.options.skew_seconds_max) {
            tracing::info!(component = "slack", %reason, "a request was refused");
            return Err(Turned::Refused);
        }
        match inbound::parse(content_type, &body)? {
            Inbound::Challenge(challenge) => Ok(([(CONTENT_TYPE, "text/plain")], challenge).into_response()),
            Inbound::SslCheck => Ok(StatusCode::OK.into_response()),
            Inbound::Ignored { reason } => {
                self.ignore(reason);
                Ok(StatusCode::OK.into_response())
            }
            Inbound::Event(event) => self.take(*event).await,
        }
    }

    fn ignore(&self, reason: &'static str) {
        self.stats.ignored.fetch_add(1, Ordering::Relaxed);
        if reason == inbound::RATE_LIMITED {
            self.stats.rate_limited.fetch_add(1, Ordering::Relaxed);
            tracing::error!(component = "slack", reason, "Slack has dropped events; subscribe to fewer of them");
        } else {
            tracing::debug!(component = "slack", reason, "a request was ignored");
        }
    }

    async fn take(&self, slack: SlackEvent) -> Result<Response, Turned> {
        let command = slack.command.clone();
        let kind = slack.kind;
        let event = Arc::new(slack.into_event((self.now)()));
        match self.spool.publish(Arc::clone(&event), Stray::Drop).await {
            Ok(taken) => {
                let spooled = taken == Taken::Spooled;
                let counter = if spooled { &self.stats.spooled } else { &self.stats.accepted };
                counter.fetch_add(1, Ordering::Relaxed);
                let (trace_id, topic) = (event.traceparent.trace_id(), event.topic.as_str());
                tracing::info!(component = "slack", trace_id, topic, event_id = %event.id, spooled, "event accepted");
                Ok(StatusCode::OK.into_response())
            }
            Err(spool::Error::Bus(bus::Error::Unroutable(_))) => {
                self.stats.unrouted.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(component = "slack", topic = event.topic.as_str(), "no agent listens");
                Ok(match command {
                    Some(command) => whisper(&format!("No agent listens to {command}.")),
                    None => StatusCode::OK.into_response(),
                })
            }
            Err(spool::Error::Bus(bus::Error::TooLarge { .. })) => Err(Turned::TooLarge),
            Err(cause) => {
                self.stats.unavailable.fetch_add(1, Ordering::Relaxed);
                tracing::error!(component = "slack", topic = event.topic.as_str(), %cause, "an event was not taken");
                match kind {
                    Kind::Command => Ok(whisper("I cannot take this just now. Please try again in a minute.")),
                    Kind::Message | Kind::Mention => Err(Turned::Unavailable),
                }
            }
        }
    }

    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Turned> {
        let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|bytes| bytes > self.options.body_bytes_max) {
            return Err(Turned::TooLarge);
        }
        // All of the body's room at once and before the first byte: readers that each hold some and wait for more would
        // wait for one another.
        let reading = async {
            let bytes = u32::try_from(declared.unwrap_or(self.options.body_bytes_max)).map_err(|_| Turned::TooLarge)?;
            let permit = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| Turned::Slow)?;
            Ok((self.collect(body).await?, Some(permit)))
        };
        tokio::time::timeout(self.options.body_timeout, reading).await.unwrap_or(Err(Turned::Slow))
    }

    async fn collect(&self, body: Body) -> Result<Vec<u8>, Turned> {
        let mut stream = body.into_data_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| Turned::Cut)?;
            if bytes.len() + chunk.len() > self.options.body_bytes_max {
                return Err(Turned::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// The routes of the door.
pub fn router(ingress: Ingress) -> Router {
    let door = post(receive);
    Router::new()
        .route("/slack/events", door.clone())
        .route("/slack/commands", door.clone())
        .route("/slack/interactions", door)
        .with_state(Arc::new(ingress))
}

async fn receive(State(ingress): State<Arc<Ingress>>, request: Request) -> Response {
    ingress.receive(request).await.unwrap_or_else(|turned| turned.answer(&ingress.stats))
}

/// Why a request is turned away.
enum Turned {
    NotConfigured,
    TooLarge,
    Slow,
    Cut,
    Refused,
    Malformed(inbound::BadInput),
    Unavailable,
}

impl From<inbound::BadInput> for Turned {
    fn from(bad: inbound::BadInput) -> Self {
        Self::Malformed(bad)
    }
}

impl Turned {
    /// The one table of refusals. Slack must not send again what will be refused again; a refused signature says
    /// nothing of who sent it, so it asks for nothing.
    fn answer(self, seen: &IngressStats) -> Response {
        let (status, title, detail, retry) = match self {
            Self::NotConfigured => {
                let detail = "SLACK_SIGNING_SECRET is not set; set it and restart".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "Slack is not configured", detail, false)
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large", String::new(), false),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "the body came too slowly", String::new(), true),
            Self::Cut => (StatusCode::BAD_REQUEST, "the body was cut off", String::new(), true),
            Self::Refused => (StatusCode::UNAUTHORIZED, "the signature is refused", String::new(), true),
            Self::Malformed(bad) => {
                tracing::warn!(component = "slack", reason = %bad, "a signed request cannot be read");
                (StatusCode::BAD_REQUEST, "the body cannot be read", bad.to_string(), false)
            }
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "try again", String::new(), true),
        };
        match status {
            StatusCode::UNAUTHORIZED => _ = seen.refused.fetch_add(1, Ordering::Relaxed),
            StatusCode::SERVICE_UNAVAILABLE => {}
            _ => _ = seen.malformed.fetch_add(1, Ordering::Relaxed),
        }
        let problem = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
        let mut response = (status, [(CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response();
        if !retry {
            response.headers_mut().insert(NO_RETRY, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A text that only who gave the command sees.
fn whisper(text: &str) -> Response {
    let body = json!({"response_type": "ephemeral", "text": text});
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests;
