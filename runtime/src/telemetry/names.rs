//! Every metric and label name, spelled once.
//!
//! Names are OpenTelemetry's; the Prometheus form follows from them: dots become `_`, the unit `s` is appended as
//! `_seconds`, counters end in `_total`. So `agent_task_duration` with unit `s` is read as
//! `agent_task_duration_seconds`: a name here must not hold its suffix. Who reads this: [`super::metrics`], nobody else.

/// What an instrument does with its values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Counts happenings; only rises.
    Counter,
    /// Sorts values into buckets.
    Histogram(&'static [f64]),
    /// A level, read when somebody looks.
    Gauge,
    /// A count that somebody else keeps, read when somebody looks.
    ReadCounter,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Its OpenTelemetry name.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// UCUM unit; `{…}` for counted things.
    pub unit: &'static str,
    /// What it says, for the reader of a dashboard.
    pub help: &'static str,
}

impl Metric {
    /// The name of this counter in Prometheus' text.
    #[must_use]
    pub fn exposed_total(&self) -> String {
        format!("{}_total", self.name.replace('.', "_"))
    }
}

const fn metric(name: &'static str, kind: Kind, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, unit, help }
}

/// Series that a metric of agents or of their queues may have; what is beyond them is counted together, as nobody's. More than two for
/// each of the ten thousand agents that a node reads unless told otherwise (`agents.files_max`). Any other metric has the SDK's limit, 2,000.
pub const AGENT_SERIES_MAX: usize = 28_000;
/// Which agent.
pub const AGENT: &str = "agent";
/// In which mode it runs.
pub const EXECUTION_MODE: &str = "execution_mode";
/// Index of a rule in a script.
pub const RULE: &str = "rule";
/// Which provider answered.
pub const PROVIDER: &str = "provider";
/// Which model answered.
pub const MODEL: &str = "model";
/// What came of it, in a word.
pub const OUTCOME: &str = "outcome";
/// Which tool.
pub const TOOL: &str = "tool";
/// Which tier before the store: `process` or `redis`.
pub const TIER: &str = "tier";
/// Which queue.
pub const QUEUE: &str = "queue";
/// What Slack was answered, as a word or a status.
pub const ANSWER: &str = "answer";
/// Which listener: `admin` or `public`.
pub const LISTENER: &str = "listener";
/// Which part of what was kept: `journals` or `tasks`.
pub const PART: &str = "part";
/// The route as it is declared, never the path as it came: paths have no end.
pub const ROUTE: &str = "route";
/// The HTTP method.
pub const METHOD: &str = "method";
/// The HTTP status.
pub const STATUS: &str = "status";
/// OpenTelemetry `GenAI`: which operation.
pub const GEN_AI_OPERATION: &str = "gen_ai.operation.name";
/// OpenTelemetry `GenAI`: which provider.
pub const GEN_AI_PROVIDER: &str = "gen_ai.provider.name";
/// OpenTelemetry `GenAI`: which model answered.
pub const GEN_AI_MODEL: &str = "gen_ai.response.model";
/// OpenTelemetry `GenAI`: `input` or `output`.
pub const GEN_AI_TOKEN_TYPE: &str = "gen_ai.token.type";

/// From a cached answer to an hour of work.
const TASK_SECONDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
/// The boundaries that the `GenAI` conventions advise.
const CALL_SECONDS: &[f64] = &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// The boundaries that the `GenAI` conventions advise.
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// A batch holds 1024 at most, unless it is told otherwise.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The plan's: how long tasks take, from acceptance to their end.
pub const TASK_DURATION: Metric =
    metric("agent_task_duration", Kind::Histogram(TASK_SECONDS), "s", "Time from a task's acceptance to its end");
/// The plan's: tasks with an answer.
pub const TASK_SUCCESS: Metric = metric("agent_task_success", Kind::Counter, "", "Tasks that ended with an answer");
/// The plan's: tasks without one.
pub const TASK_FAILURE: Metric = metric("agent_task_failure", Kind::Counter, "", "Tasks that ended without an answer");
/// The plan's: what waits for an agent.
pub const QUEUE_DEPTH: Metric =
    metric("agent_queue_depth", Kind::Gauge, "", "Events in an agent's inbox that nobody has settled yet");

/// Calls of scripted models, by rule.
pub const SCRIPTED_MODEL_CALLS: Metric =
    metric("troupe_scripted_model_calls", Kind::ReadCounter, "", "Calls that a rule of a scripted model answered");
/// Calls of models.
pub const MODEL_CALLS: Metric = metric("troupe_model_calls", Kind::Counter, "", "Calls of models, by outcome");
/// Tokens, by OpenTelemetry's name.
pub const TOKEN_USAGE: Metric =
    metric("gen_ai.client.token.usage", Kind::Histogram(TOKENS), "{token}", "Tokens of one model call");
/// Model latency, by OpenTelemetry's name.
pub const OPERATION_DURATION: Metric =
    metric("gen_ai.client.operation.duration", Kind::Histogram(CALL_SECONDS), "s", "Time of one model call");
/// Calls of tools.
pub const TOOL_CALLS: Metric = metric("troupe_tool_calls", Kind::Counter, "", "Calls of tools, by outcome");
/// Attempts that failed and are followed by another or by the end.
pub const STEP_ATTEMPTS: Metric =
    metric("troupe_step_attempts", Kind::Counter, "", "Attempts of steps that ended without an answer");
/// Restarts of agent actors.
pub const AGENT_RESTARTS: Metric =
    metric("troupe_agent_restarts", Kind::Counter, "", "Times that an agent actor fell and was started again");

/// Committed transactions of the one writer.
pub const STORE_TRANSACTIONS: Metric =
    metric("troupe_store_transactions", Kind::ReadCounter, "", "Transactions that the writer committed");
/// Writes in them: divided by the transactions, the size of a batch.
pub const STORE_BATCH_OPERATIONS: Metric =
    metric("troupe_store_batch_operations", Kind::ReadCounter, "", "Writes in the committed transactions");
/// Writes that share a transaction: how well the commits are used.
pub const STORE_BATCH: Metric =
    metric("troupe_store_batch", Kind::Histogram(BATCH), "{operation}", "Writes in one committed transaction");
/// Rows in them.
pub const STORE_ROWS: Metric =
    metric("troupe_store_rows", Kind::ReadCounter, "", "Rows that the committed transactions changed");
/// Loads of memories, by what a tier made of them.
pub const CACHE_LOOKUPS: Metric = metric(
    "troupe_cache_lookups",
    Kind::ReadCounter,
    "",
    "Memories that a tier was asked for: hit, miss, outdated (another version by then), unreadable",
);
/// Redis in trouble.
pub const CACHE_ERRORS: Metric =
    metric("troupe_cache_errors", Kind::ReadCounter, "", "Operations of Redis that failed or took too long");
/// Redis left alone.
pub const CACHE_SKIPPED: Metric =
    metric("troupe_cache_skipped", Kind::ReadCounter, "", "Operations that were left out while Redis was left alone");
/// Whether it is.
pub const CACHE_BREAKER_OPEN: Metric =
    metric("troupe_cache_breaker_open", Kind::Gauge, "", "1 while Redis is left alone, 0 while it is asked");
/// Whether the node may begin anything.
pub const LEASE_HELD: Metric =
    metric("troupe_lease_held", Kind::Gauge, "", "1 while the node holds its lease, 0 while it begins nothing");
/// How often it was not.
pub const LEASE_LAPSES: Metric =
    metric("troupe_lease_lapses", Kind::ReadCounter, "", "Times that the node did not hold its lease for a while");
/// What the cleaner has deleted.
pub const CLEANED_ROWS: Metric =
    metric("troupe_cleaned_rows", Kind::ReadCounter, "", "Rows deleted because they were kept for long enough");
/// When it was last done; nothing before the first time.
pub const CLEANED_AT: Metric =
    metric("troupe_cleaned_timestamp", Kind::Gauge, "s", "When everything old was last deleted, in seconds since 1970");
/// Events that wait, by queue.
pub const BUS_DEPTH: Metric =
    metric("troupe_bus_depth", Kind::Gauge, "", "Events in a queue that nobody has settled yet");
/// Dead letters there are.
pub const DEAD_LETTERS: Metric = metric("troupe_dead_letters", Kind::Gauge, "", "Dead letters that wait for a person");
/// Events without a queue.
pub const UNROUTABLE: Metric =
    metric("troupe_unroutable", Kind::ReadCounter, "", "Events that no queue wanted since the node started");
/// Whether the broker is connected.
pub const BUS_CONNECTED: Metric =
    metric("troupe_bus_connected", Kind::Gauge, "", "1 while the broker that is the bus is connected, else 0");
/// Whether the broker takes events.
pub const BUS_BLOCKED: Metric = metric(
    "troupe_bus_blocked",
    Kind::Gauge,
    "",
    "1 while the broker takes no events, short of memory or disk, else 0",
);
/// Connections to the broker that were lost.
pub const BUS_LOST: Metric = metric(
    "troupe_bus_connections_lost",
    Kind::ReadCounter,
    "",
    "Connections to the broker that were lost since the node started",
);

/// Events that wait on the disk for the bus.
pub const SPOOL_DEPTH: Metric =
    metric("troupe_spool_depth", Kind::Gauge, "", "Accepted events that wait on the disk until the bus takes them");
/// Their bytes.
pub const SPOOL_BYTES: Metric = metric("troupe_spool_bytes", Kind::Gauge, "", "Bytes of the events in the spool");
/// What became of events that the bus did not take at once.
pub const SPOOL_EVENTS: Metric = metric(
    "troupe_spool_events",
    Kind::ReadCounter,
    "",
    "Events of the spool: spooled, then drained, dropped or buried (no queue), isolated (damaged); failed were refused",
);
/// Damaged records that wait for a person.
pub const SPOOL_ISOLATED: Metric =
    metric("troupe_spool_isolated", Kind::Gauge, "", "Files with damaged records of the spool that were moved aside");

/// Replies to where the question came from.
pub const REPLIES: Metric = metric("troupe_replies", Kind::ReadCounter, "", "Tries to send a reply, by outcome");
/// Replies that may have been sent twice.
pub const REPLY_DOUBTFUL: Metric = metric(
    "troupe_reply_doubtful",
    Kind::ReadCounter,
    "",
    "Replies sent again because the try before ended without an answer",
);
/// Requests from Slack.
pub const SLACK_REQUESTS: Metric =
    metric("troupe_slack_requests", Kind::ReadCounter, "", "Requests from Slack, by what they were answered");
/// Requests to our listeners.
pub const HTTP_REQUESTS: Metric =
    metric("troupe_http_requests", Kind::Counter, "", "HTTP requests, by route and status");

/// Those that have series for each agent.
pub const OF_AGENTS: [Metric; 11] = [
    TASK_DURATION,
    TASK_SUCCESS,
    TASK_FAILURE,
    QUEUE_DEPTH,
    BUS_DEPTH,
    SCRIPTED_MODEL_CALLS,
    MODEL_CALLS,
    TOKEN_USAGE,
    TOOL_CALLS,
    STEP_ATTEMPTS,
    AGENT_RESTARTS,
];

/// Every metric there is.
pub const ALL: [Metric; 37] = [
    TASK_DURATION,
    TASK_SUCCESS,
    TASK_FAILURE,
    QUEUE_DEPTH,
    SCRIPTED_MODEL_CALLS,
    MODEL_CALLS,
    TOKEN_USAGE,
    OPERATION_DURATION,
    TOOL_CALLS,
    STEP_ATTEMPTS,
    AGENT_RESTARTS,
    STORE_TRANSACTIONS,
    STORE_BATCH_OPERATIONS,
    STORE_BATCH,
    STORE_ROWS,
    CACHE_LOOKUPS,
    CACHE_ERRORS,
    CACHE_SKIPPED,
    CACHE_BREAKER_OPEN,
    LEASE_HELD,
    LEASE_LAPSES,
    CLEANED_ROWS,
    CLEANED_AT,
    BUS_DEPTH,
    DEAD_LETTERS,
    UNROUTABLE,
    BUS_CONNECTED,
    BUS_BLOCKED,
    BUS_LOST,
    SPOOL_DEPTH,
    SPOOL_BYTES,
    SPOOL_EVENTS,
    SPOOL_ISOLATED,
    REPLIES,
    REPLY_DOUBTFUL,
    SLACK_REQUESTS,
    HTTP_REQUESTS,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_hold_no_suffix_that_the_reader_appends() {
        let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert!(!metric.name.ends_with("_total") && !metric.name.ends_with("_seconds"), "{}", metric.name);
            assert!(!metric.help.is_empty(), "{}", metric.name);
        }
    }

    #[test]
    fn ours_begin_with_troupe_and_the_plan_s_with_agent() {
        for metric in ALL {
            let known = ["troupe_", "agent_", "gen_ai.client."].iter().any(|prefix| metric.name.starts_with(prefix));
            assert!(known, "{}", metric.name);
        }
    }

    #[test]
    fn buckets_rise() {
        for metric in ALL {
            if let Kind::Histogram(bounds) = metric.kind {
                assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{}", metric.name);
            }
        }
    }
}
