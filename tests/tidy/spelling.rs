//! Single spellings: a topic, a metric and a client library each have one place.
//!
//! A name that is spelled twice is changed once. Tests, documents and data may repeat names: they are what an outsider
//! would write.

use super::finding::Finding;
use super::floors::has_path;
use super::source::Source;

/// How topics and shared queues begin, and the one file that says so.
const TOPICS: [&str; 11] = [
    "slack.events",
    "agent.task",
    "agent.step",
    "agent.input",
    "agent.output",
    "agent.failed",
    "scheduled.tasks",
    "collaboration.completed",
    "clarification.raised",
    "clarification.answered",
    "monitor.alert",
];
const TOPIC_HOME: &str = "runtime/src/domain/topic.rs";

/// How metrics begin, and the one file that says so.
const METRICS: [&str; 4] = ["troupe_", "agent_task_", "agent_queue_", "gen_ai."];
const METRIC_HOME: &str = "runtime/src/telemetry/names.rs";
/// Our crates, as log filters name them.
const CRATES: [&str; 4] = ["troupe_runtime", "troupe_actors", "troupe_gateway", "troupe_tests"];

/// Client libraries and the places that may name them.
const LIBRARIES: [(&str, &[&str]); 17] = [
    (
        "sqlx",
        &[
            "runtime/src/sqlite",
            "runtime/src/store/sqlite",
            "runtime/src/bus/embedded",
            "runtime/src/postgres",
            "runtime/src/store/postgres",
        ],
    ),
    (
        "reqwest",
        &[
            "runtime/src/model",
            "runtime/src/tool",
            "gateway/src/slack/reply",
            "gateway/src/client",
            "gateway/src/stand_in",
            "gateway/src/demo",
        ],
    ),
    ("lapin", &["runtime/src/bus/rabbitmq"]),
    ("axum", &["gateway/src/"]),
    ("tower", &["gateway/src/"]),
    ("tower_http", &["gateway/src/"]),
    ("clap", &["gateway/src/"]),
    ("comfy_table", &["gateway/src/"]),
    ("indicatif", &["gateway/src/"]),
    ("prometheus", &["runtime/src/telemetry"]),
    ("opentelemetry", &["runtime/src/telemetry"]),
    ("opentelemetry_sdk", &["runtime/src/telemetry"]),
    ("moka", &["runtime/src/store"]),
    ("redis", &["runtime/src/store/redis_cache"]),
    ("zstd", &["runtime/src/store/payload"]),
    ("ractor", &["actors/src/", "runtime/src/supervision", "gateway/src/"]),
    // Remote actors come with the cluster; until then nobody names the library.
    ("ractor_cluster", &["runtime/src/cluster"]),
];

/// A topic that is spelled outside its home.
pub(crate) fn topics(sources: &[Source]) -> Vec<Finding> {
    let begins = |text: &str| TOPICS.iter().any(|topic| word_begins(text, topic));
    spelled(sources, TOPIC_HOME, begins, "a topic")
}

/// A metric that is spelled outside its home.
pub(crate) fn metrics(sources: &[Source]) -> Vec<Finding> {
    let is_metric = |text: &str| {
        let name: String = text.chars().take_while(|c| c.is_ascii_lowercase() || "0123456789_.".contains(*c)).collect();
        // `troupe_reply` is a word of ours, `troupe_replies_total` a metric: those say what they count, and in what.
        METRICS.iter().any(|start| name.starts_with(start) && (*start != "troupe_" || name.matches('_').count() > 1))
            && name.len() > "troupe_".len()
            && !CRATES.iter().any(|own| name == *own || name.starts_with(&format!("{own}.")))
    };
    spelled(sources, METRIC_HOME, is_metric, "a metric")
}

/// A library that is named outside its place.
pub(crate) fn libraries(sources: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources {
        for (line, code) in source.product_code() {
            for (library, homes) in LIBRARIES.iter().filter(|(library, _)| has_path(code, library)) {
                if !homes.iter().any(|home| lies_in(&source.path, home)) {
                    let why = format!("{library} is named in {} only", homes.join(", "));
                    found.push(Finding::new(source.at(line), why));
                }
            }
        }
    }
    found
}

fn spelled(sources: &[Source], home: &str, is_name: impl Fn(&str) -> bool, what: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.path != home) {
        for (line, text) in source.product_strings().filter(|(_, text)| is_name(text)) {
            found.push(Finding::new(source.at(line), format!("{text:?} is {what}: spell it in {home} and use it")));
        }
    }
    found
}

/// `slack.events.x` and `slack.events` begin with the words `slack.events`, `slack.eventsource` does not.
fn word_begins(text: &str, words: &str) -> bool {
    text.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// `a/b` holds `a/b.rs` and `a/b/c.rs`, `a/` holds everything below; `a/bc.rs` does not lie in `a/b`.
fn lies_in(path: &str, home: &str) -> bool {
    path.strip_prefix(home).is_some_and(|rest| home.ends_with('/') || rest.starts_with(['.', '/']))
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    #[test]
    fn a_second_spelling_of_a_topic_is_found() {
        let bad = [
            Source::new("actors/src/a.rs", "f(\"agent.output.x\");\nf(\"agent.outputs\");\n// \"agent.output.x\""),
            Source::new(
                "gateway/src/b.rs",
                "f(format!(\"slack.events.command.{c}\"));\n#[cfg(test)]\nmod tests { fn f() { \"slack.events\" } }",
            ),
            Source::new(TOPIC_HOME, "const A: &str = \"agent.output.\";"),
        ];
        assert_eq!(places(&topics(&bad)), ["actors/src/a.rs:1", "gateway/src/b.rs:1"]);
    }

    #[test]
    fn a_second_spelling_of_a_metric_is_found() {
        let bad = [
            Source::new(
                "actors/src/a.rs",
                "f(\"agent_task_success_total\");\nf(\"agent_states\");\nf(\"troupe_runtime=info\");",
            ),
            Source::new(
                "gateway/src/b.rs",
                "f(\"troupe_scripted_model_calls_total{agent=1}\");\nf(\"troupe_\");\nf(\"troupe up\"); f(\"troupe_reply\");",
            ),
            Source::new(METRIC_HOME, "const A: &str = \"troupe_steps_total\";"),
        ];
        assert_eq!(places(&metrics(&bad)), ["actors/src/a.rs:1", "gateway/src/b.rs:1"]);
    }

    #[test]
    fn a_library_outside_its_place_is_found() {
        let bad = [
            Source::new("actors/src/a.rs", "use sqlx::Row;\nlet axum = 1;\naxum::serve();\nmy::reqwest::get();"),
            Source::new("runtime/src/bus/embedded/b.rs", "use sqlx::Row;"),
            Source::new("runtime/src/bus/embeddedness.rs", "use sqlx::Row;"),
            Source::new(
                "runtime/src/supervision.rs",
                "use ractor_cluster_derive::X;\nuse ractor::Y;\nuse ractor_cluster::Z;",
            ),
        ];
        let expected = [
            "actors/src/a.rs:1",
            "actors/src/a.rs:3",
            "runtime/src/bus/embeddedness.rs:1",
            "runtime/src/supervision.rs:3",
        ];
        assert_eq!(places(&libraries(&bad)), expected);
    }
}
