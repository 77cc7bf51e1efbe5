//! The deeds of a step: one model call, one tool call. Each is bounded by the step's deadline, and each comes back as the
//! act to record, whatever happened: a failure is a fact like any other.

use tokio::time::{Instant, timeout_at};
use troupe_runtime::domain::chat::ToolCall;
use troupe_runtime::domain::journal::Act;
use troupe_runtime::domain::outcome::{Failure, Reason};
use troupe_runtime::domain::run::Run;
use troupe_runtime::fault::Faulty as _;
use troupe_runtime::model::{self, Request};
use troupe_runtime::tool::Invocation;

use super::StepActor;

impl StepActor {
    /// Asks the model with the conversation so far.
    pub(super) async fn call_model(&self, run: &Run, deadline: Instant) -> Act {
        let served = &self.work.served;
        let request = Request {
            instructions: served.spec.instructions.clone(),
            messages: run.messages().to_vec(),
            tools: served.offers.clone(),
            force_tool: None,
            deadline: Some(deadline),
        };
        let begun = Instant::now();
        let result = timeout_at(deadline, served.model.complete(&request)).await;
        let agent = served.spec.name.as_str();
        match result {
            Ok(Ok(completion)) => {
                let seconds = begun.elapsed().as_secs_f64();
                self.stage.ports.metrics.model_called(agent, &completion.provider, &completion.model, "ok", seconds);
                self.stage.ports.metrics.tokens_used(agent, &completion.provider, &completion.model, completion.usage);
                Act::ModelResult { completion, request: Some(run.request()) }
            }
            Ok(Err(model::Error::Deadline { .. })) | Err(_) => self.timed_out(),
            Ok(Err(error)) => {
                let seconds = begun.elapsed().as_secs_f64();
                self.stage.ports.metrics.model_called(agent, "", "", error.fault().as_str(), seconds);
                let retryable = error.fault().is_transient();
                Act::AttemptFailed { failure: Failure { reason: Reason::Model, message: error.to_string(), retryable } }
            }
        }
    }

    /// Calls a tool that the run has cleared.
    pub(super) async fn call_tool(&self, call: &ToolCall, key: String, deadline: Instant) -> Act {
        let served = &self.work.served;
        let Some(tool) = served.tools.get(&call.name) else {
            // The run clears only tools that it was told of, and it was told of these.
            let message = format!("tool {} is gone", call.name);
            return Act::AttemptFailed { failure: Failure { reason: Reason::Blocked, message, retryable: false } };
        };
        let time_left = deadline.saturating_duration_since(Instant::now());
        let invocation = Invocation { arguments: call.arguments.clone(), idempotency_key: key, time_left };
        let Ok(answer) = timeout_at(deadline, tool.call(invocation)).await else { return self.timed_out() };
        let word = if answer.is_error { "error" } else { "ok" };
        self.stage.ports.metrics.tool_called(served.spec.name.as_str(), &call.name, word);
        Act::ToolResult {
            call_id: call.id.clone(),
            tool: call.name.clone(),
            content: answer.content,
            is_error: answer.is_error,
        }
    }

    fn timed_out(&self) -> Act {
        let limit = self.work.served.spec.limits.timeout;
        let message = format!("stopped at limits.timeout = {limit:?}");
        Act::AttemptFailed { failure: Failure { reason: Reason::Timeout, message, retryable: false } }
    }
}
