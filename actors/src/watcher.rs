//! The watcher: sees when the folder of agents changes, and has the change take effect.
//!
//! Started by the root, last; messaged only by itself: its handler is the loop. It owns nothing but its place in the loop, for
//! what it must remember from life to life is in the [`Watch`]. It looks at the folder from outside every `look_every`; when
//! something is other than at the look before, it waits until the folder has rested for `settle`, at most `settle_max`,
//! reads everything and [reloads](crate::reload). So a file that is being written is read when it is whole, and a thousand
//! writes are a few reloads. While it is down the agents stay as they are; its next life reads the folder at once.
//!
//! Looking, not being told: a mounted folder (Kubernetes, NFS, a container's) does not tell.

pub(crate) mod watch;

use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use ractor_cluster_derive::RactorMessage;
use tokio::time::Instant;
use troupe_runtime::config::Stamp;
use troupe_runtime::supervision::{ChildContext, ChildSpec, Shutdown};

pub use self::watch::{Options, Watch};
use crate::orchestrator::OrchestratorMessage;
use crate::reload::{Outcome, reload};
use crate::root::message::RootMessage;
use crate::roster::Roster;
use crate::stage::Stage;

/// The watcher's segment in the tree.
pub(crate) const WATCHER: &str = "watcher";
/// A look may take an eighth of the time between two: with very many files they are rarer than they should be.
const LOOK_PART: u32 = 8;

/// The watcher.
pub struct Watcher {
    stage: Arc<Stage>,
    roster: Roster,
    watch: Watch,
    root: ActorRef<RootMessage>,
}

/// The one message: begin.
#[derive(Debug, RactorMessage)]
pub struct Begin;

impl Watcher {
    /// The child of the root.
    pub(crate) fn child(stage: &Arc<Stage>, roster: &Roster, watch: &Watch) -> ChildSpec {
        let (stage, roster, watch) = (stage.clone(), roster.clone(), watch.clone());
        let start = move |context: ChildContext| Self::start(stage.clone(), roster.clone(), watch.clone(), context);
        ChildSpec::new(WATCHER, WATCHER, start).shutdown(Shutdown::Kill)
    }

    async fn start(
        stage: Arc<Stage>,
        roster: Roster,
        watch: Watch,
        context: ChildContext,
    ) -> Result<ActorCell, SpawnErr> {
        let root = ActorRef::from(context.supervisor.clone());
        context.spawn(Self { stage, roster, watch, root }, ()).await
    }

    async fn run(&self) -> Result<(), ActorProcessingErr> {
        let mut unrest = Unrest::new(self.watch.first_stamp(), Instant::now());
        // A life before may have changed the roster and told nobody.
        let mut untold = true;
        loop {
            untold = untold && !self.told().await;
            let begun = Instant::now();
            let stamp = self.watch.look().await?;
            let least = begun.elapsed() * LOOK_PART;
            match unrest.look(stamp, Instant::now(), &self.watch.options()) {
                // A change that was seen is waited for exactly: that lasts no longer than `settle_max`.
                Next::Wait(wait) => tokio::time::sleep(if unrest.rests() { wait.max(least) } else { wait }).await,
                Next::Read { in_unrest } => {
                    let wanted = self.watch.read().await?;
                    let Outcome { changed, again } = reload(&self.stage.ports, &self.roster, &wanted).await;
                    untold |= changed;
                    unrest.was_read(in_unrest, again, Instant::now(), &self.watch.options());
                }
            }
        }
    }

    /// Tells the orchestrator that the roster is another one; `false` when it was not there to hear it.
    async fn told(&self) -> bool {
        let limit = self.stage.options.call_timeout;
        let found = self.root.call(RootMessage::Orchestrator, Some(limit)).await;
        let Ok(CallResult::Success(Some(orchestrator))) = found else { return false };
        orchestrator.cast(OrchestratorMessage::Roster).is_ok()
    }
}

impl Actor for Watcher {
    type Msg = Begin;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Begin>, (): ()) -> Result<(), ActorProcessingErr> {
        myself.cast(Begin)?;
        Ok(())
    }

    async fn handle(&self, _myself: ActorRef<Begin>, Begin: Begin, (): &mut ()) -> Result<(), ActorProcessingErr> {
        tokio::select! {
            ended = self.run() => ended,
            // A node that drains takes no new agents.
            () = self.stage.drain.cancelled() => Ok(()),
        }
    }
}

/// Whether the folder rests, and since when it does not.
struct Unrest {
    /// How it looked last.
    last: Option<Stamp>,
    /// When it began to change, and when it did last.
    since: Option<(Instant, Instant)>,
    /// When it is to be read although it rests.
    due: Option<Instant>,
    read_at: Instant,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Wait(Duration),
    Read { in_unrest: bool },
}

impl Unrest {
    const fn new(last: Option<Stamp>, now: Instant) -> Self {
        Self { last, since: None, due: None, read_at: now }
    }

    /// The folder was looked at.
    fn look(&mut self, stamp: Stamp, now: Instant, options: &Options) -> Next {
        if self.last.as_ref() != Some(&stamp) {
            self.last = Some(stamp);
            self.since = Some((self.since.map_or(now, |(first, _)| first), now));
        }
        let Some((first, last)) = self.since else {
            let due = self.read_at + options.reread_every;
            let due = self.due.map_or(due, |other| other.min(due));
            let wait = due.saturating_duration_since(now);
            return if wait.is_zero() {
                Next::Read { in_unrest: false }
            } else {
                Next::Wait(wait.min(options.look_every))
            };
        };
        let rested = (last + options.settle).saturating_duration_since(now);
        let patience = (first + options.settle_max).saturating_duration_since(now);
        if rested.is_zero() {
            Next::Read { in_unrest: false }
        } else if patience.is_zero() {
            Next::Read { in_unrest: true }
        } else {
            Next::Wait(rested.min(patience).min(options.look_every))
        }
    }

    const fn rests(&self) -> bool {
        self.since.is_none()
    }

    /// The folder was read. What was read while it changed may be half of something: it is read once more when it rests.
    /// So is what could not be done.
    fn was_read(&mut self, in_unrest: bool, again: bool, now: Instant, options: &Options) {
        self.read_at = now;
        self.since = in_unrest.then_some((now, now));
        self.due = again.then(|| now + options.settle_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is written every `write_every` until `until`; answers when it was read, in milliseconds.
    fn reads(write_every: u64, until: u64, over: u64) -> Vec<u64> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        let (options, begun) = (Options::default(), Instant::now());
        let (mut unrest, mut reads) = (Unrest::new(Some(Stamp::of(dir.path())), begun), Vec::new());
        let (mut now, mut written) = (0, 0);
        while now < over {
            let version = now.min(until) / write_every;
            while written < version {
                written += 1;
                std::fs::write(&file, "x".repeat(written as usize)).unwrap();
            }
            let at = begun + Duration::from_millis(now);
            match unrest.look(Stamp::of(dir.path()), at, &options) {
                Next::Wait(wait) => now += wait.as_millis().max(1) as u64,
                Next::Read { in_unrest } => {
                    reads.push(now);
                    unrest.was_read(in_unrest, false, at, &options);
                }
            }
        }
        reads
    }

    #[test]
    fn one_write_is_one_read_once_the_folder_rests() {
        let reads = reads(100, 100, 5_000);
        assert_eq!(reads.len(), 1);
        assert!((350..=550).contains(&reads[0]), "{reads:?}");
    }

    #[test]
    fn a_thousand_writes_are_a_few_reads_and_the_last_is_among_them() {
        let reads = reads(10, 10_000, 12_000);
        assert!((9..=12).contains(&reads.len()), "{reads:?}");
        let last = *reads.last().unwrap();
        assert!((10_250..11_000).contains(&last), "the folder is read after the last write: {reads:?}");
    }

    #[test]
    fn what_cannot_be_done_is_tried_again_and_a_quiet_folder_is_read_now_and_then() {
        let (options, begun) = (Options::default(), Instant::now());
        let mut unrest = Unrest::new(Some(Stamp::default()), begun);
        unrest.was_read(false, true, begun, &options);
        let then = begun + options.settle_max;
        assert_eq!(unrest.look(Stamp::default(), begun, &options), Next::Wait(options.look_every));
        assert_eq!(unrest.look(Stamp::default(), then, &options), Next::Read { in_unrest: false });
        unrest.was_read(false, false, then, &options);
        let later = then + options.reread_every;
        assert_eq!(unrest.look(Stamp::default(), later - options.settle_max, &options), Next::Wait(options.look_every));
        assert_eq!(unrest.look(Stamp::default(), later, &options), Next::Read { in_unrest: false });
    }

    #[tokio::test]
    async fn a_folder_that_nobody_has_seen_is_read() {
        let (options, begun) = (Options::default(), Instant::now());
        let mut unrest = Unrest::new(None, begun);
        assert_eq!(unrest.look(Stamp::default(), begun, &options), Next::Wait(options.look_every));
        let rested = begun + options.settle;
        assert_eq!(unrest.look(Stamp::default(), rested, &options), Next::Read { in_unrest: false });
    }
}
