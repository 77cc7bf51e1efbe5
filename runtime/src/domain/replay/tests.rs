//! Whatever a run does fits when it is replayed, however often its node died meanwhile; whatever it would not have done
//! is named by its number.

use proptest::prelude::*;

use super::super::clarification::Answer;
use super::super::outcome::Failure;
use super::super::run::tests::{Recorder, Turn, World, asked, brief, failed, result, turn, turns};
use super::*;

fn replayed(brief: Brief, journal: &[Entry]) -> Result<(), (u32, Why)> {
    Replay::of(brief, journal).map(|_| ()).map_err(|mismatch| (mismatch.seq, mismatch.why))
}

/// The journal of a run that does this.
fn journal(turns: Vec<Turn>) -> Vec<Entry> {
    World::of(turns).finish(Recorder::new()).journal
}

/// The number of the first entry that does not fit once `change` has been at the journal.
fn misfit(turns: Vec<Turn>, change: impl FnOnce(&mut Vec<Entry>)) -> u32 {
    let mut journal = journal(turns);
    replayed(brief(), &journal).unwrap();
    change(&mut journal);
    replayed(brief(), &journal).unwrap_err().0
}

fn failure(reason: Reason) -> Act {
    Act::AttemptFailed { failure: Failure { reason, message: "so it is".into(), retryable: false } }
}

#[test]
fn an_act_that_the_run_would_not_have_done_is_named() {
    let pays = || vec![Turn::Tools(vec!["look", "pay"]), Turn::Answers];
    // 0 asks, 1 looks, 2 intends, 3 pays, 4 answers.
    assert_eq!(misfit(pays(), |journal| journal[1].act = result("c1", "pay")), 1, "another call comes first");
    assert_eq!(misfit(pays(), |journal| journal[1].act = result("c0", "put")), 1, "another tool was wanted");
    assert_eq!(misfit(pays(), |journal| journal[2].act = result("c1", "pay")), 2, "no intent");
    assert_eq!(misfit(pays(), |journal| drop(journal.remove(2))), 3, "a gap");
    assert_eq!(misfit(pays(), |journal| journal[4].act = failure(Reason::Turns)), 4, "no limit is reached");
    assert_eq!(misfit(pays(), |journal| journal[1].act = failure(Reason::Model)), 1, "no model is asked");
    assert_eq!(misfit(pays(), |journal| journal[2].act = failure(Reason::Timeout)), 2, "nothing takes time here");
    assert_eq!(misfit(pays(), |journal| journal[1].attempt = 2), 1);
    let more = |journal: &mut Vec<Entry>| journal.push(Entry { seq: 5, ..journal[4].clone() });
    assert_eq!(misfit(pays(), more), 5, "it is over");
}

#[test]
fn what_was_told_otherwise_shows_at_the_next_request() {
    let looks = || vec![Turn::Tools(vec!["look"]), Turn::Answers];
    let other = |entry: &mut Entry| {
        if let Act::ToolResult { content, .. } = &mut entry.act {
            content.push('!');
        }
    };
    assert_eq!(misfit(looks(), |journal| other(&mut journal[1])), 2);
    let input = Brief { input: "do it!".into(), ..brief() };
    assert_eq!(replayed(input, &journal(looks())), Err((0, Why::Request)));
}

#[test]
fn a_refusal_and_a_question_may_be_worded_otherwise_but_not_decided_otherwise() {
    let asks = || vec![Turn::Tools(vec!["never", "drop"]), Turn::Answers];
    // 0 asks, 1 is refused, 2 asks a person, 3 is answered.
    let mut journal = journal(asks());
    if let Act::ClarificationRaised { clarification } = &mut journal[2].act {
        clarification.guidance = "Darf das sein?".into();
    }
    replayed(brief(), &journal).unwrap();
    let decided = |n: usize, change: fn(&mut Act)| misfit(asks(), |journal| change(&mut journal[n].act));
    let good_news = |act: &mut Act| {
        if let Act::ToolResult { is_error, .. } = act {
            *is_error = false;
        }
    };
    assert_eq!(decided(1, good_news), 1);
    let other_action = |act: &mut Act| {
        if let Act::ClarificationRaised { clarification } = act {
            clarification.action_digest = "00".into();
        }
    };
    assert_eq!(decided(2, other_action), 2);
    let other_question = |act: &mut Act| {
        *act = Act::ClarificationAnswered { clarification_id: "another".into(), answer: Answer::Declined };
    };
    assert_eq!(decided(3, other_question), 3);
}

#[test]
fn a_question_about_a_call_in_doubt_fits_although_no_crash_is_on_record() {
    let mut step = Recorder::new();
    let first = asked(turn("", &["pay"]), &step.run);
    step.record(first).unwrap();
    let Action::Record(intent) = step.run.next() else { panic!("intent first") };
    step.record(intent).unwrap();
    let mut after = Recorder { run: Run::resumed(brief(), &step.journal).unwrap(), journal: step.journal };
    let Action::Record(question @ Act::ClarificationRaised { .. }) = after.run.next() else { panic!("ask") };
    after.record(question).unwrap();
    let replay = Replay::of(brief(), &after.journal).unwrap();
    assert_eq!((replay.run().phase(), replay.run().next_seq()), (after.run.phase(), 3));
}

#[test]
fn what_a_fork_has_copied_is_folded_and_not_judged() {
    let mut journal = journal(vec![Turn::Tools(vec!["look", "put"]), Turn::Answers]);
    // Somebody looked elsewhere first.
    (journal[1].act, journal[2].act) = (journal[2].act.clone(), journal[1].act.clone());
    assert_eq!(replayed(brief(), &journal).unwrap_err().0, 1);
    let fork = Brief { copied: 3, ..brief() };
    assert_eq!(replayed(fork.clone(), &journal), Err((3, Why::Request)));
    assert_eq!(replayed(fork, &journal[..3]), Ok(()));
}

proptest! {
    #[test]
    fn every_run_fits_however_often_its_node_died(turns in turns(), crashes in prop::collection::vec(any::<bool>(), 80)) {
        let world = World::of(turns);
        let mut step = Recorder::new();
        for crashed in crashes {
            if crashed {
                step.run = Run::resumed(brief(), &step.journal).unwrap();
                if !step.run.is_in_doubt() && step.journal.len().is_multiple_of(3) && step.run.outcome().is_none() {
                    step.record(failed(true)).unwrap_or(());
                }
            }
            let Some(act) = world.perform(&step.run) else { break };
            step.record(act).unwrap();
        }
        // A failed attempt with reason `model` is possible only while the model is asked.
        let by_crash = |entry: &Entry| match &entry.act {
            Act::AttemptFailed { failure } if failure.reason == Reason::Model => {
                let failure = Failure { reason: Reason::Crash, ..failure.clone() };
                Entry { act: Act::AttemptFailed { failure }, ..entry.clone() }
            }
            _ => entry.clone(),
        };
        let journal: Vec<Entry> = step.journal.iter().map(by_crash).collect();
        let replay = Replay::of(brief(), &journal).unwrap();
        prop_assert_eq!(replay.run().phase(), step.run.phase());
        prop_assert_eq!(replay.run().usage(), step.run.usage());
        prop_assert_eq!(replay.run().messages(), step.run.messages());
    }

    #[test]
    fn an_entry_that_is_missing_or_doubled_is_named(turns in turns(), at in any::<prop::sample::Index>()) {
        let journal = journal(turns);
        let at = at.index(journal.len());
        let mut without = journal.clone();
        without.remove(at);
        if at < without.len() {
            prop_assert_eq!(replayed(brief(), &without), Err((at as u32 + 1, Why::Place(at as u32))));
        }
        let mut doubled = journal.clone();
        doubled.insert(at, journal[at].clone());
        prop_assert_eq!(replayed(brief(), &doubled).unwrap_err().0, at as u32);
    }
}
