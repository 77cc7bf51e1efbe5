//! The course of a node: it serves, then it drains; never back.
//!
//! One for each node, made when its doors open. The doors read it, to tell whether they are ready and to refuse new work; and a drain may
//! be asked for from outside (`POST /v1/nodes/{name}:drain`), which whoever runs the node waits for beside the signals.
//! To ask twice is to ask once.

use std::sync::Arc;

use tokio::sync::watch;

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It takes work.
    Ready,
    /// It takes no more work and ends what it has in hand.
    Draining,
}

/// The one phase of a node, for everybody. Clones share it.
#[derive(Debug, Clone)]
pub struct Course(Arc<watch::Sender<Phase>>);

impl Default for Course {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Ready)))
    }
}

impl Course {
    /// Its phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Whether the node takes work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Ready
    }

    /// The node is to drain.
    pub fn drain(&self) {
        self.0.send_replace(Phase::Draining);
    }

    /// Waits until the node is to drain; at once when it is.
    pub async fn drains(&self) {
        // Cannot fail: the sender is in our hand.
        self.0.subscribe().wait_for(|phase| *phase == Phase::Draining).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_course_goes_one_way() {
        let course = Course::default();
        assert!(course.is_ready());
        let asked = course.clone();
        let waits = tokio::spawn(async move { asked.drains().await });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished(), "nobody has asked yet");
        course.drain();
        waits.await.unwrap();
        course.drain();
        assert_eq!(course.phase(), Phase::Draining, "to ask twice is to ask once");
        course.drains().await;
    }
}
