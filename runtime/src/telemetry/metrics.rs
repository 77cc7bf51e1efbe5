//! The node's numbers: OpenTelemetry instruments, one typed method per happening, read as Prometheus text.
//!
//! Counters and histograms are fed by the actors and doors as things happen. What somebody else counts (the writer,
//! the scripted models) or holds (queues) is read at the scrape: by a closure given to [`Metrics::observe`], or, where
//! reading needs an await, as a level that the scraper sets just before ([`Metrics::bus_stands`]). A closure that
//! panics yields nothing that time: the reader would otherwise stop for good. Labels are agents, models, tools and
//! routes, all of which the configuration bounds; nothing that a caller makes up becomes a label.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use prometheus::{Encoder as _, Registry, TextEncoder};

use super::names::{self, Kind, Metric};
use crate::bus;
use crate::domain::agent::{AgentName, ExecutionMode};
use crate::domain::chat::Completion;
use crate::domain::topic::inbox_queue;

/// What is read of the bus at every scrape.
const LEVELS: [Metric; 7] = [
    names::QUEUE_DEPTH,
    names::BUS_DEPTH,
    names::DEAD_LETTERS,
    names::UNROUTABLE,
    names::BUS_CONNECTED,
    names::BUS_BLOCKED,
    names::BUS_LOST,
];

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The node's instruments. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

/// One value of a metric that is read at the scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Label names, from [`names`], and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: u64,
}

impl Reading {
    /// A value with one label.
    #[must_use]
    pub fn of(label: &'static str, of: impl Into<String>, value: u64) -> Self {
        Self { labels: vec![(label, of.into())], value }
    }

    /// A value without labels.
    #[must_use]
    pub const fn plain(value: u64) -> Self {
        Self { labels: Vec::new(), value }
    }
}

/// What the last look at the bus said, by metric.
type Levels = Arc<Mutex<BTreeMap<&'static str, Vec<Reading>>>>;

struct Inner {
    registry: Registry,
    /// Held: its instruments end with it.
    _provider: SdkMeterProvider,
    meter: Meter,
    levels: Levels,
    task_duration: Histogram<f64>,
    task_success: Counter<u64>,
    task_failure: Counter<u64>,
    model_calls: Counter<u64>,
    token_usage: Histogram<u64>,
    operation_duration: Histogram<f64>,
    tool_calls: Counter<u64>,
    step_attempts: Counter<u64>,
    agent_restarts: Counter<u64>,
    store_batch: Histogram<u64>,
    http_requests: Counter<u64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Fresh instruments with a reader of their own; nothing global is touched.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build();
        let builder = SdkMeterProvider::builder().with_view(roomy);
        let provider = match exporter {
            Ok(exporter) => builder.with_reader(exporter).build(),
            // A fresh registry takes any collector; should that change, the node works and counts for nobody.
            Err(error) => {
                tracing::error!(%error, "no metrics: the registry refuses the reader");
                builder.build()
            }
        };
        let meter = provider.meter("troupe");
        let levels = Levels::default();
        let metrics = Self { inner: Arc::new(Inner::new(registry, provider, meter, levels)) };
        for level in LEVELS {
            let levels = Arc::clone(&metrics.inner.levels);
            metrics.observe(level, move || {
                let levels = levels.lock().unwrap_or_else(PoisonError::into_inner);
                levels.get(level.name).cloned().unwrap_or_default()
            });
        }
        metrics
    }

    /// Has a metric read by `read` at every scrape, in place of or beside earlier closures for it.
    ///
    /// `read` must be quick and must not await; should it panic, the metric has no value that time.
    pub fn observe(&self, metric: Metric, read: impl Fn() -> Vec<Reading> + Send + Sync + 'static) {
        let readings = move || catch_unwind(AssertUnwindSafe(&read)).unwrap_or_default();
        let meter = &self.inner.meter;
        match metric.kind {
            Kind::Gauge => {
                let gauge = meter.u64_observable_gauge(metric.name).with_unit(metric.unit);
                gauge
                    .with_description(metric.help)
                    .with_callback(move |to| readings().iter().for_each(|one| to.observe(one.value, &labels(one))))
                    .build();
            }
            Kind::ReadCounter => {
                let counter = meter.u64_observable_counter(metric.name).with_unit(metric.unit);
                counter
                    .with_description(metric.help)
                    .with_callback(move |to| readings().iter().for_each(|one| to.observe(one.value, &labels(one))))
                    .build();
            }
            Kind::Counter | Kind::Histogram(_) => {
                tracing::error!(metric = metric.name, "this metric is counted as things happen and cannot be read");
            }
        }
    }

    /// An agent is served from now on: its counters stand at 0 before its first task.
    pub fn agent_known(&self, agent: &AgentName, mode: ExecutionMode) {
        let labels = agent_and_mode(agent, mode);
        self.inner.task_success.add(0, &labels);
        self.inner.task_failure.add(0, &labels);
        self.inner.agent_restarts.add(0, &labels[..1]);
    }

    /// A task has ended.
    pub fn task_ended(&self, agent: &AgentName, mode: ExecutionMode, success: bool, seconds: f64) {
        let labels = agent_and_mode(agent, mode);
        self.inner.task_duration.record(seconds, &labels);
        let counter = if success { &self.inner.task_success } else { &self.inner.task_failure };
        counter.add(1, &labels);
    }

    /// A model has answered, with this use of tokens.
    pub fn model_answered(&self, agent: &AgentName, completion: &Completion, seconds: f64) {
        let (provider, model) = (Arc::from(&*completion.provider), Arc::from(&*completion.model));
        self.model_called(agent, &provider, &model, "ok", seconds);
        let usage = completion.usage;
        for (kind, tokens) in [("input", usage.input_tokens), ("output", usage.output_tokens)] {
            let [operation, provider, model] = gen_ai(&provider, &model);
            let kind = KeyValue::new(names::GEN_AI_TOKEN_TYPE, kind);
            self.inner.token_usage.record(tokens, &[operation, provider, model, kind, of_agent(agent)]);
        }
    }

    /// No model has answered, for a fault of this word.
    pub fn model_failed(&self, agent: &AgentName, fault: &'static str, seconds: f64) {
        let nobody = Arc::from("");
        self.model_called(agent, &nobody, &nobody, fault, seconds);
    }

    fn model_called(
        &self,
        agent: &AgentName,
        provider: &Arc<str>,
        model: &Arc<str>,
        outcome: &'static str,
        seconds: f64,
    ) {
        let labels = [
            of_agent(agent),
            shared(names::PROVIDER, provider),
            shared(names::MODEL, model),
            KeyValue::new(names::OUTCOME, outcome),
        ];
        self.inner.model_calls.add(1, &labels);
        self.inner.operation_duration.record(seconds, &gen_ai(provider, model));
    }

    /// A tool was called; `outcome` is `ok` or `error`.
    pub fn tool_called(&self, agent: &AgentName, tool: &str, outcome: &'static str) {
        let labels = [of_agent(agent), label(names::TOOL, tool), KeyValue::new(names::OUTCOME, outcome)];
        self.inner.tool_calls.add(1, &labels);
    }

    /// An attempt of a step ended without an answer.
    pub fn attempt_failed(&self, agent: &AgentName) {
        self.inner.step_attempts.add(1, &[of_agent(agent)]);
    }

    /// An agent actor fell and is started again.
    pub fn agent_restarted(&self, agent: &AgentName) {
        self.inner.agent_restarts.add(1, &[of_agent(agent)]);
    }

    /// The state's writer has committed a transaction of so many writes.
    pub fn committed(&self, operations: usize) {
        self.inner.store_batch.record(operations as u64, &[]);
    }

    /// A request was answered; `route` is the route as declared.
    pub fn http_answered(&self, listener: &'static str, route: &str, method: &str, status: u16) {
        let labels = [
            KeyValue::new(names::LISTENER, listener),
            label(names::ROUTE, route),
            label(names::METHOD, method),
            KeyValue::new(names::STATUS, i64::from(status)),
        ];
        self.inner.http_requests.add(1, &labels);
    }

    /// Sets the levels of the queues, just before they are read; an agent without events stands at 0.
    pub fn bus_stands(&self, health: &bus::Health, agents: &[(AgentName, ExecutionMode)]) {
        let depth = |queue: &str| health.depths.iter().find(|(name, _)| name == queue).map_or(0, |(_, depth)| *depth);
        let inbox = |(agent, mode): &(AgentName, ExecutionMode)| Reading {
            labels: vec![(names::AGENT, agent.to_string()), (names::EXECUTION_MODE, mode.to_string())],
            value: depth(&inbox_queue(agent)),
        };
        let queues = health.depths.iter().map(|(queue, depth)| Reading::of(names::QUEUE, queue.as_str(), *depth));
        let mut levels = BTreeMap::from([
            (names::DEAD_LETTERS.name, vec![Reading::plain(health.dead_letters)]),
            (names::UNROUTABLE.name, vec![Reading::plain(health.unroutable)]),
        ]);
        if let Some(connection) = &health.connection {
            let well = u64::from(connection.is_connected());
            levels.insert(names::BUS_CONNECTED.name, vec![Reading::plain(well)]);
            levels.insert(names::BUS_BLOCKED.name, vec![Reading::plain(u64::from(connection.blocked.is_some()))]);
            levels.insert(names::BUS_LOST.name, vec![Reading::plain(connection.lost)]);
        }
        // Without the broker nobody knows a depth.
        if health.connection.as_ref().is_none_or(bus::Connection::is_connected) {
            levels.insert(names::QUEUE_DEPTH.name, agents.iter().map(inbox).collect());
            levels.insert(names::BUS_DEPTH.name, queues.collect());
        }
        *self.inner.levels.lock().unwrap_or_else(PoisonError::into_inner) = levels;
    }

    /// The bus did not say how it stands: no level is better than an old one.
    pub fn bus_silent(&self) {
        self.inner.levels.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Everything, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.inner.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics cannot be written as text");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Inner {
    fn new(registry: Registry, provider: SdkMeterProvider, meter: Meter, levels: Levels) -> Self {
        let counter = |metric: Metric| {
            meter.u64_counter(metric.name).with_unit(metric.unit).with_description(metric.help).build()
        };
        let seconds = |metric: Metric| {
            let histogram = meter.f64_histogram(metric.name).with_unit(metric.unit).with_description(metric.help);
            histogram.with_boundaries(bounds(metric)).build()
        };
        let whole = |metric: Metric| {
            let histogram = meter.u64_histogram(metric.name).with_unit(metric.unit).with_description(metric.help);
            histogram.with_boundaries(bounds(metric)).build()
        };
        Self {
            task_duration: seconds(names::TASK_DURATION),
            task_success: counter(names::TASK_SUCCESS),
            task_failure: counter(names::TASK_FAILURE),
            model_calls: counter(names::MODEL_CALLS),
            token_usage: whole(names::TOKEN_USAGE),
            operation_duration: seconds(names::OPERATION_DURATION),
            tool_calls: counter(names::TOOL_CALLS),
            step_attempts: counter(names::STEP_ATTEMPTS),
            agent_restarts: counter(names::AGENT_RESTARTS),
            store_batch: whole(names::STORE_BATCH),
            http_requests: counter(names::HTTP_REQUESTS),
            registry,
            _provider: provider,
            meter,
            levels,
        }
    }
}

/// Room for every agent where there are series of agents.
fn roomy(instrument: &Instrument) -> Option<Stream> {
    let of_agents = names::OF_AGENTS.iter().any(|metric| metric.name == instrument.name());
    of_agents.then(|| Stream::builder().with_cardinality_limit(names::AGENT_SERIES_MAX).build().ok()).flatten()
}

fn bounds(metric: Metric) -> Vec<f64> {
    match metric.kind {
        Kind::Histogram(bounds) => bounds.to_vec(),
        Kind::Counter | Kind::Gauge | Kind::ReadCounter => Vec::new(),
    }
}

fn label(name: &'static str, value: &str) -> KeyValue {
    KeyValue::new(name, value.to_owned())
}

/// A label whose text nobody copies: these are made anew for each task.
fn shared(name: &'static str, value: &Arc<str>) -> KeyValue {
    KeyValue::new(name, value.clone())
}

fn of_agent(agent: &AgentName) -> KeyValue {
    KeyValue::new(names::AGENT, agent.shared())
}

fn labels(reading: &Reading) -> Vec<KeyValue> {
    reading.labels.iter().map(|(name, value)| label(name, value)).collect()
}

fn agent_and_mode(agent: &AgentName, mode: ExecutionMode) -> [KeyValue; 2] {
    [of_agent(agent), KeyValue::new(names::EXECUTION_MODE, mode.as_str())]
}

fn gen_ai(provider: &Arc<str>, model: &Arc<str>) -> [KeyValue; 3] {
    [
        KeyValue::new(names::GEN_AI_OPERATION, "chat"),
        shared(names::GEN_AI_PROVIDER, provider),
        shared(names::GEN_AI_MODEL, model),
    ]
}

#[cfg(test)]
mod tests;
