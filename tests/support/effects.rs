//! The outside world of tools: a server on loopback that does what it is told and forgets nothing.
//!
//! Each call of a tool gets a receipt with a number that is never given again; the journal keeps the receipt, so a test
//! can tell from outside whether a call whose result was journaled was made again, and whether a repeated call came with
//! the same key. It also hears of every end that a troupe tells its bus. It ends when it is dropped.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The header that carries the key of a tool call.
pub const KEY_HEADER: &str = "idempotency-key";

/// One call of a tool, whether or not its answer arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The task's marker.
    pub task: String,
    /// The tool.
    pub tool: String,
    /// What was sent along.
    pub key: String,
    /// Its number, which its receipt carries.
    pub number: u64,
}

/// One end that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The task's marker.
    pub task: String,
    /// The id of the event that told it.
    pub event: String,
}

#[derive(Debug, Default)]
struct Seen {
    effects: Vec<Effect>,
    ends: Vec<End>,
}

/// The running server.
#[derive(Debug)]
pub struct EffectsStandIn {
    url: String,
    seen: Arc<Mutex<Seen>>,
    _stop: DropGuard,
}

impl EffectsStandIn {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When no port of 127.0.0.1 can be had.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its own address");
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), CancellationToken::new());
        let router = Router::new()
            .route("/{task}/tools/{tool}", post(call))
            .route("/{task}/ends/{event}", post(end))
            .with_state(seen.clone());
        let ended = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                over = axum::serve(listener, router) => over.expect("the server of effects serves"),
            }
        });
        Self { url: format!("http://{address}"), seen, _stop: stop.drop_guard() }
    }

    /// Where it listens: `POST <url>/<task>/tools/<tool>` with [`KEY_HEADER`], `POST <url>/<task>/ends/<event id>`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every call for a task so far, in the order of arrival.
    #[must_use]
    pub fn effects(&self, task: &str) -> Vec<Effect> {
        lock(&self.seen).effects.iter().filter(|effect| effect.task == task).cloned().collect()
    }

    /// Every end of a task that was told so far.
    #[must_use]
    pub fn ends(&self, task: &str) -> Vec<End> {
        lock(&self.seen).ends.iter().filter(|end| end.task == task).cloned().collect()
    }
}

/// What the caller of a tool is answered.
#[must_use]
pub fn receipt(number: u64) -> String {
    format!("receipt-{number}")
}

async fn call(
    State(seen): State<Arc<Mutex<Seen>>>,
    Path((task, tool)): Path<(String, String)>,
    headers: HeaderMap,
) -> String {
    let key = headers.get(KEY_HEADER).and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    let mut seen = lock(&seen);
    let number = seen.effects.len() as u64 + 1;
    seen.effects.push(Effect { task, tool, key, number });
    receipt(number)
}

async fn end(State(seen): State<Arc<Mutex<Seen>>>, Path((task, event)): Path<(String, String)>) {
    lock(&seen).ends.push(End { task, event });
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_call_is_remembered_with_its_key_and_gets_a_number_of_its_own() {
        crate::tls();
        let server = EffectsStandIn::start().await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let post = async |path: &str| {
            let answer = client.post(format!("{}{path}", server.url())).header(KEY_HEADER, "k").send().await.unwrap();
            assert!(answer.status().is_success(), "{path}: {}", answer.status());
            answer.text().await.unwrap()
        };
        let receipts = [post("/task-1/tools/pay").await, post("/task-2/tools/pay").await];
        post("/task-1/ends/e1").await;
        assert_eq!(receipts, [receipt(1), receipt(2)]);
        let paid = Effect { task: "task-1".into(), tool: "pay".into(), key: "k".into(), number: 1 };
        assert_eq!(server.effects("task-1"), [paid]);
        assert_eq!(server.ends("task-1"), [End { task: "task-1".into(), event: "e1".into() }]);
        assert_eq!(server.ends("task-2"), []);
    }
}
