//! Whether anybody could work for an agent: read off its instances, as their supervisor sees them.
//!
//! Called by the company, which opens and closes the inbox by it, and by the view. Pure.

use troupe_runtime::supervision::{ActorState, ChildView};

use crate::registry::AgentStatus;

/// Whether anybody could work for an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// An instance lives.
    Up,
    /// None does, one may soon.
    Starting,
    /// None does, and none comes back by itself for now.
    Down,
}

impl Level {
    /// Of an agent whose instances are these.
    pub(super) fn of(children: impl Iterator<Item = ChildView>) -> Self {
        let (mut any, mut starting) = (false, false);
        for child in children {
            any = true;
            match standing(&child) {
                AgentStatus::Ready => return Self::Up,
                AgentStatus::Unavailable => {}
                _ => starting = true,
            }
        }
        if any && !starting { Self::Down } else { Self::Starting }
    }
}

/// How an instance stands, work aside. One that could not even be started is unavailable also while it is tried again.
pub(super) fn standing(child: &ChildView) -> AgentStatus {
    match child.state {
        ActorState::Running => AgentStatus::Ready,
        ActorState::Unavailable | ActorState::Stopped => AgentStatus::Unavailable,
        ActorState::Restarting if !child.started => AgentStatus::Unavailable,
        _ => AgentStatus::Starting,
    }
}
