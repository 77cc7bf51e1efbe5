//! The agent spec: the validated definition of an agent, as `config/agents/<name>.yaml` gives it.
//!
//! Parsing, defaults and error places are the business of [`crate::config`]; a value of this type is already valid.
//! Secrets stand here as `${NAME}` references and are resolved where they are used, so a spec may be stored, shown and
//! digested. A run pins the [`AgentSpec::digest`] it started with: a changed file changes new runs only.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use super::name::{AgentName, BadAgentName};
use super::topic::TopicPattern;

/// How the runs of an agent are shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionMode {
    /// A run of one step with a fresh context.
    Autonomous,
    /// A planned run over a team.
    Collaborative,
    /// One step per event, in order, with memory.
    Continuous,
    /// Triggered by the clock; runs as `runs_as` says.
    Scheduled,
}

impl ExecutionMode {
    /// Every mode, in the order of the contract.
    pub const ALL: [Self; 4] = [Self::Autonomous, Self::Collaborative, Self::Continuous, Self::Scheduled];

    /// The word of the contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Autonomous => "autonomous",
            Self::Collaborative => "collaborative",
            Self::Continuous => "continuous",
            Self::Scheduled => "scheduled",
        }
    }
}

impl fmt::Display for ExecutionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which wire a model is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Anthropic's messages.
    Anthropic,
    /// Chat completions of `OpenAI` or any server that speaks them.
    Openai,
    /// Rules instead of a model: exact, free, counted.
    Scripted,
}

impl ProviderKind {
    /// The word of the contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
            Self::Scripted => "scripted",
        }
    }
}

/// One model to call: the first choice or a fallback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// The wire.
    pub provider: ProviderKind,
    /// The model's name as the provider knows it.
    pub model: String,
    /// `${NAME}` or a literal; `None` uses the provider's usual variable when it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// Where the provider answers, when not at its usual address; may hold `${NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Limit of one call, retries of the call excluded.
    pub timeout: Duration,
    /// Limit of one answer, in tokens.
    pub max_output_tokens: u32,
    /// The rules of a scripted model; empty for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub script: Vec<ScriptRule>,
}

/// One rule of a scripted model; the first that matches and is not used up answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScriptRule {
    /// A regular expression over the last message; `None` matches always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the rule does.
    pub then: ScriptAct,
    /// How long the call takes.
    #[serde(default)]
    pub delay: Duration,
    /// How often the rule may answer in one process; `None` = always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// What a scripted rule does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptAct {
    /// Answers with this text; `{input}` stands for the last message and `{N}` for the N-th group of `when`.
    Reply(String),
    /// Asks for a tool.
    Tool {
        /// The tool.
        name: String,
        /// Its arguments.
        arguments: Value,
    },
    /// Fails as an HTTP server would, with this status.
    Fail(u16),
}

/// A tool that the agent may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolSpec {
    /// One of ours.
    Builtin {
        /// `clock`, `http_get`, `wait`.
        name: String,
        /// Hosts that `http_get` may reach (`example.org`, `*.example.org`).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hosts: Vec<String>,
    },
    /// Tools of an MCP server; read from the spec, served once MCP lands.
    Mcp {
        /// Prefix of its tools.
        name: String,
        /// The rest of the entry as it stands in the file.
        config: Value,
    },
}

/// What happens when the agent wants a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Call it.
    Allow,
    /// Tell the model no.
    Deny,
    /// Ask a person first.
    Ask,
}

/// One line of `permissions`; the first match wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// A tool's name, `*` matching any run of characters.
    pub tool: String,
    /// What then.
    pub rule: Rule,
}

impl Permission {
    /// Whether this line speaks of `tool`.
    #[must_use]
    pub fn covers(&self, tool: &str) -> bool {
        glob(&self.tool, tool)
    }
}

/// The ends of one attempt of a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Model calls in one attempt.
    pub turns: u32,
    /// Tokens over all attempts of the step.
    pub tokens: u64,
    /// Cost over all attempts of the step, in millionths of a US dollar; `None` = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_microusd: Option<u64>,
    /// Wall time of the step, all its attempts included; it starts anew in a life after a crash of the node, which is not
    /// the step's fault.
    pub timeout: Duration,
    /// Cost of all the agent's runs on one day; read from the spec, enforced once budgets land.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_cost_microusd: Option<u64>,
}

/// How often an agent actor may be restarted before it is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartLimit {
    /// Restarts …
    pub max: u32,
    /// … within this time.
    pub window: Duration,
}

/// Where the answer goes when the event came from Slack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SlackReply {
    /// Into the thread of the message.
    Thread,
    /// Into the channel.
    Channel,
    /// Only to who asked (slash commands).
    Ephemeral,
    /// Nowhere.
    None,
}

/// A validated agent definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Unique on the node.
    pub name: AgentName,
    /// Free label.
    #[serde(rename = "type")]
    pub kind: String,
    /// The mode of the contract.
    pub execution_mode: ExecutionMode,
    /// The mode in which a scheduled agent runs; equals `execution_mode` otherwise.
    pub runs_as: ExecutionMode,
    /// First choice, then the fallbacks in order. Never empty.
    pub models: Vec<ModelSpec>,
    /// The system prompt.
    pub instructions: String,
    /// Topics that reach this agent beside its own.
    pub subscriptions: Vec<TopicPattern>,
    /// Agent actors on each node.
    pub instances: u32,
    /// Tools it may use.
    pub tools: Vec<ToolSpec>,
    /// Who may use them how.
    pub permissions: Vec<Permission>,
    /// Ends of a step.
    pub limits: Limits,
    /// Attempts after the first.
    pub retries: u32,
    /// Restart budget of each instance.
    pub restart: RestartLimit,
    /// Where Slack answers go.
    pub reply: SlackReply,
    /// Agents that a collaborative lead may give steps to.
    #[serde(default)]
    pub team: Vec<AgentName>,
    /// The parts that later modes read (`memory`, `plan`, `schedule`), checked for shape and kept as written.
    #[serde(default)]
    pub extra: Value,
}

impl AgentSpec {
    /// SHA-256 over the canonical JSON of the spec, hex. Secrets are references, so the digest tells nothing of them.
    #[must_use]
    pub fn digest(&self) -> String {
        // serde_json writes struct fields in order and map keys sorted: the text is canonical as it is.
        let text = serde_json::to_vec(self).unwrap_or_default();
        hex::encode(Sha256::digest(text))
    }

    /// What happens when the agent wants `tool`, which has the effect `unsafe_effect`.
    #[must_use]
    pub fn rule_for(&self, tool: &str, unsafe_effect: bool) -> Rule {
        let fallback = if unsafe_effect { Rule::Ask } else { Rule::Allow };
        self.permissions.iter().find(|line| line.covers(tool)).map_or(fallback, |line| line.rule)
    }
}

/// `*` matches any run of characters; everything else itself.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => {
            let Some(tail) = text.strip_prefix(head) else { return false };
            (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| glob(rest, &tail[at..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_match_like_globs() {
        let line = |tool: &str| Permission { tool: tool.to_owned(), rule: Rule::Deny };
        assert!(line("crm.delete_*").covers("crm.delete_all"));
        assert!(!line("crm.delete_*").covers("crm.find"));
        assert!(line("*").covers("anything"));
        assert!(line("*_get").covers("http_get"));
        assert!(!line("clock").covers("clock2"));
    }
}
