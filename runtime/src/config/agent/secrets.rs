//! Which secrets a spec refers to, and which of them are missing.
//!
//! Start-up and `troupe check` ask before anything runs, so that a missing key is one clear line and not a failed
//! task at night. Only names are handled here; values are resolved where they are used.

use serde_json::Value;

use super::super::reference;
use crate::domain::agent::{AgentSpec, ModelSpec, ProviderKind, ToolSpec};

/// Every `${NAME}` in `spec`, each once, in the order of the file.
#[must_use]
pub fn secret_names(spec: &AgentSpec) -> Vec<String> {
    let models = spec.models.iter().flat_map(model_texts);
    unique(models.chain(tool_texts(spec)))
}

/// The names that `spec` cannot run without and that `is_set` does not know.
///
/// A chain that ends in a scripted model answers without any key, so the keys of its models are wishes, not needs.
pub fn missing_secrets(spec: &AgentSpec, is_set: &dyn Fn(&str) -> bool) -> Vec<String> {
    let scripted_end = spec.models.last().is_some_and(|model| model.provider == ProviderKind::Scripted);
    let models = spec.models.iter().filter(|_| !scripted_end).flat_map(model_texts);
    let mut names = unique(models.chain(tool_texts(spec)));
    names.retain(|name| !is_set(name));
    names
}

fn model_texts(model: &ModelSpec) -> impl Iterator<Item = &str> {
    model.api_key.iter().chain(&model.base_url).map(String::as_str)
}

fn tool_texts(spec: &AgentSpec) -> impl Iterator<Item = &str> {
    spec.tools.iter().flat_map(|tool| match tool {
        ToolSpec::Mcp { config, .. } => {
            let url = config.get("url").and_then(Value::as_str);
            let maps = ["headers", "env"].into_iter().filter_map(|key| config.get(key)?.as_object());
            url.into_iter().chain(maps.flat_map(|map| map.values().filter_map(Value::as_str))).collect()
        }
        ToolSpec::Builtin { .. } => Vec::new(),
    })
}

fn unique<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in texts.flat_map(|text| reference::names(text).unwrap_or_default()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}
