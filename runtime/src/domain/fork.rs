//! Forks: the places at which a run may be left, and what a new run keeps of it.
//!
//! ```text
//! entries    model  tool   model  tool   model
//! turn       0      0      1      1      2          --from-step 1 ─► keeps the first two
//! entry      0      1      2      3      4          --from-entry 3 ─► keeps the first three
//! ```
//!
//! Pure. A place is a number of entries that have happened; what came after them has not, for the fork. Called by whoever
//! makes a fork, with the journal as far as it can be read; the kept entries are copied into the fork's own journal, where
//! its fold takes them as they are ([`Brief::copied`](super::run::Brief)). A failed attempt before the place leaves no
//! entries behind: the attempt that goes on knew nothing of it either.

use std::fmt;

use serde::Serialize;

use super::ids::{RunId, TaskId};
use super::journal::{Act, Entry};
use super::run::{Brief, Mismatch, Phase, Run};

/// Where a run is to be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before this turn, counted from 0 over the whole journal: the next thing is to ask the model.
    Turn(u32),
    /// Before this entry.
    Entry(u32),
}

/// Of what a task is a fork, and where it left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ForkedFrom {
    /// The task.
    pub task_id: TaskId,
    /// Its run.
    pub run_id: RunId,
    /// The step of that run.
    pub step_no: u32,
    /// The first entry of that step that the fork did not take over.
    pub entry: u32,
}

/// What a fork takes over.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// The first entry of the original that it did not take over.
    pub entry: u32,
    /// The entries of its own journal, numbered anew.
    pub kept: Vec<Entry>,
}

/// Why a run cannot be left there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unforkable {
    /// There is no such place.
    #[error("{}", beyond(*.asked, *.turns, *.entries))]
    Beyond {
        /// Where it was to be left.
        asked: Place,
        /// The last turn that can be asked for.
        turns: u32,
        /// The last entry.
        entries: u32,
    },
    /// A call had begun that had not ended.
    #[error(
        "a call is under way before entry {entry}, and a fork would make it anew; fork from entry {before}, where it begins"
    )]
    UnderWay {
        /// The place.
        entry: u32,
        /// The nearest place before it.
        before: u32,
    },
    /// The entries are not kept any more.
    #[error("the first entries of this run are not kept any more (journal.keep); only step 0 is left to fork from")]
    Cleaned,
    /// The journal does not fit as far as that.
    #[error("the entries up to there do not fit: {0}; fork from before it")]
    Unfit(Mismatch),
    /// With the fork's own settings, what it would take over could not have happened.
    #[error("what is to be kept does not fit the new settings: {0}")]
    Settings(Mismatch),
}

impl Cut {
    /// What is kept of a run that had this brief and these entries (all of them, or those that can be read).
    ///
    /// # Errors
    /// [`Unforkable`], when it cannot be left there.
    pub fn of(brief: &Brief, entries: &[Entry], place: Place) -> Result<Self, Unforkable> {
        if matches!(place, Place::Turn(0) | Place::Entry(0)) {
            return Ok(Self { entry: 0, kept: Vec::new() });
        }
        if entries.first().is_some_and(|first| first.seq != 0) {
            return Err(Unforkable::Cleaned);
        }
        let mut fold = Fold { run: Run::new(brief.clone()), turns: 0, entries: 0, between: 0, kept: Vec::new() };
        // What an attempt begins with: nothing, or what this run has copied itself.
        let begins_with = entries.iter().take(brief.copied as usize).cloned().collect::<Vec<_>>();
        for entry in entries {
            if fold.is_at(place) {
                break;
            }
            if let Err(mismatch) = fold.take(entry, &begins_with) {
                return Err(match place {
                    // It may be the last word of a run that was blocked: behind it there is no place.
                    Place::Entry(asked) if asked > fold.entries => Unforkable::Unfit(mismatch),
                    _ => fold.beyond(place),
                });
            }
        }
        let entry = fold.entries;
        match (fold.is_at(place), fold.between == entry) {
            (false, _) => Err(fold.beyond(place)),
            (true, false) => Err(Unforkable::UnderWay { entry, before: fold.between }),
            (true, true) => Ok(Self { entry, kept: renumbered(fold.kept) }),
        }
    }

    /// The same for a fork with settings of its own.
    ///
    /// # Errors
    /// [`Unforkable::Settings`] when what is kept could not have happened under them.
    pub fn fits(&self, fork: &Brief) -> Result<(), Unforkable> {
        Run::resumed(fork.clone(), &self.kept).map(drop).map_err(Unforkable::Settings)
    }
}

/// The original, entry by entry.
struct Fold {
    run: Run,
    turns: u32,
    entries: u32,
    /// The last place at which no call was under way.
    between: u32,
    /// What the attempt under way is made of.
    kept: Vec<Entry>,
}

impl Fold {
    fn take(&mut self, entry: &Entry, begins_with: &[Entry]) -> Result<(), Mismatch> {
        let attempt = self.run.attempt();
        self.run.apply(entry)?;
        self.entries += 1;
        self.turns += u32::from(matches!(entry.act, Act::ModelResult { .. }));
        if self.run.attempt() == attempt {
            self.kept.push(entry.clone());
        } else {
            self.kept = begins_with.to_vec();
        }
        if self.run.is_between_acts() {
            self.between = self.entries;
        }
        Ok(())
    }

    /// Whether the run stands there, and something may come after it.
    fn is_at(&self, place: Place) -> bool {
        match place {
            Place::Turn(turn) => self.turns == turn && self.run.phase() == Phase::Thinking,
            Place::Entry(entry) => self.entries == entry && self.run.outcome().is_none(),
        }
    }

    const fn beyond(&self, asked: Place) -> Unforkable {
        Unforkable::Beyond { asked, turns: self.turns, entries: self.entries }
    }
}

fn renumbered(kept: Vec<Entry>) -> Vec<Entry> {
    (0..).zip(kept).map(|(seq, entry)| Entry { seq, attempt: 1, ..entry }).collect()
}

fn beyond(asked: Place, turns: u32, entries: u32) -> String {
    match asked {
        Place::Turn(turn) => format!("turn {turn} has not begun: the run has {turns} answers of a model on record"),
        Place::Entry(entry) => format!("nothing comes at entry {entry}: the run has {entries} entries on record"),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn(turn) => write!(f, "turn {turn}"),
            Self::Entry(entry) => write!(f, "entry {entry}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clarification::Answer;
    use super::super::run::Action;
    use super::super::run::tests::{Recorder, asked, brief, failed, result, turn};
    use super::*;

    /// Records what the run says is next, `acts` where it has to be answered from outside.
    fn recorded(mut step: Recorder, acts: Vec<Act>) -> Recorder {
        for act in acts {
            while let Action::Record(own) = step.run.next() {
                step.record(own).unwrap();
            }
            let act = asked(act, &step.run);
            step.record(act).unwrap();
        }
        step
    }

    /// Three turns: `look`, then `pay` with its intent, then the answer.
    fn three_turns() -> Recorder {
        let acts =
            vec![turn("", &["look"]), result("c0", "look"), turn("", &["pay"]), result("c0", "pay"), turn("done", &[])];
        recorded(Recorder::new(), acts)
    }

    fn cut(step: &Recorder, place: Place) -> Result<(u32, usize), Unforkable> {
        Cut::of(&brief(), &step.journal, place).map(|cut| (cut.entry, cut.kept.len()))
    }

    #[test]
    fn a_turn_is_a_place_and_so_is_an_entry_where_no_call_is_under_way() {
        let step = three_turns();
        assert_eq!(step.journal.len(), 6);
        for (turn, entry) in [(0, 0), (1, 2), (2, 5)] {
            assert_eq!(cut(&step, Place::Turn(turn)), Ok((entry, entry as usize)), "turn {turn}");
        }
        for entry in [0, 1, 2, 3, 5] {
            assert_eq!(cut(&step, Place::Entry(entry)), Ok((entry, entry as usize)), "entry {entry}");
        }
        let under_way = Unforkable::UnderWay { entry: 4, before: 3 };
        assert!(under_way.to_string().contains("fork from entry 3"), "{under_way}");
        assert_eq!(cut(&step, Place::Entry(4)), Err(under_way));
        for place in [Place::Turn(3), Place::Turn(9), Place::Entry(6), Place::Entry(99)] {
            let error = cut(&step, place).unwrap_err();
            assert!(matches!(error, Unforkable::Beyond { turns: 3, entries: 6, .. }), "{place}: {error}");
        }
    }

    #[test]
    fn a_run_that_has_not_ended_can_be_left_where_it_stands() {
        let mut step = three_turns();
        step.journal.truncate(2);
        assert_eq!(cut(&step, Place::Turn(1)), Ok((2, 2)));
        assert_eq!(cut(&step, Place::Entry(2)), Ok((2, 2)));
        step.journal.truncate(1);
        assert_eq!(cut(&step, Place::Entry(1)), Ok((1, 1)), "the tool is wanted, and not called yet");
        assert!(cut(&step, Place::Turn(1)).is_err());
    }

    #[test]
    fn a_question_and_its_answer_are_no_place() {
        let mut step = recorded(Recorder::new(), vec![turn("", &["drop"])]);
        let Action::Record(question) = step.run.next() else { panic!("it asks") };
        step.record(question).unwrap();
        let answer = Answer::Given(serde_json::json!(true));
        step.record(Act::ClarificationAnswered { clarification_id: "q".into(), answer }).unwrap();
        for entry in [2, 3] {
            assert_eq!(cut(&step, Place::Entry(entry)), Err(Unforkable::UnderWay { entry, before: 1 }));
        }
        assert_eq!(cut(&step, Place::Entry(1)), Ok((1, 1)), "the person is asked again");
    }

    #[test]
    fn failed_attempts_are_left_behind() {
        let acts = vec![turn("", &["look"]), result("c0", "look"), failed(true), turn("", &["put"])];
        let step = recorded(Recorder::new(), acts);
        assert_eq!(cut(&step, Place::Turn(1)), Ok((2, 2)), "before the failure, which may not come again");
        let cut = Cut::of(&brief(), &step.journal, Place::Entry(4)).unwrap();
        assert_eq!((cut.entry, cut.kept.len()), (4, 1));
        assert_eq!((cut.kept[0].seq, cut.kept[0].attempt), (0, 1));
    }

    #[test]
    fn each_attempt_of_a_fork_goes_on_from_what_it_has_copied() {
        let kept = Cut::of(&brief(), &three_turns().journal, Place::Turn(1)).unwrap().kept;
        let fork = Brief { copied: 2, spec_digest: "d2".into(), ..brief() };
        let run = Run::resumed(fork.clone(), &kept).unwrap();
        let mut step = recorded(Recorder { run, journal: kept.clone() }, vec![turn("", &["put"])]);
        let Action::CallTool { key, .. } = step.run.next() else { panic!("put is called") };
        step = recorded(step, vec![failed(true)]);
        assert_eq!((step.run.attempt(), step.run.turns(), step.run.messages().len()), (2, 1, 3));
        assert_eq!((step.run.usage().tokens(), step.run.copied_usage().tokens()), (15, 15));
        step = recorded(step, vec![turn("", &["put"])]);
        assert!(matches!(step.run.next(), Action::CallTool { key: again, .. } if again == key), "the same call again");
        step = recorded(step, vec![result("c0", "put"), turn("done", &[])]);
        assert_eq!(Run::resumed(fork.clone(), &step.journal).unwrap(), step.run);

        // A fork of the fork, after its failed attempt: what it copied, and what came after.
        let cut = Cut::of(&fork, &step.journal, Place::Turn(3)).unwrap();
        assert_eq!(cut.kept.len(), 4);
        assert_eq!(cut.fits(&Brief { copied: 4, ..brief() }), Ok(()));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let step = three_turns();
        let cut = Cut::of(&brief(), &step.journal, Place::Turn(2)).unwrap();
        let mut narrow = Brief { copied: 5, ..brief() };
        narrow.limits.turns = 1;
        let error = cut.fits(&narrow).unwrap_err();
        assert!(matches!(&error, Unforkable::Settings(mismatch) if mismatch.seq == 1), "{error}");

        assert_eq!(Cut::of(&brief(), &step.journal[5..], Place::Turn(1)), Err(Unforkable::Cleaned));
        assert!(Cut::of(&brief(), &step.journal[5..], Place::Entry(0)).is_ok(), "nothing of it is needed");
        let other = Brief { input: "something else".into(), ..brief() };
        let error = Cut::of(&other, &step.journal, Place::Entry(2)).unwrap_err();
        assert!(matches!(&error, Unforkable::Unfit(mismatch) if mismatch.seq == 0), "{error}");
    }
}
