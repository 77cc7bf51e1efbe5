//! What happens in the demo, in order, each thing waited for on the condition that it has happened.
//!
//! The agent is killed between its first turn and its second, while its tool runs: the first model result is on record
//! then, and no model is being asked. Whether the runtime keeps its promise is read from two places that know nothing of
//! one another: the model's own count of its calls, and the journal.

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use troupe_runtime::telemetry::names;

use super::role::{COMMAND, NAME, QUESTION};
use super::scene::Scene;
use super::story::{Facts, KILLED, Moment};
use super::{DemoOptions, Trouble, metrics};
use crate::cli::runs::{entries, turns};
use crate::cli::table::{at, text_at};
use crate::cli::tasks::{latest_run, status, whole};
use crate::client::{Client, Error, items};
use crate::stand_in::requests::Asker;

/// Plays it.
pub(super) async fn perform(scene: &Scene, options: &DemoOptions) -> Result<Facts, Trouble> {
    let stage = Stage { client: &scene.client, options };
    let start = Utc::now();

    let asked = Asker::default().slash_command(COMMAND, QUESTION, "demo-1", &scene.slack.response_url(1));
    let taken = scene.client.deliver(scene.public, &asked).await?;
    if taken != 200 {
        return Err(Trouble::NotTaken(taken));
    }
    let acknowledged = Utc::now();

    let task = stage.accepted().await?;
    let run = latest_run(&task).unwrap_or_default();
    let id = text_at(&task, "id").to_owned();
    stage.first_turn(&id, &run).await?;
    let instance = stage.instance().await?;
    scene.client.act_on_actor(&instance, "kill").await?;
    let killed = Utc::now();

    let tree = stage.restarted(&instance).await?;
    let seen = Utc::now();
    let ended = stage.ended(&id).await?;
    let replied = scene.slack.wait_for(1, options.patience).await;
    let Some(reply) = scene.slack.replies().into_iter().next().filter(|_| replied) else {
        return Err(stage.late("the reply was there"));
    };

    let journal = entries(&scene.client.journal(&run).await?);
    let agent = scene.client.agent(NAME).await?;
    let restarts = at(&agent, "restarts").and_then(Value::as_u64).unwrap_or_default();
    let text = scene.client.metrics().await?;
    // A scripted model counts its calls itself, when they begin; of a real one, those that ended are counted.
    let counter = if scene.live { names::MODEL_CALLS } else { names::SCRIPTED_MODEL_CALLS }.exposed_total();
    let calls = metrics::sum(&text, &counter, "agent", NAME).unwrap_or_default();

    let mut moments = vec![
        Moment::new(start, &format!("{COMMAND} is sent"), "a slash command, signed as Slack signs"),
        Moment::new(acknowledged, "Slack has its 200", "the event is on disk"),
    ];
    moments.extend(Moment::at(text_at(&task, "created_at"), "accepted", &format!("task {id}")));
    moments.extend(Moment::of_journal(&journal));
    moments.push(Moment::new(killed, KILLED, &format!("{instance}, while its tool runs")));
    moments.extend(Moment::of_tree(&tree, &instance));
    moments.push(Moment::new(reply.at, "the reply arrives", &format!("at the Slack stand-in, by {}", reply.via)));
    moments.sort_by_key(|moment| moment.at);

    Ok(Facts {
        voice: scene.voice.clone(),
        start,
        took: (reply.at - start).to_std().unwrap_or_default(),
        task: id,
        status: status(whole(&ended)).to_string(),
        instance,
        restarts,
        calls,
        turns: turns(&journal) as u64,
        reply: reply.text,
        tree,
        seen,
        moments,
    })
}

/// The node as the demo looks at it.
struct Stage<'scene> {
    client: &'scene Client,
    options: &'scene DemoOptions,
}

impl Stage<'_> {
    /// The task, once a pool has accepted it.
    async fn accepted(&self) -> Result<Value, Trouble> {
        self.until("the task was accepted", async || {
            let body = self.client.tasks(&[("agent", NAME.to_owned())]).await?;
            let Some(id) = items(&body).first().map(|task| text_at(task, "id").to_owned()) else { return Ok(None) };
            let body = self.client.task(&id, Duration::ZERO).await?;
            let task = whole(&body).clone();
            Ok(latest_run(&task).is_some().then_some(task))
        })
        .await
    }

    /// Waits until the first model result is on record; then the tool is under way.
    async fn first_turn(&self, task: &str, run: &str) -> Result<(), Trouble> {
        self.until("the first turn was on record", async || {
            let journal = entries(&self.client.journal(run).await?);
            let ended = journal.iter().any(|entry| text_at(entry, "kind") == "tool_result") || turns(&journal) > 1;
            if ended || (turns(&journal) == 1 && !wants_a_tool(&journal)) {
                let body = self.client.task(task, Duration::ZERO).await?;
                return Err(Trouble::TooEarly(status(whole(&body)).to_string()));
            }
            Ok((turns(&journal) == 1).then_some(()))
        })
        .await
    }

    /// Where the agent actor lives.
    async fn instance(&self) -> Result<String, Trouble> {
        self.until("the agent had an instance", async || {
            let agent = self.client.agent(NAME).await?;
            let first = agent.get("instances").and_then(Value::as_array).and_then(|all| all.first());
            Ok(first.map(|instance| text_at(instance, "path").to_owned()).filter(|path| !path.is_empty()))
        })
        .await
    }

    /// The tree as soon as the agent is back and its step lives under it again.
    async fn restarted(&self, instance: &str) -> Result<Vec<Value>, Trouble> {
        self.until("the agent was restarted", async || {
            let body = self.client.actors().await?;
            let actors = items(&body);
            let back = actors.iter().any(|actor| text_at(actor, "path") == instance && fell(actor));
            let inside = format!("{instance}/");
            let at_work =
                |actor: &Value| text_at(actor, "path").starts_with(&inside) && !text_at(actor, "step").is_empty();
            let resumed = actors.iter().any(at_work);
            Ok((back && resumed).then(|| actors.to_vec()))
        })
        .await
    }

    /// The task, once nothing more will happen.
    async fn ended(&self, task: &str) -> Result<Value, Trouble> {
        self.until("the task had ended", async || {
            let body = self.client.task(task, Duration::from_secs(5)).await?;
            Ok(status(whole(&body)).is_terminal().then_some(body))
        })
        .await
    }

    /// Looks until there is something; what is not there yet and a busy node are no trouble.
    async fn until<T, F>(&self, what: &'static str, look: impl Fn() -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<Option<T>, Trouble>>,
    {
        let end = Instant::now() + self.options.patience;
        while Instant::now() < end {
            match look().await {
                Ok(Some(seen)) => return Ok(seen),
                Ok(None) => {}
                Err(Trouble::Client(Error::Refused(problem))) if matches!(problem.status, 404 | 429 | 503) => {}
                Err(trouble) => return Err(trouble),
            }
            sleep(self.options.look_every).await;
        }
        Err(self.late(what))
    }

    const fn late(&self, what: &'static str) -> Trouble {
        Trouble::Late { what, limit: self.options.patience }
    }
}

/// Whether an actor runs and was restarted before.
fn fell(actor: &Value) -> bool {
    let restarts = at(actor, "restarts").and_then(Value::as_u64).unwrap_or_default();
    restarts > 0 && text_at(actor, "state") == "running"
}

fn wants_a_tool(journal: &[Value]) -> bool {
    let calls = journal.last().and_then(|entry| at(entry, "completion.tool_calls"));
    calls.and_then(Value::as_array).is_some_and(|calls| !calls.is_empty())
}

/// A time as the API writes it.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    text.parse().ok()
}
