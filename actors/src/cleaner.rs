//! The cleaner: deletes journals and tasks that have been kept for long enough, a bounded batch at a time.
//!
//! ```text
//! wait ──► journals, batch by batch ──► tasks, batch by batch ──► wait (`every`, more or less)
//!            └───────── a batch failed ─────────┴──► wait a while, longer each time, and go on at the same place
//! ```
//!
//! Started by the root as its last child, so that nobody stands on it: when it falls it begins anew, and a node whose
//! cleaner stays down does everything else as before. Messaged by its own timer only. What may go is for the store to say
//! ([`Retention`](troupe_runtime::store::Retention)): nothing that is open, nothing that was not told. Between two batches
//! it waits, for in SQLite everybody's writes stand behind a batch; a node without its lease deletes nothing. It is
//! killed when the node stops: a batch is one transaction, done or not done.

pub(crate) mod options;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use ractor_cluster_derive::RactorMessage;
use rand::{Rng, RngExt as _};
use troupe_runtime::retry::{Backoff, BackoffOptions};
use troupe_runtime::store::{self, Cleaned};
use troupe_runtime::supervision::{ChildContext, ChildSpec, Shutdown};
use troupe_runtime::telemetry::metrics::Reading;
use troupe_runtime::telemetry::names;

pub use self::options::Options;
use crate::stage::Stage;

/// Its segment in the tree.
pub(crate) const CLEANER: &str = "cleaner";
/// The part of the time between two rounds within which the first one begins, and the first wait after a failure ends.
const SOON_PART: u32 = 60;
/// The part of the time between two rounds by which it is longer or shorter: nodes that start together part.
const JITTER: f64 = 0.1;

/// The one message: delete the next batch.
#[derive(Debug, Clone, Copy, RactorMessage)]
pub struct Clean;

/// The cleaner.
pub struct Cleaner {
    stage: Arc<Stage>,
    tally: Arc<Tally>,
}

/// What was deleted since the process began; outlives the cleaner's falls.
#[derive(Default)]
struct Tally {
    journal_rows: AtomicU64,
    task_rows: AtomicU64,
    /// When a round was last done, in seconds since 1970; 0 = never.
    done_at: AtomicU64,
}

/// What goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Journals,
    Tasks,
}

/// One round, from the first batch of journals to the last one of tasks.
#[derive(Debug, Default)]
pub struct Round {
    part: Part,
    journals: Cleaned,
    tasks: Cleaned,
    /// Batches that have failed one after the other.
    failed: u32,
    /// Why the last one did.
    trouble: Option<String>,
}

/// What has become of a round with a batch.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// There is more to do.
    Goes,
    /// It is done.
    Done { journals: Cleaned, tasks: Cleaned },
    /// The batch has failed; whether it was said why.
    Fails { said: bool },
}

impl Cleaner {
    /// How the root starts it.
    pub(crate) fn child(stage: &Arc<Stage>) -> ChildSpec {
        let (stage, tally) = (stage.clone(), Arc::<Tally>::default());
        tally.observe(&stage);
        let start = move |context: ChildContext| {
            let cleaner = Self { stage: stage.clone(), tally: tally.clone() };
            async move { cleaner.start(context).await }
        };
        ChildSpec::new(CLEANER, CLEANER, start).shutdown(Shutdown::Kill)
    }

    async fn start(self, context: ChildContext) -> Result<ActorCell, SpawnErr> {
        context.spawn(self, ()).await
    }

    /// Deletes the next batch; answers how long to wait before the one after it.
    async fn clean(&self, round: &mut Round) -> Duration {
        let (retention, options) = (&self.stage.ports.stores.retention, &self.stage.options.cleaner);
        let (part, limit) = (round.part, round.limit(options));
        let batch = match part {
            Part::Journals => retention.clean_journals(options.keep, limit).await,
            Part::Tasks => retention.clean_tasks(options.keep_results, limit).await,
        };
        if let Ok(cleaned) = batch {
            self.tally.count(part, cleaned);
        }
        match round.then(batch) {
            Then::Goes => options.pause,
            Then::Done { journals, tasks } => {
                let now = self.stage.ports.clock.now().timestamp();
                self.tally.done_at.store(now.unsigned_abs(), Ordering::Relaxed);
                if journals.rows + tasks.rows > 0 {
                    tracing::info!(
                        journals = journals.things,
                        tasks = tasks.things,
                        rows = journals.rows + tasks.rows,
                        "what was kept for long enough is deleted"
                    );
                }
                around(options.every, &mut rand::rng())
            }
            Then::Fails { said } => {
                let wait = options.pause + again(options.every, round.failed, &mut rand::rng());
                if !said {
                    let error = round.trouble.as_deref().unwrap_or_default();
                    tracing::warn!(error, "what is old cannot be deleted; it is tried again until it can");
                }
                wait
            }
        }
    }
}

impl Round {
    /// How much the next batch has: less after each failure, for it may have been too much for a statement's time.
    fn limit(&self, options: &Options) -> usize {
        (options.batch >> self.failed.min(usize::BITS - 1)).max(1)
    }

    fn then(&mut self, batch: Result<Cleaned, store::Error>) -> Then {
        let cleaned = match batch {
            Ok(cleaned) => cleaned,
            Err(error) => {
                self.failed = self.failed.saturating_add(1);
                let said = self.trouble.replace(error.to_string());
                return Then::Fails { said: said == self.trouble };
            }
        };
        if self.trouble.take().is_some() {
            tracing::info!("what is old can be deleted again");
        }
        self.failed = 0;
        let sum = match self.part {
            Part::Journals => &mut self.journals,
            Part::Tasks => &mut self.tasks,
        };
        (sum.things, sum.rows) = (sum.things + cleaned.things, sum.rows + cleaned.rows);
        match self.part {
            _ if cleaned.more => Then::Goes,
            Part::Journals => {
                self.part = Part::Tasks;
                Then::Goes
            }
            Part::Tasks => {
                let Self { journals, tasks, .. } = std::mem::take(self);
                Then::Done { journals, tasks }
            }
        }
    }
}

impl Tally {
    fn count(&self, part: Part, cleaned: Cleaned) {
        let rows = match part {
            Part::Journals => &self.journal_rows,
            Part::Tasks => &self.task_rows,
        };
        rows.fetch_add(cleaned.rows, Ordering::Relaxed);
    }

    /// Has it read at every scrape.
    fn observe(self: &Arc<Self>, stage: &Stage) {
        let (rows, at) = (self.clone(), self.clone());
        stage.ports.metrics.observe(names::CLEANED_ROWS, move || {
            let of = |part: &str, rows: &AtomicU64| Reading::of(names::PART, part, rows.load(Ordering::Relaxed));
            vec![of("journals", &rows.journal_rows), of("tasks", &rows.task_rows)]
        });
        stage.ports.metrics.observe(names::CLEANED_AT, move || {
            let at = at.done_at.load(Ordering::Relaxed);
            if at == 0 { Vec::new() } else { vec![Reading::plain(at)] }
        });
    }
}

impl Actor for Cleaner {
    type Msg = Clean;
    type State = Round;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Clean>, (): ()) -> Result<Round, ActorProcessingErr> {
        let options = &self.stage.options.cleaner;
        let first = options.pause + again(options.every, 1, &mut rand::rng());
        drop(myself.send_after(first, || Clean));
        Ok(Round::default())
    }

    async fn handle(&self, myself: ActorRef<Clean>, Clean: Clean, round: &mut Round) -> Result<(), ActorProcessingErr> {
        if self.stage.drain.is_cancelled() {
            return Ok(());
        }
        let wait = match self.stage.lease.own() {
            Some(_) => self.clean(round).await,
            None => self.stage.options.lease.look_every,
        };
        drop(myself.send_after(wait, || Clean));
        Ok(())
    }
}

/// `every`, a little longer or shorter.
fn around(every: Duration, rng: &mut impl Rng) -> Duration {
    every.mul_f64(rng.random_range(1.0 - JITTER..=1.0 + JITTER))
}

/// The wait after so many failures, and before the first round: from nothing to a sixtieth of `every`, doubling up to it.
fn again(every: Duration, failed: u32, rng: &mut impl Rng) -> Duration {
    let base = (every / SOON_PART).max(Duration::from_millis(1));
    let options = BackoffOptions { base, cap: every.max(base), ..BackoffOptions::default() };
    Backoff::new(options).unwrap_or_default().delay(failed, rng)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn went(round: &mut Round, things: u64, more: bool) -> Then {
        round.then(Ok(Cleaned { things, rows: things * 3, more }))
    }

    fn failed(round: &mut Round, why: &str) -> Then {
        round.then(Err(store::Error::Unavailable(why.to_owned())))
    }

    #[test]
    fn a_round_goes_through_journals_and_then_through_tasks() {
        let mut round = Round::default();
        assert_eq!(went(&mut round, 5, true), Then::Goes);
        assert_eq!((went(&mut round, 1, false), round.part), (Then::Goes, Part::Tasks));
        assert_eq!(went(&mut round, 2, true), Then::Goes);
        let (journals, tasks) =
            (Cleaned { things: 6, rows: 18, more: false }, Cleaned { things: 2, rows: 6, more: false });
        assert_eq!(went(&mut round, 0, false), Then::Done { journals, tasks });
        assert_eq!(round.part, Part::Journals, "and the next one begins");
        went(&mut round, 0, false);
        let nothing = Cleaned::default();
        assert_eq!(went(&mut round, 0, false), Then::Done { journals: nothing, tasks: nothing });
    }

    #[test]
    fn a_failure_is_said_once_and_tried_again_at_the_same_place_with_less() {
        let (mut round, options) = (Round::default(), Options::default());
        went(&mut round, 3, false);
        for (why, said, limit) in [("away", false, 125), ("away", true, 62), ("full", false, 31), ("full", true, 15)] {
            assert_eq!((failed(&mut round, why), round.limit(&options)), (Then::Fails { said }, limit), "{why}");
            assert_eq!(round.part, Part::Tasks);
        }
        for _ in 0..100 {
            failed(&mut round, "full");
        }
        assert_eq!(round.limit(&options), 1, "never nothing");
        assert_eq!((went(&mut round, 1, true), round.limit(&options)), (Then::Goes, 250));
        assert_eq!(failed(&mut round, "away"), Then::Fails { said: false }, "it had worked meanwhile");
    }

    #[test]
    fn waits_vary_and_have_bounds() {
        let rng = &mut rand::rng();
        let rounds: Vec<_> = (0..200).map(|_| around(HOUR, rng)).collect();
        assert!(rounds.iter().all(|wait| (HOUR * 9 / 10..=HOUR * 11 / 10).contains(wait)));
        assert!(rounds.iter().any(|wait| *wait < HOUR) && rounds.iter().any(|wait| *wait > HOUR));
        for (failed, bound) in [(1, HOUR / 60), (3, HOUR / 15), (30, HOUR)] {
            let waits: Vec<_> = (0..200).map(|_| again(HOUR, failed, rng)).collect();
            assert!(waits.iter().all(|wait| *wait <= bound) && waits.iter().any(|wait| *wait > bound / 2), "{failed}");
        }
        assert!(again(Duration::from_millis(1), 9, rng) <= Duration::from_millis(1), "however short the time is");
    }
}
