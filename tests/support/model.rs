//! A model server that answers what a test says and forgets nothing: chat completions on loopback.
//!
//! Every call gets a number that is never given again, and the answer carries it in its `id` (`chatcmpl-17`). The
//! journal keeps that id, so a test can tell from outside whether a call whose answer was journaled was made again: the
//! journaled number must be the last one that the server has given for that task and turn.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The words that mark a task in what is asked: `task-17`.
const MARKER: &str = "task-";

/// What is asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The marker in the first user message, empty when there is none.
    pub task: String,
    /// Answers of the model so far, in this conversation.
    pub turn: usize,
    /// The number of this call.
    pub number: u64,
    /// The whole request.
    pub body: Value,
}

/// What is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A text; the last turn.
    Text(String),
    /// A call of a tool.
    Tool(&'static str, Value),
    /// Calls of several tools in one turn.
    Tools(Vec<(&'static str, Value)>),
    /// An error status.
    Status(u16),
    /// The same, once this says so.
    Gated(watch::Receiver<bool>, Box<Answer>),
    /// Nothing, ever.
    Hang,
}

/// One call that was made, whether or not its answer arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The task's marker.
    pub task: String,
    /// Which turn of it.
    pub turn: usize,
    /// Its number.
    pub number: u64,
    /// When it came.
    pub at: Instant,
}

type Script = dyn Fn(&Asked) -> (Duration, Answer) + Send + Sync;

/// A running model server; ends when it is dropped.
#[derive(Debug)]
pub struct ModelStandIn {
    base_url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    _stop: DropGuard,
}

struct Server {
    script: Box<Script>,
    calls: Arc<Mutex<Vec<Call>>>,
    numbers: AtomicU64,
}

impl ModelStandIn {
    /// Starts one on a free port; `script` says how long to think and what to answer.
    ///
    /// # Panics
    /// When no port of 127.0.0.1 can be had.
    pub async fn start(script: impl Fn(&Asked) -> (Duration, Answer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its own address");
        let (calls, stop) = (Arc::<Mutex<Vec<Call>>>::default(), CancellationToken::new());
        let server = Server { script: Box::new(script), calls: calls.clone(), numbers: AtomicU64::new(1) };
        let router = Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::new(server));
        let ended = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                over = axum::serve(listener, router) => over.expect("the model server serves"),
            }
        });
        Self { base_url: format!("http://{address}/v1"), calls, _stop: stop.drop_guard() }
    }

    /// What `base_url` of a spec is to be.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Every call so far, in the order of arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }
}

async fn complete(State(server): State<Arc<Server>>, Json(body): Json<Value>) -> Response {
    let asked = {
        // Number and record under one lock: the order of the list is the order of the numbers.
        let mut calls = lock(&server.calls);
        let number = server.numbers.fetch_add(1, Ordering::Relaxed);
        let asked = Asked { task: marker(&body), turn: turns(&body), number, body };
        calls.push(Call { task: asked.task.clone(), turn: asked.turn, number, at: Instant::now() });
        asked
    };
    let (think, answer) = (server.script)(&asked);
    tokio::time::sleep(think).await;
    let mut answer = answer;
    while let Answer::Gated(mut gate, then) = answer {
        // A gate whose keeper is gone is open.
        gate.wait_for(|open| *open).await.ok();
        answer = *then;
    }
    match answer {
        Answer::Text(text) => completion(&asked, json!({"role": "assistant", "content": text}), "stop"),
        Answer::Tool(name, arguments) => wishes(&asked, vec![(name, arguments)]),
        Answer::Tools(calls) => wishes(&asked, calls),
        Answer::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, json!({"error": {"message": "as told", "type": "stand_in"}}).to_string()).into_response()
        }
        Answer::Gated(..) | Answer::Hang => std::future::pending().await,
    }
}

fn wishes(asked: &Asked, calls: Vec<(&str, Value)>) -> Response {
    let call = |(place, (name, arguments)): (usize, (&str, Value))| {
        let function = json!({"name": name, "arguments": arguments.to_string()});
        json!({"id": format!("call_{}_{place}", asked.number), "type": "function", "function": function})
    };
    let calls: Vec<Value> = calls.into_iter().enumerate().map(call).collect();
    completion(asked, json!({"role": "assistant", "content": null, "tool_calls": calls}), "tool_calls")
}

#[expect(clippy::needless_pass_by_value, reason = "the message moves into the answer")]
fn completion(asked: &Asked, message: Value, finish: &str) -> Response {
    let answer = json!({
        "id": format!("chatcmpl-{}", asked.number), "object": "chat.completion", "created": 1_700_000_000,
        "model": asked.body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    });
    ([("content-type", "application/json")], answer.to_string()).into_response()
}

fn messages(body: &Value) -> impl Iterator<Item = &Value> {
    body["messages"].as_array().into_iter().flatten()
}

/// The word of the first user message that begins with [`MARKER`].
fn marker(body: &Value) -> String {
    let first = messages(body).find(|message| message["role"] == "user");
    let text = first.and_then(|message| message["content"].as_str()).unwrap_or_default();
    text.split_whitespace().find(|word| word.starts_with(MARKER)).unwrap_or_default().to_owned()
}

fn turns(body: &Value) -> usize {
    messages(body).filter(|message| message["role"] == "assistant").count()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(server: &ModelStandIn, messages: Value) -> (u16, Value) {
        crate::tls();
        let url = format!("{}/chat/completions", server.base_url());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.post(url).json(&json!({"model": "m", "messages": messages})).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    #[tokio::test]
    async fn every_call_has_a_number_of_its_own_and_is_remembered() {
        let server = ModelStandIn::start(|asked| {
            let answer = match asked.turn {
                0 => Answer::Tool("clock", json!({})),
                1 => Answer::Text("done".into()),
                _ => Answer::Status(503),
            };
            (Duration::ZERO, answer)
        })
        .await;
        let question = json!({"role": "user", "content": "please do task-7 now"});
        let said = json!({"role": "assistant", "content": "hm"});
        let (_, first) = ask(&server, json!([{"role": "system", "content": "task-9"}, question])).await;
        let (_, second) = ask(&server, json!([question, said])).await;
        let (status, _) = ask(&server, json!([question, said, said])).await;
        assert_eq!(first["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "clock");
        assert_eq!((first["id"].as_str(), second["id"].as_str()), (Some("chatcmpl-1"), Some("chatcmpl-2")));
        assert_eq!(second["choices"][0]["message"]["content"], "done");
        assert_eq!(status, 503);
        let calls: Vec<_> = server.calls().into_iter().map(|call| (call.task, call.turn, call.number)).collect();
        assert_eq!(calls, [("task-7".to_owned(), 0, 1), ("task-7".to_owned(), 1, 2), ("task-7".to_owned(), 2, 3)]);
    }
}
