//! Stores with one promise taken out each: the check of the checks. A checker that passes such a store proves nothing.
//!
//! Each is a small hand over a true store, so that nothing of it is in the product. `matrix.rs` runs the conformance
//! suite over every one of them, and kills a victim on those whose wound shows only when a process dies; a mutant that
//! nobody catches fails the test, and so does a true store that is not passed.

#[path = "mutant/lives.rs"]
mod lives;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, SqliteConnection};
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::{StepId, TaskId};
use troupe_runtime::domain::journal::Act;
use troupe_runtime::domain::step::{Epoch, Incarnation};
use troupe_runtime::sqlite::FILE_NAME;
use troupe_runtime::store::{Acceptance, Accepted, Append, Claim, Completion, Error, ReplyState, Stores};

use self::lives::{EndsOfOthers, LeaseForgiven, LifeRepeated, LivingEnded, LivingRobbed};
use crate::killer::{Commit, Moment, Point};
use crate::tampered::Hand;

/// Which promise is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is said in words by Mutant::what")]
pub enum Mutant {
    AcceptTwice,
    AcceptTorn,
    AcceptEarly,
    ClaimBlind,
    ClaimFlat,
    AppendUnfenced,
    AppendOver,
    AppendEarly,
    IntentLate,
    AttemptsForgotten,
    CompleteUnfenced,
    CompleteOpen,
    CompleteUntold,
    ToldEarly,
    DoubtForgotten,
    LifeRepeated,
    LeaseForgiven,
    LivingEnded,
    LivingRobbed,
    EndsOfOthers,
    MemoryBlind,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::AcceptTwice,
        Self::AcceptTorn,
        Self::AcceptEarly,
        Self::ClaimBlind,
        Self::ClaimFlat,
        Self::AppendUnfenced,
        Self::AppendOver,
        Self::AppendEarly,
        Self::IntentLate,
        Self::AttemptsForgotten,
        Self::CompleteUnfenced,
        Self::CompleteOpen,
        Self::CompleteUntold,
        Self::ToldEarly,
        Self::DoubtForgotten,
        Self::LifeRepeated,
        Self::LeaseForgiven,
        Self::LivingEnded,
        Self::LivingRobbed,
        Self::EndsOfOthers,
        Self::MemoryBlind,
    ];

    /// What is wrong with it.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::AcceptTwice => "the second delivery of an event becomes another task",
            Self::AcceptTorn => "a task and its step are two transactions",
            Self::AcceptEarly => "an acceptance is answered before it is durable",
            Self::ClaimBlind => "a claim does not look at the epoch that was seen",
            Self::ClaimFlat => "a claim does not raise the epoch",
            Self::AppendUnfenced => "an append under an old epoch is taken",
            Self::AppendOver => "an append to a taken place is answered well",
            Self::AppendEarly => "an append is answered before it is durable",
            Self::IntentLate => "an intent is written with its result",
            Self::AttemptsForgotten => "attempts are not written",
            Self::CompleteUnfenced => "an end under an old epoch is taken",
            Self::CompleteOpen => "an end leaves the step running",
            Self::CompleteUntold => "an end writes no outbox row",
            Self::ToldEarly => "an end counts as told before it is",
            Self::DoubtForgotten => "a reply in doubt counts as not sent",
            Self::LifeRepeated => "a node's next life has the number of the last",
            Self::LeaseForgiven => "a lease that was ended is renewed",
            Self::LivingEnded => "a lease that has not run out is ended",
            Self::LivingRobbed => "a step of a node that lives is an orphan",
            Self::EndsOfOthers => "an end is told by every node",
            Self::MemoryBlind => "a memory is saved without a look at its version",
        }
    }

    /// Where a victim that stands on it must die for the wound to show; nowhere for what a single process cannot show.
    #[must_use]
    pub const fn shows(self) -> Option<Point> {
        let (commit, moment) = match self {
            Self::AcceptTwice => (Commit::Accept, Moment::After),
            Self::AcceptTorn => (Commit::Accept, Moment::Within),
            Self::AppendEarly => (Commit::Entry(1), Moment::Before),
            Self::IntentLate => (Commit::Entry(5), Moment::Before),
            Self::CompleteOpen | Self::CompleteUntold => (Commit::Complete, Moment::After),
            Self::ToldEarly => (Commit::Told, Moment::Within),
            _ => return None,
        };
        Some(Point { commit, moment })
    }

    /// Its hand, over a store in this folder; `point` is where the process dies if that is inside a torn commit.
    #[must_use]
    pub fn hand(self, folder: &Path, point: Option<Point>) -> Arc<dyn Hand> {
        let file = folder.join(FILE_NAME);
        match self {
            Self::AcceptTwice => Arc::new(AcceptTwice),
            Self::AcceptTorn => Arc::new(AcceptTorn { file, point }),
            Self::AcceptEarly => Arc::new(AcceptEarly::default()),
            Self::ClaimBlind => Arc::new(ClaimBlind),
            Self::ClaimFlat => Arc::new(ClaimFlat { file }),
            Self::AppendUnfenced => Arc::new(AppendUnfenced),
            Self::AppendOver => Arc::new(AppendOver),
            Self::AppendEarly => Arc::new(AppendLate { which: |_| true, held: Mutex::default() }),
            Self::IntentLate => Arc::new(AppendLate { which: is_intent, held: Mutex::default() }),
            Self::AttemptsForgotten => Arc::new(AttemptsForgotten),
            Self::CompleteUnfenced => Arc::new(CompleteUnfenced),
            Self::CompleteOpen => Arc::new(CompleteOpen),
            Self::CompleteUntold => Arc::new(CompleteUntold),
            Self::ToldEarly => Arc::new(ToldEarly { point }),
            Self::DoubtForgotten => Arc::new(DoubtForgotten),
            Self::LifeRepeated => Arc::new(LifeRepeated),
            Self::LeaseForgiven => Arc::new(LeaseForgiven),
            Self::LivingEnded => Arc::new(LivingEnded),
            Self::LivingRobbed => Arc::new(LivingRobbed { file }),
            Self::EndsOfOthers => Arc::new(EndsOfOthers { file }),
            Self::MemoryBlind => Arc::new(MemoryBlind),
        }
    }
}

struct AcceptTwice;

#[async_trait]
impl Hand for AcceptTwice {
    async fn accept(&self, stores: &Stores, acceptance: Acceptance) -> Result<Accepted, Error> {
        match stores.tasks.accept(acceptance.clone()).await? {
            Accepted::Duplicate(_) => {
                let event = Event { id: format!("{}-again", acceptance.event.id), ..(*acceptance.event).clone() };
                stores.tasks.accept(Acceptance { event: Arc::new(event), ..acceptance }).await
            }
            new @ Accepted::New(_) => Ok(new),
        }
    }
}

struct AcceptTorn {
    file: PathBuf,
    point: Option<Point>,
}

#[async_trait]
impl Hand for AcceptTorn {
    async fn accept(&self, stores: &Stores, acceptance: Acceptance) -> Result<Accepted, Error> {
        let accepted = stores.tasks.accept(acceptance).await?;
        if let Accepted::New(claim) = &accepted {
            // What the first of two transactions would leave, then what the second would add.
            let mut file = raw(&self.file).await?;
            sql(&mut file, "create temp table torn as select * from steps where id = ?", claim.step).await?;
            sql(&mut file, "delete from steps where id = ?", claim.step).await?;
            if let Some(point) = self.point {
                point.reached(Commit::Accept, Moment::Within);
            }
            sql(&mut file, "insert into steps select * from torn where id = ?", claim.step).await?;
        }
        Ok(accepted)
    }
}

#[derive(Default)]
struct AcceptEarly(Mutex<Vec<Acceptance>>);

impl AcceptEarly {
    async fn catch_up(&self, stores: &Stores) -> Result<(), Error> {
        let held = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for acceptance in held {
            stores.tasks.accept(acceptance).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Hand for AcceptEarly {
    async fn accept(&self, _stores: &Stores, acceptance: Acceptance) -> Result<Accepted, Error> {
        let task = TaskId::derive(&acceptance.event.id, acceptance.agent.as_str());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(acceptance);
        Ok(Accepted::New(Claim { task, step: task.run(0).step(0), epoch: Epoch(1) }))
    }

    async fn append(&self, stores: &Stores, append: Append) -> Result<(), Error> {
        self.catch_up(stores).await?;
        stores.journal.append(append).await
    }

    async fn complete(&self, stores: &Stores, completion: Completion) -> Result<Option<i64>, Error> {
        self.catch_up(stores).await?;
        stores.steps.complete(completion).await
    }
}

struct ClaimBlind;

#[async_trait]
impl Hand for ClaimBlind {
    async fn claim(
        &self,
        stores: &Stores,
        step: StepId,
        seen: Epoch,
        owner: Incarnation,
    ) -> Result<Option<Claim>, Error> {
        // Whatever it is by now.
        for epoch in seen.0..seen.0 + 64 {
            if let claimed @ Some(_) = stores.steps.claim(step, Epoch(epoch), owner).await? {
                return Ok(claimed);
            }
        }
        Ok(None)
    }
}

struct ClaimFlat {
    file: PathBuf,
}

#[async_trait]
impl Hand for ClaimFlat {
    async fn claim(
        &self,
        stores: &Stores,
        step: StepId,
        seen: Epoch,
        owner: Incarnation,
    ) -> Result<Option<Claim>, Error> {
        let Some(claim) = stores.steps.claim(step, seen, owner).await? else { return Ok(None) };
        let mut file = raw(&self.file).await?;
        sql(&mut file, "update steps set epoch = epoch - 1 where id = ?", step).await?;
        Ok(Some(Claim { epoch: seen, ..claim }))
    }
}

struct AppendUnfenced;

#[async_trait]
impl Hand for AppendUnfenced {
    async fn append(&self, stores: &Stores, append: Append) -> Result<(), Error> {
        match stores.journal.append(append.clone()).await {
            Err(fenced @ Error::Fenced(_)) => {
                let claim = as_it_stands(stores, append.claim).await?.ok_or(fenced)?;
                stores.journal.append(Append { claim, ..append }).await
            }
            answer => answer,
        }
    }
}

struct CompleteUnfenced;

#[async_trait]
impl Hand for CompleteUnfenced {
    async fn complete(&self, stores: &Stores, completion: Completion) -> Result<Option<i64>, Error> {
        match stores.steps.complete(completion.clone()).await {
            Err(fenced @ Error::Fenced(_)) => {
                let claim = as_it_stands(stores, completion.claim).await?.ok_or(fenced)?;
                stores.steps.complete(Completion { claim, ..completion }).await
            }
            answer => answer,
        }
    }
}

struct AppendOver;

#[async_trait]
impl Hand for AppendOver {
    async fn append(&self, stores: &Stores, append: Append) -> Result<(), Error> {
        match stores.journal.append(append).await {
            Err(Error::Conflict(_)) => Ok(()),
            answer => answer,
        }
    }
}

/// Holds an append back until the next write.
struct AppendLate {
    which: fn(&Act) -> bool,
    held: Mutex<Vec<Append>>,
}

impl AppendLate {
    async fn catch_up(&self, stores: &Stores) -> Result<(), Error> {
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        for append in held {
            stores.journal.append(append).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Hand for AppendLate {
    async fn append(&self, stores: &Stores, append: Append) -> Result<(), Error> {
        self.catch_up(stores).await?;
        if (self.which)(&append.entry.act) {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(append);
            return Ok(());
        }
        stores.journal.append(append).await
    }

    async fn complete(&self, stores: &Stores, completion: Completion) -> Result<Option<i64>, Error> {
        self.catch_up(stores).await?;
        stores.steps.complete(completion).await
    }
}

struct AttemptsForgotten;

#[async_trait]
impl Hand for AttemptsForgotten {
    async fn append(&self, stores: &Stores, append: Append) -> Result<(), Error> {
        stores.journal.append(Append { attempts: None, ..append }).await
    }
}

struct CompleteOpen;

#[async_trait]
impl Hand for CompleteOpen {
    async fn complete(&self, stores: &Stores, completion: Completion) -> Result<Option<i64>, Error> {
        let Completion { claim, entry, .. } = completion;
        stores.journal.append(Append { claim, entry, attempts: None, status: None }).await.map(|()| None)
    }
}

struct CompleteUntold;

#[async_trait]
impl Hand for CompleteUntold {
    async fn complete(&self, stores: &Stores, completion: Completion) -> Result<Option<i64>, Error> {
        let Claim { step, task, .. } = completion.claim;
        stores.steps.complete(completion).await?;
        let owner = stores.tasks.task(task).await?.map_or(Incarnation(0), |task| task.steps[0].owner);
        let pending = stores.outbox.pending(owner, i64::MIN, usize::MAX).await?;
        stores.outbox.told(pending.iter().filter(|told| told.step == step).map(|told| told.seq).collect()).await?;
        Ok(None)
    }
}

struct ToldEarly {
    point: Option<Point>,
}

#[async_trait]
impl Hand for ToldEarly {
    async fn complete(&self, stores: &Stores, completion: Completion) -> Result<Option<i64>, Error> {
        let place = stores.steps.complete(completion).await?;
        stores.outbox.told(place.into_iter().collect()).await?;
        if let Some(point) = self.point {
            point.reached(Commit::Told, Moment::Within);
        }
        Ok(place)
    }
}

struct DoubtForgotten;

#[async_trait]
impl Hand for DoubtForgotten {
    async fn begin(&self, stores: &Stores, task: TaskId) -> Result<ReplyState, Error> {
        match stores.replies.begin(task).await? {
            ReplyState::Doubtful => Ok(ReplyState::Clear),
            state => Ok(state),
        }
    }
}

struct MemoryBlind;

#[async_trait]
impl Hand for MemoryBlind {
    async fn save(
        &self,
        stores: &Stores,
        agent: &AgentName,
        session: &str,
        over: u64,
        body: &str,
    ) -> Result<u64, Error> {
        match stores.memory.save(agent, session, over, body).await {
            Err(Error::Conflict(_)) => {
                let there = stores.memory.load(agent, session).await?.map_or(0, |memory| memory.version);
                stores.memory.save(agent, session, there, body).await
            }
            answer => answer,
        }
    }
}

/// The claim under the epoch that the step has by now.
async fn as_it_stands(stores: &Stores, claim: Claim) -> Result<Option<Claim>, Error> {
    let task = stores.tasks.task(claim.task).await?;
    let step = task.and_then(|task| task.steps.into_iter().find(|step| step.id == claim.step));
    Ok(step.map(|step| Claim { epoch: step.epoch, ..claim }))
}

const fn is_intent(act: &Act) -> bool {
    matches!(act, Act::ToolIntent { .. })
}

/// The file behind the store's back.
async fn raw(file: &Path) -> Result<SqliteConnection, Error> {
    SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.map_err(|error| raw_error(&error))
}

async fn sql(file: &mut SqliteConnection, statement: &'static str, step: StepId) -> Result<(), Error> {
    sqlx::query(statement).bind(step.0).execute(file).await.map(drop).map_err(|error| raw_error(&error))
}

fn raw_error(error: &sqlx::Error) -> Error {
    Error::Internal(format!("a mutant's own statement: {error}"))
}
