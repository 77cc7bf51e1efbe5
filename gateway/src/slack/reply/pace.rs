//! How long Slack asked us to wait, by method and workspace: Slack limits each pair for itself.
//!
//! Kept in memory: a node that starts anew learns it from its first 429.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};

/// The waits that Slack has asked for.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<HashMap<(&'static str, String), Instant>>);

impl Pace {
    /// Slack wants nothing more of this for so long.
    pub(super) fn slow_down(&self, method: &'static str, team: &str, wait: Duration) {
        let now = Instant::now();
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What has passed is forgotten here, so that the map holds at most what Slack limits right now.
        waits.retain(|_, until| *until > now);
        let until = waits.entry((method, team.to_owned())).or_insert(now);
        *until = (*until).max(now + wait);
    }

    /// Until when nothing may be sent, if that is still to come.
    pub(super) fn until(&self, method: &'static str, team: &str) -> Option<Instant> {
        let waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.get(&(method, team.to_owned())).copied().filter(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_holds_for_its_method_and_workspace_and_is_never_shortened() {
        let pace = Pace::default();
        pace.slow_down("chat.postMessage", "T1", Duration::from_secs(30));
        pace.slow_down("chat.postMessage", "T1", Duration::from_secs(3));
        let until = pace.until("chat.postMessage", "T1").unwrap();
        assert_eq!(until, Instant::now() + Duration::from_secs(30));
        assert_eq!(pace.until("response_url", "T1"), None);
        assert_eq!(pace.until("chat.postMessage", "T2"), None);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(pace.until("chat.postMessage", "T1"), None);
        pace.slow_down("response_url", "T1", Duration::from_secs(1));
        assert_eq!(pace.0.lock().unwrap().len(), 1);
    }
}
