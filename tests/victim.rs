//! The victim of the crash matrix: a troupe from the product's own parts that does one task and dies where it is told.
//!
//! One argument: its [orders](troupe_tests::victim::Orders) as JSON. It ends well when the task has come to rest, all
//! ends are told and all queues are empty. What goes wrong before that is said on standard error, with a non-zero end.

#![expect(clippy::print_stderr, reason = "whoever reads a failed test needs the victim's side of it")]

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::Instant;
use troupe_actors::roster::Member;
use troupe_actors::served::Served;
use troupe_actors::stage::Options;
use troupe_actors::troupe::{Submission, Troupe};
use troupe_runtime::domain::agent::{
    AgentSpec, ExecutionMode, Limits, ModelSpec, ProviderKind, RestartLimit, Rule, SlackReply,
};
use troupe_runtime::domain::journal::Effect;
use troupe_runtime::domain::run::ToolTerms;
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::domain::topic::REPLY_QUEUE;
use troupe_runtime::model::{ModelOptions, Models};
use troupe_runtime::ports::{self, Ports};
use troupe_runtime::secret::Secrets;
use troupe_runtime::store::{self, Stores};
use troupe_runtime::telemetry::Metrics;
use troupe_runtime::tool::{Answer, Invocation, Tool, Tools};
use troupe_tests::effects::KEY_HEADER;
use troupe_tests::killer::Killer;
use troupe_tests::tampered::{Hand, Honest, tampered};
use troupe_tests::victim::{AGENT, DONE, Orders, STUCK, TOOLS};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Between two looks at how things stand.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A tool whose deed is done outside.
struct Deed {
    name: &'static str,
    effect: Effect,
    url: String,
    client: Client,
}

#[async_trait]
impl Tool for Deed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        "does something outside"
    }

    fn parameters(&self) -> Value {
        json!({"type": "object"})
    }

    fn effect(&self) -> Effect {
        self.effect
    }

    async fn call(&self, invocation: Invocation) -> Answer {
        let post = self.client.post(&self.url).header(KEY_HEADER, invocation.idempotency_key);
        let answered = async { post.send().await?.error_for_status()?.text().await };
        match answered.await {
            Ok(receipt) => Answer::ok(receipt),
            Err(error) => Answer::error(error.to_string()),
        }
    }
}

// One thread: while it dies nobody else gets a turn.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    troupe_tests::tls();
    let orders = std::env::args().nth(1).unwrap_or_default();
    let lived = match serde_json::from_str(&orders) {
        Ok(orders) => live(&orders).await,
        Err(error) => Err(error.into()),
    };
    match lived {
        Ok(code) => ExitCode::from(code as u8),
        Err(error) => {
            eprintln!("the victim could not live: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn live(orders: &Orders) -> Outcome<i32> {
    let client = Client::builder().no_proxy().build()?;
    let mut ports = open(orders).await?;
    let untouched = ports.stores.clone();
    let wound: Arc<dyn Hand> =
        orders.mutant.map_or_else(|| Arc::new(Honest) as _, |mutant| mutant.hand(&orders.folder, orders.dies));
    // The killer is on top: it dies before the mutant is asked, or after it has answered.
    ports.stores = tampered(tampered(untouched.clone(), wound), Arc::new(Killer(orders.dies)));
    let ports = Arc::new(ports);
    let member = member(&ports, orders, &client)?;
    let options =
        Options { sweep_every: Duration::from_millis(200), record_for: Duration::from_secs(20), ..Options::default() };
    let (troupe, over) = Troupe::start_prepared(ports.clone(), vec![member], options, Vec::new()).await?;
    tokio::spawn(hear(ports.clone(), client, format!("{}/{}/ends", orders.effects, orders.task)));
    if orders.asks {
        let (input, key) = (json!(format!("please do {}", orders.task)), Some(orders.task.clone()));
        troupe.submit(AGENT, Submission { input, idempotency_key: key, ..Submission::default() }).await?;
    }
    let deadline = Instant::now() + Duration::from_millis(orders.limit_ms);
    let code = loop {
        if at_rest(&troupe, &untouched, orders).await? {
            break DONE;
        }
        if Instant::now() > deadline {
            break STUCK;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    troupe.drain(Duration::from_secs(5)).await;
    over.await?;
    ports.close().await;
    Ok(code)
}

async fn open(orders: &Orders) -> Outcome<Ports> {
    let options = ModelOptions::default();
    let models = Models::new(Secrets::default(), Models::client(&options)?, options)?;
    let database_url = orders.database.clone().map(Into::into);
    let (tools, options) = (Tools::default(), ports::Options { database_url, ..ports::Options::default() });
    Ok(Ports::open(&orders.folder, options, models, tools, Metrics::new()).await?)
}

/// The agent, with a real provider in front of the model's server and tools of our own.
fn member(ports: &Ports, orders: &Orders, client: &Client) -> Outcome<Member> {
    let model = ModelSpec {
        provider: ProviderKind::Openai,
        model: "stand-in".to_owned(),
        api_key: None,
        base_url: Some(orders.model.clone()),
        timeout: Duration::from_secs(10),
        max_output_tokens: 100,
        script: Vec::new(),
    };
    let limits = Limits {
        turns: 10,
        tokens: 100_000,
        cost_microusd: None,
        timeout: Duration::from_secs(60),
        daily_cost_microusd: None,
    };
    let spec = AgentSpec {
        name: AGENT.parse()?,
        kind: "test".to_owned(),
        execution_mode: ExecutionMode::Autonomous,
        runs_as: ExecutionMode::Autonomous,
        models: vec![model],
        instructions: "Look, book, pay.".to_owned(),
        subscriptions: Vec::new(),
        instances: 1,
        tools: Vec::new(),
        permissions: Vec::new(),
        limits,
        retries: 2,
        restart: RestartLimit { max: 3, window: Duration::from_mins(1) },
        reply: SlackReply::Thread,
        team: Vec::new(),
        extra: Value::Null,
    };
    let mut served = Served::prepare(ports, spec)?;
    for (name, effect) in TOOLS {
        let url = format!("{}/{}/tools/{name}", orders.effects, orders.task);
        served.tools.add(Arc::new(Deed { name, effect, url, client: client.clone() }))?;
        served.terms.insert(name.to_owned(), ToolTerms { effect, rule: Rule::Allow });
    }
    served.offers = served.tools.offers().into();
    Ok(Member { spec: served.spec.clone(), served: Ok(Arc::new(served)) })
}

/// Passes on every end that the bus tells, and only then takes it off the bus.
async fn hear(ports: Arc<Ports>, client: Client, url: String) {
    let Ok(mut ends) = ports.bus.consume(REPLY_QUEUE, 8).await else { return };
    while let Some(delivery) = ends.deliveries.recv().await {
        let told = client.post(format!("{url}/{}", delivery.event.id)).send().await;
        if told.is_ok_and(|answer| answer.status().is_success()) {
            delivery.settle.ack();
        }
    }
}

/// Whether all tasks have come to rest, all ends are told, and no queue holds anything.
async fn at_rest(troupe: &Troupe, stores: &Stores, orders: &Orders) -> Outcome<bool> {
    let tasks = stores.tasks.tasks(&store::TaskFilter::default()).await?;
    let rests = |task: &store::Task| task.status.is_terminal() || task.status == TaskStatus::Waiting;
    if !tasks.iter().any(|task| task.id == orders.task_id()) || !tasks.iter().all(rests) {
        return Ok(false);
    }
    let queues = troupe.ports().bus.health().await?.depths;
    // What a former life left to tell is this one's to tell, whoever of the two of us notices it first.
    let own = troupe.lease().incarnation();
    let untold = stores.outbox.inherit(own).await? > 0 || !stores.outbox.pending(own, i64::MIN, 1).await?.is_empty();
    Ok(!untold && queues.iter().all(|(_, depth)| *depth == 0))
}
