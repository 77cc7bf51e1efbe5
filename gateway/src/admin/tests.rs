//! The admin API over real HTTP, on a real troupe with embedded parts and scripted models.
//!
//! Each story opens a house of its own in a temporary folder; nothing is shared and nothing leaves 127.0.0.1.

mod agents;
mod doors;
mod letters;
mod parts;
mod results;
mod runs;
mod tasks;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use troupe_actors::stage;
use troupe_actors::troupe::Troupe;
use troupe_runtime::config::{Agents, parse_agent};
use troupe_runtime::model::{ModelOptions, Models};
use troupe_runtime::ports;
use troupe_runtime::secret::Secrets;
use troupe_runtime::telemetry::Metrics;
use troupe_runtime::tool::Tools;

use super::*;
use crate::listener::{Bound, Listener, ListenerOptions};
use crate::spool;

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers at once; to `wait` it answers late, to `stop` never, to `look` after a look at the clock.
const ECHO: &str = "
name: echo
type: parrot
execution_mode: autonomous
retries: 0
llm_config:
  provider: scripted
  model: script
  script:
    - {when: '^wait', reply: 'late', delay: 400ms}
    - {when: '^stop', reply: 'never', delay: 60s}
    - {when: '^fail', fail: 400}
    - {when: '^look', tool: {name: clock}}
    - {reply: 'you said {input}'}
tools: [{builtin: clock}]
";
const KEEPER: &str = "
name: keeper
type: assistant
execution_mode: continuous
llm_config: {provider: scripted, model: script, script: [{reply: kept}]}
";

/// A node's admin door, with the public one beside it.
struct House {
    admin: SocketAddr,
    public: SocketAddr,
    troupe: Troupe,
    course: Course,
    http: reqwest::Client,
    _doors: [Listener; 2],
    _dir: TempDir,
}

/// An answer, read.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect(&self.text)
    }

    /// The detail of a problem that has exactly this status.
    #[track_caller]
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], status);
        assert!(body["type"].as_str().unwrap().starts_with("urn:troupe:problem:"), "{body}");
        assert!(!body["title"].as_str().unwrap().is_empty());
        body["detail"].as_str().unwrap().to_owned()
    }
}

impl House {
    async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    async fn open_with(change: impl FnOnce(&mut Setup)) -> Self {
        let house = Self::open_as(change).await;
        house.settled().await;
        house
    }

    async fn open_as(change: impl FnOnce(&mut Setup)) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let dir = tempfile::tempdir().unwrap();
        let of_models = ModelOptions::default();
        let models = Models::new(Secrets::default(), Models::client(&of_models).unwrap(), of_models).unwrap();
        let (options, tools, metrics) = (ports::Options::default(), Tools::default(), Metrics::new());
        let ports = Ports::open(dir.path(), options, models, tools, metrics).await.unwrap();
        let spec = |text: &str| parse_agent("agent.yaml", text, &Agents::default()).unwrap();
        let specs = vec![spec(ECHO), spec(KEEPER)];
        let ports = Arc::new(ports);
        let spool = Spool::open(&dir.path().join("spool"), ports.bus.clone(), spool::Options::default()).await.unwrap();
        let started = Troupe::start(ports, specs, stage::Options::default(), Vec::new()).await;
        let (troupe, _over) = started.unwrap();
        spool.begin();
        let course = Course::default();
        let mut setup = Setup {
            troupe: troupe.clone(),
            spool,
            node: "node-1".into(),
            token: None.into(),
            course: course.clone(),
            config: Arc::new(|| ConfigReport { agents: 2, ..ConfigReport::default() }),
            redact: Arc::new(|text| {
                if text.contains("hunter2") { Cow::Owned(text.replace("hunter2", "***")) } else { Cow::Borrowed(text) }
            }),
            options: AdminOptions { body_bytes_max: 4096, health_fresh: Duration::ZERO, ..AdminOptions::default() },
        };
        change(&mut setup);
        let api = Admin::new(setup);
        let (admin, one) = serve(router(api.clone())).await;
        let (public, other) = serve(public_health(api)).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { admin, public, troupe, course, http, _doors: [one, other], _dir: dir }
    }

    /// With a token, which everything that follows must send by itself.
    async fn open_behind(token: &str) -> Self {
        Self::open_as(|setup| setup.token = Some(token.into()).into()).await
    }

    async fn settled(&self) {
        self.until("/v1/agents?status=ready", |body| body["items"].as_array().unwrap().len() == 2).await;
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.admin)).timeout(PATIENCE)
    }

    async fn get(&self, path: &str) -> Answer {
        sent(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str) -> Answer {
        sent(self.request(Method::POST, path)).await
    }

    async fn send(&self, path: &str, body: &Value) -> Answer {
        sent(self.request(Method::POST, path).json(body)).await
    }

    /// Asks the echo and answers its task, ended.
    async fn echoed(&self, text: &str) -> Value {
        let answer = self.send("/v1/agents/echo/tasks?wait=20s", &json!({"input": text})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// Asks again until the answer is as it should become.
    async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                let answer = self.get(path).await;
                if answer.status == 200 && holds(&answer.json()) {
                    return answer.json();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("what the test waits for does not happen")
    }
}

async fn serve(router: Router) -> (SocketAddr, Listener) {
    let limits = ListenerOptions { connections_max: 64, head_timeout: PATIENCE, grace: Duration::ZERO };
    let bound = Bound::to(SocketAddr::from(([127, 0, 0, 1], 0)), "TROUPE_ADMIN_ADDR").await.unwrap();
    (bound.addr(), bound.serve(router, limits))
}

async fn sent(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}
