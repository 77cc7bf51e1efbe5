//! The hold that a node has on its lease: what everybody looks at before they begin anything.
//!
//! Handed down with the stage, written by the lease's actor alone. Whether the lease is held is read off the monotonic
//! clock at the moment of asking: a process that was frozen knows it before anybody has had a turn to tell it. The
//! node lets go a little before the database would (a tenth of the time), whatever the database says or does not say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use troupe_runtime::domain::step::Incarnation;

/// The part of a lease's time by which the node lets go before the database does: for clocks that run unevenly, and
/// for what was begun at the last moment.
const MARGIN: u32 = 10;

/// How a node stands to its lease. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hold {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    standing: watch::Sender<Standing>,
    lapses: AtomicU64,
}

/// What the lease's actor has heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Held until this moment of the monotonic clock, and without a gap since that one.
    Until { own: Incarnation, since: Instant, until: Instant },
    /// Another has ended this incarnation; the next one is about to begin.
    Over(Incarnation),
    /// Another process has started under the node's name.
    Superseded(Incarnation),
}

impl Hold {
    /// The hold of `own`, which was asked for at `asked` for `ttl`.
    #[must_use]
    pub fn new(own: Incarnation, asked: Instant, ttl: Duration) -> Self {
        let standing = Standing::Until { own, since: asked, until: end(asked, ttl) };
        Self { shared: Arc::new(Shared { standing: watch::Sender::new(standing), lapses: AtomicU64::new(0) }) }
    }

    /// The node's incarnation, while its lease is held.
    #[must_use]
    pub fn own(&self) -> Option<Incarnation> {
        match self.standing() {
            Standing::Until { own, until, .. } if Instant::now() < until => Some(own),
            _ => None,
        }
    }

    /// The node's incarnation, held or not; the last one when it is over.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        match self.standing() {
            Standing::Until { own, .. } | Standing::Over(own) | Standing::Superseded(own) => own,
        }
    }

    /// Waits until the lease is held; answers for whom. Cancelling it changes nothing.
    pub async fn held(&self) -> Incarnation {
        let mut news = self.shared.standing.subscribe();
        loop {
            if let Some(own) = self.own() {
                return own;
            }
            // Without an error: its sender lives as long as this.
            news.changed().await.ok();
        }
    }

    /// Waits until the lease is not held. Cancelling it changes nothing.
    pub async fn lapsed(&self) {
        while let Standing::Until { until, .. } = self.standing() {
            if Instant::now() >= until {
                return;
            }
            let mut news = self.shared.standing.subscribe();
            tokio::select! {
                () = sleep_until(until) => {}
                changed = news.changed() => drop(changed),
            }
        }
    }

    /// Whether it has been held for at least this long without a gap: who was away itself must give the others the time
    /// to come back before it takes them for dead.
    #[must_use]
    pub fn is_settled(&self, after: Duration) -> bool {
        match self.standing() {
            Standing::Until { since, until, .. } => Instant::now() < until && since.elapsed() >= after,
            Standing::Over(_) | Standing::Superseded(_) => false,
        }
    }

    /// Whether another process has the node's name: this one is to end.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        matches!(self.standing(), Standing::Superseded(_))
    }

    /// Times that the lease was not held for a while.
    #[must_use]
    pub fn lapses(&self) -> u64 {
        self.shared.lapses.load(Ordering::Relaxed)
    }

    /// How it stands, in a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.standing() {
            Standing::Until { until, .. } if Instant::now() < until => "held",
            Standing::Until { .. } => "lapsed",
            Standing::Over(_) => "over",
            Standing::Superseded(_) => "superseded",
        }
    }

    pub(super) fn standing(&self) -> Standing {
        *self.shared.standing.borrow()
    }

    /// The lease is held by `own` for `ttl` from when it was asked for. Answers whether it was held until now.
    pub(super) fn renewed(&self, own: Incarnation, asked: Instant, ttl: Duration) -> bool {
        let now = Instant::now();
        let since = match self.standing() {
            Standing::Until { since, until, .. } if now < until => Some(since),
            _ => None,
        };
        if since.is_none() {
            self.shared.lapses.fetch_add(1, Ordering::Relaxed);
        }
        let standing = Standing::Until { own, since: since.unwrap_or(now), until: end(asked, ttl) };
        self.shared.standing.send_replace(standing);
        since.is_some()
    }

    pub(super) fn over(&self, former: Incarnation) {
        self.shared.standing.send_replace(Standing::Over(former));
    }

    pub(super) fn superseded(&self, former: Incarnation) {
        self.shared.standing.send_replace(Standing::Superseded(former));
    }
}

/// When a node lets go of a lease that was asked for at `asked`: its time may have begun then.
fn end(asked: Instant, ttl: Duration) -> Instant {
    asked + ttl.saturating_sub(ttl / MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);
    const OWN: Incarnation = Incarnation(4);

    #[tokio::test(start_paused = true)]
    async fn the_node_lets_go_before_the_database_does_and_nobody_has_to_tell_it() {
        let hold = Hold::new(OWN, Instant::now(), TTL);
        tokio::time::advance(Duration::from_millis(8_999)).await;
        assert_eq!((hold.own(), hold.word()), (Some(OWN), "held"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((hold.own(), hold.word(), hold.incarnation()), (None, "lapsed", OWN));
        hold.lapsed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn time_counts_from_the_question_not_from_the_answer() {
        let hold = Hold::new(OWN, Instant::now(), TTL);
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(8)).await;
        assert!(hold.renewed(OWN, asked, TTL), "it was held until now");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(hold.own(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_on_when_it_is_held_again() {
        let hold = Hold::new(OWN, Instant::now(), TTL);
        tokio::time::advance(TTL).await;
        let waiting = {
            let hold = hold.clone();
            tokio::spawn(async move { hold.held().await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(!hold.renewed(OWN, Instant::now(), TTL), "there was a gap");
        assert_eq!((waiting.await.unwrap(), hold.lapses()), (OWN, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_moves_the_end_and_a_gap_begins_the_time_anew() {
        let hold = Hold::new(OWN, Instant::now(), TTL);
        for _ in 0..4 {
            tokio::time::advance(Duration::from_secs(3)).await;
            hold.renewed(OWN, Instant::now(), TTL);
        }
        assert!(hold.is_settled(Duration::from_secs(12)) && hold.lapses() == 0);
        tokio::time::advance(TTL).await;
        assert!(!hold.is_settled(Duration::ZERO), "not held, so not settled");
        hold.renewed(OWN, Instant::now(), TTL);
        assert!(hold.is_settled(Duration::ZERO) && !hold.is_settled(Duration::from_millis(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_not_held_and_the_next_life_is_another() {
        let hold = Hold::new(OWN, Instant::now(), TTL);
        hold.over(OWN);
        assert_eq!((hold.own(), hold.word(), hold.is_superseded()), (None, "over", false));
        hold.lapsed().await;
        hold.renewed(Incarnation(9), Instant::now(), TTL);
        assert_eq!(hold.held().await, Incarnation(9));
        hold.superseded(Incarnation(9));
        assert!(hold.is_superseded() && hold.own().is_none());
    }
}
