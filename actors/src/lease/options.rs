//! Who holds the lease, and how: a part of the [limits](crate::stage::Options) of the acting side, set by the node file.

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
