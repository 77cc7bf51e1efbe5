//! The model port: one call of a language model, whatever wire it speaks.
//!
//! A [`Model`] performs exactly one turn: conversation in, completion out. Retries of a call, fallbacks, prices and
//! deadlines are here and in the adapters; what a run does with the answer is [`crate::domain::run`]'s business.

use async_trait::async_trait;
use serde_json::Value;

use crate::domain::chat::{Completion, Message};

/// A tool as the model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolOffer {
    /// The name the model calls it by.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// One turn to perform.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The system prompt.
    pub instructions: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// What the model may ask for.
    pub tools: Vec<ToolOffer>,
    /// Force this tool to be called, where the provider can.
    pub force_tool: Option<String>,
}

/// A language model behind a provider's wire.
#[async_trait]
pub trait Model: Send + Sync {
    /// Performs one turn.
    ///
    /// # Errors
    /// [`Error`] with its fault class. Dropping the future cancels the call.
    async fn complete(&self, request: &Request) -> Result<Completion, Error>;
}

/// Why a turn could not be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// placeholder, replaced by the adapter work
    #[error("todo")]
    Todo,
}
