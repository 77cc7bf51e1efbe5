//! One answer on its way to Slack: the state machine in the head of [`super`], for one delivery.
//!
//! The row of the reply is the truth, not the delivery: a delivery may come twice, the row says what was sent. It is
//! marked before each call and settled after it, so that whoever picks the delivery up after our death knows the doubt.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use troupe_runtime::bus::Delivery;
use troupe_runtime::domain::answer::Answered;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::fault::Faulty as _;
use troupe_runtime::store::{self, Replies, ReplyOutcome, ReplyState};

use super::address::{Address, Target};
use super::pace::Pace;
use super::wire::{Looked, Message, Said, Wire, look_method};
use super::{ReplyOptions, ReplyStats, text};

/// Seconds by which Slack's clock may be behind ours when we look for an earlier try.
const CLOCK_SLACK_SECONDS: i64 = 300;
/// Wait where Slack asks for one without saying how long.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// What one errand needs.
pub(super) struct Errand {
    pub(super) delivery: Delivery,
    pub(super) answer: Answered,
    pub(super) address: Address,
}

/// What all errands share.
pub(super) struct Errands {
    pub(super) replies: Arc<dyn Replies>,
    pub(super) wire: Wire,
    pub(super) pace: Pace,
    pub(super) stats: Arc<ReplyStats>,
    pub(super) options: ReplyOptions,
    pub(super) drain: CancellationToken,
}

/// How an errand ends.
enum End {
    /// It is there.
    Done,
    /// Not now: back to the ladder.
    Later(String),
    /// Not at all.
    Never(String),
    /// We are asked to stop: the next life of the sender takes it up.
    Drained,
}

/// The node drains.
struct Drained;

impl Errands {
    /// Runs one errand to its end and settles its delivery.
    pub(super) async fn run(&self, errand: Errand) {
        let task = errand.answer.task_id;
        let end = self.carry(&errand).await;
        let Errand { delivery, address, .. } = errand;
        let trace_id = delivery.event.traceparent.trace_id().to_owned();
        let last = delivery.retrycount >= self.options.redeliveries_max;
        let settled = match end {
            End::Drained => return,
            End::Done => {
                delivery.settle.ack();
                Ok(())
            }
            End::Later(cause) if !last => {
                self.stats.retried.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(component = "slack", trace_id, task_id = %task, cause, "a reply is tried again later");
                delivery.settle.retry(&cause).await
            }
            End::Later(cause) | End::Never(cause) => {
                self.stats.given_up.fetch_add(1, Ordering::Relaxed);
                let channel = address.channel.as_str();
                tracing::error!(component = "slack", trace_id, task_id = %task, channel, cause, "a reply is given up");
                // The dead letter is what counts; the row only says why nothing is there.
                if self.settle(task, ReplyOutcome::GivenUp { error: cause.clone() }).await.is_err() {
                    return;
                }
                delivery.settle.reject(&cause).await
            }
        };
        if let Err(error) = settled {
            tracing::error!(component = "slack", trace_id, task_id = %task, %error, "the bus did not settle a reply");
        }
    }

    async fn carry(&self, errand: &Errand) -> End {
        let mut last = String::new();
        for attempt in 0..self.options.attempts_max.max(1) {
            if attempt > 0 && self.pause(self.backoff(attempt)).await.is_err() {
                return End::Drained;
            }
            match self.attempt(errand).await {
                Ok(end) => return end,
                Err(Attempted::Drained) => return End::Drained,
                Err(Attempted::Failed(cause)) => last = cause,
            }
        }
        End::Later(last)
    }

    /// One try: note it, look when in doubt, say it, note what came of it.
    async fn attempt(&self, errand: &Errand) -> Result<End, Attempted> {
        let task = errand.answer.task_id;
        let target = self.target(errand).await?;
        self.wait_turn(target.method(), &errand.address.team).await?;
        let state = match self.patiently(|| self.replies.begin(task)).await? {
            Ok(state) => state,
            Err(error) => return Ok(End::Later(error.to_string())),
        };
        match state {
            ReplyState::Sent => return Ok(End::Done),
            ReplyState::Clear => {}
            // What was given up comes back by an operator's replay, or because we died before burying it: sent after all.
            ReplyState::Doubtful | ReplyState::GivenUp => match self.look(errand, &target).await? {
                Looked::Found { ts } => {
                    self.stats.reconciled.fetch_add(1, Ordering::Relaxed);
                    return Ok(self.sent(errand, &target, Some(ts)).await?);
                }
                Looked::Absent => {}
                Looked::Unable => _ = self.stats.doubtful.fetch_add(1, Ordering::Relaxed),
                Looked::Later { error, .. } => return Err(Attempted::Failed(error)),
            },
        }
        self.say(errand, target).await
    }

    async fn say(&self, errand: &Errand, target: Target) -> Result<End, Attempted> {
        let task = errand.answer.task_id;
        let text = text::message(&errand.answer, self.options.text_chars_max);
        let reply_id = task.to_string();
        let message = Message { channel: &errand.address.channel, text: &text, reply_id: &reply_id };
        let mut target = target;
        let mut said = self.wire.say(&target, message).await;
        if let (Said::Never { .. }, Target::ResponseUrl { .. }) = (&said, &target)
            && let Some(fallback) = errand.address.fallback.clone().filter(|_| self.wire.has_token())
        {
            target = fallback;
            said = self.wire.say(&target, message).await;
        }
        match said {
            Said::Yes { ts } => Ok(self.sent(errand, &target, ts).await?),
            Said::Unknown { error } => Err(Attempted::Failed(error)),
            Said::Never { error } => Ok(End::Never(format!("{}: {error}", target.method()))),
            Said::No { error, retry_after } => {
                self.slow_down(target.method(), errand, &error, retry_after);
                match self.settle(task, ReplyOutcome::NotSent { error: error.clone() }).await? {
                    Ok(()) => Err(Attempted::Failed(error)),
                    Err(error) => Err(Attempted::Failed(error.to_string())),
                }
            }
        }
    }

    async fn sent(&self, errand: &Errand, target: &Target, ts: Option<String>) -> Result<End, Drained> {
        let task = errand.answer.task_id;
        self.stats.sent.fetch_add(1, Ordering::Relaxed);
        let event = &errand.delivery.event;
        let (trace_id, via) = (event.traceparent.trace_id(), target.method());
        tracing::info!(component = "slack", trace_id, task_id = %task, via, "reply sent");
        if let Err(error) = self.settle(task, ReplyOutcome::Sent { ts }).await? {
            tracing::error!(component = "slack", trace_id, task_id = %task, %error, "a sent reply is not on record");
        }
        Ok(End::Done)
    }

    /// Looks for an earlier try of the same reply; only what stands in the channel can be seen.
    async fn look(&self, errand: &Errand, target: &Target) -> Result<Looked, Drained> {
        let Target::Channel { thread } = target else { return Ok(Looked::Unable) };
        let method = look_method(thread.as_deref());
        self.wait_turn(method, &errand.address.team).await?;
        let oldest = errand.delivery.event.time.timestamp() - CLOCK_SLACK_SECONDS;
        let reply_id = errand.answer.task_id.to_string();
        let looked = self.wire.look(&errand.address.channel, thread.as_deref(), oldest, &reply_id).await;
        if let Looked::Later { error, retry_after } = &looked {
            self.slow_down(method, errand, error, *retry_after);
        }
        Ok(looked)
    }

    /// The way to try now: the response URL while it lasts, then the fallback, if there is a token for it.
    async fn target(&self, errand: &Errand) -> Result<Target, Drained> {
        let address = &errand.address;
        if address.fallback.is_none() || !self.wire.has_token() {
            return Ok(address.first.clone());
        }
        let row = self.patiently(|| self.replies.reply(errand.answer.task_id)).await?;
        let tries = row.ok().flatten().map_or(0, |row| row.attempts);
        Ok(address.target(tries, Utc::now()).clone())
    }

    fn slow_down(&self, method: &'static str, errand: &Errand, error: &str, retry_after: Option<Duration>) {
        let limited = retry_after.is_some() || error == "ratelimited" || error == "status 429";
        if limited {
            self.stats.rate_limited.fetch_add(1, Ordering::Relaxed);
            let wait = retry_after.unwrap_or(RETRY_AFTER_DEFAULT).min(self.options.retry_after_max);
            self.pace.slow_down(method, &errand.address.team, wait);
        }
    }

    async fn wait_turn(&self, method: &'static str, team: &str) -> Result<(), Drained> {
        while let Some(until) = self.pace.until(method, team) {
            self.pause(until.saturating_duration_since(Instant::now())).await?;
        }
        if self.drain.is_cancelled() { Err(Drained) } else { Ok(()) }
    }

    async fn settle(&self, task: TaskId, outcome: ReplyOutcome) -> Result<Result<(), store::Error>, Drained> {
        self.patiently(|| self.replies.settle(task, outcome.clone())).await
    }

    /// Asks the store until it answers: without it nothing can be sent, and giving up would not help.
    async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<Result<T, store::Error>, Drained>
    where
        F: Future<Output = Result<T, store::Error>>,
    {
        let mut tries = 0;
        loop {
            match ask().await {
                Err(error) if error.fault().is_transient() => {
                    // Once a reply: an outage is no reason to fill the disk.
                    if tries == 0 {
                        tracing::warn!(component = "slack", %error, "the store does not answer; a reply waits");
                    }
                    tries += 1;
                    // Everything in the channel waits behind this one, and the store is no server that has to be spared.
                    self.pause(self.backoff(tries).min(self.options.store_wait_max)).await?;
                }
                answer => return Ok(answer),
            }
        }
    }

    fn backoff(&self, attempt: u32) -> Duration {
        let doubled = self.options.backoff.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        doubled.min(self.options.backoff_max)
    }

    async fn pause(&self, wait: Duration) -> Result<(), Drained> {
        tokio::select! {
            () = self.drain.cancelled() => Err(Drained),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}

/// Why a try brought no end.
enum Attempted {
    Drained,
    Failed(String),
}

impl From<Drained> for Attempted {
    fn from(_: Drained) -> Self {
        Self::Drained
    }
}
