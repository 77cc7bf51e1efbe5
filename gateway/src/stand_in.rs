//! A stand-in for Slack on this machine: it takes what the reply sender posts, and misbehaves when told to.
//!
//! `troupe demo` shows its reply there, and the system tests count on it, so both need no network, no key and no other
//! program. It speaks as much of Slack's wire as this tree uses (docs.slack.dev/reference/methods): the response URLs of
//! slash commands with their five uses, `chat.postMessage`, `chat.postEphemeral`, `conversations.replies`,
//! `conversations.history` and `auth.test`. [`requests`] holds the other direction: what Slack would send us, signed.
//!
//! It listens on loopback only, keeps everything in memory, and ends when it is dropped.

pub mod requests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, post};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The bot token that the stand-in takes.
pub const BOT_TOKEN: &str = "xoxb-stand-in";
/// The secret with which [`requests`] are signed unless told otherwise.
pub const SIGNING_SECRET: &str = "stand-in-signing-secret";
/// How often a response URL may be used.
const RESPONSE_URL_USES: u32 = 5;
/// Calls and replies that are kept; more are refused.
const KEPT_MAX: usize = 1_000_000;

/// A running stand-in.
#[derive(Debug)]
pub struct SlackStandIn {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// One message that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// `response_url`, `chat.postMessage` or `chat.postEphemeral`.
    pub via: &'static str,
    /// `metadata.event_payload.reply_id`: the same id twice is a duplicate.
    pub reply_id: Option<String>,
    /// What people read.
    pub text: String,
    /// Where; the response URL's path for those.
    pub channel: String,
    /// In which thread.
    pub thread_ts: Option<String>,
    /// Whether only one person sees it.
    pub ephemeral: bool,
    /// Its id.
    pub ts: String,
    /// When.
    pub at: DateTime<Utc>,
    /// As it came.
    #[serde(skip)]
    pub body: Value,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// 429 with this `Retry-After`, in seconds; nothing is taken.
    RateLimited(u64),
    /// This status, without taking anything.
    Status(u16),
    /// 200 with `ok: false` and this error.
    Error(&'static str),
    /// No answer, nothing taken.
    Hang,
    /// The message is taken and the connection ends before the answer: what a reply sender must be unsure about.
    DropAfterAccept,
}

/// One call that was made, whatever came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// `response_url` or the method.
    pub method: &'static str,
    /// When it came.
    pub at: Instant,
}

#[derive(Debug)]
struct Shared {
    replies: Mutex<Vec<Reply>>,
    calls: Mutex<Vec<Call>>,
    uses: Mutex<HashMap<String, u32>>,
    troubles: Mutex<VecDeque<Misbehaviour>>,
    count: watch::Sender<usize>,
    stop: CancellationToken,
}

impl SlackStandIn {
    /// Starts one on a free port of 127.0.0.1.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            replies: Mutex::default(),
            calls: Mutex::default(),
            uses: Mutex::default(),
            troubles: Mutex::default(),
            count: watch::Sender::new(0),
            stop: stop.clone(),
        });
        let router = router(Arc::clone(&shared));
        let ended = stop.clone();
        // Owned by the guard: it ends with the stand-in. A listener that fails shows as refused connections.
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                served = async { axum::serve(listener, router).await } => {
                    if let Err(error) = served {
                        tracing::error!(component = "stand_in", %error, "the Slack stand-in has ended");
                    }
                }
            }
        });
        Ok(Self { addr, shared, _stop: stop.drop_guard() })
    }

    /// What `SLACK_API_BASE` is to be.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/api/", self.addr)
    }

    /// The `n`-th response URL.
    #[must_use]
    pub fn response_url(&self, n: usize) -> String {
        format!("http://{}/commands/{n}", self.addr)
    }

    /// Every message so far, in the order of arrival.
    #[must_use]
    pub fn replies(&self) -> Vec<Reply> {
        lock(&self.shared.replies).clone()
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.shared.calls).clone()
    }

    /// The next `times` calls go wrong like this, after those that were asked for before.
    pub fn misbehave(&self, how: Misbehaviour, times: usize) {
        lock(&self.shared.troubles).extend(std::iter::repeat_n(how, times));
    }

    /// Waits until at least `n` messages have arrived; `false` when they have not in time.
    pub async fn wait_for(&self, n: usize, timeout: Duration) -> bool {
        let mut count = self.shared.count.subscribe();
        let arrived = async { count.wait_for(|count| *count >= n).await.is_ok() };
        tokio::time::timeout(timeout, arrived).await.unwrap_or(false)
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/commands/{n}", post(respond))
        .route("/api/chat.postMessage", post(post_message))
        .route("/api/chat.postEphemeral", post(post_ephemeral))
        .route("/api/conversations.replies", any(conversations_replies))
        .route("/api/conversations.history", any(conversations_history))
        .route("/api/auth.test", any(auth_test))
        .with_state(shared)
}

async fn respond(State(shared): State<Arc<Shared>>, Path(n): Path<String>, body: Bytes) -> Response {
    let trouble = match shared.call("response_url").await {
        Ok(trouble) => trouble,
        Err(answer) => return answer,
    };
    let used = {
        let mut urls = lock(&shared.uses);
        let times = urls.entry(n.clone()).or_default();
        *times += 1;
        *times
    };
    if used > RESPONSE_URL_USES {
        return (StatusCode::NOT_FOUND, "used_url").into_response();
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "invalid_payload").into_response();
    };
    let ephemeral = body["response_type"] != "in_channel";
    if shared.take("response_url", &format!("/commands/{n}"), ephemeral, body).is_none() {
        return (StatusCode::BAD_REQUEST, "no_text").into_response();
    }
    if trouble { cut() } else { "ok".into_response() }
}

async fn post_message(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    shared.post("chat.postMessage", &headers, &body).await
}

async fn post_ephemeral(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    shared.post("chat.postEphemeral", &headers, &body).await
}

async fn conversations_replies(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let thread = query.get("ts").cloned().unwrap_or_default();
    shared.look("conversations.replies", &headers, &query, Some(&thread)).await
}

async fn conversations_history(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    shared.look("conversations.history", &headers, &query, None).await
}

async fn auth_test(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match shared.call("auth.test").await {
        Ok(_) if authorised(&headers) => {
            json_answer(&json!({"ok": true, "team_id": "T1", "user_id": "UBOT", "bot_id": "BBOT"}))
        }
        Ok(_) => json_answer(&json!({"ok": false, "error": "invalid_auth"})),
        Err(answer) => answer,
    }
}

impl Shared {
    /// Notes a call and lets it go wrong when it is to; `Ok(true)` = take it and cut the connection.
    async fn call(&self, method: &'static str) -> Result<bool, Response> {
        {
            let mut calls = lock(&self.calls);
            if calls.len() >= KEPT_MAX {
                return Err(StatusCode::INSUFFICIENT_STORAGE.into_response());
            }
            calls.push(Call { method, at: Instant::now() });
        }
        let trouble = lock(&self.troubles).pop_front();
        match trouble {
            None => Ok(false),
            Some(Misbehaviour::DropAfterAccept) => Ok(true),
            Some(Misbehaviour::RateLimited(seconds)) => {
                let mut answer = (StatusCode::TOO_MANY_REQUESTS, "rate_limited").into_response();
                answer.headers_mut().insert("retry-after", HeaderValue::from(seconds));
                Err(answer)
            }
            Some(Misbehaviour::Status(status)) => {
                Err(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response())
            }
            Some(Misbehaviour::Error(error)) => Err(json_answer(&json!({"ok": false, "error": error}))),
            Some(Misbehaviour::Hang) => {
                self.stop.cancelled().await;
                Err(StatusCode::GATEWAY_TIMEOUT.into_response())
            }
        }
    }

    async fn post(&self, method: &'static str, headers: &HeaderMap, body: &[u8]) -> Response {
        let trouble = match self.call(method).await {
            Ok(trouble) => trouble,
            Err(answer) => return answer,
        };
        if !authorised(headers) {
            return json_answer(&json!({"ok": false, "error": "invalid_auth"}));
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return json_answer(&json!({"ok": false, "error": "invalid_json"}));
        };
        let Some(channel) = body["channel"].as_str().map(str::to_owned) else {
            return json_answer(&json!({"ok": false, "error": "channel_not_found"}));
        };
        let Some(ts) = self.take(method, &channel, method == "chat.postEphemeral", body) else {
            return json_answer(&json!({"ok": false, "error": "no_text"}));
        };
        if trouble { cut() } else { json_answer(&json!({"ok": true, "channel": channel, "ts": ts, "message_ts": ts})) }
    }

    async fn look(
        &self,
        method: &'static str,
        headers: &HeaderMap,
        query: &HashMap<String, String>,
        thread: Option<&str>,
    ) -> Response {
        match self.call(method).await {
            Ok(false) => {}
            Ok(true) => return cut(),
            Err(answer) => return answer,
        }
        if !authorised(headers) {
            return json_answer(&json!({"ok": false, "error": "invalid_auth"}));
        }
        let channel = query.get("channel").map_or("", String::as_str);
        let with_metadata = query.get("include_all_metadata").is_some_and(|word| word == "true");
        let messages: Vec<Value> = lock(&self.replies)
            .iter()
            .filter(|reply| reply.via == "chat.postMessage" && reply.channel == channel)
            .filter(|reply| reply.thread_ts.as_deref() == thread)
            .map(|reply| {
                let mut message = json!({"type": "message", "ts": reply.ts, "text": reply.text});
                if with_metadata {
                    message["metadata"] = reply.body["metadata"].clone();
                }
                message
            })
            .collect();
        json_answer(&json!({"ok": true, "messages": messages, "has_more": false}))
    }

    /// Keeps a message; `None` when it has no text.
    fn take(&self, via: &'static str, channel: &str, ephemeral: bool, body: Value) -> Option<String> {
        let text = body["text"].as_str().filter(|text| !text.is_empty())?.to_owned();
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let ts = {
            let mut replies = lock(&self.replies);
            let ts = format!("1700000000.{:06}", replies.len() + 1);
            replies.push(Reply {
                via,
                reply_id: word(&body["metadata"]["event_payload"]["reply_id"]),
                text,
                channel: channel.to_owned(),
                thread_ts: word(&body["thread_ts"]),
                ephemeral,
                ts: ts.clone(),
                at: Utc::now(),
                body,
            });
            ts
        };
        // Counted and not told: the last to tell a number need not be who has the last one.
        self.count.send_modify(|count| *count += 1);
        Some(ts)
    }
}

fn authorised(headers: &HeaderMap) -> bool {
    headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ")) == Some(BOT_TOKEN)
}

fn json_answer(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// An answer that ends in the middle: the connection goes before it is complete.
fn cut() -> Response {
    let broken = futures::stream::once(async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) });
    Response::new(Body::from_stream(broken))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Who waited for the last of some messages that came at once waited for ever, now and then.
    #[tokio::test]
    async fn messages_that_come_at_once_are_all_counted() {
        const THREADS: usize = 8;
        const ROUNDS: usize = 5_000;
        let slack = SlackStandIn::start().await.unwrap();
        let (together, wrong, shared) = (Barrier::new(THREADS), AtomicUsize::new(0), &slack.shared);
        let come = || {
            for _ in 0..ROUNDS {
                together.wait();
                shared.take("chat.postMessage", "C1", false, json!({"text": "hello"})).unwrap();
                if together.wait().is_leader() && *shared.count.borrow() != lock(&shared.replies).len() {
                    wrong.fetch_add(1, Ordering::Relaxed);
                }
                together.wait();
            }
        };
        thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(come))));
        assert_eq!(wrong.into_inner(), 0, "rounds after which a message was not counted");
        assert!(slack.wait_for(THREADS * ROUNDS, Duration::ZERO).await);
    }
}
