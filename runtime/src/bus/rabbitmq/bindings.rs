//! Which patterns each queue is bound to, as every node knows it.
//!
//! AMQP can bind and unbind but tells nobody what is bound. So each declaration that changes something is an entry of the log
//! `troupe.bindings`, written before the broker is told, and one more when all is done:
//!
//! ```text
//! intent (queue, patterns) ─► bind these, unbind what was ever meant before ─► done (queue, patterns)
//! ```
//!
//! A node that dies in between leaves an intent without its end, and the next declaration does the rest. Two that declare the
//! same queue at once end with the patterns of the later intent. Publishers use the same table to know which queues an event
//! will reach: for their number, and for the queues' limits; who gets it is the broker's to say.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::log::{Entry, Fold};
use crate::bus::QueueSpec;
use crate::bus::routes::Routes;
use crate::domain::topic::{Topic, TopicPattern};

/// An entry: what is to be.
pub(super) const INTENT: &str = "intent";
/// An entry: what an intent said is so.
pub(super) const DONE: &str = "done";

/// The body of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Declared {
    pub(super) queue: String,
    pub(super) single_active: bool,
    pub(super) patterns: BTreeSet<TopicPattern>,
}

impl From<&QueueSpec> for Declared {
    fn from(spec: &QueueSpec) -> Self {
        Self {
            queue: spec.name.clone(),
            single_active: spec.single_active_consumer,
            patterns: spec.bindings.iter().cloned().collect(),
        }
    }
}

/// What is known of the queues.
#[derive(Default)]
pub(super) struct Bindings {
    routes: Routes<Arc<str>>,
    queues: HashMap<String, Known>,
}

/// What is known of one queue.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// As it was declared last.
    pub(super) declared: Declared,
    /// Patterns of before that may be bound still.
    pub(super) leftover: BTreeSet<TopicPattern>,
    /// Whether the broker has been told everything.
    pub(super) done: bool,
}

impl Bindings {
    /// The queues that an event at `topic` goes to.
    pub(super) fn of(&mut self, topic: &Topic) -> Arc<[Arc<str>]> {
        self.routes.of(topic)
    }

    /// Every queue.
    pub(super) fn queues(&self) -> Vec<Arc<str>> {
        self.routes.queues()
    }

    /// What is known of a queue.
    pub(super) fn known(&self, queue: &str) -> Option<&Known> {
        self.queues.get(queue)
    }

    /// Whether this was declared, whatever came after.
    pub(super) fn knows_of(&self, declared: &Declared) -> bool {
        self.known(&declared.queue).is_some_and(|known| {
            known.declared == *declared || known.leftover.is_superset(&(&declared.patterns - &known.declared.patterns))
        })
    }

    fn intend(&mut self, declared: Declared) {
        let name: Arc<str> = declared.queue.as_str().into();
        let mut leftover = BTreeSet::new();
        if let Some(before) = self.queues.remove(&declared.queue) {
            leftover = before.leftover;
            leftover.extend(before.declared.patterns);
        }
        leftover.retain(|pattern| !declared.patterns.contains(pattern));
        self.routes.set(&name, declared.patterns.iter().cloned().collect());
        self.queues.insert(declared.queue.clone(), Known { declared, leftover, done: false });
    }

    fn done(&mut self, declared: &Declared) {
        if let Some(known) = self.queues.get_mut(&declared.queue).filter(|known| known.declared == *declared) {
            known.leftover.clear();
            known.done = true;
        }
    }
}

impl Fold for Bindings {
    fn apply(&mut self, entry: &Entry) {
        match serde_json::from_slice::<Declared>(&entry.message.data) {
            Ok(declared) if entry.kind == INTENT => self.intend(declared),
            Ok(declared) if entry.kind == DONE => self.done(&declared),
            // Of a later version, or a stranger's.
            Ok(_) => {}
            Err(error) => tracing::warn!(offset = entry.offset, %error, "an entry of troupe.bindings cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(patterns: &[&str]) -> Declared {
        let patterns = patterns.iter().map(|text| text.parse().unwrap()).collect();
        Declared { queue: "q".to_owned(), single_active: false, patterns }
    }

    fn leftover(bindings: &Bindings) -> Vec<&str> {
        bindings.known("q").unwrap().leftover.iter().map(TopicPattern::as_str).collect()
    }

    #[test]
    fn what_was_ever_meant_is_left_over_until_the_broker_was_told() {
        let mut bindings = Bindings::default();
        bindings.intend(declared(&["a", "b"]));
        bindings.intend(declared(&["b", "c"]));
        bindings.intend(declared(&["c", "d"]));
        assert_eq!(leftover(&bindings), ["a", "b"]);
        bindings.done(&declared(&["b", "c"]));
        assert_eq!(leftover(&bindings), ["a", "b"], "an end that is not the last intent's says nothing");
        bindings.done(&declared(&["c", "d"]));
        assert!(leftover(&bindings).is_empty());
        let reached = |bindings: &mut Bindings, topic: &str| bindings.of(&topic.parse().unwrap()).len();
        assert_eq!((reached(&mut bindings, "c"), reached(&mut bindings, "a")), (1, 0));
    }
}
