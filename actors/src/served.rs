//! An agent made ready to work: its spec with the model chain and the tools that the spec names.
//!
//! Made once when an agent is registered, and once for every older spec that a recovered run has pinned; shared by all
//! steps that run with it. What cannot be made (a missing secret, an unknown tool) makes the agent unavailable, with
//! the reason, and stops nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use troupe_runtime::domain::agent::{AgentSpec, ExecutionMode};
use troupe_runtime::domain::journal::Effect;
use troupe_runtime::domain::run::ToolTerms;
use troupe_runtime::model::{Model, ToolOffer};
use troupe_runtime::ports::Ports;
use troupe_runtime::tool::ToolSet;

/// A spec with everything that its steps need.
pub struct Served {
    /// The spec.
    pub spec: Arc<AgentSpec>,
    /// Its digest, which runs pin.
    pub digest: Arc<str>,
    /// The model chain.
    pub model: Arc<dyn Model>,
    /// The tools.
    pub tools: ToolSet,
    /// What the model is told first, for all calls at once.
    pub instructions: Arc<str>,
    /// The tools as the model is told of them.
    pub offers: Arc<[ToolOffer]>,
    /// On which terms they may be called.
    pub terms: BTreeMap<String, ToolTerms>,
}

/// Why an agent cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unservable(pub String);

impl Served {
    /// Makes an agent ready.
    pub fn prepare(ports: &Ports, spec: impl Into<Arc<AgentSpec>>) -> Result<Self, Unservable> {
        let spec = spec.into();
        let model = ports.models.for_agent(&spec.name, &spec.models).map_err(|error| Unservable(error.to_string()))?;
        let tools = ports.tools.for_agent(&spec.tools).map_err(|error| Unservable(error.to_string()))?;
        let (offers, terms) = (tools.offers().into(), terms_of(&tools, &spec));
        let (digest, instructions) = (spec.digest().into(), spec.instructions.as_str().into());
        Ok(Self { spec, digest, model, tools, instructions, offers, terms })
    }

    /// The mode in which its runs have their shape.
    #[must_use]
    pub fn mode(&self) -> ExecutionMode {
        self.spec.runs_as
    }
}

/// On which terms the tools of a spec may be called; needs neither its models nor their keys.
pub fn terms(ports: &Ports, spec: &AgentSpec) -> Result<BTreeMap<String, ToolTerms>, Unservable> {
    let tools = ports.tools.for_agent(&spec.tools).map_err(|error| Unservable(error.to_string()))?;
    Ok(terms_of(&tools, spec))
}

fn terms_of(tools: &ToolSet, spec: &AgentSpec) -> BTreeMap<String, ToolTerms> {
    let effect = |name: &String| tools.get(name).map(|tool| tool.effect());
    (tools.offers().into_iter())
        .filter_map(|offer| Some((effect(&offer.name)?, offer.name)))
        .map(|(effect, name)| {
            let rule = spec.rule_for(&name, effect == Effect::Unsafe);
            (name, ToolTerms { effect, rule })
        })
        .collect()
}
