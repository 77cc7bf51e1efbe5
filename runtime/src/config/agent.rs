//! Agent specs: from YAML to [`AgentSpec`], or to everything that is wrong with it.
//!
//! [`keys`] says which keys there are, `rules` what must hold between them, `build` makes the value, [`folder`] reads
//! `config/agents` and checks agents against one another. Called at start, on every change of the folder, and by
//! `troupe check`. A bad file yields problems with places and no agent; it never stops the others.

mod build;
mod changes;
mod folder;
mod formats;
mod kept;
mod keys;
mod last_good;
mod rules;
mod secrets;
mod stamp;

use std::sync::Arc;

use super::check::check;
use super::located::Node;
use super::problem::{At, Problem, Problems};
use super::schema;
use super::yaml::{YamlBudget, parse};
use crate::domain::agent::{AgentName, AgentSpec};

pub use changes::changed;
pub use folder::{Loaded, load_agents, load_agents_again};
pub use kept::Kept;
pub use last_good::{LastGood, Wanted, Wish};
pub use secrets::{missing_secrets, secret_names};
pub use stamp::Stamp;

use super::node::Agents;

/// One spec from its text; `path` is what places are shown with.
///
/// What needs other files (names used twice, unknown agents in a team) is checked by [`load_agents`].
pub fn parse_agent(path: &str, text: &str, limits: &Agents) -> Result<AgentSpec, Problems> {
    Reading::of(path, text, limits).spec.map(Arc::unwrap_or_clone).map_err(Problems)
}

/// The JSON Schema of an agent spec, for editors and `troupe schema agent`.
#[must_use]
pub fn agent_schema() -> serde_json::Value {
    schema::of(&keys::AGENT, "An agent of Troupe", "Definition of one agent: config/agents/<name>.yaml")
}

/// What one file gave: its name even when the rest is wrong, so that others may refer to it.
struct Reading {
    name: Option<(AgentName, At)>,
    /// The members of its team and where they stand.
    team: Vec<(AgentName, At)>,
    spec: Result<Arc<AgentSpec>, Vec<Problem>>,
}

impl Reading {
    /// Of a file that was read before and is what it was; where in it something stands is not known any more.
    fn again(spec: Arc<AgentSpec>) -> Self {
        let somewhere = |name: &AgentName| (name.clone(), At::named(""));
        let (name, team) = (Some(somewhere(&spec.name)), spec.team.iter().map(somewhere).collect());
        Self { name, team, spec: Ok(spec) }
    }

    fn of(path: &str, text: &str, limits: &Agents) -> Self {
        let path: Arc<str> = path.into();
        let budget = YamlBudget {
            bytes: limits.file_bytes_max,
            depth: limits.depth_max,
            nodes: limits.nodes_max,
            aliases: limits.aliases_max,
            text_bytes: limits.text_bytes_max,
            section: Some("agents"),
        };
        let root = match parse(&path, text, &budget) {
            Ok(root) => root,
            Err(problem) => return Self { name: None, team: Vec::new(), spec: Err(vec![problem]) },
        };
        let mut problems = Vec::new();
        check(&root, &keys::AGENT, "the agent spec", &mut problems);
        rules::check(&root, limits, &mut problems);
        let spec = Problems(problems).or(build::spec(&root));
        let team = root.get("team").map(Node::items).unwrap_or_default();
        Self {
            name: root.get("name").and_then(name_at),
            team: team.iter().filter_map(name_at).collect(),
            spec: spec.map(Arc::new).map_err(|mut problems| {
                if problems.0.is_empty() {
                    // Not reachable while the check covers what `build` reads; said instead of lost.
                    problems.0.push(root.at.problem("the spec cannot be read although each key is right: a bug"));
                }
                problems.0
            }),
        }
    }
}

fn name_at(node: &Node) -> Option<(AgentName, At)> {
    Some((node.text()?.parse().ok()?, node.at.clone()))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod mutations;
