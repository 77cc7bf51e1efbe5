//! `clock`: what time it is, as models cannot know.
//!
//! The answer is journaled like that of any tool, so a run that is replayed sees the time it saw.

use async_trait::async_trait;
use chrono::{FixedOffset, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::domain::journal::Effect;

use super::{Answer, Invocation, Tool};

/// Tells the time.
pub(super) struct ClockTool;

#[async_trait]
impl Tool for ClockTool {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn description(&self) -> &'static str {
        "Tells the current date, time and weekday, in UTC or at a fixed offset from it."
    }

    fn parameters(&self) -> Value {
        json!({
            "type": "object",
            "properties": {
                "offset": {"type": "string", "description": "Offset from UTC, such as +02:00. UTC when left out."}
            },
            "additionalProperties": false
        })
    }

    fn effect(&self) -> Effect {
        Effect::Pure
    }

    async fn call(&self, invocation: Invocation) -> Answer {
        if !invocation.arguments.is_object() {
            return Answer::error("the arguments were no readable JSON object; send {} or {\"offset\": \"+02:00\"}");
        }
        let offset = match invocation.arguments.get("offset") {
            None | Some(Value::Null) => "Z",
            Some(Value::String(offset)) => offset.trim(),
            Some(_) => return Answer::error("`offset` must be a string such as \"+02:00\""),
        };
        let now = Utc::now();
        let (time, weekday) = if matches!(offset, "" | "Z" | "z" | "UTC") {
            (now.to_rfc3339_opts(SecondsFormat::Secs, true), now.format("%A"))
        } else if let Ok(offset) = offset.parse::<FixedOffset>() {
            let there = now.with_timezone(&offset);
            (there.to_rfc3339_opts(SecondsFormat::Secs, false), there.format("%A"))
        } else {
            return Answer::error(format!("{offset:?} is no offset from UTC; write it like +02:00 or -05:30"));
        };
        Answer::ok(format!("{time}, {weekday}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;
    use crate::progress::Progress;

    async fn ask(arguments: Value) -> Answer {
        let time_left = Duration::from_secs(1);
        let (idempotency_key, progress) = (String::new(), Progress::begin());
        ClockTool.call(Invocation { arguments, idempotency_key, time_left, progress }).await
    }

    #[tokio::test]
    async fn it_tells_the_time_at_the_offset() {
        for (arguments, seconds) in
            [(json!({}), 0), (json!({"offset": "+02:00"}), 7_200), (json!({"offset": "-05:30"}), -19_800)]
        {
            let before = Utc::now().timestamp();
            let answer = ask(arguments).await;
            let after = Utc::now().timestamp();
            let (time, weekday) = answer.content.split_once(", ").unwrap();
            let time = DateTime::parse_from_rfc3339(time).unwrap();
            assert_eq!(time.offset().local_minus_utc(), seconds);
            assert!((before..=after).contains(&time.timestamp()), "{answer:?}");
            assert_eq!(weekday, time.format("%A").to_string());
        }
    }

    #[tokio::test]
    async fn a_bad_offset_is_explained() {
        for bad in [Value::Null, json!({"offset": "Europe/Berlin"}), json!({"offset": 2}), json!({"offset": "+99:99"})]
        {
            let answer = ask(bad).await;
            assert!(answer.is_error && answer.content.contains("+02:00"), "{answer:?}");
        }
    }
}
