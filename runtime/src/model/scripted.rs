//! The scripted model: rules instead of a model, so that demos and tests are exact, free and counted.
//!
//! The first rule whose `when` matches the last message, and that is not used up, answers. Every call is counted when it
//! starts ([`ScriptedCalls`], exported as `troupe_scripted_model_calls_total{agent,rule}`): the proof that a journaled
//! call was not made again is this count. No rule fits: a permanent error that says so.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use regex::{Captures, Regex, RegexBuilder};
use serde_json::Value;

use crate::domain::agent::{AgentName, ModelSpec, ProviderKind, ScriptAct, ScriptRule};
use crate::domain::chat::{Completion, Finish, ToolCall};

use super::{Error, Model, Request, usage};

/// Compiled size limit of one `when`, in bytes.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;
/// How much of the last message an error shows, in characters.
const SHOWN_CHARS: usize = 80;

/// How often each rule was called in this process. Cheap to clone; clones count together.
#[derive(Clone, Default)]
pub struct ScriptedCalls {
    counts: Arc<Mutex<BTreeMap<(AgentName, usize), u64>>>,
    used: Arc<Mutex<HashMap<(AgentName, String), Uses>>>,
}

/// Uses of each rule of one script, shared by the instances of an agent: `times` counts per process.
type Uses = Arc<[AtomicU32]>;

impl fmt::Debug for ScriptedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.snapshot()).finish()
    }
}

impl ScriptedCalls {
    /// The counts so far: agent, index of the rule in its script, calls; ordered.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(AgentName, usize, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((agent, rule), count)| (agent.clone(), *rule, *count)).collect()
    }

    /// All calls so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    fn count(&self, agent: &AgentName, rule: usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((agent.clone(), rule)).or_default() += 1;
    }

    /// The same script of the same agent has the same uses, however often it is built; a changed script starts anew.
    fn uses(&self, agent: &AgentName, script: &[ScriptRule]) -> Uses {
        let text = serde_json::to_string(script).unwrap_or_default();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || script.iter().map(|_| AtomicU32::new(0)).collect();
        Arc::clone(used.entry((agent.clone(), text)).or_insert_with(fresh))
    }
}

/// A model that follows rules.
pub(super) struct ScriptedModel {
    agent: AgentName,
    label: String,
    model: String,
    rules: Vec<(Option<Regex>, ScriptRule)>,
    uses: Uses,
    calls: ScriptedCalls,
}

impl ScriptedModel {
    /// Compiles the rules of `spec`.
    pub(super) fn new(agent: &AgentName, spec: &ModelSpec, calls: &ScriptedCalls) -> Result<Self, Error> {
        let label = format!("{}/{}", spec.provider.as_str(), spec.model);
        let mut rules = Vec::with_capacity(spec.script.len());
        for (index, rule) in spec.script.iter().enumerate() {
            let compile = |pattern: &String| RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
            let when = rule.when.as_ref().map(compile).transpose().map_err(|error| Error::BadSpec {
                model: label.clone(),
                message: format!("`when` of script rule {index} is no regular expression: {error}"),
            })?;
            rules.push((when, rule.clone()));
        }
        let uses = calls.uses(agent, &spec.script);
        Ok(Self { agent: agent.clone(), label, model: spec.model.clone(), rules, uses, calls: calls.clone() })
    }

    /// The first rule that matches and is not used up, with the groups of its match; it is used by being picked.
    fn pick<'text>(&self, last: &'text str) -> Option<(usize, &ScriptRule, Option<Captures<'text>>)> {
        self.rules.iter().enumerate().find_map(|(index, (when, rule))| {
            let captures = match when {
                Some(when) => Some(when.captures(last)?),
                None => None,
            };
            self.take_use(index, rule.times).then_some((index, rule, captures))
        })
    }

    fn take_use(&self, index: usize, times: Option<u32>) -> bool {
        let (Some(times), Some(used)) = (times, self.uses.get(index)) else { return true };
        let one_more = |count| (count < times).then_some(count + 1);
        used.try_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

#[async_trait]
impl Model for ScriptedModel {
    async fn complete(&self, request: &Request) -> Result<Completion, Error> {
        let last = request.messages.last().map_or("", |message| message.text());
        let Some((index, rule, captures)) = self.pick(last) else {
            let shown = last.chars().take(SHOWN_CHARS).collect();
            return Err(Error::NoRule { agent: self.agent.to_string(), last: shown });
        };
        self.calls.count(&self.agent, index);
        if !rule.delay.is_zero() {
            tokio::time::sleep(rule.delay).await;
        }
        let (text, tool_calls, finish) = match &rule.then {
            ScriptAct::Reply(text) => (fill(text, last, captures.as_ref()), Vec::new(), Finish::Stop),
            ScriptAct::Tool { name, arguments } => {
                // The place in the conversation makes the id unique and the same on every replay.
                let id = format!("script-{}", request.messages.len());
                let arguments = fill_json(arguments, last, captures.as_ref());
                (String::new(), vec![ToolCall { id, name: name.clone(), arguments }], Finish::ToolCalls)
            }
            ScriptAct::Fail(status) => {
                return Err(Error::Status {
                    model: self.label.clone(),
                    status: *status,
                    message: format!("rule {index} of the script says so"),
                    retry_after: None,
                });
            }
        };
        Ok(Completion {
            usage: usage::estimated(request, &text, &tool_calls),
            text,
            tool_calls,
            finish,
            provider: ProviderKind::Scripted.as_str().to_owned(),
            model: self.model.clone(),
            request_id: None,
        })
    }
}

/// Replaces `{input}` and `{N}` in one pass, so that what a person wrote is never expanded in turn.
fn fill(template: &str, input: &str, captures: Option<&Captures<'_>>) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, opened) = rest.split_at(start);
        text.push_str(before);
        let value = opened[1..].split_once('}').and_then(|(name, after)| {
            if name == "input" {
                return Some((input, after));
            }
            let group = captures?.get(name.parse().ok()?);
            Some((group.map_or("", |group| group.as_str()), after))
        });
        let (value, after) = value.unwrap_or(("{", &opened[1..]));
        text.push_str(value);
        rest = after;
    }
    text.push_str(rest);
    text
}

/// [`fill`] in every string of the arguments of a tool.
fn fill_json(template: &Value, input: &str, captures: Option<&Captures<'_>>) -> Value {
    match template {
        Value::String(text) => Value::String(fill(text, input, captures)),
        Value::Array(items) => items.iter().map(|item| fill_json(item, input, captures)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), fill_json(value, input, captures))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => template.clone(),
    }
}

#[cfg(test)]
mod tests;
