//! The name of an agent: a word that can stand in a topic, a queue, a path and a file name.
//!
//! Parsed at the edges (a spec, a path of the API); whoever holds one need not check it again.

use std::str::FromStr;
use std::sync::Arc;

use super::text::as_text;

/// An agent's name: `[a-z][a-z0-9-]{0,62}`. A clone is the same text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentName(Arc<str>);

as_text!(AgentName);

/// A text that is not an agent's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no agent name: a lower-case letter, then up to 62 of a-z, 0-9 and -")]
pub struct BadAgentName(pub String);

impl AgentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as text, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl FromStr for AgentName {
    type Err = BadAgentName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut chars = text.chars();
        let good = chars.next().is_some_and(|c| c.is_ascii_lowercase())
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && text.len() <= 63;
        if good { Ok(Self(text.into())) } else { Err(BadAgentName(text.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!("researcher-2".parse::<AgentName>().is_ok());
        for bad in ["", "2nd", "Big", "a_b", "a.b", &"x".repeat(64)] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad} passed");
        }
    }
}
