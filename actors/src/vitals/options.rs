//! How agent actors are looked after: a part of the [limits](crate::stage::Options) of the acting side.
//!
//! Made from the node file, which names each of them; read by the vitals alone.

use std::time::Duration;

/// How agent actors are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How often each is pinged.
    pub every: Duration,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// Pings in a row without an answer after which it is given up on.
    pub misses_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { every: Duration::from_secs(3), timeout: Duration::from_secs(1), misses_max: 3 }
    }
}
