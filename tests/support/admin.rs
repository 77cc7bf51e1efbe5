//! The admin API over plain HTTP, as any program would use it: what is checked here is the wire, not our own client.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// Tasks of one page.
const PAGE: usize = 100;
/// Longest wait for one answer, beyond what a call asks for itself.
const ANSWER: Duration = Duration::from_secs(30);

/// A node's admin API.
#[derive(Debug, Clone)]
pub struct Admin {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Admin {
    /// At this address.
    ///
    /// # Panics
    /// When no HTTP client can be made.
    #[must_use]
    pub fn new(base: &str) -> Self {
        crate::tls();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER)
            // A node that was killed leaves dead connections behind; the next question must not wait on one.
            .pool_max_idle_per_host(0)
            .build()
            .expect("an HTTP client");
        Self { http, base: base.to_owned(), token: None }
    }

    /// The same, with a bearer token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// The status of a GET; `None` when nobody answers.
    pub async fn status(&self, path: &str) -> Option<u16> {
        self.request(Method::GET, path).send().await.ok().map(|answer| answer.status().as_u16())
    }

    /// GET: status and body; `None` when nobody answers.
    pub async fn try_get(&self, path: &str) -> Option<(u16, Value)> {
        read(self.request(Method::GET, path)).await
    }

    /// GET: status and body.
    ///
    /// # Panics
    /// When nobody answers.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.try_get(path).await.unwrap_or_else(|| panic!("no answer to GET {path}"))
    }

    /// GET as text.
    ///
    /// # Panics
    /// When nobody answers.
    pub async fn text(&self, path: &str) -> String {
        let answer = self.request(Method::GET, path).send().await;
        answer.expect("an answer").text().await.expect("a text")
    }

    /// POST: status and body.
    ///
    /// # Panics
    /// When nobody answers.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
        let mut request = self.request(Method::POST, path).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request).await.unwrap_or_else(|| panic!("no answer to POST {path}"))
    }

    /// All tasks of an agent, page by page; `None` when the node went away meanwhile.
    pub async fn tasks(&self, agent: &str) -> Option<Vec<Value>> {
        let (mut tasks, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.try_get(&format!("/v1/tasks?agent={agent}&limit={PAGE}{cursor}")).await?;
            let (200, page) = page else { return None };
            tasks.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Some(tasks),
            }
        }
    }

    /// The entries of a run's journal.
    ///
    /// # Panics
    /// When there is no such journal.
    pub async fn journal(&self, run: &str) -> Vec<Value> {
        let (status, body) = self.get(&format!("/v1/runs/{run}/journal")).await;
        assert_eq!(status, 200, "the journal of run {run}: {body}");
        body["entries"].as_array().cloned().unwrap_or_else(|| panic!("no entries in {body}"))
    }
}

async fn read(request: RequestBuilder) -> Option<(u16, Value)> {
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.ok()?;
    let body = serde_json::from_slice(&bytes);
    Some((status, body.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))))
}
