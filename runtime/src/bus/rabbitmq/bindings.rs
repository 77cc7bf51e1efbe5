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

use std::collections::{BTreeSet, HashMap, HashSet};
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
/// An entry: the queue was removed.
pub(super) const GONE: &str = "gone";

/// The body of all three.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Declared {
    pub(super) queue: String,
    pub(super) single_active: bool,
    pub(super) patterns: BTreeSet<TopicPattern>,
    /// By which an intent's writer knows it when it comes back; no part of what is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mark: Option<String>,
}

impl From<&QueueSpec> for Declared {
    fn from(spec: &QueueSpec) -> Self {
        Self {
            queue: spec.name.clone(),
            single_active: spec.single_active_consumer,
            patterns: spec.bindings.iter().cloned().collect(),
            mark: None,
        }
    }
}

/// What is known of the queues.
#[derive(Default)]
pub(super) struct Bindings {
    routes: Routes<Arc<str>>,
    queues: HashMap<String, Known>,
    /// Marks of intents of this node that have not come back.
    awaited: HashSet<String>,
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

    /// An intent of this mark is about to be written.
    pub(super) fn wait_for(&mut self, mark: &str) {
        self.awaited.insert(mark.to_owned());
    }

    /// Whether it has not come back yet.
    pub(super) fn awaits(&self, mark: &str) -> bool {
        self.awaited.contains(mark)
    }

    /// Nobody waits for it any more.
    pub(super) fn wait_no_more(&mut self, mark: &str) {
        self.awaited.remove(mark);
    }

    fn intend(&mut self, mut declared: Declared) {
        if let Some(mark) = declared.mark.take() {
            self.wait_no_more(&mark);
        }
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

    fn gone(&mut self, queue: &str) {
        self.queues.remove(queue);
        self.routes.remove(queue);
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
            Ok(declared) if entry.kind == GONE => self.gone(&declared.queue),
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
        Declared { queue: "q".to_owned(), single_active: false, patterns, mark: None }
    }

    #[test]
    fn an_intent_is_awaited_until_it_comes_back_whatever_it_takes_away() {
        let mut bindings = Bindings::default();
        bindings.intend(declared(&["a", "b"]));
        bindings.wait_for("mine");
        // Another's, of the same queue.
        bindings.intend(Declared { mark: Some("theirs".to_owned()), ..declared(&["a"]) });
        assert!(bindings.awaits("mine"));
        bindings.intend(Declared { mark: Some("mine".to_owned()), ..declared(&[]) });
        assert!(!bindings.awaits("mine"));
        assert_eq!(leftover(&bindings), ["a", "b"]);
        bindings.done(&declared(&[]));
        assert!(bindings.known("q").unwrap().done, "the mark is no part of what is meant");
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
