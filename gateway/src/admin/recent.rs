//! Tasks that were submitted here and that no pool has accepted yet: on the bus, so the store does not know them.
//!
//! A caller who was told `202` and asks for the task at once is answered `received` instead of 404. A hint in memory,
//! bounded: what falls out or is lost with the process is a 404 until a pool has it; the task itself is on the bus.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::task::TaskStatus;

/// The latest submissions.
#[derive(Debug)]
pub(super) struct Recent {
    submitted: Mutex<VecDeque<Submitted>>,
    max: usize,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Submitted {
    pub(super) id: TaskId,
    pub(super) agent: String,
    pub(super) at: DateTime<Utc>,
}

impl Submitted {
    /// The task as far as it is known.
    pub(super) fn view(&self) -> Value {
        json!({"id": self.id, "agent": self.agent, "status": TaskStatus::Received, "created_at": self.at, "steps": []})
    }
}

impl Recent {
    pub(super) const fn new(max: usize) -> Self {
        Self { submitted: Mutex::new(VecDeque::new()), max }
    }

    pub(super) fn add(&self, submitted: Submitted) {
        let mut list = self.list();
        if list.iter().any(|known| known.id == submitted.id) {
            return;
        }
        if list.len() >= self.max {
            list.pop_front();
        }
        list.push_back(submitted);
    }

    /// Those whose id begins with these hex digits.
    pub(super) fn find(&self, prefix: &str) -> Vec<Submitted> {
        let list = self.list();
        list.iter().filter(|known| known.id.0.simple().to_string().starts_with(prefix)).cloned().collect()
    }

    fn list(&self) -> MutexGuard<'_, VecDeque<Submitted>> {
        self.submitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(event: &str) -> Submitted {
        Submitted { id: TaskId::derive(event, "a"), agent: "a".into(), at: Utc::now() }
    }

    #[test]
    fn the_oldest_falls_out_and_nothing_is_kept_twice() {
        let recent = Recent::new(2);
        let (one, two, three) = (submitted("1"), submitted("2"), submitted("3"));
        for task in [&one, &two, &two, &three] {
            recent.add(task.clone());
        }
        let finds = |task: &Submitted| recent.find(&task.id.0.simple().to_string()[..16]) == [task.clone()];
        assert!(!finds(&one) && finds(&two) && finds(&three));
        assert_eq!(recent.find("").len(), 2);
        assert_eq!(one.view()["status"], "received");
    }
}
