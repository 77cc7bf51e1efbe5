//! The tools of an agent: from the lines of its spec to what its steps call.
//!
//! One [`Tools`] per node, made at start; the orchestrator asks it for each agent. MCP servers are read from the spec and
//! left out here, with one line in the log, until they are served.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::domain::agent::ToolSpec;

use super::clock::ClockTool;
use super::http_get::{HttpGetOptions, HttpGetTool};
use super::wait::WaitTool;
use super::{Error, Tool};

/// The built-in tools, as an error lists them.
const KNOWN: [&str; 3] = ["clock", "http_get", "wait"];

/// The limits of the built-in tools.
#[derive(Debug, Clone, Copy)]
pub struct ToolOptions {
    /// Longest time that `wait` waits.
    pub wait_max: Duration,
    /// The limits of `http_get`.
    pub http_get: HttpGetOptions,
}

impl Default for ToolOptions {
    fn default() -> Self {
        Self { wait_max: Duration::from_mins(5), http_get: HttpGetOptions::default() }
    }
}

/// Makes the tools of agents.
#[derive(Debug, Default)]
pub struct Tools {
    options: ToolOptions,
    /// Made when the first agent needs it: loading the system's certificates takes time that most nodes can spare.
    client: Mutex<Option<reqwest::Client>>,
    told: Mutex<HashSet<String>>,
}

impl Tools {
    /// With these limits.
    #[must_use]
    pub fn new(options: ToolOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// The tools that the lines of a spec name.
    ///
    /// # Errors
    /// [`Error`] for the first line that cannot be served.
    pub fn for_agent(&self, specs: &[ToolSpec]) -> Result<ToolSet, Error> {
        let mut set = ToolSet::default();
        for spec in specs {
            match spec {
                ToolSpec::Builtin { name, hosts } => set.add(self.builtin(name, hosts)?)?,
                ToolSpec::Mcp { name, .. } => self.tell_once(name),
            }
        }
        Ok(set)
    }

    fn builtin(&self, name: &str, hosts: &[String]) -> Result<Arc<dyn Tool>, Error> {
        Ok(match name {
            "clock" => Arc::new(ClockTool),
            "wait" => Arc::new(WaitTool::new(self.options.wait_max)),
            "http_get" => Arc::new(HttpGetTool::new(hosts, self.client()?, self.options.http_get)?),
            _ => return Err(Error::Unknown { name: name.to_owned(), known: KNOWN.join(", ") }),
        })
    }

    fn client(&self) -> Result<reqwest::Client, Error> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        let made = self.options.http_get.client()?;
        *client = Some(made.clone());
        Ok(made)
    }

    fn tell_once(&self, server: &str) {
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned()) {
            tracing::warn!(server, "this node serves no MCP tools yet; the agent runs without them");
        }
    }
}

/// A tool as a model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The name the model calls it by.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// The tools of one agent, by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct ToolSet {
    tools: BTreeMap<String, Arc<dyn Tool>>,
}

impl fmt::Debug for ToolSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.tools.keys()).finish()
    }
}

impl ToolSet {
    /// Adds a tool.
    ///
    /// # Errors
    /// [`Error::Duplicate`] when there is one of that name.
    pub fn add(&mut self, tool: Arc<dyn Tool>) -> Result<(), Error> {
        let name = tool.name().to_owned();
        if self.tools.contains_key(&name) {
            return Err(Error::Duplicate { name });
        }
        self.tools.insert(name, tool);
        Ok(())
    }

    /// The tool that the model calls by this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.get(name)
    }

    /// All tools, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Tool>> {
        self.tools.values()
    }

    /// What the model is told of them, by name.
    #[must_use]
    pub fn offers(&self) -> Vec<Offer> {
        let offer = |tool: &Arc<dyn Tool>| Offer {
            name: tool.name().to_owned(),
            description: tool.description().to_owned(),
            parameters: tool.parameters(),
        };
        self.iter().map(offer).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::journal::Effect;

    fn builtin(name: &str, hosts: &[&str]) -> ToolSpec {
        ToolSpec::Builtin { name: name.into(), hosts: hosts.iter().map(|host| (*host).to_owned()).collect() }
    }

    fn tools() -> Tools {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        Tools::default()
    }

    #[test]
    fn every_known_tool_is_offered_with_a_schema_and_runs_again_harmlessly() {
        let specs = KNOWN.map(|name| builtin(name, &["example.org"]));
        let set = tools().for_agent(&specs).unwrap();
        assert_eq!(format!("{set:?}"), r#"{"clock", "http_get", "wait"}"#);
        for offer in set.offers() {
            assert!(!offer.description.is_empty());
            assert_eq!(offer.parameters["type"], "object", "{}", offer.name);
            assert_eq!(set.get(&offer.name).unwrap().effect(), Effect::Pure);
        }
        assert!(set.get("sing").is_none());
    }

    #[test]
    fn lines_that_cannot_be_served_are_refused() {
        let refused = |specs: &[ToolSpec]| tools().for_agent(specs).unwrap_err();
        let unknown = refused(&[builtin("clokc", &[])]);
        assert_eq!(unknown.to_string(), "there is no built-in tool \"clokc\"; there are clock, http_get, wait");
        assert_eq!(refused(&[builtin("clock", &[]), builtin("clock", &[])]), Error::Duplicate { name: "clock".into() });
        assert_eq!(refused(&[builtin("http_get", &[])]), Error::NoHosts);
        let odd = refused(&[builtin("http_get", &["https://example.org/"])]);
        assert_eq!(odd, Error::BadHost { entry: "https://example.org/".into() });
    }

    #[test]
    fn servers_that_are_not_served_yet_are_left_out() {
        let mcp = ToolSpec::Mcp { name: "git".into(), config: json!({}) };
        let set = tools().for_agent(&[mcp, builtin("clock", &[])]).unwrap();
        assert_eq!(set.offers().len(), 1);
    }
}
