//! Acceptances, entries and ends for the cases, each valid and each a little different from the next.
//!
//! A case changes what it is about (`Acceptance { owner, ..acceptance("a")? }`) and leaves the rest to these.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::RngExt as _;
use serde_json::{Value, json};

use super::Failed;
use crate::domain::agent::{
    AgentSpec, ExecutionMode, Limits, ModelSpec, ProviderKind, RestartLimit, ScriptAct, ScriptRule, SlackReply,
};
use crate::domain::chat::{Completion as Turn, Finish, ToolCall, Usage};
use crate::domain::clarification::{Answer, Category, Clarification};
use crate::domain::event::Event;
use crate::domain::journal::{Act, Entry};
use crate::domain::outcome::{Failure, Outcome, Reason};
use crate::domain::step::Incarnation;
use crate::store::{Acceptance, Accepted, Append, Claim, Completion, Stores};

/// The life that owns what a case does not say otherwise.
pub(super) const LIFE: Incarnation = Incarnation(7);

/// Something for `agent`, never the same twice.
pub(super) fn acceptance(agent: &str) -> Result<Acceptance, Failed> {
    let topic = format!("agent.task.{agent}").parse()?;
    Ok(Acceptance {
        agent: agent.parse()?,
        mode: ExecutionMode::Autonomous,
        spec_digest: "d1".into(),
        event: Arc::new(Event::new(topic, "/conformance", json!({"text": "What is the time?"}))),
        owner: LIFE,
    })
}

/// Accepts it; it must be new.
pub(super) async fn accepted(stores: &Stores, acceptance: Acceptance) -> Result<Claim, Failed> {
    match stores.tasks.accept(acceptance).await? {
        Accepted::New(claim) => Ok(claim),
        Accepted::Duplicate(task) => Err(Failed(format!("task {task} is new, and was taken for a duplicate"))),
    }
}

/// A new task of `agent`.
pub(super) async fn task(stores: &Stores, agent: &str) -> Result<Claim, Failed> {
    accepted(stores, acceptance(agent)?).await
}

/// A model's last word.
pub(super) fn turn(text: &str) -> Act {
    Act::ModelResult {
        completion: Turn {
            text: text.to_owned(),
            tool_calls: Vec::new(),
            finish: Finish::Stop,
            usage: Usage { input_tokens: 11, output_tokens: 3, cost_microusd: 5 },
            provider: "scripted".to_owned(),
            model: "rules".to_owned(),
            request_id: None,
        },
        request: None,
    }
}

/// A model's wish for a tool, with arguments that are hard to keep.
pub(super) fn tool_turn() -> Act {
    let call = ToolCall { id: "c1".to_owned(), name: "http_get".to_owned(), arguments: awkward() };
    match turn("") {
        Act::ModelResult { completion, .. } => Act::ModelResult {
            completion: Turn {
                tool_calls: vec![call],
                finish: Finish::ToolCalls,
                request_id: Some("req-1".to_owned()),
                ..completion
            },
            request: Some("0ff1ce".to_owned()),
        },
        other => other,
    }
}

/// A tool's answer.
pub(super) fn tool_result() -> Act {
    Act::ToolResult { call_id: "c1".to_owned(), tool: "clock".to_owned(), content: "noon".to_owned(), is_error: false }
}

/// One act of every kind.
pub(super) fn every_act() -> Vec<Act> {
    let clarification = Clarification {
        id: "q1".to_owned(),
        category: Category::UserVerification,
        guidance: "Did this happen?".to_owned(),
        call_id: "c1".to_owned(),
        action_digest: "00ff".to_owned(),
    };
    vec![
        tool_turn(),
        Act::ToolIntent { call_id: "c1".to_owned(), tool: "pay".to_owned(), key: "abc".to_owned() },
        tool_result(),
        Act::ClarificationRaised { clarification },
        Act::ClarificationAnswered { clarification_id: "q1".to_owned(), answer: Answer::Given(awkward()) },
        Act::AttemptFailed { failure: failure() },
        Act::Cancelled { reason: "nobody \"needs\" it".to_owned() },
        turn("It is noon."),
    ]
}

/// Values that a store may spoil: quotes, control characters, foreign scripts, numbers at their ends.
pub(super) fn awkward() -> Value {
    json!({
        "quotes": "'; drop table tasks; -- \" \\ \u{1} \r\n\t",
        "scripts": "Grüße, 時間, \u{1F3AD}, e\u{301}",
        "numbers": [u64::MAX, i64::MIN, 0.1, 0.151_002_163_278_080_03, 6.934_698_245_112_694e276, -0.0, 5e-324],
        "nothing": null,
        "": {"deep": [[[[{}]]]]},
    })
}

/// A text that nothing packs.
pub(super) fn noise(bytes: usize) -> String {
    let mut rng = rand::rng();
    (0..bytes).map(|_| char::from(rng.random_range(b' '..=b'~'))).collect()
}

/// Why something failed.
pub(super) fn failure() -> Failure {
    Failure { reason: Reason::Model, message: "429 \u{2014} later".to_owned(), retryable: true }
}

/// An entry of the first attempt; its time has nanoseconds, which stores like to lose.
pub(super) fn entry(seq: u32, act: Act) -> Entry {
    let at = DateTime::<Utc>::from_timestamp(1_760_000_000 + i64::from(seq), 123_456_789).unwrap_or_default();
    Entry { seq, attempt: 1, at, act }
}

/// An entry to append, and nothing else.
pub(super) fn append(claim: Claim, seq: u32, act: Act) -> Append {
    Append { claim, entry: entry(seq, act), attempts: None, status: None }
}

/// The good end of a step of `agent`, its last entry at `seq`.
pub(super) fn completion(claim: Claim, agent: &str, seq: u32) -> Result<Completion, Failed> {
    Ok(Completion {
        claim,
        agent: agent.parse()?,
        entry: entry(seq, turn("It is noon.")),
        outcome: Outcome::Succeeded { output: "It is noon.".to_owned() },
        usage: Usage { input_tokens: 22, output_tokens: 6, cost_microusd: 10 },
    })
}

/// A spec of an agent `name` that answers by rules.
pub(super) fn spec(name: &str) -> Result<AgentSpec, Failed> {
    let rule = ScriptRule {
        when: Some("(?i)time".to_owned()),
        then: ScriptAct::Tool { name: "clock".to_owned(), arguments: json!({}) },
        delay: Duration::from_millis(1),
        times: Some(1),
    };
    let model = ModelSpec {
        provider: ProviderKind::Scripted,
        model: "rules".to_owned(),
        api_key: Some("${KEY}".to_owned()),
        base_url: None,
        timeout: Duration::from_mins(1),
        max_output_tokens: 1024,
        script: vec![rule],
    };
    Ok(AgentSpec {
        name: name.parse()?,
        kind: "assistant".to_owned(),
        execution_mode: ExecutionMode::Scheduled,
        runs_as: ExecutionMode::Autonomous,
        models: vec![model],
        instructions: "You tell the time.".to_owned(),
        subscriptions: vec!["slack.events.#".parse()?],
        instances: 2,
        tools: Vec::new(),
        permissions: Vec::new(),
        limits: Limits {
            turns: 12,
            tokens: 50_000,
            cost_microusd: Some(500_000),
            timeout: Duration::from_mins(5),
            daily_cost_microusd: None,
        },
        retries: 2,
        restart: RestartLimit { max: 3, window: Duration::from_mins(1) },
        reply: SlackReply::Thread,
        team: Vec::new(),
        extra: json!({"schedule": {"every": "30s"}}),
    })
}
