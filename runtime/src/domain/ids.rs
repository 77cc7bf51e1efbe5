//! Identities: what an event, a task, a run and a step are called, and how one follows from the other.
//!
//! Every id below an event is *derived*, never drawn: the same event accepted twice, on two nodes, leads to the same
//! task, run and step id, so that the unique key of the task row is the whole de-duplication.
//! Ids keep the time prefix of a UUIDv7 event id (RFC 9562), so that rows made together lie together.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// What was asked for, by one agent: derived from the event and the agent's name.
    TaskId
);
id!(
    /// The execution of a task; a retry of a task is a further run, a fork is a task of its own.
    RunId
);
id!(
    /// One piece of a run, done by one agent. Its journal is keyed by `(StepId, seq)`.
    StepId
);

impl TaskId {
    /// The task that `event_id` becomes for `agent`.
    #[must_use]
    pub fn derive(event_id: &str, agent: &str) -> Self {
        let prefix = event_id.parse::<Uuid>().ok().filter(|id| id.get_version_num() == 7);
        Self(derived(prefix, &["task", event_id, agent]))
    }

    /// The `number`-th run of this task, counted from 0.
    #[must_use]
    pub fn run(self, number: u32) -> RunId {
        let mut text = Uuid::encode_buffer();
        let text = self.0.hyphenated().encode_lower(&mut text);
        RunId(derived(Some(self.0), &["run", text, &number.to_string()]))
    }
}

impl RunId {
    /// The `number`-th step of this run, counted from 0.
    #[must_use]
    pub fn step(self, number: u32) -> StepId {
        let mut text = Uuid::encode_buffer();
        let text = self.0.hyphenated().encode_lower(&mut text);
        StepId(derived(Some(self.0), &["step", text, &number.to_string()]))
    }
}

/// A fresh, time-ordered event id (UUIDv7).
#[must_use]
pub fn new_event_id() -> String {
    Uuid::now_v7().hyphenated().to_string()
}

/// An event id that is the same whenever the same `parts` arrive again (UUIDv8, hashed).
#[must_use]
pub fn event_id_from(parts: &[&str]) -> String {
    derived(None, parts).hyphenated().to_string()
}

/// SHA-256 over the length-prefixed parts, cut to 128 bits, marked as UUIDv8; the first 48 bits come from `prefix`.
fn derived(prefix: Option<Uuid>, parts: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    if let Some(prefix) = prefix {
        bytes[..6].copy_from_slice(&prefix.as_bytes()[..6]);
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_and_agent_make_the_same_task() {
        let event = new_event_id();
        assert_eq!(TaskId::derive(&event, "researcher"), TaskId::derive(&event, "researcher"));
        assert_ne!(TaskId::derive(&event, "researcher"), TaskId::derive(&event, "writer"));
    }

    #[test]
    fn derived_ids_keep_the_time_prefix_of_a_v7_event() {
        let event = new_event_id();
        let task = TaskId::derive(&event, "researcher");
        let step = task.run(0).step(0);
        assert_eq!(task.to_string()[..13], event[..13]);
        assert_eq!(step.to_string()[..13], event[..13]);
        assert_ne!(step.0, task.0);
    }

    #[test]
    fn parts_cannot_be_shifted_into_one_another() {
        assert_ne!(event_id_from(&["ab", "c"]), event_id_from(&["a", "bc"]));
    }
}
