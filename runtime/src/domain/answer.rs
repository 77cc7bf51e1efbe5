//! The answer: how a task ended, with where its question came from, as it travels back over the bus.
//!
//! The relay makes one of every end of a step and publishes it on `agent.output.<agent>` or `agent.failed.<agent>`;
//! whoever asked reads it there (the Slack reply sender, a waiting API call, another program). It holds all that a
//! reader needs to answer, so that nobody has to look the task up again; of what was asked only what is short and flat ([`Origin`]),
//! or each answer to an answer would be larger and deeper than the one before. Its event id is derived from the step: when the relay
//! dies between publishing and noting it, the second event has the id of the first.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::agent::{AgentName, SlackReply};
use super::data::Data;
use super::event::Event;
use super::ids::{StepId, TaskId, event_id_from};
use super::outcome::Outcome;
use super::topic::Topic;

/// Bytes that a value of the question's data may have, as JSON, to travel with the answer: an address does, a text may not.
const VALUE_BYTES_MAX: usize = 512;
/// Bytes that those which travel may have together, with their keys.
const VALUES_BYTES_MAX: usize = 4 * 1024;

/// How a task ended, and whom that concerns. On the wire:
/// `{task_id, agent, status, output | failure | reason, origin: {topic, source, subject?, time, data}, reply}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The task; also the id under which a reply is sent at most once.
    pub task_id: TaskId,
    /// Who worked on it.
    pub agent: AgentName,
    /// `status` with `output`, `failure` or `reason`.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// From where it was asked.
    pub origin: Origin,
    /// Where the answer goes when the question came from Slack.
    pub reply: SlackReply,
}

/// What a reader needs to know of the event that a task was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Its topic.
    pub topic: Topic,
    /// Who made it; `/slack/<team>` is how the reply sender knows its own.
    pub source: String,
    /// What it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it was made.
    pub time: DateTime<Utc>,
    /// Of its payload what is short and flat, such as the channel and the thread that an answer goes to: values of at most 512 bytes, no
    /// lists and no objects, 4 KiB in all. All of it is kept with the task.
    #[serde(default)]
    pub data: Data,
}

impl Origin {
    /// What `event` tells about where it came from.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        Self {
            topic: event.topic.clone(),
            source: event.source.clone(),
            subject: event.subject.clone(),
            time: event.time,
            data: short_and_flat(&event.data),
        }
    }

    /// The source of the origin in an event's data, read without decoding the rest: most answers do not concern the
    /// one who asks.
    #[must_use]
    pub fn source_in(data: &Data) -> Option<String> {
        #[derive(Deserialize)]
        struct Told {
            origin: Asked,
        }
        #[derive(Deserialize)]
        struct Asked {
            source: String,
        }
        data.read::<Told>().ok().map(|told| told.origin.source)
    }
}

impl Answered {
    /// The event that tells it: caused by the task's event, in the same trace, with the same priority, made at `at`
    /// (when the step ended). The same step makes the same id, whenever and wherever it is told again.
    #[must_use]
    pub fn event(self, step: StepId, cause: &Event, at: DateTime<Utc>) -> Event {
        let topic = match &self.outcome {
            Outcome::Succeeded { .. } => Topic::agent_output(&self.agent),
            Outcome::Failed { .. } | Outcome::Cancelled { .. } => Topic::agent_failed(&self.agent),
        };
        let (source, task) = (format!("/agents/{}", self.agent), self.task_id.to_string());
        let id = event_id_from(&["answer", &step.to_string()]);
        // Values of these types have JSON: their keys are texts.
        let data = Data::of(&self).unwrap_or_default();
        let event = Event::following(cause, id, topic, source, at, data);
        Event { subject: Some(task), ..event }
    }
}

/// The values of `data` that travel with an answer, by their keys; data that is no object travels if it is such a value itself.
fn short_and_flat(data: &Data) -> Data {
    let travels = |text: &str| text.len() <= VALUE_BYTES_MAX && !text.starts_with(['{', '[']);
    let Ok(mut values) = data.read::<BTreeMap<String, &RawValue>>() else {
        return if travels(data.text()) { data.clone() } else { Data::default() };
    };
    let mut room = VALUES_BYTES_MAX;
    values.retain(|key, value| {
        let bytes = key.len() + value.get().len();
        let stays = travels(value.get()) && bytes <= room;
        room -= if stays { bytes } else { 0 };
        stays
    });
    // Written anew, all of them too: between them there may have been any number of blanks, and the same key before with another value.
    // They were read from JSON, so they have JSON.
    Data::of(&values).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::outcome::{Failure, Reason};
    use super::*;

    fn asked() -> Event {
        let topic = Topic::slack_command("ask");
        let mut event = Event::new(topic, "/slack/T1", json!({"text": "why", "channel": "C1"}));
        event.subject = Some("C1".to_owned());
        event
    }

    fn answered(event: &Event, outcome: Outcome) -> Answered {
        let agent: AgentName = "researcher".parse().unwrap();
        let task_id = TaskId::derive(&event.id, agent.as_str());
        Answered { task_id, agent, outcome, origin: Origin::of(event), reply: SlackReply::Thread }
    }

    #[test]
    fn the_wire_has_the_promised_keys() {
        let event = asked();
        let good = answered(&event, Outcome::Succeeded { output: "because".to_owned() });
        let wire = serde_json::to_value(&good).unwrap();
        assert_eq!(wire["status"], "succeeded");
        assert_eq!(wire["output"], "because");
        assert_eq!(wire["origin"]["source"], "/slack/T1");
        assert_eq!(wire["origin"]["data"]["channel"], "C1");
        assert_eq!(wire["reply"], "thread");
        assert_eq!(Origin::source_in(&wire.clone().into()).as_deref(), Some("/slack/T1"));
        assert_eq!(Answered::deserialize(&wire).unwrap(), good);
        let told = good.clone().event(good.task_id.run(0).step(0), &event, Utc::now());
        assert_eq!(told.data.value(), wire);
    }

    #[test]
    fn a_failure_keeps_its_reason_and_goes_to_the_failed_topic() {
        let event = asked();
        let failure = Failure { reason: Reason::Timeout, message: "60 s".to_owned(), retryable: false };
        let bad = answered(&event, Outcome::Failed { failure });
        let told = bad.clone().event(bad.task_id.run(0).step(0), &event, Utc::now());
        assert_eq!(told.topic.as_str(), "agent.failed.researcher");
        assert_eq!(told.data.value()["failure"]["reason"], "timeout");
        assert_eq!(told.data.read::<Answered>().unwrap(), bad);
        let off = answered(&event, Outcome::Cancelled { reason: "by U1".to_owned() });
        let told = off.clone().event(off.task_id.run(0).step(0), &event, Utc::now());
        assert_eq!(told.topic.as_str(), "agent.failed.researcher");
        assert_eq!(told.data.read::<Answered>().unwrap(), off);
    }

    #[test]
    fn telling_it_again_makes_the_same_event_id_in_the_same_trace() {
        let event = asked();
        let answer = answered(&event, Outcome::Succeeded { output: "because".to_owned() });
        let (step, at) = (answer.task_id.run(0).step(0), Utc::now());
        let (first, second) = (answer.clone().event(step, &event, at), answer.clone().event(step, &event, at));
        assert_eq!((&first.id, first.time), (&second.id, second.time));
        assert_eq!(first.traceparent.trace_id(), event.traceparent.trace_id());
        assert_eq!(first.causationid.as_ref(), Some(&event.id));
        let retry = answer.task_id.run(1).step(0);
        let retried = answer.event(retry, &event, at);
        assert_ne!(first.id, retried.id);
    }

    #[test]
    fn of_the_question_only_what_is_short_and_flat_travels_along() {
        let of = |data: serde_json::Value| {
            Origin::of(&Event::new(Topic::slack_command("ask"), "/slack/T1", data)).data.value()
        };
        let address = json!({"channel": "C1", "thread_ts": "1.2", "response_url": "https://hooks.slack.com/1", "n": 7, "b": null});
        assert_eq!(of(address.clone()), address);
        let mut whole = address.clone();
        whole["text"] = "why".repeat(200).into();
        whole["files"] = json!([{"id": "F1"}]);
        whole["more"] = json!({});
        assert_eq!(of(whole), address);
        let twice = format!("{{\"a\": {}{}, {}\"a\": 7}}", "[".repeat(126), "]".repeat(126), " ".repeat(10_000));
        let event = Event { data: serde_json::from_str(&twice).unwrap(), ..asked() };
        assert_eq!(Origin::of(&event).data.text(), r#"{"a":7}"#);
        assert_eq!(
            (of(json!("why")), of(json!("why".repeat(200))), of(json!(["why"]))),
            (json!("why"), json!(null), json!(null))
        );
        let many: serde_json::Map<_, _> = (0..2_000).map(|n| (format!("key {n}"), json!("v".repeat(100)))).collect();
        let kept: BTreeMap<String, String> = serde_json::from_value(of(many.into())).unwrap();
        let bytes: usize = kept.iter().map(|(key, text)| key.len() + text.len() + 2).sum();
        assert!((VALUES_BYTES_MAX - 120..=VALUES_BYTES_MAX).contains(&bytes), "{bytes}");
    }

    #[test]
    fn an_answer_to_an_answer_is_no_deeper_and_no_larger() {
        let deep = format!("{{\"text\":{}{}}}", "[".repeat(126), "]".repeat(126));
        let mut event = Event { data: serde_json::from_str(&deep).unwrap(), ..asked() };
        let mut sizes = Vec::new();
        for _ in 0..100 {
            let answer = answered(&event, Outcome::Succeeded { output: "because".to_owned() });
            let told = answer.clone().event(answer.task_id.run(0).step(0), &event, event.time);
            let wire = serde_json::to_string(&told).unwrap();
            sizes.push(wire.len());
            event = serde_json::from_str(&wire).unwrap();
            assert_eq!(event.data.read::<Answered>().unwrap(), answer);
        }
        assert_eq!(sizes[1..].iter().max(), sizes[1..].iter().min(), "{sizes:?}");
    }

    #[test]
    fn what_is_no_answer_has_no_source() {
        assert_eq!(Origin::source_in(&json!({"text": "x"}).into()), None);
        assert_eq!(Origin::source_in(&json!(null).into()), None);
        assert_eq!(Origin::source_in(&json!({"origin": {"source": 7}}).into()), None);
    }
}
