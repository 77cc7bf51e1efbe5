//! `http_get`: reads a page of the hosts that the spec allows.
//!
//! What a model writes is not trusted: it may have been told what to write by a page it read. So each address is checked
//! before anything is sent, and again at each redirect: scheme, no user name, a host of the list, and an IP address of
//! the public internet. Names are resolved by the client's own resolver, which hands out checked addresses only, so there
//! is no second look-up that could say something else. What goes wrong is told to the model.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, LOCATION};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::time::timeout;
use url::{Host, Url};

use crate::domain::journal::Effect;

use super::{Answer, Error, Invocation, Tool};

mod address;
mod hosts;

use hosts::Hosts;

/// Reading changes nothing; but a server that counts or bills calls can tell a repeated one.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The limits of `http_get`.
#[derive(Debug, Clone, Copy)]
pub struct HttpGetOptions {
    /// Limit of a call with all its redirects; the step's own time counts too.
    pub timeout: Duration,
    /// Limit of making a connection.
    pub connect_timeout: Duration,
    /// Longest body that is read, in bytes.
    pub body_bytes_max: usize,
    /// Redirects that are followed.
    pub redirects_max: u32,
    /// For tests against a local server: lets loopback addresses pass. Never set by a node.
    pub allow_loopback: bool,
}

impl Default for HttpGetOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(5),
            body_bytes_max: 1024 * 1024,
            redirects_max: 5,
            allow_loopback: false,
        }
    }
}

impl HttpGetOptions {
    /// The client of the tool. Follows no redirects by itself, uses no proxy (it would resolve names on its own), and
    /// unpacks nothing, so a body is as long as it is on the wire.
    pub(super) fn client(&self) -> Result<Client, Error> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let message = "no TLS provider is installed; main must install one first".to_owned();
            return Err(Error::Client { message });
        }
        Client::builder()
            .user_agent(concat!("troupe/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(self.connect_timeout)
            .dns_resolver(CheckedResolver { allow_loopback: self.allow_loopback })
            .build()
            .map_err(|error| Error::Client { message: error.to_string() })
    }
}

/// Reads pages.
pub(super) struct HttpGetTool {
    hosts: Hosts,
    client: Client,
    options: HttpGetOptions,
}

/// Why a page could not be had; the text is for the model.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("`url` must be an absolute http or https address")]
    NoUrl,
    #[error("{0}: only http and https are allowed")]
    Scheme(String),
    #[error("an address with a user name or password is not allowed")]
    UserInfo,
    #[error("{0} is not among the hosts that this agent may reach")]
    Host(String),
    #[error(transparent)]
    NotPublic(#[from] NotPublic),
    #[error("gave up after {0} redirects")]
    Redirects(u32),
    #[error("the server answered {0} without a usable place to go on")]
    Location(u16),
    #[error("the body is longer than body_bytes_max = {0} bytes")]
    TooLarge(usize),
    #[error("the body is {0}, not text")]
    NotText(String),
    #[error("no answer from {host}: {message}")]
    Network { host: String, message: String },
}

/// An address that is none of the public internet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} leads to {address}, which is not an address of the public internet")]
struct NotPublic {
    host: String,
    address: IpAddr,
}

impl HttpGetTool {
    /// For these hosts.
    pub(super) fn new(hosts: &[String], client: Client, options: HttpGetOptions) -> Result<Self, Error> {
        Ok(Self { hosts: Hosts::parse(hosts)?, client, options })
    }

    async fn fetch(&self, arguments: &Value, key: &str) -> Result<Answer, Refusal> {
        let text = arguments.get("url").and_then(Value::as_str).ok_or(Refusal::NoUrl)?;
        let mut url = Url::parse(text.trim()).map_err(|_| Refusal::NoUrl)?;
        for _ in 0..=self.options.redirects_max {
            url.set_fragment(None);
            self.check(&url)?;
            let request = self.client.get(url.clone()).header(IDEMPOTENCY_KEY, key);
            let response = request.send().await.map_err(|error| network(&url, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return self.read(response, &url).await;
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url = next.ok_or_else(|| Refusal::Location(response.status().as_u16()))?;
        }
        Err(Refusal::Redirects(self.options.redirects_max))
    }

    /// All that can be said of an address before its name is resolved.
    fn check(&self, url: &Url) -> Result<(), Refusal> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo);
        }
        if !self.hosts.allow(url) {
            return Err(Refusal::Host(authority(url)));
        }
        // A name is checked by the resolver; an address never gets there.
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        Ok(checked(&authority(url), address, self.options.allow_loopback)?)
    }

    async fn read(&self, mut response: Response, url: &Url) -> Result<Answer, Refusal> {
        let limit = self.options.body_bytes_max;
        let status = response.status();
        let kind = content_type(response.headers());
        if let Some(kind) = kind.as_deref().filter(|kind| !is_text(kind)) {
            return Err(Refusal::NotText(kind.to_owned()));
        }
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(Refusal::TooLarge(limit));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| network(url, error))? {
            if body.len() + chunk.len() > limit {
                return Err(Refusal::TooLarge(limit));
            }
            body.extend_from_slice(&chunk);
        }
        if kind.is_none() && body.contains(&0) {
            return Err(Refusal::NotText("of no named type".to_owned()));
        }
        // Pages that are not UTF-8 are rare; their odd characters are marked as such.
        let body = String::from_utf8_lossy(&body);
        let kind = kind.map(|kind| format!("content-type: {kind}\n")).unwrap_or_default();
        let content = format!("status: {status}\nurl: {url}\n{kind}\n{body}");
        Ok(Answer { content, is_error: !status.is_success() })
    }
}

#[async_trait]
impl Tool for HttpGetTool {
    fn name(&self) -> &'static str {
        "http_get"
    }

    fn description(&self) -> &'static str {
        "Reads a text page by HTTP GET and returns its status and body. Only certain hosts can be reached."
    }

    fn parameters(&self) -> Value {
        json!({
            "type": "object",
            "properties": {"url": {"type": "string", "description": "An absolute http or https address."}},
            "required": ["url"],
            "additionalProperties": false
        })
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    async fn call(&self, invocation: Invocation) -> Answer {
        let limit = self.options.timeout.min(invocation.time_left);
        match timeout(limit, self.fetch(&invocation.arguments, &invocation.idempotency_key)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(refusal)) => Answer::error(refusal.to_string()),
            Err(_) => Answer::error(format!("the page did not come within {limit:?}")),
        }
    }
}

/// Resolves names as the system does, and refuses a name when any of its addresses is not public.
struct CheckedResolver {
    allow_loopback: bool,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_loopback = self.allow_loopback;
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &addresses {
                checked(name.as_str(), address.ip(), allow_loopback)?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn checked(host: &str, address: IpAddr, allow_loopback: bool) -> Result<(), NotPublic> {
    if address::is_reachable(address, allow_loopback) {
        return Ok(());
    }
    Err(NotPublic { host: host.to_owned(), address })
}

/// What the network said last; or that our own resolver refused the name.
fn network(url: &Url, error: reqwest::Error) -> Refusal {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
        if let Some(not_public) = cause.downcast_ref::<NotPublic>() {
            return not_public.clone().into();
        }
    }
    Refusal::Network { host: authority(url), message: cause.to_string() }
}

/// Host and port, as an error names them.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or("no host");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!kind.is_empty()).then_some(kind)
}

fn is_text(kind: &str) -> bool {
    let named = ["json", "xml", "javascript", "yaml", "x-yaml", "toml", "x-ndjson", "graphql", "sql"];
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || kind.strip_prefix("application/").is_some_and(|rest| named.contains(&rest))
}

#[cfg(test)]
mod tests;
