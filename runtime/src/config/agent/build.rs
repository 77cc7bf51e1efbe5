//! The last step of reading a spec: a checked tree to an [`AgentSpec`].
//!
//! Nothing is judged here. `None` means that a value had the wrong shape, which the check has reported with its place.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::super::located::Node;
use super::super::measure;
use super::super::setting::value;
use super::keys;
use crate::domain::agent::{
    AgentSpec, ExecutionMode, Limits, ModelSpec, Permission, ProviderKind, RestartLimit, ScriptAct, ScriptRule,
    SlackReply, ToolSpec,
};

/// The parts that later modes read; kept as they stand in the file.
const EXTRA: [&str; 3] = ["memory", "plan", "schedule"];

/// The spec of a checked file.
pub(super) fn spec(root: &Node) -> Option<AgentSpec> {
    let execution_mode: ExecutionMode = word(root.get("execution_mode")?)?;
    Some(AgentSpec {
        name: value::<String>(root, "name")?.parse().ok()?,
        kind: value(root, "type")?,
        execution_mode,
        runs_as: runs_as(root, execution_mode),
        models: models(root.get("llm_config")?)?,
        instructions: value(root, "instructions").unwrap_or_default(),
        subscriptions: list(root, "subscriptions", |item| item.text()?.parse().ok())?,
        instances: value(root, "instances").unwrap_or(1),
        tools: list(root, "tools", tool)?,
        permissions: list(root, "permissions", |item| {
            Some(Permission { tool: value(item, "tool")?, rule: word(item.get("rule")?)? })
        })?,
        limits: limits(root.get("limits")),
        retries: value(root, "retries").unwrap_or(keys::RETRIES),
        restart: restart(root.get("restart")),
        reply: root.get("reply").and_then(|reply| word(reply.get("slack")?)).unwrap_or(SlackReply::Thread),
        team: list(root, "team", |item| item.text()?.parse().ok())?,
        extra: extra(root),
    })
}

/// The mode in which runs go: a scheduled agent says it, the others are what they are.
pub(super) fn runs_as(root: &Node, mode: ExecutionMode) -> ExecutionMode {
    match mode {
        ExecutionMode::Scheduled => root.get("runs_as").and_then(word).unwrap_or(ExecutionMode::Autonomous),
        other => other,
    }
}

/// A word of the contract as the enum that serde reads it into.
pub(super) fn word<T: DeserializeOwned>(node: &Node) -> Option<T> {
    serde_json::from_value(node.text()?.into()).ok()
}

/// Every item of the list at `key`; an absent list is empty.
fn list<T>(mapping: &Node, key: &str, read: impl Fn(&Node) -> Option<T>) -> Option<Vec<T>> {
    mapping.get(key).map(Node::items).unwrap_or_default().iter().map(read).collect()
}

fn models(llm_config: &Node) -> Option<Vec<ModelSpec>> {
    let mut models = vec![model(llm_config)?];
    models.extend(list(llm_config, "fallback", model)?);
    Some(models)
}

fn model(node: &Node) -> Option<ModelSpec> {
    let provider: ProviderKind = word(node.get("provider")?)?;
    Some(ModelSpec {
        provider,
        model: value(node, "model").unwrap_or_else(|| provider.as_str().to_owned()),
        api_key: value(node, "api_key"),
        base_url: value(node, "base_url"),
        timeout: value(node, "timeout").unwrap_or(keys::MODEL_TIMEOUT),
        max_output_tokens: value(node, "max_output_tokens").unwrap_or(keys::OUTPUT_TOKENS),
        script: list(node, "script", script_rule)?,
    })
}

fn script_rule(node: &Node) -> Option<ScriptRule> {
    let then = if let Some(tool) = node.get("tool") {
        let arguments = tool.get("arguments").map_or_else(|| Value::Object(Map::new()), Node::to_json);
        ScriptAct::Tool { name: value(tool, "name")?, arguments }
    } else if let Some(status) = value(node, "fail") {
        ScriptAct::Fail(status)
    } else {
        ScriptAct::Reply(value(node, "reply")?)
    };
    Some(ScriptRule {
        when: value(node, "when"),
        then,
        delay: value(node, "delay").unwrap_or_default(),
        times: value(node, "times"),
    })
}

fn tool(node: &Node) -> Option<ToolSpec> {
    if let Some(mcp) = node.get("mcp") {
        let name = value(mcp, "name")?;
        let rest = mcp.entries().iter().filter(|entry| entry.key != "name");
        let config = rest.map(|entry| (entry.key.clone(), entry.node.to_json())).collect();
        return Some(ToolSpec::Mcp { name, config: Value::Object(config) });
    }
    Some(ToolSpec::Builtin { name: value(node, "builtin")?, hosts: value(node, "hosts").unwrap_or_default() })
}

fn limits(node: Option<&Node>) -> Limits {
    let usd = |key: &str| measure::microusd(&node?.get(key)?.digits()?).ok();
    Limits {
        turns: node.and_then(|node| value(node, "turns")).unwrap_or(keys::TURNS),
        tokens: node.and_then(|node| value(node, "tokens")).unwrap_or(keys::TOKENS),
        cost_microusd: usd("cost_usd"),
        timeout: node.and_then(|node| value(node, "timeout")).unwrap_or(keys::STEP_TIMEOUT),
        daily_cost_microusd: usd("daily_cost_usd"),
    }
}

fn restart(node: Option<&Node>) -> RestartLimit {
    RestartLimit {
        max: node.and_then(|node| value(node, "max")).unwrap_or(keys::RESTARTS),
        window: node.and_then(|node| value(node, "window")).unwrap_or(keys::RESTART_WINDOW),
    }
}

fn extra(root: &Node) -> Value {
    let parts: Map<String, Value> =
        EXTRA.iter().filter_map(|key| Some(((*key).to_owned(), root.get(key)?.to_json()))).collect();
    if parts.is_empty() { Value::Null } else { Value::Object(parts) }
}
