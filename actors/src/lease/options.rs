//! Who holds the lease, and how: a part of the [limits](crate::stage::Options) of the acting side.
//!
//! Made from the node file, which names each of them; read by the lease's actor and by those who say which node this is.

use std::time::Duration;

/// Who holds the lease, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's name; a second process that starts under it supersedes the first.
    pub node: String,
    /// How long the lease is held without being renewed.
    pub ttl: Duration,
    /// How often it is renewed.
    pub renew_every: Duration,
    /// How often the node looks for others that are gone.
    pub look_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node: "node".to_owned(),
            ttl: Duration::from_secs(10),
            renew_every: Duration::from_secs(3),
            look_every: Duration::from_secs(1),
        }
    }
}
