//! The tool port: something an agent can call.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::domain::journal::Effect;

/// One call of a tool.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The arguments as the model sent them.
    pub arguments: Value,
    /// Stable over attempts and nodes; sent along where the other side understands it.
    pub idempotency_key: String,
    /// What is left of the step's time.
    pub time_left: Duration,
}

/// What a tool answered; an error is an answer too (the model is told and may try another way).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What the model is told.
    pub content: String,
    /// Whether the tool failed.
    pub is_error: bool,
}

/// Something an agent can call.
#[async_trait]
pub trait Tool: Send + Sync {
    /// The name the model calls it by.
    fn name(&self) -> &str;
    /// What it does, for the model.
    fn description(&self) -> &str;
    /// JSON Schema of its arguments.
    fn parameters(&self) -> Value;
    /// What a repetition would do.
    fn effect(&self) -> Effect;
    /// Performs one call. Dropping the future cancels it.
    async fn call(&self, invocation: Invocation) -> Answer;
}
/// x
#[derive(Debug)]
pub struct Tools;
/// x
pub struct ToolSet(Vec<std::sync::Arc<dyn Tool>>);
impl Tools {
    /// x
    pub fn for_agent(&self, _s: &[crate::domain::agent::ToolSpec]) -> Result<ToolSet, std::fmt::Error> {
        Ok(ToolSet(vec![]))
    }
}
impl ToolSet {
    /// x
    pub fn offers(&self) -> Vec<crate::model::ToolOffer> {
        vec![]
    }
    /// x
    pub fn get(&self, n: &str) -> Option<&std::sync::Arc<dyn Tool>> {
        self.0.iter().find(|t| t.name() == n)
    }
}
