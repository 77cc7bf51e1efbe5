//! What must hold between the keys of a spec, beyond the shape of each.
//!
//! Every rule reads leniently and adds its problems at the value that is to be changed, so that these come together
//! with the wrong shapes in one go.

use std::collections::HashSet;

use super::super::located::{Node, Value, short};
use super::super::node::Agents;
use super::super::problem::Problem;
use super::super::reference;
use super::build::{runs_as, word};
use crate::domain::agent::{ExecutionMode, ProviderKind};

/// A literal key up to this length is taken for a placeholder, which local servers want; a longer one for a secret.
const LITERAL_KEY_CHARS_MAX: usize = 16;

/// Adds what is wrong between the keys of `root`.
pub(super) fn check(root: &Node, limits: &Agents, problems: &mut Vec<Problem>) {
    instances(root, limits, problems);
    if let Some(llm_config) = root.get("llm_config") {
        model(llm_config, problems);
        for fallback in llm_config.get("fallback").map(Node::items).unwrap_or_default() {
            model(fallback, problems);
        }
    }
    tools(root, problems);
    twice(root, "subscriptions", problems);
    twice(root, "team", problems);
    mode(root, problems);
}

fn instances(root: &Node, limits: &Agents, problems: &mut Vec<Problem>) {
    let Some(node) = root.get("instances") else { return };
    let max = limits.instances_max;
    // Also where it is no whole number, as 1e9 is none: whoever writes that wants to know how many there may be.
    let count = node.digits().and_then(|digits| digits.parse::<f64>().ok());
    if count.is_some_and(|count| count > f64::from(max)) {
        let message =
            format!("instances: expected at most {max}, found {}; agents.instances_max sets it", node.found());
        problems.push(node.at.problem(message));
    }
}

/// One entry of the model chain.
fn model(node: &Node, problems: &mut Vec<Problem>) {
    let Some(provider) = node.get("provider").and_then(word::<ProviderKind>) else { return };
    let script = node.get("script");
    if provider == ProviderKind::Scripted {
        if script.is_none_or(|script| matches!(&script.value, Value::List(rules) if rules.is_empty())) {
            let at = script.map_or(&node.at, |script| &script.at);
            problems.push(at.problem("script: a scripted model needs rules; add `script: [{reply: …}]`"));
        }
        return;
    }
    if let Some(entry) = node.entry("script") {
        let message = format!("script: only a scripted model has rules, this one is {}; remove it", provider.as_str());
        problems.push(entry.key_at.problem(message));
    }
    if node.get("model").is_none() {
        let message =
            format!("model: expected the name of a model of {}, found nothing; add `model:`", provider.as_str());
        problems.push(node.at.problem(message));
    }
    api_key(node, problems);
}

/// A key belongs into the environment: a spec is stored, shown and compared.
fn api_key(node: &Node, problems: &mut Vec<Problem>) {
    let Some((key, text)) = node.get("api_key").and_then(|key| Some((key, key.text()?))) else { return };
    match reference::names(text) {
        Err(why) => problems.push(key.at.problem(format!("api_key: expected ${{NAME}}: {why}"))),
        Ok(names) if names.is_empty() && text.chars().count() > LITERAL_KEY_CHARS_MAX => {
            let message = "api_key: expected ${NAME}, found a key written out; specs are stored and shown, put it into the environment or .env";
            problems.push(key.at.problem(message));
        }
        Ok(_) => {}
    }
}

fn tools(root: &Node, problems: &mut Vec<Problem>) {
    let mut seen = HashSet::new();
    for tool in root.get("tools").map(Node::items).unwrap_or_default() {
        let name = tool.get("builtin").or_else(|| tool.get("mcp").and_then(|mcp| mcp.get("name")));
        if let Some((node, name)) = name.and_then(|node| Some((node, node.text()?)))
            && !seen.insert(name)
        {
            let message = format!("tools: {:?} is here a second time; remove one or rename it", short(name));
            problems.push(node.at.problem(message));
        }
        hosts(tool, problems);
        mcp(tool, problems);
    }
}

/// `hosts` is the allow-list of `http_get`: it must have one, and nothing else may.
fn hosts(tool: &Node, problems: &mut Vec<Problem>) {
    let Some((node, name)) = tool.get("builtin").and_then(|node| Some((node, node.text()?))) else { return };
    let hosts = tool.entry("hosts");
    if name == "http_get" && hosts.is_none_or(|hosts| hosts.node.items().is_empty()) {
        let message = "http_get: expected the hosts that it may reach, found none; add `hosts: [example.org]`";
        problems.push(node.at.problem(message));
    }
    if let Some(hosts) = hosts.filter(|_| name != "http_get") {
        problems.push(
            hosts.key_at.problem(format!("hosts: only http_get has hosts, this is {:?}; remove it", short(name))),
        );
    }
}

fn mcp(tool: &Node, problems: &mut Vec<Problem>) {
    let Some(mcp) = tool.get("mcp") else { return };
    if let Some(entry) = tool.entry("hosts") {
        problems.push(entry.key_at.problem("hosts: only http_get has hosts; remove it"));
    }
    for (key, partner) in [("headers", "url"), ("env", "command")] {
        if let Some(entry) = mcp.entry(key).filter(|_| mcp.get(partner).is_none()) {
            problems.push(entry.key_at.problem(format!("{key}: goes with {partner}, which is not here; remove it")));
        }
    }
    if let Some(command) =
        mcp.get("command").filter(|command| matches!(&command.value, Value::List(parts) if parts.is_empty()))
    {
        problems.push(command.at.problem("command: expected a program and its arguments, found an empty list"));
    }
    for (key, entry) in ["headers", "env"]
        .iter()
        .flat_map(|key| mcp.get(key).map(Node::entries).unwrap_or_default().iter().map(move |entry| (key, entry)))
    {
        if let Some(Err(why)) = entry.node.text().map(reference::names) {
            problems.push(entry.node.at.problem(format!("{key}: {why}")));
        }
    }
}

/// Nothing in a list of words stands there twice.
fn twice(root: &Node, key: &str, problems: &mut Vec<Problem>) {
    let mut seen = HashSet::new();
    for item in root.get(key).map(Node::items).unwrap_or_default() {
        if item.text().is_some_and(|text| !seen.insert(text)) {
            problems.push(item.at.problem(format!("{key}: {} is here a second time; remove one", item.found())));
        }
    }
}

/// What a mode cannot do without. Keys of other modes may stand in any spec: they are read when the mode changes.
fn mode(root: &Node, problems: &mut Vec<Problem>) {
    let Some((node, mode)) = root.get("execution_mode").and_then(|node| Some((node, word(node)?))) else { return };
    if mode == ExecutionMode::Scheduled && root.get("schedule").is_none() {
        let message = "execution_mode: a scheduled agent needs a schedule; add `schedule: {cron: \"0 9 * * 1-5\"}`";
        problems.push(node.at.problem(message));
    }
    if runs_as(root, mode) == ExecutionMode::Collaborative
        && root.get("team").is_none_or(|team| team.items().is_empty())
    {
        let message = "execution_mode: a collaborative agent leads a team; add `team: [other-agent]`";
        problems.push(node.at.problem(message));
    }
}
