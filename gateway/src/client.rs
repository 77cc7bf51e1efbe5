//! The CLI's side of the admin API: thin, typed where it fails, JSON where it answers.
//!
//! Answers stay JSON values, so that `-o json` shows what the node said and a newer node can say more than this client
//! knows. Every call has a limit. A node that is not there is the most usual failure and has a line of its own. Who
//! calls: the verbs of [`crate::cli`] and the demo.

mod delivery;
mod problem;
mod tail;

use std::time::Duration;

use futures::StreamExt as _;
use reqwest::{Method, RequestBuilder, Response, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

pub use problem::Problem;
pub use tail::{Shown, Tail};

/// Where the node is, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The admin listener.
    pub url: String,
    /// The bearer token, where one is set.
    pub token: Option<SecretString>,
    /// Limit of making a connection.
    pub connect_timeout: Duration,
    /// Limit of one call; a long poll gets its wait on top.
    pub timeout: Duration,
    /// Largest answer that is read, in bytes.
    pub body_bytes_max: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8081".to_owned(),
            token: None,
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(15),
            body_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// A node's admin API.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    options: ClientOptions,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("{url:?} is no address of a node ({why}); write --url http://127.0.0.1:8081")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody listens there.
    #[error("no node answers at {0}; start one with `troupe up`")]
    NoNode(String),
    /// It took the call and did not answer in time.
    #[error("the node at {url} did not answer within {} s; look at `troupe doctor`", limit.as_secs())]
    TimedOut {
        /// Which node.
        url: String,
        /// The limit.
        limit: Duration,
    },
    /// It answered that it will not.
    #[error("{0}")]
    Refused(Problem),
    /// The connection broke.
    #[error("the connection to the node at {url} broke: {why}")]
    Broken {
        /// Which node.
        url: String,
        /// How.
        why: String,
    },
    /// Something answers that is no node of ours, or a node of another version.
    #[error("{url} answers, but not as a node of Troupe does: {why}; check --url")]
    NotOurs {
        /// Which address.
        url: String,
        /// What is odd about it.
        why: String,
    },
}

impl Error {
    /// Whether the same call may succeed in a moment, as when the node is being started again.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::NoNode(_) | Self::Broken { .. } | Self::TimedOut { .. } => true,
            Self::Refused(problem) => matches!(problem.status, 429 | 503),
            Self::BadUrl { .. } | Self::NotOurs { .. } => false,
        }
    }
}

/// What is asked of an agent.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// The question.
    pub input: String,
    /// 0–9.
    pub priority: Option<u8>,
    /// Which conversation it belongs to.
    pub session: Option<String>,
    /// The same key for the same agent leads to the same task, so the call may be repeated.
    pub idempotency_key: String,
}

impl Client {
    /// A client; nothing is connected yet.
    pub fn new(options: ClientOptions) -> Result<Self, Error> {
        let bad = |why: String| Error::BadUrl { url: options.url.clone(), why };
        let base = Url::parse(&options.url).map_err(|error| bad(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(bad("it begins with neither http:// nor https://".to_owned()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .user_agent(concat!("troupe/", env!("CARGO_PKG_VERSION")))
            // The admin API redirects nowhere; a token must not follow a stranger.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| bad(causes(&error)))?;
        Ok(Self { http, base, options })
    }

    /// The address that is asked.
    #[must_use]
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Agents, filtered by `status`, `type` and `execution_mode`.
    pub async fn agents(&self, filter: &[(&str, String)]) -> Result<Value, Error> {
        self.get(&["v1", "agents"], filter).await
    }

    /// One agent.
    pub async fn agent(&self, name: &str) -> Result<Value, Error> {
        self.get(&["v1", "agents", name], &[]).await
    }

    /// Acts on an agent: `restart`, `pause` or `resume`.
    pub async fn act_on_agent(&self, name: &str, verb: &str) -> Result<Value, Error> {
        self.post(&["v1", "agents", &format!("{name}:{verb}")]).await
    }

    /// Drops the queue of an agent that is gone from the configuration.
    pub async fn drop_agent(&self, name: &str) -> Result<Value, Error> {
        self.answer(self.request(Method::DELETE, &["v1", "agents", name], &[]), Duration::ZERO).await
    }

    /// Submits a task and answers at once with what it is called.
    pub async fn submit(&self, agent: &str, ask: &Ask) -> Result<Value, Error> {
        let mut body = json!({"input": ask.input});
        if let Some(priority) = ask.priority {
            body["priority"] = priority.into();
        }
        if let Some(session) = &ask.session {
            body["session"] = session.as_str().into();
        }
        let request = self.request(Method::POST, &["v1", "agents", agent, "tasks"], &[]).json(&body);
        self.answer(request.header("idempotency-key", &ask.idempotency_key), Duration::ZERO).await
    }

    /// Tasks, filtered by `status`, `agent`, `since`, `cursor` and `limit`.
    pub async fn tasks(&self, filter: &[(&str, String)]) -> Result<Value, Error> {
        self.get(&["v1", "tasks"], filter).await
    }

    /// One task by its id or the beginning of it; waits up to `wait` for its end.
    pub async fn task(&self, id: &str, wait: Duration) -> Result<Value, Error> {
        let query = if wait.is_zero() { Vec::new() } else { vec![("wait", format!("{}ms", wait.as_millis().max(1)))] };
        self.answer(self.request(Method::GET, &["v1", "tasks", id], &query), wait).await
    }

    /// How a run stands.
    pub async fn run(&self, id: &str) -> Result<Value, Error> {
        self.get(&["v1", "runs", id], &[]).await
    }

    /// A run's journal, replayed by the node.
    pub async fn replay_run(&self, id: &str) -> Result<Value, Error> {
        self.post(&["v1", "runs", &format!("{id}:replay")]).await
    }

    /// Makes a fork of a run: `from_step` or `from_entry`, and `set`.
    pub async fn fork_run(&self, id: &str, body: &Value, key: &str) -> Result<Value, Error> {
        let request = self.request(Method::POST, &["v1", "runs", &format!("{id}:fork")], &[]).json(body);
        self.answer(request.header("idempotency-key", key), Duration::ZERO).await
    }

    /// The journal of a run.
    pub async fn journal(&self, run: &str) -> Result<Value, Error> {
        self.get(&["v1", "runs", run, "journal"], &[]).await
    }

    /// Results, filtered by `agent`, `status`, `since`, `until`, `cursor` and `limit`.
    pub async fn results(&self, filter: &[(&str, String)]) -> Result<Value, Error> {
        self.get(&["v1", "results"], filter).await
    }

    /// One result by the id of its step, its run or its task, or the beginning of it.
    pub async fn result(&self, id: &str) -> Result<Value, Error> {
        self.get(&["v1", "results", id], &[]).await
    }

    /// The sessions that an agent remembers something of, filtered by `cursor` and `limit`.
    pub async fn sessions(&self, agent: &str, filter: &[(&str, String)]) -> Result<Value, Error> {
        self.get(&["v1", "state", agent], filter).await
    }

    /// What an agent remembers of one session.
    pub async fn session(&self, agent: &str, session: &str) -> Result<Value, Error> {
        self.get(&["v1", "state", agent, session], &[]).await
    }

    /// Drops what is kept ready of an agent's memory; what it remembers stays.
    pub async fn flush_state(&self, agent: &str) -> Result<Value, Error> {
        self.post(&["v1", "state", &format!("{agent}:flush")]).await
    }

    /// Every actor, a parent before its children.
    pub async fn actors(&self) -> Result<Value, Error> {
        self.get(&["v1", "actors"], &[]).await
    }

    /// One actor, with its falls.
    pub async fn actor(&self, path: &str) -> Result<Value, Error> {
        let segments: Vec<&str> = ["v1", "actors"].into_iter().chain(path.trim_matches('/').split('/')).collect();
        self.get(&segments, &[]).await
    }

    /// Acts on an actor: `kill` cuts it off, as a crash would; `restart` has it started again.
    pub async fn act_on_actor(&self, path: &str, verb: &str) -> Result<Value, Error> {
        let marked = format!("{}:{verb}", path.trim_matches('/'));
        let segments: Vec<&str> = ["v1", "actors"].into_iter().chain(marked.split('/')).collect();
        self.post(&segments).await
    }

    /// The nodes of the database.
    pub async fn nodes(&self) -> Result<Value, Error> {
        self.get(&["v1", "nodes"], &[]).await
    }

    /// Has a node drain and end; it answers before it does.
    pub async fn drain_node(&self, name: &str) -> Result<Value, Error> {
        self.post(&["v1", "nodes", &format!("{name}:drain")]).await
    }

    /// Publishes an event, a `CloudEvent` in JSON.
    pub async fn publish(&self, event: &Value) -> Result<Value, Error> {
        let request = self.request(Method::POST, &["v1", "events"], &[]).json(event);
        self.answer(request.header(header::CONTENT_TYPE, "application/cloudevents+json"), Duration::ZERO).await
    }

    /// Events as they pass, those at topics that match the pattern.
    pub async fn tail(&self, pattern: &str) -> Result<Tail, Error> {
        let request = self.request(Method::GET, &["v1", "events"], &[("topic", pattern.to_owned())]);
        let limit = self.options.timeout;
        // The limit is for the head of the answer; the rest goes on for as long as it goes on.
        let sent = tokio::time::timeout(limit, request.header(header::ACCEPT, "text/event-stream").send()).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.failed(&error, limit)),
            Err(_) => return Err(Error::TimedOut { url: self.url().to_owned(), limit }),
        };
        Ok(Tail::new(self, self.accepted(response).await?))
    }

    /// Dead letters, newest first.
    pub async fn dead_letters(&self, filter: &[(&str, String)]) -> Result<Value, Error> {
        self.get(&["v1", "dead-letters"], filter).await
    }

    /// One dead letter.
    pub async fn dead_letter(&self, id: &str) -> Result<Value, Error> {
        self.get(&["v1", "dead-letters", id], &[]).await
    }

    /// Puts a dead letter's event into its queue again.
    pub async fn replay(&self, id: &str) -> Result<Value, Error> {
        self.post(&["v1", "dead-letters", &format!("{id}:replay")]).await
    }

    /// Removes a dead letter.
    pub async fn purge(&self, id: &str) -> Result<Value, Error> {
        self.answer(self.request(Method::DELETE, &["v1", "dead-letters", id], &[]), Duration::ZERO).await
    }

    /// The health of the node's parts; an unhealthy node is an answer, not an error.
    pub async fn health(&self) -> Result<Value, Error> {
        let response = self.send(self.request(Method::GET, &["health"], &[]), Duration::ZERO).await?;
        let bytes = self.body(response).await?;
        self.read(&bytes)
    }

    /// The metrics, in Prometheus' text.
    pub async fn metrics(&self) -> Result<String, Error> {
        let response = self.send(self.request(Method::GET, &["metrics"], &[]), Duration::ZERO).await?;
        let response = self.accepted(response).await?;
        Ok(String::from_utf8_lossy(&self.body(response).await?).into_owned())
    }

    async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Error> {
        self.answer(self.request(Method::GET, path, query), Duration::ZERO).await
    }

    async fn post(&self, path: &[&str]) -> Result<Value, Error> {
        self.answer(self.request(Method::POST, path, &[]), Duration::ZERO).await
    }

    /// A request whose path is these segments; what a person typed stays one segment.
    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url).header(header::ACCEPT, "application/json");
        match &self.options.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    /// Sends, and reads the answer as JSON; an empty one is `null`.
    async fn answer(&self, request: RequestBuilder, wait: Duration) -> Result<Value, Error> {
        let response = self.send(request, wait).await?;
        let response = self.accepted(response).await?;
        let bytes = self.body(response).await?;
        if bytes.is_empty() { Ok(Value::Null) } else { self.read(&bytes) }
    }

    async fn send(&self, request: RequestBuilder, wait: Duration) -> Result<Response, Error> {
        let limit = self.options.timeout.saturating_add(wait);
        request.timeout(limit).send().await.map_err(|error| self.failed(&error, limit))
    }

    fn failed(&self, error: &reqwest::Error, limit: Duration) -> Error {
        let url = self.url().to_owned();
        if error.is_connect() {
            Error::NoNode(url)
        } else if error.is_timeout() {
            Error::TimedOut { url, limit }
        } else {
            Error::Broken { url, why: causes(error) }
        }
    }

    /// The response when it is a good one, else the problem that it tells.
    async fn accepted(&self, response: Response) -> Result<Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            return Err(self.not_ours(format!("it redirects with status {}", status.as_u16())));
        }
        let body = self.body(response).await?;
        Err(Error::Refused(Problem::read(status.as_u16(), &body)))
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.failed(&error, self.options.timeout))?;
            if bytes.len() + chunk.len() > self.options.body_bytes_max {
                return Err(self.not_ours(format!("its answer is over {} bytes", self.options.body_bytes_max)));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn read(&self, bytes: &[u8]) -> Result<Value, Error> {
        serde_json::from_slice(bytes).map_err(|error| self.not_ours(format!("its answer is no JSON ({error})")))
    }

    fn not_ours(&self, why: String) -> Error {
        Error::NotOurs { url: self.url().to_owned(), why }
    }
}

/// The things of a list answer: the answer itself, or the one list in it (`{"agents": […], "next": …}`).
#[must_use]
pub fn items(body: &Value) -> &[Value] {
    let list = body.as_array().or_else(|| body.as_object()?.values().find_map(Value::as_array));
    list.map_or(&[], Vec::as_slice)
}

/// An error with what caused it; reqwest's own text leaves that out.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
