//! Waiting for a condition: asked again and again, answered at once, given up with a sentence that says what was missing.

use std::time::{Duration, Instant};

/// The longest that any test waits for one thing.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions.
const EVERY: Duration = Duration::from_millis(15);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within `limit`: `what` says what was waited for.
pub async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain for {what}");
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_ends_the_wait() {
        let mut asked = 0;
        let answer = until("three", PATIENCE, async || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(answer.await, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "in vain for rain")]
    async fn no_answer_fails_with_what_was_missing() {
        until("rain", Duration::from_millis(1), async || None::<()>).await;
    }
}
