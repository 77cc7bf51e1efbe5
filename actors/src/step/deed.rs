//! The deeds of a step: one model call, one tool call. Each is bounded by the step's deadline, and by how long it may be
//! without a sign of life; each comes back as the act to record, whatever happened: a failure is a fact like any other.
//!
//! | a call ends because | then |
//! |---|---|
//! | `limits.timeout` of the step is over | the step has failed |
//! | nothing came about for `stalled_after` | the attempt has failed; for an `unsafe` tool the life falls, so that a person is asked |
//!
//! A sign of life is a try of a model, a piece of its answer where answers are streamed, and what a tool says of itself.
//! A model that answers in one piece is silent for as long as its own timeout lets it, so that comes on top.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use troupe_runtime::domain::chat::ToolCall;
use troupe_runtime::domain::journal::{Act, Effect};
use troupe_runtime::domain::outcome::{Failure, Reason};
use troupe_runtime::domain::run::Run;
use troupe_runtime::fault::Faulty as _;
use troupe_runtime::model::{self, Request};
use troupe_runtime::progress::Progress;
use troupe_runtime::tool::Invocation;

use super::{StepLife, Stopped};

impl StepLife {
    /// Asks the model with the conversation so far.
    pub(super) async fn call_model(&self, run: &Run, deadline: Instant) -> Act {
        let served = &self.work.served;
        let slowest = served.spec.models.iter().map(|model| model.timeout).max().unwrap_or_default();
        let (progress, patience) = (Progress::begin(), self.stage.options.stalled_after.saturating_add(slowest));
        let request = Request {
            instructions: served.instructions.clone(),
            messages: run.messages().clone(),
            tools: served.offers.clone(),
            force_tool: None,
            deadline: Some(deadline),
            progress: Some(progress.clone()),
        };
        let begun = Instant::now();
        let result = tokio::select! {
            result = timeout_at(deadline, served.model.complete(&request)) => result,
            () = progress.stalled(patience) => return stalled("the model", patience),
        };
        let (agent, metrics) = (&served.spec.name, &self.stage.ports.metrics);
        match result {
            Ok(Ok(completion)) => {
                metrics.model_answered(agent, &completion, begun.elapsed().as_secs_f64());
                Act::ModelResult { completion, request: Some(run.request()) }
            }
            Ok(Err(model::Error::Deadline { .. })) | Err(_) => self.timed_out(),
            Ok(Err(error)) => {
                metrics.model_failed(agent, error.fault().as_str(), begun.elapsed().as_secs_f64());
                let retryable = error.fault().is_transient();
                Act::AttemptFailed { failure: Failure { reason: Reason::Model, message: error.to_string(), retryable } }
            }
        }
    }

    /// Calls a tool that the run has cleared.
    ///
    /// # Errors
    /// When a call that must not run twice made no progress: nobody knows whether it happened.
    pub(super) async fn call_tool(&self, call: &ToolCall, key: String, deadline: Instant) -> Result<Act, Stopped> {
        let served = &self.work.served;
        let Some(tool) = served.tools.get(&call.name) else {
            // The run clears only tools that it was told of, and it was told of these.
            let message = format!("tool {} is gone", call.name);
            let failure = Failure { reason: Reason::Blocked, message, retryable: false };
            return Ok(Act::AttemptFailed { failure });
        };
        let time_left = deadline.saturating_duration_since(Instant::now());
        let (progress, patience) = (Progress::begin(), self.stage.options.stalled_after);
        let arguments = call.arguments.clone();
        let invocation = Invocation { arguments, idempotency_key: key, time_left, progress: progress.clone() };
        let answer = tokio::select! {
            answer = timeout_at(deadline, tool.call(invocation)) => answer,
            () = progress.stalled(patience) => {
                let tool_name = call.name.clone();
                return match tool.effect() {
                    Effect::Unsafe => Err(Stopped::Stalled { tool: tool_name, patience }),
                    Effect::Pure | Effect::Idempotent => Ok(stalled(&format!("tool {tool_name}"), patience)),
                };
            }
        };
        let Ok(answer) = answer else { return Ok(self.timed_out()) };
        let word = if answer.is_error { "error" } else { "ok" };
        self.stage.ports.metrics.tool_called(&served.spec.name, &call.name, word);
        Ok(Act::ToolResult {
            call_id: call.id.clone(),
            tool: call.name.clone(),
            content: answer.content,
            is_error: answer.is_error,
        })
    }

    fn timed_out(&self) -> Act {
        let limit = self.work.served.spec.limits.timeout;
        let message = format!("stopped at limits.timeout = {limit:?}");
        Act::AttemptFailed { failure: Failure { reason: Reason::Timeout, message, retryable: false } }
    }
}

/// An attempt that failed because a call did not get on.
fn stalled(what: &str, patience: Duration) -> Act {
    let message = format!("{what} made no progress for {patience:?} (steps.stalled_after)");
    Act::AttemptFailed { failure: Failure { reason: Reason::Stalled, message, retryable: true } }
}
