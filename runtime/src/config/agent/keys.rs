//! Every key of an agent spec, its meaning and its default: the table behind the check and the JSON Schema.
//!
//! The order is the order of the contract's example. A new key is added here and read in [`super::build`]; a test
//! there holds that every default stated here is the one that is used.

use std::time::Duration;

use super::super::table::{ANY_TEXT, Change, Key, Kind, Need, SOME_TEXT, Table};
use super::formats;

/// Time limit of one model call.
pub(super) const MODEL_TIMEOUT: Duration = Duration::from_mins(1);
/// Tokens of one answer.
pub(super) const OUTPUT_TOKENS: u32 = 1024;
/// Model calls in one attempt.
pub(super) const TURNS: u32 = 12;
/// Tokens of a step.
pub(super) const TOKENS: u64 = 50_000;
/// Time limit of a step.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_mins(5);
/// Attempts after the first.
pub(super) const RETRIES: u32 = 2;
/// Restarts of an instance …
pub(super) const RESTARTS: u32 = 3;
/// … within this time.
pub(super) const RESTART_WINDOW: Duration = Duration::from_mins(1);

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(7 * 24);
const MILLION_USD: u64 = 1_000_000 * 1_000_000;

const fn key(name: &'static str, kind: Kind, need: Need, doc: &'static str) -> Key {
    Key { name, doc, kind, need, change: Change::Live }
}

/// A default that is written as it stands.
macro_rules! default {
    ($text:expr) => {
        Need::Default(|| Some($text.to_string()))
    };
}

macro_rules! default_time {
    ($time:expr) => {
        Need::Default(|| Some(super::super::measure::show_duration($time)))
    };
}

const SCRIPT_TOOL: Table = Table {
    keys: &[
        key("name", Kind::Text(&SOME_TEXT), Need::Required, "The tool to ask for."),
        key("arguments", Kind::Map(&Kind::Any, 64), Need::Optional, "Its arguments."),
    ],
    one_of: &[],
};

const SCRIPT_RULE: Table = Table {
    keys: &[
        key(
            "when",
            Kind::Text(&formats::REGEX),
            Need::Optional,
            "A regular expression over the last message; always when absent.",
        ),
        key(
            "reply",
            Kind::Text(&ANY_TEXT),
            Need::Optional,
            "Answer with this text; {input} is the last message, {1} the first group of `when`.",
        ),
        key("tool", Kind::Table(&SCRIPT_TOOL), Need::Optional, "Ask for a tool."),
        key("fail", Kind::Whole(400, 599), Need::Optional, "Fail as an HTTP server would, with this status."),
        key("delay", Kind::Duration(Duration::ZERO, HOUR), default!("0s"), "How long the call takes."),
        key(
            "times",
            Kind::Whole(1, 1_000_000),
            Need::Optional,
            "How often the rule may answer in one process; always when absent.",
        ),
    ],
    one_of: &["reply", "tool", "fail"],
};

const PROVIDER: Key = key(
    "provider",
    Kind::Choice(&["anthropic", "openai", "scripted"]),
    Need::Required,
    "Who answers: anthropic, openai (or any server that speaks its chat completions, by base_url), or scripted (rules, no model).",
);
const MODEL: Key = key(
    "model",
    Kind::Text(&SOME_TEXT),
    Need::Optional,
    "The model's name as the provider knows it; not needed for scripted.",
);
const API_KEY: Key = key(
    "api_key",
    Kind::Secret(&ANY_TEXT),
    Need::Optional,
    "${NAME} of the key; without it the provider's usual variable is used.",
);
const BASE_URL: Key = key(
    "base_url",
    Kind::Secret(&formats::SERVER_URL),
    Need::Optional,
    "Where the provider answers, when not at its usual address.",
);
const TIMEOUT: Key = key(
    "timeout",
    Kind::Duration(MILLI, HOUR),
    default_time!(MODEL_TIMEOUT),
    "Limit of one call; retries have their own.",
);
const MAX_OUTPUT_TOKENS: Key =
    key("max_output_tokens", Kind::Whole(1, 1_000_000), default!(OUTPUT_TOKENS), "Limit of one answer.");
const SCRIPT: Key = key(
    "script",
    Kind::List(&Kind::Table(&SCRIPT_RULE), 1_000),
    Need::Optional,
    "Rules of a scripted model; the first that matches answers.",
);

const FALLBACK: Table =
    Table { keys: &[PROVIDER, MODEL, API_KEY, BASE_URL, TIMEOUT, MAX_OUTPUT_TOKENS, SCRIPT], one_of: &[] };

const LLM_CONFIG: Table = Table {
    keys: &[
        PROVIDER,
        MODEL,
        API_KEY,
        BASE_URL,
        TIMEOUT,
        MAX_OUTPUT_TOKENS,
        SCRIPT,
        key(
            "fallback",
            Kind::List(&Kind::Table(&FALLBACK), 8),
            Need::Optional,
            "Models to try, in order, when the first cannot answer.",
        ),
    ],
    one_of: &[],
};

const MCP: Table = Table {
    keys: &[
        key("name", Kind::Text(&formats::TOOL_NAME), Need::Required, "The prefix of its tools: git gives git.log."),
        key(
            "command",
            Kind::List(&Kind::Text(&SOME_TEXT), 64),
            Need::Optional,
            "Program and arguments of a server that is started here.",
        ),
        key("url", Kind::Secret(&formats::SERVER_URL), Need::Optional, "Address of a server that runs elsewhere."),
        key(
            "headers",
            Kind::Map(&Kind::Secret(&ANY_TEXT), 32),
            Need::Optional,
            "Headers for `url`; values may hold ${NAME}.",
        ),
        key(
            "env",
            Kind::Map(&Kind::Secret(&ANY_TEXT), 64),
            Need::Optional,
            "Environment of `command`; values may hold ${NAME}.",
        ),
        key(
            "tools",
            Kind::List(&Kind::Text(&formats::TOOL_PATTERN), 128),
            Need::Optional,
            "Which of its tools the agent sees; all when absent.",
        ),
    ],
    one_of: &["command", "url"],
};

const TOOL: Table = Table {
    keys: &[
        key("builtin", Kind::Text(&formats::BUILTIN), Need::Optional, "One of ours: clock, http_get, wait."),
        key(
            "hosts",
            Kind::List(&Kind::Text(&formats::HOST), 64),
            Need::Optional,
            "Hosts that http_get may reach: example.org, *.example.org.",
        ),
        key("mcp", Kind::Table(&MCP), Need::Optional, "The tools of an MCP server."),
    ],
    one_of: &["builtin", "mcp"],
};

const PERMISSION: Table = Table {
    keys: &[
        key("tool", Kind::Text(&formats::TOOL_PATTERN), Need::Required, "A tool's name, * for any run of characters."),
        key(
            "rule",
            Kind::Choice(&["allow", "deny", "ask"]),
            Need::Required,
            "allow it, deny it, or ask a person first.",
        ),
    ],
    one_of: &[],
};

const STEP_TURNS: Kind = Kind::Whole(1, 1_000);
const STEP_TOKENS: Kind = Kind::Whole(1, 1_000_000_000);
const STEP_COST: Kind = Kind::Usd(MILLION_USD);
const STEP_TIME: Kind = Kind::Duration(MILLI, WEEK);

const LIMITS: Table = Table {
    keys: &[
        key("turns", STEP_TURNS, default!(TURNS), "Model calls in one attempt."),
        key("tokens", STEP_TOKENS, default!(TOKENS), "Tokens over all attempts of the step."),
        key("cost_usd", STEP_COST, Need::Optional, "Cost over all attempts of the step; no limit when absent."),
        key(
            "timeout",
            STEP_TIME,
            default_time!(STEP_TIMEOUT),
            "Wall time of the step, all attempts included; it starts anew in a life after a crash of the node.",
        ),
        key("daily_cost_usd", Kind::Usd(MILLION_USD), Need::Optional, "Cost of all runs of the agent on one day."),
    ],
    one_of: &[],
};

const RESTART: Table = Table {
    keys: &[
        key("max", Kind::Whole(0, 100), default!(RESTARTS), "Restarts of an instance …"),
        key(
            "window",
            Kind::Duration(SECOND, DAY),
            default_time!(RESTART_WINDOW),
            "… within this time; one more and it is unavailable.",
        ),
    ],
    one_of: &[],
};

const MEMORY: Table = Table {
    keys: &[
        key(
            "session",
            Kind::Text(&SOME_TEXT),
            Need::Optional,
            "What tells one conversation from another: {channel}:{thread}.",
        ),
        key("window", Kind::Whole(1, 10_000), Need::Optional, "Messages that are kept."),
        key(
            "idle_flush",
            Kind::Duration(SECOND, WEEK),
            Need::Optional,
            "Silence after which a session leaves the working memory.",
        ),
    ],
    one_of: &[],
};

const SCHEDULE: Table = Table {
    keys: &[
        key("cron", Kind::Text(&formats::CRON), Need::Optional, "When to run: minute hour day month weekday."),
        key(
            "every",
            Kind::Duration(SECOND, Duration::from_hours(366 * 24)),
            Need::Optional,
            "Run at this distance instead.",
        ),
        key(
            "timezone",
            Kind::Text(&SOME_TEXT),
            Need::Optional,
            "Zone of `cron`, such as Europe/Berlin; UTC when absent.",
        ),
        key("overlap", Kind::Text(&SOME_TEXT), Need::Optional, "What happens when the last run still goes: skip."),
        key("catch_up", Kind::Text(&SOME_TEXT), Need::Optional, "What happens after a time without a node: last."),
    ],
    one_of: &["cron", "every"],
};

const REPLY: Table = Table {
    keys: &[key(
        "slack",
        Kind::Choice(&["thread", "channel", "ephemeral", "none"]),
        default!("thread"),
        "Where the answer to a Slack event goes.",
    )],
    one_of: &[],
};

const INSTRUCTIONS: Key = key("instructions", Kind::Text(&ANY_TEXT), default!("\"\""), "The system prompt.");

/// What a fork may change of the spec that it pins.
pub(super) const CHANGES: Table = Table {
    keys: &[
        MODEL,
        MAX_OUTPUT_TOKENS,
        INSTRUCTIONS,
        key("limits.turns", STEP_TURNS, Need::Optional, "Model calls in one attempt, the kept ones included."),
        key("limits.tokens", STEP_TOKENS, Need::Optional, "Tokens over all attempts of the step."),
        key("limits.cost_usd", STEP_COST, Need::Optional, "Cost over all attempts of the step."),
        key("limits.timeout", STEP_TIME, Need::Optional, "Wall time of the step."),
    ],
    one_of: &[],
};

/// The whole spec.
pub(super) const AGENT: Table = Table {
    keys: &[
        key(
            "name",
            Kind::Text(&formats::AGENT_NAME),
            Need::Required,
            "The agent's name, unique on the node: a lower-case letter, then a-z, 0-9 and -.",
        ),
        key("type", Kind::Text(&formats::LABEL), Need::Required, "A free label to filter by, such as assistant."),
        key(
            "execution_mode",
            Kind::Choice(&["autonomous", "collaborative", "continuous", "scheduled"]),
            Need::Required,
            "How it runs: autonomous (one step per event), collaborative (a plan over a team), continuous (with memory), scheduled (by the clock).",
        ),
        key("llm_config", Kind::Table(&LLM_CONFIG), Need::Required, "The model that answers, with its fallbacks."),
        INSTRUCTIONS,
        key(
            "subscriptions",
            Kind::List(&Kind::Text(&formats::TOPIC), 64),
            default!("[]"),
            "Topics that reach the agent beside its own; * is one word, # any number.",
        ),
        key("instances", Kind::Whole(1, 1_000_000), default!(1), "Agent actors on each node."),
        key("tools", Kind::List(&Kind::Table(&TOOL), 64), default!("[]"), "Tools that the agent may use."),
        key(
            "permissions",
            Kind::List(&Kind::Table(&PERMISSION), 128),
            default!("[]"),
            "Rules for tools; the first that matches holds. Without one: allow, but ask for unsafe tools.",
        ),
        key("limits", Kind::Table(&LIMITS), Need::Optional, "Where a step ends at the latest."),
        key("retries", Kind::Whole(0, 10), default!(RETRIES), "Attempts after the first, each with a fresh context."),
        key("restart", Kind::Table(&RESTART), Need::Optional, "How often a crashed instance is started again."),
        key("memory", Kind::Table(&MEMORY), Need::Optional, "Continuous agents: what is remembered."),
        key(
            "team",
            Kind::List(&Kind::Text(&formats::AGENT_NAME), 64),
            default!("[]"),
            "Collaborative agents: who may be given steps.",
        ),
        key(
            "plan",
            Kind::List(&Kind::Map(&Kind::Any, 32), 64),
            Need::Optional,
            "Collaborative agents: a fixed plan instead of a planned one.",
        ),
        key("schedule", Kind::Table(&SCHEDULE), Need::Optional, "Scheduled agents: when."),
        key(
            "runs_as",
            Kind::Choice(&["autonomous", "collaborative", "continuous"]),
            default!("autonomous"),
            "Scheduled agents: the mode of their runs.",
        ),
        key("reply", Kind::Table(&REPLY), Need::Optional, "Where answers go."),
    ],
    one_of: &[],
};
