//! A server that answers what a test says and keeps every request as it came, headers included.
//!
//! It stands in for whoever is spoken to with a secret: a model's provider, Slack's Web API, a response URL. What it was sent is
//! what the product has given away.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The headers, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Recorded {
    /// The value of a header; empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    /// What it was authorised with; empty when with nothing.
    #[must_use]
    pub fn bearer(&self) -> &str {
        self.header("authorization").strip_prefix("Bearer ").unwrap_or_default()
    }
}

type Script = dyn Fn(&Recorded) -> (u16, String) + Send + Sync;

/// A running server; ends when it is dropped.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Recorded>>>,
    _stop: DropGuard,
}

#[derive(Clone)]
struct Server {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Recorded>>>,
}

impl Recorder {
    /// Starts one on a free port; `script` says which status and body are answered, as JSON.
    ///
    /// # Panics
    /// When no port of 127.0.0.1 can be had.
    pub async fn start(script: impl Fn(&Recorded) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its own address");
        let (seen, stop) = (Arc::<Mutex<Vec<Recorded>>>::default(), CancellationToken::new());
        let server = Server { script: Arc::new(script), seen: seen.clone() };
        let router = Router::new().fallback(answer).with_state(server);
        let ended = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                over = axum::serve(listener, router) => over.expect("the recorder serves"),
            }
        });
        Self { address, seen, _stop: stop.drop_guard() }
    }

    /// Its address with this path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request so far, in the order of arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Recorded> {
        lock(&self.seen).clone()
    }
}

/// The body of a chat completion with this answer.
#[must_use]
pub fn completion(text: &str) -> String {
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "stand-in", "choices": [choice],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    })
    .to_string()
}

async fn answer(State(server): State<Server>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = Recorded {
        method: method.to_string(),
        path: uri.to_string(),
        headers: headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
        body: text(&body),
    };
    let (status, body) = (server.script)(&request);
    lock(&server.seen).push(request);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [("content-type", "application/json")], body).into_response()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_kept_as_it_came() {
        crate::tls();
        let recorder = Recorder::start(|request| (418, format!("{:?}", request.bearer()))).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let sent = client.post(recorder.url("/a?b=c")).bearer_auth("t o").body("hello").send().await.unwrap();
        assert_eq!((sent.status().as_u16(), sent.text().await.unwrap().as_str()), (418, "\"t o\""));
        let seen = recorder.seen();
        assert_eq!(
            (seen[0].method.as_str(), seen[0].path.as_str(), seen[0].body.as_str()),
            ("POST", "/a?b=c", "hello")
        );
    }
}
