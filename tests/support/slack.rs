//! Slack's side of a test: signed requests out, with the patience of somebody who presses Enter again.

use std::time::Duration;

use reqwest::Client;
use troupe_gateway::stand_in::requests::SignedRequest;

/// Longest wait for one answer: Slack itself waits 3 s.
const ANSWER: Duration = Duration::from_secs(3);

/// A client that keeps no connections to a node that may be dead.
///
/// # Panics
/// When no HTTP client can be made.
#[must_use]
pub fn client() -> Client {
    crate::tls();
    let client = Client::builder().no_proxy().timeout(ANSWER).pool_max_idle_per_host(0).build();
    client.expect("an HTTP client")
}

/// Sends a request once: its status and body; `None` when the connection broke.
pub async fn send(client: &Client, url: &str, request: &SignedRequest) -> Option<(u16, String)> {
    let mut post = client.post(url).body(request.body.clone());
    for (name, value) in &request.headers {
        post = post.header(*name, value);
    }
    let answer = post.send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.text().await.ok()?))
}
