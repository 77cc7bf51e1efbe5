//! Which queues a topic leads to, in memory.
//!
//! Most bindings name one topic exactly (an agent's own), so these are looked up; only patterns with wildcards are
//! tried one by one, and what a topic led to is remembered, for a bounded number of topics. Called by the adapters
//! under a lock; nothing here fails or waits.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::topic::{Topic, TopicPattern};

/// Topics whose queues are remembered; when there are more, all are forgotten.
const TOPICS_MAX: usize = 4096;

/// What an adapter knows a queue by.
pub(super) trait Named: Clone {
    /// The queue's name.
    fn name(&self) -> &str;
}

impl Named for Arc<str> {
    fn name(&self) -> &str {
        self
    }
}

/// The queues and what reaches them.
pub(super) struct Routes<Q> {
    queues: HashMap<String, Route<Q>>,
    exact: HashMap<String, Vec<Q>>,
    wild: Vec<(TopicPattern, Q)>,
    remembered: HashMap<Topic, Arc<[Q]>>,
}

struct Route<Q> {
    queue: Q,
    patterns: Vec<TopicPattern>,
}

impl<Q> Default for Routes<Q> {
    fn default() -> Self {
        Self { queues: HashMap::new(), exact: HashMap::new(), wild: Vec::new(), remembered: HashMap::new() }
    }
}

impl<Q: Named> Routes<Q> {
    /// Sets what reaches a queue, whatever reached it before.
    pub(super) fn set(&mut self, queue: &Q, patterns: Vec<TopicPattern>) {
        self.remove(queue.name());
        for pattern in &patterns {
            if pattern.as_str().contains(['*', '#']) {
                self.wild.push((pattern.clone(), queue.clone()));
            } else {
                self.exact.entry(pattern.as_str().to_owned()).or_default().push(queue.clone());
            }
        }
        self.queues.insert(queue.name().to_owned(), Route { queue: queue.clone(), patterns });
    }

    /// Forgets a queue.
    pub(super) fn remove(&mut self, name: &str) {
        self.remembered.clear();
        let Some(before) = self.queues.remove(name) else { return };
        self.wild.retain(|(_, other)| other.name() != name);
        for pattern in before.patterns {
            if let Some(queues) = self.exact.get_mut(pattern.as_str()) {
                queues.retain(|other| other.name() != name);
                if queues.is_empty() {
                    self.exact.remove(pattern.as_str());
                }
            }
        }
    }

    /// The queues that an event at `topic` goes to, each once.
    pub(super) fn of(&mut self, topic: &Topic) -> Arc<[Q]> {
        if let Some(queues) = self.remembered.get(topic) {
            return queues.clone();
        }
        let mut queues: Vec<Q> = self.exact.get(topic.as_str()).cloned().unwrap_or_default();
        queues.extend(self.wild.iter().filter(|(pattern, _)| pattern.matches(topic)).map(|(_, queue)| queue.clone()));
        queues.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        queues.dedup_by(|a, b| a.name() == b.name());
        let queues: Arc<[Q]> = queues.into();
        if self.remembered.len() >= TOPICS_MAX {
            self.remembered.clear();
        }
        self.remembered.insert(topic.clone(), queues.clone());
        queues
    }

    /// A queue by its name.
    pub(super) fn named(&self, name: &str) -> Option<&Q> {
        self.queues.get(name).map(|route| &route.queue)
    }

    /// What reaches a queue.
    pub(super) fn patterns(&self, name: &str) -> Option<&[TopicPattern]> {
        self.queues.get(name).map(|route| route.patterns.as_slice())
    }

    /// Every queue.
    pub(super) fn queues(&self) -> Vec<Q> {
        self.queues.values().map(|route| route.queue.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> Arc<str> {
        name.into()
    }

    fn patterns(texts: &[&str]) -> Vec<TopicPattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn names(routes: &mut Routes<Arc<str>>, topic: &str) -> Vec<String> {
        routes.of(&topic.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_queue_gets_one_copy_and_a_new_binding_takes_the_place_of_the_old() {
        let mut routes = Routes::default();
        let (one, two) = (queue("1"), queue("2"));
        routes.set(&one, patterns(&["a.b", "a.*", "#"]));
        routes.set(&two, patterns(&["a.b"]));
        assert_eq!(names(&mut routes, "a.b"), ["1", "2"]);
        routes.set(&one, patterns(&["x"]));
        assert_eq!(names(&mut routes, "a.b"), ["2"]);
        routes.set(&two, patterns(&["a.#"]));
        assert_eq!((names(&mut routes, "a.b"), names(&mut routes, "x")), (vec!["2".into()], vec!["1".into()]));
        assert!(routes.exact.keys().eq(["x"]), "nothing is left of a binding that is gone");
        routes.remove("1");
        routes.remove("2");
        assert!(names(&mut routes, "x").is_empty() && names(&mut routes, "a.b").is_empty());
        assert!(routes.queues().is_empty() && routes.exact.is_empty() && routes.wild.is_empty());
    }

    #[test]
    fn ever_new_topics_do_not_fill_the_memory() {
        let mut routes = Routes::default();
        routes.set(&queue("1"), patterns(&["done.*"]));
        for n in 0..=TOPICS_MAX {
            assert_eq!(names(&mut routes, &format!("done.{n}")), ["1"]);
        }
        assert!(routes.remembered.len() <= TOPICS_MAX);
    }
}
