//! Which queues a topic leads to, in memory.
//!
//! Most bindings name one topic exactly (an agent's own), so these are looked up; only patterns with wildcards are
//! tried one by one, and what a topic led to is remembered, for a bounded number of topics. Called by the bus under a
//! lock; nothing here fails or waits.

use std::collections::HashMap;
use std::sync::Arc;

use super::queue::Cell;
use crate::domain::topic::{Topic, TopicPattern};

/// Topics whose queues are remembered; when there are more, all are forgotten.
const TOPICS_MAX: usize = 4096;

/// The queues and what reaches them.
#[derive(Default)]
pub(super) struct Routes {
    queues: HashMap<String, Route>,
    by_id: HashMap<i64, Arc<Cell>>,
    exact: HashMap<String, Vec<Arc<Cell>>>,
    wild: Vec<(TopicPattern, Arc<Cell>)>,
    remembered: HashMap<Topic, Arc<[Arc<Cell>]>>,
}

struct Route {
    cell: Arc<Cell>,
    patterns: Vec<TopicPattern>,
}

impl Routes {
    /// Sets what reaches a queue, whatever reached it before.
    pub(super) fn set(&mut self, cell: &Arc<Cell>, patterns: Vec<TopicPattern>) {
        self.remembered.clear();
        if let Some(before) = self.queues.remove(cell.name()) {
            self.wild.retain(|(_, other)| other.id() != cell.id());
            for pattern in before.patterns {
                if let Some(cells) = self.exact.get_mut(pattern.as_str()) {
                    cells.retain(|other| other.id() != cell.id());
                    if cells.is_empty() {
                        self.exact.remove(pattern.as_str());
                    }
                }
            }
        }
        for pattern in &patterns {
            if pattern.as_str().contains(['*', '#']) {
                self.wild.push((pattern.clone(), cell.clone()));
            } else {
                self.exact.entry(pattern.as_str().to_owned()).or_default().push(cell.clone());
            }
        }
        self.by_id.insert(cell.id(), cell.clone());
        self.queues.insert(cell.name().to_owned(), Route { cell: cell.clone(), patterns });
    }

    /// The queues that an event at `topic` goes to, each once.
    pub(super) fn of(&mut self, topic: &Topic) -> Arc<[Arc<Cell>]> {
        if let Some(cells) = self.remembered.get(topic) {
            return cells.clone();
        }
        let mut cells: Vec<Arc<Cell>> = self.exact.get(topic.as_str()).cloned().unwrap_or_default();
        cells.extend(self.wild.iter().filter(|(pattern, _)| pattern.matches(topic)).map(|(_, cell)| cell.clone()));
        cells.sort_unstable_by_key(|cell| cell.id());
        cells.dedup_by_key(|cell| cell.id());
        let cells: Arc<[Arc<Cell>]> = cells.into();
        if self.remembered.len() >= TOPICS_MAX {
            self.remembered.clear();
        }
        self.remembered.insert(topic.clone(), cells.clone());
        cells
    }

    /// A queue by its name.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<Cell>> {
        self.queues.get(name).map(|route| &route.cell)
    }

    /// A queue by its number.
    pub(super) fn numbered(&self, id: i64) -> Option<&Arc<Cell>> {
        self.by_id.get(&id)
    }

    /// What reaches a queue.
    pub(super) fn patterns(&self, name: &str) -> Option<&[TopicPattern]> {
        self.queues.get(name).map(|route| route.patterns.as_slice())
    }

    /// Every queue.
    pub(super) fn cells(&self) -> Vec<Arc<Cell>> {
        self.by_id.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::embedded::queue::Queue;
    use crate::bus::embedded::window::{Cache, Window};

    fn cell(id: i64) -> Arc<Cell> {
        Arc::new(Cell::new(id, format!("q{id}"), Queue::new(Window::new(1, false, 0), Cache::new(0), 0, false)))
    }

    fn patterns(texts: &[&str]) -> Vec<TopicPattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ids(routes: &mut Routes, topic: &str) -> Vec<i64> {
        routes.of(&topic.parse().unwrap()).iter().map(|cell| cell.id()).collect()
    }

    #[test]
    fn each_queue_gets_one_copy_and_a_new_binding_takes_the_place_of_the_old() {
        let mut routes = Routes::default();
        let (one, two) = (cell(1), cell(2));
        routes.set(&one, patterns(&["a.b", "a.*", "#"]));
        routes.set(&two, patterns(&["a.b"]));
        assert_eq!(ids(&mut routes, "a.b"), [1, 2]);
        routes.set(&one, patterns(&["x"]));
        assert_eq!(ids(&mut routes, "a.b"), [2]);
        routes.set(&two, patterns(&["a.#"]));
        assert_eq!((ids(&mut routes, "a.b"), ids(&mut routes, "x")), (vec![2], vec![1]));
        assert!(routes.exact.keys().eq(["x"]), "nothing is left of a binding that is gone");
    }

    #[test]
    fn ever_new_topics_do_not_fill_the_memory() {
        let mut routes = Routes::default();
        routes.set(&cell(1), patterns(&["done.*"]));
        for n in 0..=TOPICS_MAX {
            assert_eq!(ids(&mut routes, &format!("done.{n}")), [1]);
        }
        assert!(routes.remembered.len() <= TOPICS_MAX);
    }
}
