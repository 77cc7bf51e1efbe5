//! Slack: what it sends us, and what we send back.
//!
//! ```text
//! POST /slack/* ─► ingress ─► signature ─► inbound ─► bus          (a request becomes one event, before the 200)
//! bus ─► reply ─► response_url · chat.postMessage · chat.postEphemeral   (an answer becomes one message)
//! ```
//!
//! Nothing else in the tree speaks Slack's wire. When Slack is away, answers wait on the bus; when the bus is away,
//! Slack waits (it retries events) or the user is told (it does not retry commands).

pub mod inbound;
pub mod ingress;
pub mod reply;
pub mod signature;
#[cfg(test)]
mod testing;

/// The prefix of the `source` of every event from Slack; the workspace follows.
pub const SOURCE_PREFIX: &str = "/slack/";
