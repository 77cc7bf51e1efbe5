//! Ends the process at a commit: SIGKILL to itself, right before the store is asked or right after it has answered.
//!
//! Nothing unwinds, nothing is flushed, no other actor gets another turn. A [`Point`] names the commit and the moment;
//! the crash matrix goes through all of them. Who calls: the victim, with the one point that it was given.

use std::fmt;

use async_trait::async_trait;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use troupe_runtime::domain::ids::StepId;
use troupe_runtime::domain::journal::Act;
use troupe_runtime::domain::step::{Epoch, Incarnation};
use troupe_runtime::store::{Acceptance, Accepted, Append, Claim, Completion, Error, Stores};

use crate::tampered::Hand;

/// A commit of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Commit {
    /// Task, run and first step.
    Accept,
    /// An entry of the journal, by its place.
    Entry(u32),
    /// The entry that asks a person and parks the step.
    Question,
    /// The last entry with the result, the step's end and the outbox row.
    Complete,
    /// The outbox row goes.
    Told,
    /// A step is claimed by a next life.
    Claim,
}

/// When, seen from the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// The store was not asked yet.
    Before,
    /// It has answered, and nobody has heard.
    After,
    /// Between the two halves of a commit that a mutant has torn.
    Within,
}

/// Where a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// At which commit.
    pub commit: Commit,
    /// At which moment.
    pub moment: Moment,
}

/// The hand that kills.
#[derive(Debug, Clone, Copy)]
pub struct Killer(pub Option<Point>);

impl Point {
    /// Dies when this is the place.
    pub fn reached(self, commit: Commit, moment: Moment) {
        if self == (Self { commit, moment }) {
            die();
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = format!("{:?}", self.moment).to_lowercase();
        match self.commit {
            Commit::Entry(seq) => write!(f, "{moment} entry {seq}"),
            commit => write!(f, "{moment} {}", format!("{commit:?}").to_lowercase()),
        }
    }
}

impl Killer {
    async fn around<T>(&self, commit: Commit, act: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Some(point) = self.0 else { return act.await };
        point.reached(commit, Moment::Before);
        let answer = act.await?;
        point.reached(commit, Moment::After);
        Ok(answer)
    }
}

#[async_trait]
impl Hand for Killer {
    async fn accept(&self, stores: &Stores, acceptance: Acceptance) -> Result<Accepted, Error> {
        self.around(Commit::Accept, stores.tasks.accept(acceptance)).await
    }

    async fn claim(
        &self,
        stores: &Stores,
        step: StepId,
        seen: Epoch,
        owner: Incarnation,
    ) -> Result<Option<Claim>, Error> {
        self.around(Commit::Claim, stores.steps.claim(step, seen, owner)).await
    }

    async fn complete(&self, stores: &Stores, completion: Completion) -> Result<Option<i64>, Error> {
        self.around(Commit::Complete, stores.steps.complete(completion)).await
    }

    async fn append(&self, stores: &Stores, append: Append) -> Result<(), Error> {
        let commit = match append.entry.act {
            Act::ClarificationRaised { .. } => Commit::Question,
            _ => Commit::Entry(append.entry.seq),
        };
        self.around(commit, stores.journal.append(append)).await
    }

    async fn told(&self, stores: &Stores, seqs: Vec<i64>) -> Result<(), Error> {
        self.around(Commit::Told, stores.outbox.told(seqs)).await
    }
}

/// SIGKILL to this process.
fn die() -> ! {
    kill_process(getpid(), Signal::KILL).ok();
    // Not reached: the signal comes before the call returns.
    std::process::abort()
}
