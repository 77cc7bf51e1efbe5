//! Forks: a new task that keeps what a run had done before a place, and goes on from there.
//!
//! ```text
//! journal of the run ─► Cut (what is kept) ─┐
//! pinned spec ─► changed, made ready once ──┴─► one transaction: task, step of nobody's, kept entries ─► recovery
//! ```
//!
//! Called through [`Troupe::fork`] by the admin API. Everything is looked at before anything is written, so that a fork
//! that is accepted can run; the original is only read. Whoever makes it hands nothing on: the recovery of a node that
//! serves the agent takes the step up at its next look.

use std::collections::BTreeMap;
use std::sync::Arc;

use troupe_runtime::config::{self, Problems};
use troupe_runtime::domain::agent::AgentSpec;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::fork::{Cut, ForkedFrom, Place, Unforkable};
use troupe_runtime::domain::ids::{RunId, TaskId, event_id_from, new_event_id};
use troupe_runtime::domain::journal::Entry;
use troupe_runtime::domain::run::Brief;
use troupe_runtime::domain::topic::Topic;
use troupe_runtime::fault::{Fault, Faulty};
use troupe_runtime::store::{self, Damage, Fork, Step, Task};

use crate::served::{self, Served, Unservable};
use crate::troupe::Troupe;

/// What somebody asks for.
#[derive(Debug, Clone)]
pub struct Forking {
    /// The run.
    pub run: RunId,
    /// The place to leave it at.
    pub place: Place,
    /// Keys of its spec that the fork has otherwise.
    pub set: BTreeMap<String, String>,
    /// The same key for the same run leads to the same fork.
    pub idempotency_key: Option<String>,
}

/// Why there is no fork.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be left there.
    #[error(transparent)]
    Place(#[from] Unforkable),
    /// An entry that would be kept cannot be read.
    #[error("an entry that would be kept cannot be read ({0}); fork from before it")]
    Damaged(Damage),
    /// What is to be changed cannot be.
    #[error("{0}")]
    Settings(Problems),
    /// With these settings it could not run.
    #[error("the fork could not run: {0}")]
    Unservable(#[from] Unservable),
    /// The spec is not kept any more, or its agent does not serve here.
    #[error("{0}")]
    Gone(String),
    /// The key was used for something else.
    #[error("idempotency key {0:?} was used for another fork of this run; take a new key")]
    KeyReused(String),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Store(error) => error.fault(),
            _ => Fault::Permanent,
        }
    }
}

impl Troupe {
    /// Makes a fork of a run of this task; answers it as it stands.
    ///
    /// # Errors
    /// [`Error`]; then nothing was made.
    pub async fn fork(&self, task: &Task, forking: Forking) -> Result<Task, Error> {
        let gone = |what: String| Error::Gone(what);
        let Some(step) = task.steps.iter().rfind(|step| step.run == forking.run) else {
            return Err(gone(format!("run {} has no step to fork from", forking.run)));
        };
        let stores = &self.ports().stores;
        let Some(spec) = stores.specs.spec(&task.spec_digest).await? else {
            return Err(gone("the spec that this run pins is not kept any more".to_owned()));
        };
        if !self.serves(&task.agent) {
            return Err(gone(format!("no agent {} serves here, and the fork would wait for it", task.agent)));
        }
        let brief = self.brief(task, step, &spec, &task.spec_digest, step.copied)?;
        let cut = self.cut(&brief, step, forking.place).await?;

        let spec = config::changed(&spec, &forking.set).map_err(Error::Settings)?;
        // Made ready once, so that a missing key or tool is told now; the recovery makes it ready for itself.
        let digest = Served::prepare(self.ports(), spec.clone())?.digest;
        // What was pinned stays what it is, whatever this version would write for it.
        let digest = if forking.set.is_empty() { task.spec_digest.as_str().into() } else { digest };
        cut.fits(&self.brief(task, step, &spec, &digest, cut.kept.len() as u32)?)?;
        if !forking.set.is_empty() {
            stores.specs.keep(&spec).await?;
        }
        let event = self.event(task, &forking).await?;
        let from = ForkedFrom { task_id: task.id, run_id: step.run, step_no: step.step_no, entry: cut.entry };
        let id = self.make(task, event, digest.clone(), from, cut).await?;
        let made = stores.tasks.task(id).await?.ok_or_else(|| gone(format!("fork {id} is not there any more")))?;
        if made.forked_from != Some(from) || *made.spec_digest != *digest {
            return Err(Error::KeyReused(forking.idempotency_key.unwrap_or_default()));
        }
        tracing::info!(task_id = %id, agent = %task.agent, run_id = %from.run_id, entry = from.entry, "a run was forked");
        Ok(made)
    }

    fn brief(&self, of: &Task, step: &Step, spec: &AgentSpec, digest: &str, copied: u32) -> Result<Brief, Error> {
        Ok(Brief {
            run: step.run,
            step_no: step.step_no,
            input: of.input.clone(),
            limits: spec.limits,
            retries: spec.retries,
            tools: served::terms(self.ports(), spec)?,
            spec_digest: digest.to_owned(),
            copied,
        })
    }

    /// What is kept; of a journal with a damaged entry, what lies before it can be.
    async fn cut(&self, brief: &Brief, step: &Step, place: Place) -> Result<Cut, Error> {
        let (entries, damage) = self.readable(step).await?;
        Cut::of(brief, &entries, place).map_err(|error| match (error, damage) {
            (Unforkable::Beyond { .. }, Some(damage)) => Error::Damaged(damage),
            (error, _) => error.into(),
        })
    }

    async fn readable(&self, step: &Step) -> Result<(Vec<Entry>, Option<Damage>), Error> {
        let journal = &self.ports().stores.journal;
        match journal.entries(step.id).await {
            Ok(entries) => Ok((entries, None)),
            Err(store::Error::Corrupt(damage)) => match damage.entry {
                Some(seq) => Ok((journal.entries_before(step.id, seq).await?, Some(damage))),
                None => Err(store::Error::Corrupt(damage).into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// The same question, asked by nobody that waits for a reply.
    async fn event(&self, task: &Task, forking: &Forking) -> Result<Event, Error> {
        let run = forking.run;
        let Some(asked) = self.ports().stores.tasks.event(task.id).await? else {
            return Err(Error::Gone(format!("task {} is not there any more", task.id)));
        };
        let mut event = Event::new(Topic::agent_task(&task.agent), format!("/runs/{run}"), asked.data);
        event.id = match &forking.idempotency_key {
            Some(key) => event_id_from(&["fork", &run.to_string(), key]),
            None => new_event_id(),
        };
        (event.subject, event.priority, event.causationid) = (asked.subject, asked.priority, Some(asked.id));
        Ok(event)
    }

    async fn make(
        &self,
        of: &Task,
        event: Event,
        spec_digest: Arc<str>,
        from: ForkedFrom,
        cut: Cut,
    ) -> Result<TaskId, Error> {
        // Without the lease nothing is accepted.
        if self.lease().own().is_none() {
            return Err(store::Error::Lapsed.into());
        }
        let (agent, mode, event) = (of.agent.clone(), of.execution_mode, Arc::new(event));
        Ok(self.ports().stores.tasks.fork(Fork { agent, mode, spec_digest, event, from, cut }).await?)
    }
}
