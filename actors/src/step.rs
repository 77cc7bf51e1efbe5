//! One life of a step. Decide, perform one effect, record, apply; until the step is over.
//!
//! A routine of the agent actor, started by it and messaged by nobody (docs/adr/0033). Owns one claimed step. A kill cuts it at
//! its next await and a drain stops it after the entry it is at; both leave the step running in the store, to be taken up again
//! from its journal. When it panics or errs its agent actor starts a next life, which records the failed attempt first.
//!
//! A write that is [`Fenced`](store::Error::Fenced) ends the life at once: somebody else has the step. A store that does
//! not answer is waited for (`record_for`), for what is in hand may have been paid for; after that the sweep finds the step.
//! So is the node's lease, before a deed is begun and before one is recorded. A write that was made and not answered is made
//! again, and then finds itself.

mod deed;

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorProcessingErr;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument as _;
use troupe_runtime::domain::chat::Usage;
use troupe_runtime::domain::journal::{Act, Entry};
use troupe_runtime::domain::outcome::{Failure, Outcome, Reason};
use troupe_runtime::domain::run::{Action, Brief, Mismatch, Phase, Run};
use troupe_runtime::domain::step::StepStatus;
use troupe_runtime::fault::{Fault, Faulty as _};
use troupe_runtime::retry::{Backoff, BackoffOptions};
use troupe_runtime::store::{self, Append, Completion, Told};
use troupe_runtime::supervision::{self, CAUSE_CHARS_MAX};

use crate::places::Place;
use crate::stage::Stage;
use crate::work::Work;

/// The wait when only the database says that the node's lease has run out: a renewal is due at any time.
const LAPSED: Duration = Duration::from_millis(250);

/// How a life finds its step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// Just accepted: nothing is in its journal.
    Fresh,
    /// Its journal may hold entries.
    Resumed,
    /// The life before fell: its attempt has failed.
    Fallen {
        /// Why.
        cause: String,
    },
    /// Lives fell again and again, even while the fall was recorded: the step fails without a look at its journal.
    GivenUp {
        /// Why the last one fell.
        cause: String,
    },
}

/// One life of a step.
pub struct StepLife {
    stage: Arc<Stage>,
    work: Arc<Work>,
    beginning: Beginning,
}

/// Keeps the line of a life in the tree while it lasts, and is how a drain knows that it does.
pub struct Line {
    entry: Arc<supervision::Entry>,
    _acting: TaskTrackerToken,
}

/// How a life of the step ended.
enum Ending {
    /// The step is over.
    Over(Outcome),
    /// A person must answer first.
    Parked,
    /// The node drains; the step goes on in the next life.
    CutOff,
}

/// Why a life of the step could not go on.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the store did not answer for {0:?}; the step is taken up again from its journal")]
    GaveUp(Duration),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// Nobody knows whether the call happened: the next life is to ask, as after any other fall.
    #[error("tool {tool} made no progress for {patience:?} (steps.stalled_after)")]
    Stalled {
        /// Whose call.
        tool: String,
        /// How long it was waited for.
        patience: Duration,
    },
}

impl StepLife {
    /// A life that has not begun.
    #[must_use]
    pub const fn new(stage: Arc<Stage>, work: Arc<Work>, beginning: Beginning) -> Self {
        Self { stage, work, beginning }
    }

    /// Begins it, under this line of the tree: a drain waits for it from here on. What comes back is the life.
    ///
    /// # Errors
    /// Those of the life are what it falls from: the next one is charged with a failed attempt.
    pub fn begin(
        self,
        entry: Arc<supervision::Entry>,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send + 'static {
        let line = Line { entry, _acting: self.stage.acting.token() };
        self.lead(line)
    }

    async fn lead(self, line: Line) -> Result<(), ActorProcessingErr> {
        let work = &self.work;
        let span = tracing::info_span!(
            "step",
            trace_id = work.event.traceparent.trace_id(),
            task_id = %work.claim.task,
            step_id = %work.claim.step,
            agent = %work.served.spec.name,
        );
        match self.live(&line).instrument(span.clone()).await {
            Ok(ending) => span.in_scope(|| self.told(&ending)),
            Err(Stopped::Store(error)) if error.fault() == Fault::Fenced => {
                span.in_scope(|| tracing::warn!(%error, "the step has ended or somebody else has it; it stops here"));
                // Ended by a life that fell before it could say so, perhaps.
                self.stage.relay.look();
                self.stage.ended.send(work.claim.task).ok();
            }
            // No fall: nobody is to blame, and no attempt is charged. The sweep finds the step.
            Err(error @ Stopped::GaveUp(_)) => span.in_scope(|| tracing::error!(%error, "the step stops here")),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// What is short or rare is boxed: a step is mostly somebody who waits for a model, and there may be thousands.
    async fn live(&self, line: &Line) -> Result<Ending, Stopped> {
        if self.work.begin() {
            self.renew().await?;
        }
        let entries = match self.beginning {
            Beginning::Fresh => Vec::new(),
            _ => match self.patiently(|| self.stage.ports.stores.journal.entries(self.work.claim.step)).await {
                Err(Stopped::Store(error @ store::Error::Corrupt(_))) => {
                    return Box::pin(self.block(error.to_string())).await;
                }
                entries => entries?,
            },
        };
        let mut run = match Run::resumed(self.brief(), &entries) {
            Ok(run) => run,
            Err(mismatch) => return Box::pin(self.abandon(&entries, mismatch.to_string())).await,
        };
        if self.work.claims > self.stage.options.claims_max {
            let claims = self.work.claims;
            let message = format!("the node died {claims} times under this step without any progress");
            return Box::pin(self.give_up(&run, Reason::CrashLoop, message)).await;
        }
        match &self.beginning {
            Beginning::Fresh | Beginning::Resumed => {}
            Beginning::GivenUp { cause } => return Box::pin(self.give_up(&run, Reason::Crash, cause.clone())).await,
            // Not another attempt, which would call again without knowing: the question comes first.
            Beginning::Fallen { .. } if run.is_in_doubt() => {}
            Beginning::Fallen { cause } => {
                let failure = Failure { reason: Reason::Crash, message: cause.clone(), retryable: true };
                if let Some(ending) = Box::pin(self.record(&mut run, Act::AttemptFailed { failure }, &mut None)).await?
                {
                    return Ok(ending);
                }
            }
        }
        let Some(mut place) = self.place(line).await else { return Ok(Ending::CutOff) };
        let deadline = Instant::now() + self.work.served.spec.limits.timeout;
        loop {
            if !self.may_go_on().await {
                return Ok(Ending::CutOff);
            }
            line.says(&run);
            let act = match run.next() {
                Action::CallModel => self.call_model(&run, deadline).await,
                Action::CallTool { call, key } => self.call_tool(&call, key, deadline).await?,
                Action::Record(act) => act,
                Action::Wait => return Ok(Ending::Parked),
                // Its last entry and its end are one transaction, so an ended step is never resumed.
                Action::Finish(outcome) => return Ok(Ending::Over(outcome)),
            };
            let attempt = run.attempt();
            if let Some(ending) = Box::pin(self.record(&mut run, act, &mut place)).await? {
                return Ok(ending);
            }
            if run.attempt() > attempt {
                self.pause_before(run.attempt(), deadline).await;
            }
        }
    }

    /// Waits for the right to make calls; nothing when the node drains. What needs no place has `Some(None)`.
    async fn place(&self, line: &Line) -> Option<Option<Place>> {
        let Some(places) = &self.work.places else { return Some(None) };
        if let Some(place) = places.free() {
            return Some(Some(place));
        }
        line.entry.set_step(Some("waits for a place"));
        tokio::select! {
            biased;
            () = self.stage.drain.cancelled() => None,
            place = places.next() => Some(place),
        }
    }

    /// Waits until the node holds its lease: without it no effect is begun, not even the intent of one. `false` when the
    /// node drains.
    async fn may_go_on(&self) -> bool {
        tokio::select! {
            biased;
            () = self.stage.drain.cancelled() => false,
            _ = self.stage.lease.held() => true,
        }
    }

    /// Raises the epoch before the journal is read again: a write of the actor before may still be on its way, and what
    /// it brought in after the reading would be done a second time.
    async fn renew(&self) -> Result<(), Stopped> {
        let (held, stores, lease) = (self.work.held(), &self.stage.ports.stores, &self.stage.lease);
        let claim = self.patiently(|| stores.steps.claim(held.step, held.epoch, lease.incarnation())).await?;
        self.work.renew(claim.ok_or(store::Error::Fenced(held.step))?.epoch);
        Ok(())
    }

    fn brief(&self) -> Brief {
        let Work { served, run, step_no, copied, event, .. } = &*self.work;
        Brief {
            run: *run,
            step_no: *step_no,
            input: event.input(),
            limits: served.spec.limits,
            retries: served.spec.retries,
            tools: served.terms.clone(),
            spec_digest: served.digest.to_string(),
            copied: *copied,
        }
    }

    /// Folds an act and makes it durable; answers when it ends this life. A step that ends makes no more calls, and gives its
    /// place to the next one while its end is committed.
    async fn record(&self, run: &mut Run, act: Act, place: &mut Option<Place>) -> Result<Option<Ending>, Stopped> {
        let begins_attempt = matches!(act, Act::AttemptFailed { .. });
        let entry = Entry { seq: run.next_seq(), attempt: run.attempt(), at: self.stage.ports.clock.now(), act };
        run.apply(&entry)?;
        let (seq, attempt) = (entry.seq, entry.attempt);
        let kept = match run.outcome() {
            Some(outcome) => {
                drop(place.take());
                self.complete(entry, &outcome, run.usage()).await.map(|()| Some(Ending::Over(outcome)))
            }
            None => self.append(run, entry, begins_attempt).await,
        };
        match kept {
            // Tried again, it may be as large again, and would be paid for again.
            Err(Stopped::Store(error @ store::Error::TooLarge { .. })) => {
                let failure = Failure { reason: Reason::TooLarge, message: error.to_string(), retryable: false };
                self.fail(seq, attempt, failure, run.usage()).await.map(Some)
            }
            kept => kept,
        }
    }

    async fn append(&self, run: &Run, entry: Entry, begins_attempt: bool) -> Result<Option<Ending>, Stopped> {
        let parked = run.phase() == Phase::Waiting;
        let append = Append {
            claim: self.work.held(),
            entry,
            attempts: begins_attempt.then(|| run.attempt()),
            status: parked.then_some(StepStatus::Waiting),
        };
        if begins_attempt {
            self.stage.ports.metrics.attempt_failed(&self.work.served.spec.name);
        }
        match self.patiently(|| self.stage.ports.stores.journal.append(append.clone())).await {
            // It is ours, from a try whose commit was not answered.
            Err(Stopped::Store(store::Error::Conflict(_))) if self.is_written(&append.entry).await? => {}
            appended => appended?,
        }
        Ok(parked.then_some(Ending::Parked))
    }

    /// Whether this very entry is in the journal.
    async fn is_written(&self, entry: &Entry) -> Result<bool, Stopped> {
        let entries = self.patiently(|| self.stage.ports.stores.journal.entries(self.work.claim.step)).await?;
        Ok(entries.contains(entry))
    }

    /// Makes the end durable, and has the relay tell it.
    async fn complete(&self, entry: Entry, outcome: &Outcome, usage: Usage) -> Result<(), Stopped> {
        let (attempt, at) = (entry.attempt, entry.at);
        let completion = Completion {
            claim: self.work.held(),
            agent: self.work.served.spec.name.clone(),
            entry,
            outcome: outcome.clone(),
            usage,
        };
        let place = self.patiently(|| self.stage.ports.stores.steps.complete(completion.clone())).await?;
        let Some(seq) = place else {
            // Written by a try whose commit was not answered: the outbox knows where.
            self.stage.relay.look();
            return Ok(());
        };
        let Completion { claim, agent, outcome, .. } = completion;
        let event = self.work.event.clone();
        self.stage.relay.tell(Told { seq, task: claim.task, step: claim.step, agent, event, outcome, attempt, at });
        Ok(())
    }

    /// Ends a step that nobody is to try again.
    async fn give_up(&self, run: &Run, reason: Reason, message: String) -> Result<Ending, Stopped> {
        let failure = Failure { reason, message, retryable: false };
        self.fail(run.next_seq(), run.attempt(), failure, run.usage()).await
    }

    /// Ends a step whose journal does not fit: tried again, it would be so again.
    async fn abandon(&self, entries: &[Entry], message: String) -> Result<Ending, Stopped> {
        let (seq, attempt) = entries.last().map_or((0, 1), |entry| (entry.seq + 1, entry.attempt));
        let failure = Failure { reason: Reason::Blocked, message, retryable: false };
        let own = entries.get(self.work.copied as usize..).unwrap_or_default();
        self.fail(seq, attempt, failure, usage_of(own)).await
    }

    /// Ends a step whose journal cannot be read: tried again, it would be so again.
    async fn block(&self, message: String) -> Result<Ending, Stopped> {
        let failure = Failure { reason: Reason::Blocked, message, retryable: false };
        // Behind all entries, wherever they end; what they used is not known.
        self.fail(u32::MAX, 1, failure, Usage::default()).await
    }

    async fn fail(&self, seq: u32, attempt: u32, failure: Failure, usage: Usage) -> Result<Ending, Stopped> {
        let outcome = Outcome::Failed { failure: failure.clone() };
        let entry = Entry { seq, attempt, at: self.stage.ports.clock.now(), act: Act::AttemptFailed { failure } };
        self.complete(entry, &outcome, usage).await?;
        Ok(Ending::Over(outcome))
    }

    /// Repeats what the store does not answer now: what is to be recorded may have been paid for. Nothing is asked while
    /// the node does not hold its lease; the renewal goes first.
    async fn patiently<T, F, Fut>(&self, ask: F) -> Result<T, Stopped>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, store::Error>>,
    {
        let give_up = Instant::now() + self.stage.options.record_for;
        let (mut retries, backoff) = (0, self.store_backoff());
        loop {
            if timeout_at(give_up, self.stage.lease.held()).await.is_err() {
                return Err(Stopped::GaveUp(self.stage.options.record_for));
            }
            match ask().await {
                Err(error) if matches!(error.fault(), Fault::Transient { .. }) => {
                    if Instant::now() >= give_up {
                        return Err(Stopped::GaveUp(self.stage.options.record_for));
                    }
                    // Once a wait: an outage is no reason to fill the disk.
                    if retries == 0 {
                        tracing::warn!(%error, "waiting for the store");
                    }
                    retries += 1;
                    let wait = match error {
                        store::Error::Lapsed => LAPSED,
                        _ => backoff.delay(retries, &mut rand::rng()),
                    };
                    tokio::time::sleep(wait).await;
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// Short, whatever the outage: who is asked is our own writer, which knows whether the store is away.
    fn store_backoff(&self) -> Backoff {
        let cap = self.stage.options.store_wait_max;
        Backoff::new(BackoffOptions { base: cap / 8, cap, ..BackoffOptions::default() }).unwrap_or_default()
    }

    /// Waits before a further attempt, so that whatever made the last one fail may pass.
    async fn pause_before(&self, attempt: u32, deadline: Instant) {
        let wait = self.stage.options.attempt_backoff * 2_u32.saturating_pow(attempt.saturating_sub(2)).min(64);
        tokio::select! {
            () = tokio::time::sleep_until(deadline.min(Instant::now() + wait)) => {}
            () = self.stage.drain.cancelled() => {}
        }
    }

    /// The step has come to an end of some kind: whoever waits is told.
    fn told(&self, ending: &Ending) {
        let (stage, work) = (&self.stage, &self.work);
        match ending {
            Ending::Over(outcome) => {
                let seconds = (stage.ports.clock.now() - work.accepted_at).as_seconds_f64().max(0.0);
                let success = matches!(outcome, Outcome::Succeeded { .. });
                stage.ports.metrics.task_ended(&work.served.spec.name, work.served.mode(), success, seconds);
                if let Outcome::Failed { failure } = outcome {
                    tracing::warn!(reason = %failure.reason, message = failure.message, "the task failed");
                    let (agent, now) = (work.served.spec.name.as_str(), stage.ports.clock.now());
                    stage.standings.failed(agent, clipped(&failure.to_string()), now);
                }
                stage.ended.send(work.claim.task).ok();
            }
            Ending::Parked => {
                tracing::info!("the step waits for a person");
                stage.ended.send(work.claim.task).ok();
            }
            Ending::CutOff => tracing::info!("the step was cut off by the drain; it goes on in the next life"),
        }
    }
}

/// A failure as the registry keeps it.
fn clipped(failure: &str) -> String {
    failure.chars().take(CAUSE_CHARS_MAX).collect()
}

/// What the model calls of a journal used, whatever else is wrong with it.
fn usage_of(entries: &[Entry]) -> Usage {
    entries.iter().fold(Usage::default(), |mut usage, entry| {
        if let Act::ModelResult { completion, .. } = &entry.act {
            usage.add(completion.usage);
        }
        usage
    })
}

impl Line {
    /// What the tree says of the step.
    fn says(&self, run: &Run) {
        let doing = match run.phase() {
            Phase::Thinking => format!("attempt {}, turn {}: asks the model", run.attempt(), run.turns() + 1),
            Phase::Acting => format!("attempt {}, turn {}: calls a tool", run.attempt(), run.turns()),
            Phase::Waiting => "waits for a person".to_owned(),
            Phase::Answered | Phase::Failed | Phase::Cancelled => "ends".to_owned(),
        };
        self.entry.set_step(Some(&doing));
    }
}
