//! One HTTP call of a provider: sending, limits, and the one place where what came back becomes an [`Error`].
//!
//! Used by the two wire adapters, once per try; the [`super::chain`] bounds it in time and repeats it. Nothing here is
//! logged, and no error text holds the key: provider messages are cut and run through the redactor.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use eventsource_stream::{EventStreamError, Eventsource};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use crate::live::Live;
use crate::secret::Redactor;

use super::access::{Access, Way};
use super::{Error, ModelOptions};

/// A provider's message in an error is cut to so many characters.
const MESSAGE_CHARS_MAX: usize = 300;
/// So much of an error answer is read …
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// … and so long is it waited for, as the status alone says enough.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(2);

/// Where and how one model is called.
pub(super) struct Endpoint {
    /// `provider/model`, for errors.
    pub(super) label: String,
    /// Follows no redirects: a key goes to the host it was meant for.
    pub(super) client: Client,
    /// Where to, and with which key.
    pub(super) access: Arc<Access>,
    /// Masks the key in what the provider says.
    pub(super) redactor: Redactor,
    /// The limits, as they are now.
    pub(super) options: Live<ModelOptions>,
}

/// An answer with a good status, not yet read.
pub(super) struct Answer {
    /// The provider's id of the answer, when a header names it.
    pub(super) request_id: Option<String>,
    response: Response,
}

impl Answer {
    /// Whether the server really streams; some ignore the wish and answer at once.
    pub(super) fn is_stream(&self) -> bool {
        let kind = self.response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
    }
}

impl Endpoint {
    /// Posts `body`; an error status becomes an error. A refusal of our key is answered with a newer one, if there is one.
    pub(super) async fn post(&self, body: &Value) -> Result<Answer, Error> {
        let way = self.access.way()?;
        let refusal = match self.send(&way, body).await {
            Err(error @ Error::Status { status: 401 | 403, .. }) => error,
            other => return other,
        };
        match self.access.other_than(&way).await {
            Some(newer) => self.send(&newer, body).await,
            None => Err(refusal),
        }
    }

    /// Whether the model is at this host.
    pub(super) fn is_at(&self, host: &str) -> bool {
        self.access.way().is_ok_and(|way| way.url.host_str() == Some(host))
    }

    async fn send(&self, way: &Way, body: &Value) -> Result<Answer, Error> {
        let request = self.client.post(way.url.clone()).headers(way.headers.clone()).json(body);
        let response = request.send().await.map_err(|error| self.broken(error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let request_id = ["x-request-id", "request-id"]
            .iter()
            .find_map(|name| response.headers().get(*name)?.to_str().ok())
            .map(str::to_owned);
        Ok(Answer { request_id, response })
    }

    /// The whole answer as JSON.
    pub(super) async fn read<T: DeserializeOwned>(&self, answer: Answer) -> Result<T, Error> {
        let bytes = match read_limited(answer.response, self.options.get().answer_bytes_max).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(self.too_large()),
            Err(error) => return Err(self.broken(error)),
        };
        self.parse(&bytes)
    }

    /// The answer's server-sent events: the `data` of each, until the server ends the stream.
    ///
    /// The first event may take as long as the call; after it, a silence of `idle` is a time-out.
    pub(super) fn events(&self, answer: Answer) -> BoxStream<'_, Result<String, Error>> {
        let mut left = self.options.get().answer_bytes_max;
        let bytes = answer.response.bytes_stream().map(move |chunk| {
            let chunk = chunk.map_err(|error| self.broken(error))?;
            left = left.checked_sub(chunk.len()).ok_or_else(|| self.too_large())?;
            Ok::<Bytes, Error>(chunk)
        });
        let events = bytes.eventsource().map(|event| match event {
            Ok(event) => Ok(event.data),
            Err(EventStreamError::Transport(error)) => Err(error),
            Err(EventStreamError::Utf8(_) | EventStreamError::Parser(_)) => Err(self.bad("the stream is not readable")),
        });
        self.with_idle_limit(events).boxed()
    }

    /// Reads JSON that came from the provider.
    pub(super) fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|error| self.bad(&error.to_string()))
    }

    /// An answer that cannot be used.
    pub(super) fn bad(&self, message: &str) -> Error {
        Error::BadAnswer { model: self.label.clone(), message: self.clean(message) }
    }

    /// An error that the provider reports: as an answer with an error status, or within one that began well.
    pub(super) fn refused(&self, status: u16, retry_after: Option<Duration>, body: &[u8]) -> Error {
        let (message, code) = provider_message(body);
        let message = self.clean(&message);
        let model = self.label.clone();
        if code.as_deref() == Some("insufficient_quota") || status == StatusCode::PAYMENT_REQUIRED.as_u16() {
            return Error::NoCredit { model, message };
        }
        Error::Status { model, status, message, retry_after }
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        let wait = retry_after(response.headers(), Utc::now());
        let body = timeout(ERROR_BODY_WAIT, read_limited(response, ERROR_BYTES_MAX)).await;
        let body = body.ok().and_then(Result::ok).flatten().unwrap_or_default();
        self.refused(status.as_u16(), wait, &body)
    }

    fn with_idle_limit<'call>(
        &'call self,
        events: impl Stream<Item = Result<String, Error>> + Send + 'call,
    ) -> impl Stream<Item = Result<String, Error>> + Send + 'call {
        let idle = self.options.get().idle_timeout;
        let start = (Box::pin(events), false);
        futures::stream::try_unfold(start, move |(mut events, begun)| async move {
            let next = if begun {
                let silence = || Error::Timeout { model: self.label.clone(), after: idle };
                timeout(idle, events.next()).await.map_err(|_| silence())?
            } else {
                events.next().await
            };
            Ok(next.transpose()?.map(|event| (event, (events, true))))
        })
    }

    fn too_large(&self) -> Error {
        Error::TooLarge { model: self.label.clone(), limit: self.options.get().answer_bytes_max }
    }

    /// What the network said, with its causes and without the address (which may hold a token).
    fn broken(&self, error: reqwest::Error) -> Error {
        let is_ours = error.is_builder();
        let error = error.without_url();
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        let (model, message) = (self.label.clone(), self.clean(&message));
        if is_ours { Error::BadSpec { model, message } } else { Error::Connect { model, message } }
    }

    fn clean(&self, message: &str) -> String {
        let masked = self.redactor.mask(message);
        let line = masked.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() { "no message".to_owned() } else { line.chars().take(MESSAGE_CHARS_MAX).collect() }
    }
}

/// The body, or `None` when it is longer than `limit`.
async fn read_limited(mut response: Response, limit: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// How long the server asks us to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.parse().ok()) {
        return Some(Duration::from_millis(millis));
    }
    let asked = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = asked.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = |text: &str| DateTime::parse_from_rfc2822(text).ok().map(|date| date.to_utc());
    // The server's own clock, when it tells: ours may be off.
    let now = text(DATE.as_str()).and_then(date).unwrap_or(now);
    Some((date(asked)? - now).to_std().unwrap_or_default())
}

/// The message and code of a provider's error in any of the usual shapes; else the body itself.
fn provider_message(body: &[u8]) -> (String, Option<String>) {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return (String::from_utf8_lossy(body).into_owned(), None);
    };
    let error = json.get("error").unwrap_or(&json);
    let message = ["message", "detail", "error"].iter().find_map(|key| error.get(*key)?.as_str());
    let message = message.or(error.as_str()).map_or_else(|| json.to_string(), str::to_owned);
    let code = ["code", "type"].iter().find_map(|key| error.get(*key)?.as_str());
    (message, code.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    const DATE_OF_HTTP: &str = "Wed, 21 Oct 2026 07:28:30 GMT";

    fn asked(pairs: &[(&'static str, &'static str)]) -> Option<Duration> {
        let now = DateTime::parse_from_rfc3339("2026-10-21T07:28:00Z").unwrap().to_utc();
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        retry_after(&headers.collect(), now)
    }

    #[test]
    fn a_wait_is_read_in_every_form() {
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(asked(&[("retry-after", "0.25")]), Some(Duration::from_millis(250)));
        assert_eq!(asked(&[("retry-after", "1"), ("retry-after-ms", "1500")]), Some(Duration::from_millis(1_500)));
        assert_eq!(asked(&[("retry-after", DATE_OF_HTTP)]), Some(Duration::from_secs(30)));
        assert_eq!(asked(&[("retry-after", "Wed, 21 Oct 2026 07:00:00 GMT")]), Some(Duration::ZERO));
        let by_their_clock = [("retry-after", DATE_OF_HTTP), ("date", "Wed, 21 Oct 2026 07:28:25 GMT")];
        assert_eq!(asked(&by_their_clock), Some(Duration::from_secs(5)));
        for odd in ["-1", "soon", "NaN", "1e99"] {
            assert_eq!(asked(&[("retry-after", odd)]), None, "{odd}");
        }
    }

    #[test]
    fn messages_are_found_in_the_usual_shapes() {
        let message = |body: &str| provider_message(body.as_bytes()).0;
        assert_eq!(message(r#"{"error":{"message":"bad key","code":"invalid_api_key"}}"#), "bad key");
        assert_eq!(message(r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#), "busy");
        assert_eq!(message(r#"{"error":"model not found"}"#), "model not found");
        assert_eq!(message(r#"{"detail":"no"}"#), "no");
        assert_eq!(message("<html>Bad Gateway</html>"), "<html>Bad Gateway</html>");
        assert_eq!(message(""), "");
        let quota = br#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        assert_eq!(provider_message(quota).1.as_deref(), Some("insufficient_quota"));
    }
}
