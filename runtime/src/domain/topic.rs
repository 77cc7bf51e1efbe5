//! Topics and topic patterns, and the one place where topic names are spelled.
//!
//! A topic is an AMQP routing key: words joined by dots. In a pattern `*` stands for exactly one word and `#` for any
//! number of words, none included (AMQP 0-9-1, section 3.1.3.3). Embedded and broker adapters match alike: the
//! matcher here is what the conformance suite holds a broker against.

use std::str::FromStr;
use std::sync::Arc;

use super::name::AgentName;
use super::text::as_text;

/// AMQP's limit on a routing key, in bytes.
pub const TOPIC_BYTES_MAX: usize = 255;

/// The dotted address of an event. A clone is the same text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// A topic with `*` and `#`. A clone is the same text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPattern(Arc<str>);

as_text!(Topic, TopicPattern);

/// Why a text is no topic or no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTopic {
    /// Nothing there, or nothing between two dots.
    #[error("{0:?} has an empty word; words are joined by single dots")]
    EmptyWord(String),
    /// More than [`TOPIC_BYTES_MAX`] bytes.
    #[error("a topic has at most {TOPIC_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A character outside `A-Z a-z 0-9 _ -` (patterns: and `*`, `#` as whole words).
    #[error("{word:?} in {text:?} may hold letters, digits, _ and - only")]
    BadWord {
        /// The whole text.
        text: String,
        /// The word at fault.
        word: String,
    },
}

impl Topic {
    /// The topic as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A slash command `name`, without its slash; dots and other strangers become `_`, for a dot would add a word.
    #[must_use]
    pub fn slack_command(name: &str) -> Self {
        Self(format!("slack.events.command.{}", word(name)).into())
    }

    /// A message in a channel.
    #[must_use]
    pub fn slack_message() -> Self {
        Self("slack.events.message".into())
    }

    /// A mention of the app.
    #[must_use]
    pub fn slack_mention() -> Self {
        Self("slack.events.mention".into())
    }

    /// A task submitted by API or CLI.
    #[must_use]
    pub fn agent_task(agent: &AgentName) -> Self {
        Self(format!("agent.task.{agent}").into())
    }

    /// A step handed to an agent.
    #[must_use]
    pub fn agent_step(agent: &AgentName) -> Self {
        Self(format!("agent.step.{agent}").into())
    }

    /// A firing of an agent's schedule.
    #[must_use]
    pub fn scheduled(agent: &AgentName) -> Self {
        Self(format!("scheduled.tasks.{agent}").into())
    }

    /// What an agent answered.
    #[must_use]
    pub fn agent_output(agent: &AgentName) -> Self {
        Self(format!("{AGENT_OUTPUT}{agent}").into())
    }

    /// What a dead letter's event is at, when it came from a message that is no event.
    #[must_use]
    pub fn unreadable() -> Self {
        Self("troupe.unreadable".into())
    }

    /// An alarm of the monitoring.
    #[must_use]
    pub fn alert(severity: Severity) -> Self {
        Self(format!("monitor.alert.{}", severity.as_str()).into())
    }

    /// A task of an agent that failed.
    #[must_use]
    pub fn agent_failed(agent: &AgentName) -> Self {
        Self(format!("{AGENT_FAILED}{agent}").into())
    }
}

/// How bad it is, in the last word of an alarm's topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Somebody has to look now.
    Critical,
}

impl Severity {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
        }
    }
}

const AGENT_OUTPUT: &str = "agent.output.";
const AGENT_FAILED: &str = "agent.failed.";

/// What the names of all agents' queues begin with.
const INBOX: &str = "agent.input.";

/// The queue that holds everything addressed to one agent.
#[must_use]
pub fn inbox_queue(agent: &AgentName) -> String {
    format!("{INBOX}{agent}")
}

/// The agent that a queue holds everything addressed to; `None` for other queues.
#[must_use]
pub fn inbox_agent(queue: &str) -> Option<AgentName> {
    queue.strip_prefix(INBOX)?.parse().ok()
}

/// The queue from which answers go back to where the question came from.
pub const REPLY_QUEUE: &str = "troupe.replies";

/// What the reply queue is bound to.
#[must_use]
pub fn reply_patterns() -> Vec<TopicPattern> {
    [AGENT_OUTPUT, AGENT_FAILED].map(|of| TopicPattern(format!("{of}*").into())).into()
}

/// What an agent's inbox is bound to beside its subscriptions.
#[must_use]
pub fn own_patterns(agent: &AgentName) -> Vec<TopicPattern> {
    [Topic::agent_task(agent), Topic::agent_step(agent), Topic::scheduled(agent)]
        .into_iter()
        .map(|topic| TopicPattern(topic.0))
        .collect()
}

/// A word that stays one word.
fn word(text: &str) -> String {
    let word: String = text
        .chars()
        .take(80)
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c.to_ascii_lowercase() } else { '_' })
        .collect();
    if word.is_empty() { "_".to_owned() } else { word }
}

impl TopicPattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an event at `topic` is meant.
    ///
    /// Linear in words of the topic times words of the pattern, whatever the number of `#`.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        let words: Vec<&str> = topic.0.split('.').collect();
        // `reached[i]`: the pattern so far can have eaten exactly the first `i` words.
        let mut reached = vec![false; words.len() + 1];
        reached[0] = true;
        for part in self.0.split('.') {
            let mut after = vec![false; words.len() + 1];
            match part {
                "#" => {
                    let mut any = false;
                    for (slot, before) in after.iter_mut().zip(&reached) {
                        any |= *before;
                        *slot = any;
                    }
                }
                _ => {
                    for (i, word) in words.iter().enumerate() {
                        after[i + 1] = reached[i] && (part == "*" || part == *word);
                    }
                }
            }
            reached = after;
        }
        reached[words.len()]
    }
}

fn check(text: &str, wildcards: bool) -> Result<(), BadTopic> {
    if text.len() > TOPIC_BYTES_MAX {
        return Err(BadTopic::TooLong(text.len()));
    }
    for part in text.split('.') {
        if part.is_empty() {
            return Err(BadTopic::EmptyWord(text.to_owned()));
        }
        let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !plain && !(wildcards && (part == "*" || part == "#")) {
            return Err(BadTopic::BadWord { text: text.to_owned(), word: part.to_owned() });
        }
    }
    Ok(())
}

impl FromStr for Topic {
    type Err = BadTopic;

    fn from_str(text: &str) -> Result<Self, BadTopic> {
        check(text, false).map(|()| Self(text.into()))
    }
}

impl FromStr for TopicPattern {
    type Err = BadTopic;

    fn from_str(text: &str) -> Result<Self, BadTopic> {
        check(text, true).map(|()| Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        pattern.parse::<TopicPattern>().unwrap().matches(&topic.parse().unwrap())
    }

    #[test]
    fn the_broker_s_routing_table_holds() {
        let rows = [
            ("slack.events.command.*", "slack.events.command.ask", true),
            ("slack.events.command.*", "slack.events.command", false),
            ("slack.events.command.*", "slack.events.command.a.b", false),
            ("slack.#", "slack", true),
            ("slack.#", "slack.events.message", true),
            ("#", "a.b.c", true),
            ("#.c", "a.b.c", true),
            ("#.c", "c", true),
            ("a.#.c", "a.c", true),
            ("a.*.c", "a.c", false),
            ("#.b.#", "a.b.c", true),
            ("#.x.#", "a.b.c", false),
            ("*.*", "a.b", true),
            ("a.b", "a.b.c", false),
        ];
        for (pattern, topic, expected) in rows {
            assert_eq!(matches(pattern, topic), expected, "{pattern} against {topic}");
        }
    }

    #[test]
    fn strangers_are_named() {
        assert_eq!("a..b".parse::<Topic>(), Err(BadTopic::EmptyWord("a..b".into())));
        assert!(matches!("a.*".parse::<Topic>(), Err(BadTopic::BadWord { .. })));
        assert!(matches!("a.b*".parse::<TopicPattern>(), Err(BadTopic::BadWord { .. })));
        assert_eq!("x".repeat(256).parse::<Topic>(), Err(BadTopic::TooLong(256)));
    }

    #[test]
    fn a_command_stays_one_word() {
        assert_eq!(Topic::slack_command("deploy.prod").as_str(), "slack.events.command.deploy_prod");
        assert_eq!(Topic::slack_command("").as_str(), "slack.events.command._");
        assert!(Topic::slack_command("größe x").as_str().parse::<Topic>().is_ok());
    }

    /// The definition of AMQP, word by word and slow: what the matcher is held against.
    fn by_definition(pattern: &[&str], topic: &[&str]) -> bool {
        match pattern.split_first() {
            None => topic.is_empty(),
            Some((&"#", rest)) => (0..=topic.len()).any(|eaten| by_definition(rest, &topic[eaten..])),
            Some((&"*", rest)) => !topic.is_empty() && by_definition(rest, &topic[1..]),
            Some((word, rest)) => topic.first() == Some(word) && by_definition(rest, &topic[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_amqp_defines(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "#"]), 1..7),
            topic in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..7),
        ) {
            prop_assert_eq!(matches(&pattern.join("."), &topic.join(".")), by_definition(&pattern, &topic));
        }

        #[test]
        fn a_topic_matches_itself_and_hash(topic in prop::collection::vec("[a-z]{1,3}", 1..7)) {
            let topic = topic.join(".");
            prop_assert!(matches(&topic, &topic));
            prop_assert!(matches("#", &topic));
            let with_hash = format!("{topic}.#");
            prop_assert!(matches(&with_hash, &topic));
        }
    }
}
