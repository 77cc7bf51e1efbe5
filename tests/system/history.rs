//! The judge of a crash test: given what every side has seen, says what went wrong. Pure, and tested on bad histories:
//! a judge that cannot condemn proves nothing.
//!
//! | rule | sides compared |
//! |---|---|
//! | one task, in the state asked for, for every accepted command | the test's own list, the tasks of the API |
//! | one reply for every task; more only where the store has counted a doubt | the Slack stand-in, the replies' rows |
//! | no call of the model after the one whose answer was journaled | the model server, the journals |

use std::collections::{BTreeMap, BTreeSet};

/// What the sides have seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Markers of the commands that were answered with 2xx.
    pub(crate) accepted: Vec<String>,
    /// Marker and status of every task.
    pub(crate) tasks: Vec<(String, String)>,
    /// Reply id and text of every message at Slack.
    pub(crate) replies: Vec<(Option<String>, String)>,
    /// Tries of replies that were begun in doubt.
    pub(crate) doubtful: usize,
    /// Marker, turn and number of every call of the model, in the order of arrival.
    pub(crate) calls: Vec<(String, usize, u64)>,
    /// Marker, and by turn the number that the journal holds.
    pub(crate) journals: Vec<(String, Vec<u64>)>,
}

impl History {
    /// Everything that is wrong; empty when every promise was kept.
    pub(crate) fn verdict(&self, turns: usize) -> Vec<String> {
        [self.tasks_are_wrong(), self.replies_are_wrong(), self.calls_are_wrong(turns)].concat()
    }

    /// The same where nobody waits for replies.
    pub(crate) fn verdict_of_work(&self, turns: usize) -> Vec<String> {
        [self.tasks_are_wrong(), self.calls_are_wrong(turns)].concat()
    }

    fn tasks_are_wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut by_marker: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (marker, status) in &self.tasks {
            by_marker.entry(marker).or_default().push(status);
        }
        for marker in &self.accepted {
            match by_marker.get(marker.as_str()).map(Vec::as_slice) {
                None => wrong.push(format!("{marker} was accepted and is lost")),
                Some(["succeeded"]) => {}
                Some([status]) => wrong.push(format!("{marker} ended as {status}")),
                Some(several) => wrong.push(format!("{marker} became {} tasks", several.len())),
            }
        }
        let accepted: BTreeSet<_> = self.accepted.iter().map(String::as_str).collect();
        let strangers = by_marker.keys().filter(|marker| !accepted.contains(*marker));
        wrong.extend(strangers.map(|marker| format!("nobody asked for task {marker:?}")));
        wrong
    }

    fn replies_are_wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut by_id: BTreeMap<&str, usize> = BTreeMap::new();
        let mut answered = BTreeSet::new();
        for (id, text) in &self.replies {
            match id {
                Some(id) => *by_id.entry(id).or_default() += 1,
                None => wrong.push(format!("a reply without an id: {text:?}")),
            }
            answered.extend(text.split_whitespace().find(|word| word.starts_with("task-")));
        }
        for marker in self.accepted.iter().filter(|marker| !answered.contains(marker.as_str())) {
            wrong.push(format!("{marker} has no reply"));
        }
        if by_id.len() != self.accepted.len() {
            wrong.push(format!("{} replies for {} commands", by_id.len(), self.accepted.len()));
        }
        let extra: usize = by_id.values().map(|times| times - 1).sum();
        if extra > self.doubtful {
            wrong.push(format!("{extra} replies were repeated, but only {} were in doubt", self.doubtful));
        }
        wrong
    }

    fn calls_are_wrong(&self, turns: usize) -> Vec<String> {
        let mut last: BTreeMap<(&str, usize), u64> = BTreeMap::new();
        for (marker, turn, number) in &self.calls {
            last.insert((marker, *turn), *number);
        }
        let mut wrong = Vec::new();
        for (marker, journaled) in &self.journals {
            if journaled.len() != turns {
                wrong.push(format!("the journal of {marker} has {} turns, not {turns}", journaled.len()));
            }
            for (turn, number) in journaled.iter().enumerate() {
                match last.get(&(marker, turn)) {
                    Some(last) if last == number => {}
                    Some(last) => {
                        let why = "was made again after its answer was journaled";
                        wrong.push(format!(
                            "turn {turn} of {marker} {why}: {number} is in the journal, {last} came later"
                        ));
                    }
                    None => wrong.push(format!("turn {turn} of {marker} is in the journal, but nobody was asked")),
                }
            }
        }
        if self.journals.len() != self.accepted.len() {
            wrong.push(format!("{} journals for {} commands", self.journals.len(), self.accepted.len()));
        }
        wrong
    }

    /// Replies that were sent again.
    pub(crate) fn repeated_replies(&self) -> usize {
        let ids: BTreeSet<_> = self.replies.iter().map(|(id, _)| id).collect();
        self.replies.len() - ids.len()
    }

    /// Calls whose answers were lost on the way: made again, as they must be.
    pub(crate) fn lost_answers(&self) -> usize {
        self.calls.len() - self.journals.iter().map(|(_, turns)| turns.len()).sum::<usize>().min(self.calls.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> History {
        let two = |f: fn(&str) -> (String, String)| ["task-1", "task-2"].map(f).to_vec();
        History {
            accepted: vec!["task-1".into(), "task-2".into()],
            tasks: two(|marker| (marker.into(), "succeeded".into())),
            replies: vec![(Some("a".into()), "done task-1".into()), (Some("b".into()), "done task-2".into())],
            doubtful: 0,
            calls: vec![
                ("task-1".into(), 0, 1),
                ("task-2".into(), 0, 2),
                ("task-1".into(), 0, 3),
                ("task-1".into(), 1, 4),
                ("task-2".into(), 1, 5),
            ],
            journals: vec![("task-1".into(), vec![3, 4]), ("task-2".into(), vec![2, 5])],
        }
    }

    fn condemned(change: impl FnOnce(&mut History)) -> String {
        let mut history = good();
        change(&mut history);
        history.verdict(2).join("; ")
    }

    #[test]
    fn a_clean_history_passes() {
        assert_eq!(good().verdict(2), Vec::<String>::new());
        assert_eq!(good().lost_answers(), 1);
    }

    #[test]
    fn a_repeated_call_is_seen() {
        let verdict = condemned(|history| history.calls.push(("task-2".into(), 0, 6)));
        assert!(verdict.contains("turn 0 of task-2 was made again"), "{verdict}");
        let verdict = condemned(|history| history.journals[0].1 = vec![1, 4]);
        assert!(verdict.contains("1 is in the journal, 3 came later"), "{verdict}");
        let verdict = condemned(|history| history.journals[0].1 = vec![3]);
        assert!(verdict.contains("has 1 turns, not 2"), "{verdict}");
    }

    #[test]
    fn lost_doubled_failed_and_foreign_tasks_are_seen() {
        assert!(condemned(|history| drop(history.tasks.pop())).contains("task-2 was accepted and is lost"));
        assert!(condemned(|h| h.tasks.push(("task-1".into(), "succeeded".into()))).contains("became 2 tasks"));
        assert!(condemned(|h| h.tasks[0].1 = "running".into()).contains("task-1 ended as running"));
        assert!(condemned(|h| h.tasks.push(("task-9".into(), "succeeded".into()))).contains("nobody asked"));
    }

    #[test]
    fn missing_and_repeated_replies_are_seen() {
        assert!(condemned(|history| drop(history.replies.pop())).contains("task-2 has no reply"));
        let again = |history: &mut History| history.replies.push((Some("b".into()), "done task-2".into()));
        assert!(condemned(again).contains("1 replies were repeated, but only 0"));
        let doubted = |history: &mut History| {
            again(history);
            history.doubtful = 1;
        };
        assert_eq!(condemned(doubted), "");
        assert!(condemned(|history| history.replies[0].0 = None).contains("without an id"));
    }
}
