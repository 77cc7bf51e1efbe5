//! Changes to a spec that is pinned already: what a fork may do otherwise than the run that it was made of.
//!
//! A few keys of a spec, written as `key=value`, held against the same table as the file's. Called by whoever makes a
//! fork; the result is another spec, with a digest of its own.

use std::collections::BTreeMap;

use super::super::check::check;
use super::super::located::{Entry, Node, Value};
use super::super::measure;
use super::super::problem::{At, Problems};
use super::super::setting::value;
use super::keys;
use crate::domain::agent::AgentSpec;

/// The name under which changes are asked for, in messages.
const SET: &str = "set";

/// The spec with these keys changed: `model` (of the same provider, or one of the fallbacks, which then goes first),
/// `max_output_tokens`, `instructions` and the `limits` of a step.
///
/// # Errors
/// All that is wrong with the changes.
pub fn changed(spec: &AgentSpec, changes: &BTreeMap<String, String>) -> Result<AgentSpec, Problems> {
    let at = At::named(SET);
    let entry = |(key, text): (&String, &String)| {
        let node = Node { at: at.clone(), value: Value::Loose(text.clone()) };
        Entry { key: key.clone(), key_at: at.clone(), node }
    };
    let root = Node { at: at.clone(), value: Value::Map(changes.iter().map(entry).collect()) };
    let mut problems = Problems::default();
    check(&root, &keys::CHANGES, SET, &mut problems.0);
    let applied = problems.0.is_empty().then(|| apply(spec.clone(), &root));
    problems.or(applied)
}

fn apply(mut spec: AgentSpec, root: &Node) -> AgentSpec {
    if let Some(model) = value::<String>(root, "model") {
        match spec.models.iter().position(|known| known.model == model) {
            Some(place) => spec.models[..=place].rotate_right(1),
            None => spec.models.iter_mut().take(1).for_each(|first| first.model.clone_from(&model)),
        }
    }
    if let (Some(tokens), Some(first)) = (value(root, "max_output_tokens"), spec.models.first_mut()) {
        first.max_output_tokens = tokens;
    }
    if let Some(instructions) = value(root, "instructions") {
        spec.instructions = instructions;
    }
    let limits = &mut spec.limits;
    limits.turns = value(root, "limits.turns").unwrap_or(limits.turns);
    limits.tokens = value(root, "limits.tokens").unwrap_or(limits.tokens);
    limits.timeout = value(root, "limits.timeout").unwrap_or(limits.timeout);
    let cost = root.get("limits.cost_usd").and_then(Node::digits);
    limits.cost_microusd = cost.and_then(|digits| measure::microusd(&digits).ok()).or(limits.cost_microusd);
    spec
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::node::Agents;
    use super::super::parse_agent;
    use super::*;

    const SPEC: &str = "
name: a
type: t
execution_mode: autonomous
llm_config:
  provider: anthropic
  model: large
  fallback: [{provider: openai, model: other, base_url: 'http://127.0.0.1:1/v1'}, {provider: anthropic, model: small}]
";

    fn spec() -> AgentSpec {
        parse_agent("a.yaml", SPEC, &Agents::default()).unwrap()
    }

    fn set(changes: &[(&str, &str)]) -> Result<AgentSpec, String> {
        let changes = changes.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        changed(&spec(), &changes).map_err(|problems| problems.to_string())
    }

    fn models(spec: &AgentSpec) -> Vec<&str> {
        spec.models.iter().map(|model| model.model.as_str()).collect()
    }

    #[test]
    fn a_changed_spec_is_another_spec_and_nothing_else_of_it_changes() {
        assert_eq!(set(&[]), Ok(spec()));
        let mut expected = spec();
        expected.models[0].model = "new".into();
        expected.models[0].max_output_tokens = 9;
        expected.instructions = "= be brief".into();
        (expected.limits.turns, expected.limits.tokens) = (30, 70_000);
        (expected.limits.cost_microusd, expected.limits.timeout) = (Some(1_250_000), Duration::from_mins(9));
        let other = set(&[
            ("model", "new"),
            ("max_output_tokens", "9"),
            ("instructions", "= be brief"),
            ("limits.turns", "30"),
            ("limits.tokens", "70000"),
            ("limits.cost_usd", "1.25"),
            ("limits.timeout", "9m"),
        ]);
        assert_ne!(expected.digest(), spec().digest());
        assert_eq!(other, Ok(expected));
    }

    #[test]
    fn a_fallback_that_is_named_goes_first() {
        assert_eq!(models(&set(&[("model", "small")]).unwrap()), ["small", "large", "other"]);
        assert_eq!(models(&set(&[("model", "other")]).unwrap()), ["other", "large", "small"]);
        assert_eq!(set(&[("model", "large")]), Ok(spec()));
    }

    #[test]
    fn what_cannot_be_set_is_said_all_at_once() {
        let told = set(&[("modle", "x"), ("limits.turns", "0"), ("name", "b"), ("model", " ")]).unwrap_err();
        for part in [
            "unknown key \"modle\" in set; did you mean \"model\"?",
            "limits.turns: expected a whole number",
            "unknown key \"name\" in set; known are model, max_output_tokens, instructions, limits.turns",
            "model: expected a text",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
    }
}
