//! What a fork is made of, as the store takes it: a task like any other, and the entries that it takes over.
//!
//! All of it is one transaction ([`super::Tasks::fork`]). The first step is nobody's ([`NOBODY`]): whoever looks for
//! steps that nobody works on takes it up, on whichever node serves its agent, with its journal as it is; so nothing has
//! to be handed on by whoever made the fork, and nothing is lost when that one dies. The original is not written.

use std::sync::Arc;

use crate::domain::agent::{AgentName, ExecutionMode};
use crate::domain::event::Event;
use crate::domain::fork::{Cut, ForkedFrom};
use crate::domain::step::Incarnation;

/// The owner of a step that nobody has taken up yet. Lives of nodes are counted from 1.
pub const NOBODY: Incarnation = Incarnation(0);

/// A fork, to be made.
#[derive(Debug, Clone)]
pub struct Fork {
    /// Who works on it.
    pub agent: AgentName,
    /// In which mode it runs.
    pub mode: ExecutionMode,
    /// The spec that it pins; kept before.
    pub spec_digest: Arc<str>,
    /// Its own event, with what was asked. With the agent it makes the task's id, as ever.
    pub event: Arc<Event>,
    /// Of what it is a fork.
    pub from: ForkedFrom,
    /// What it takes over.
    pub cut: Cut,
}
