//! A house to play in: a troupe over embedded parts in a folder of its own, with models of the test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use troupe_actors::lease;
use troupe_actors::roster::Member;
use troupe_actors::served::Served;
use troupe_actors::stage::Options;
use troupe_actors::troupe::{Submission, Troupe};
use troupe_runtime::domain::agent::{AgentSpec, ExecutionMode, Limits, RestartLimit, SlackReply, ToolSpec};
use troupe_runtime::domain::chat::{Completion, Finish, Message, ToolCall, Usage};
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::model::{self, Model, ModelOptions, Models, Request};
use troupe_runtime::ports::{self, Ports};
use troupe_runtime::secret::Secrets;
use troupe_runtime::store::Task;
use troupe_runtime::telemetry::Metrics;
use troupe_runtime::tool::Tools;

/// Longer than anything here takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the model does with a conversation.
pub(crate) type Mind = dyn Fn(&[Message]) -> Result<Completion, model::Error> + Send + Sync;

/// A model of the test's own: counts its calls, and lets them through one by one when it is held.
pub(crate) struct Puppet {
    mind: Box<Mind>,
    held: bool,
    pub(crate) calls: AtomicU32,
    pub(crate) gate: Semaphore,
}

impl Puppet {
    pub(crate) fn new(
        mind: impl Fn(&[Message]) -> Result<Completion, model::Error> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            mind: Box::new(mind),
            held: false,
            calls: AtomicU32::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    /// As [`Puppet::new`], but no call ends before the gate lets it.
    pub(crate) fn held(
        mind: impl Fn(&[Message]) -> Result<Completion, model::Error> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { mind: Box::new(mind), held: true, calls: AtomicU32::new(0), gate: Semaphore::new(0) })
    }

    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) async fn called(&self, times: u32) {
        until(|| async { self.calls() >= times }).await;
    }
}

#[async_trait]
impl Model for Puppet {
    async fn complete(&self, request: &Request) -> Result<Completion, model::Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if let Ok(permit) = self.gate.acquire().await
            && self.held
        {
            permit.forget();
        }
        (self.mind)(&request.messages)
    }
}

pub(crate) fn says(text: &str) -> Result<Completion, model::Error> {
    Ok(completion(text, Vec::new()))
}

pub(crate) fn wants(tool: &str, arguments: Value) -> Result<Completion, model::Error> {
    Ok(completion("", vec![ToolCall { id: "call-1".into(), name: tool.into(), arguments }]))
}

pub(crate) fn is_down() -> Result<Completion, model::Error> {
    Err(model::Error::Timeout { model: "puppet".into(), after: Duration::from_secs(1) })
}

pub(crate) fn refuses() -> Result<Completion, model::Error> {
    Err(model::Error::BadSpec { model: "puppet".into(), message: "it has no strings".into() })
}

fn completion(text: &str, tool_calls: Vec<ToolCall>) -> Completion {
    let finish = if tool_calls.is_empty() { Finish::Stop } else { Finish::ToolCalls };
    Completion {
        text: text.into(),
        tool_calls,
        finish,
        usage: Usage { input_tokens: 3, output_tokens: 2, cost_microusd: 0 },
        provider: "puppet".into(),
        model: "puppet".into(),
        request_id: None,
    }
}

/// What the store of a house keeps in one piece, at most.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The limits of a house: the usual ones, but nobody waits long.
pub(crate) fn options() -> Options {
    Options {
        attempt_backoff: Duration::from_millis(1),
        sweep_every: Duration::from_millis(200),
        lease: lease::Options { look_every: Duration::from_millis(50), ..lease::Options::default() },
        ..Options::default()
    }
}

/// A spec that needs nothing from outside.
pub(crate) fn spec(name: &str) -> AgentSpec {
    AgentSpec {
        name: name.parse().unwrap(),
        kind: "test".into(),
        execution_mode: ExecutionMode::Autonomous,
        runs_as: ExecutionMode::Autonomous,
        models: Vec::new(),
        instructions: String::new(),
        subscriptions: Vec::new(),
        instances: 1,
        tools: vec![
            ToolSpec::Builtin { name: "clock".into(), hosts: Vec::new() },
            ToolSpec::Builtin { name: "wait".into(), hosts: Vec::new() },
        ],
        permissions: Vec::new(),
        limits: Limits {
            turns: 5,
            tokens: 100_000,
            cost_microusd: None,
            timeout: Duration::from_secs(30),
            daily_cost_microusd: None,
        },
        retries: 2,
        restart: RestartLimit { max: 3, window: Duration::from_secs(60) },
        reply: SlackReply::Thread,
        team: Vec::new(),
        extra: Value::Null,
    }
}

/// A running troupe with its folder.
pub(crate) struct House {
    pub(crate) troupe: Troupe,
    pub(crate) over: JoinHandle<()>,
    pub(crate) dir: TempDir,
}

impl House {
    pub(crate) async fn open(cast: Vec<(AgentSpec, Arc<Puppet>)>) -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), cast).await
    }

    pub(crate) async fn open_in(dir: TempDir, cast: Vec<(AgentSpec, Arc<Puppet>)>) -> Self {
        Self::open_with(dir, cast, options()).await
    }

    pub(crate) async fn open_with(dir: TempDir, cast: Vec<(AgentSpec, Arc<Puppet>)>, options: Options) -> Self {
        Self::open_on(dir, cast, options, |_| {}).await
    }

    /// A house whose ports were tampered with.
    pub(crate) async fn open_on(
        dir: TempDir,
        cast: Vec<(AgentSpec, Arc<Puppet>)>,
        options: Options,
        tamper: impl FnOnce(&mut Ports),
    ) -> Self {
        Self::open_without(dir, cast, Vec::new(), options, tamper).await
    }

    /// The same with agents that are configured and cannot be served.
    pub(crate) async fn open_without(
        dir: TempDir,
        cast: Vec<(AgentSpec, Arc<Puppet>)>,
        absent: Vec<AgentSpec>,
        options: Options,
        tamper: impl FnOnce(&mut Ports),
    ) -> Self {
        let mut ports = open_ports(&dir).await;
        tamper(&mut ports);
        let ports = Arc::new(ports);
        let mut members: Vec<_> = cast.into_iter().map(|(spec, model)| member(&ports, spec, model)).collect();
        let unserved = |spec| Member { spec: Arc::new(spec), served: Err("it has no strings".to_owned()) };
        members.extend(absent.into_iter().map(unserved));
        let (troupe, over) = Troupe::start_prepared(ports, members, options, Vec::new()).await.unwrap();
        Self { troupe, over, dir }
    }

    pub(crate) async fn ask(&self, agent: &str, text: &str) -> TaskId {
        self.troupe.submit(agent, Submission { input: json!(text), ..Submission::default() }).await.unwrap()
    }

    pub(crate) async fn ended(&self, task: TaskId) -> Task {
        let task = self.troupe.wait(task, PATIENCE).await.unwrap().expect("never accepted");
        assert_ne!(task.status, TaskStatus::Running, "it does not end: {task:?}");
        task
    }

    pub(crate) async fn journal_grows_to(&self, task: TaskId, entries: usize) {
        let step = task.run(0).step(0);
        until(|| async { self.troupe.ports().stores.journal.entries(step).await.unwrap().len() >= entries }).await;
    }

    /// The process dies: nothing is drained, nothing is settled.
    pub(crate) async fn crash(self) -> TempDir {
        let Self { troupe, over, dir } = self;
        for actor in troupe.tree().list().into_iter().rev() {
            troupe.tree().kill(&actor.path).ok();
        }
        troupe.drain(Duration::ZERO).await;
        over.await.ok();
        troupe.ports().close().await;
        drop(troupe);
        dir
    }
}

pub(crate) async fn open_ports(dir: &TempDir) -> Ports {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    // The node before may still hold the folder for a moment after it was told to go.
    for _ in 0..1_000 {
        let options = ModelOptions::default();
        let models = Models::new(Secrets::default(), Models::client(&options).unwrap(), options).unwrap();
        let (tools, mut options) = (Tools::default(), ports::Options::default());
        options.store.payload.bytes_max = PAYLOAD_BYTES_MAX;
        let opened = Ports::open(dir.path(), options, models, tools, Metrics::new());
        match opened.await {
            Ok(ports) => return ports,
            Err(error) => {
                assert!(error.to_string().contains("in use"), "{error}");
                tokio::task::yield_now().await;
            }
        }
    }
    panic!("the folder stays in use");
}

pub(crate) fn member(ports: &Ports, spec: AgentSpec, model: Arc<Puppet>) -> Member {
    let stand_in = troupe_runtime::domain::agent::ModelSpec {
        provider: troupe_runtime::domain::agent::ProviderKind::Scripted,
        model: "none".into(),
        api_key: None,
        base_url: None,
        timeout: Duration::from_secs(1),
        max_output_tokens: 1,
        script: Vec::new(),
    };
    let spec = AgentSpec { models: vec![stand_in], ..spec };
    let served = Served::prepare(ports, spec.clone()).unwrap();
    Member { spec: Arc::new(spec), served: Ok(Arc::new(Served { model, ..served })) }
}

/// Waits until something holds; fails when it does not within [`PATIENCE`].
pub(crate) async fn until<F, Fut>(mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let look = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("what the test waits for does not happen");
}
