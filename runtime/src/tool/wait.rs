//! `wait`: lets time pass before the model goes on, for things that need a moment outside.
//!
//! Bounded by an option and by the step's own time; a wait that is longer than either is refused at once instead of being
//! cut off late. Waiting again after a crash is harmless.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::domain::journal::Effect;

use super::{Answer, Invocation, Tool};

/// How often it says that it is still there: a wait that was asked for is no stall.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Waits.
pub(super) struct WaitTool {
    max: Duration,
}

impl WaitTool {
    /// For at most `max`.
    pub(super) const fn new(max: Duration) -> Self {
        Self { max }
    }
}

#[async_trait]
impl Tool for WaitTool {
    fn name(&self) -> &'static str {
        "wait"
    }

    fn description(&self) -> &'static str {
        "Waits for a number of seconds before you go on."
    }

    fn parameters(&self) -> Value {
        json!({
            "type": "object",
            "properties": {"seconds": {"type": "number", "minimum": 0, "maximum": self.max.as_secs_f64()}},
            "required": ["seconds"],
            "additionalProperties": false
        })
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    async fn call(&self, invocation: Invocation) -> Answer {
        let seconds = invocation.arguments.get("seconds").and_then(Value::as_f64);
        let Some(wait) = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) else {
            return Answer::error("`seconds` must be a number, 0 or more");
        };
        if wait > self.max {
            return Answer::error(format!("a wait may take {:?} at most", self.max));
        }
        if wait >= invocation.time_left {
            return Answer::error(format!("only {:?} are left for this step", invocation.time_left));
        }
        let end = Instant::now() + wait;
        while Instant::now() < end {
            sleep_until(end.min(Instant::now() + SIGN_OF_LIFE)).await;
            invocation.progress.made();
        }
        Answer::ok(format!("waited {wait:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    async fn wait(seconds: Value) -> (Answer, Duration) {
        let arguments = json!({"seconds": seconds});
        let (idempotency_key, time_left) = (String::new(), Duration::from_mins(1));
        let invocation = Invocation { arguments, idempotency_key, time_left, progress: Progress::begin() };
        let start = Instant::now();
        (WaitTool::new(Duration::from_mins(2)).call(invocation).await, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_as_long_as_asked() {
        let (answer, took) = wait(json!(12)).await;
        assert_eq!((answer, took), (Answer::ok("waited 12s"), Duration::from_secs(12)));
        assert_eq!(wait(json!(0.5)).await.1, Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_beyond_a_limit_are_refused_at_once() {
        for (seconds, reason) in [(json!(60), "are left"), (json!(121), "at most"), (json!(-1), "a number")] {
            let (answer, took) = wait(seconds).await;
            assert!(answer.is_error && answer.content.contains(reason), "{answer:?}");
            assert_eq!(took, Duration::ZERO);
        }
        for odd in [json!("3"), json!(1e300), Value::Null] {
            assert!(wait(odd).await.0.is_error);
        }
    }
}
