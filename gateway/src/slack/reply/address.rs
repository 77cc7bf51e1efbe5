//! Where an answer goes, read from the event that asked.
//!
//! A slash command is answered at its `response_url`, which needs no token but ends after five uses or thirty minutes;
//! then the channel itself is the fallback, for those who have a bot token. An answer that only one person may see never
//! falls back to what all see. A `response_url` at a stranger's host is not answered at all: the event was not Slack's.

use chrono::{DateTime, Utc};
use serde_json::Value;
use troupe_runtime::domain::agent::SlackReply;
use troupe_runtime::domain::answer::Answered;
use url::Url;

use super::super::SOURCE_PREFIX;

/// How often Slack takes something at one response URL.
pub(super) const RESPONSE_URL_USES: u32 = 5;
/// How long Slack takes something at one response URL, in minutes.
pub(super) const RESPONSE_URL_MINUTES: i64 = 30;

/// Where an answer goes.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// The workspace.
    pub(super) team: String,
    /// The channel; answers in one channel keep their order.
    pub(super) channel: String,
    /// Tried first.
    pub(super) first: Target,
    /// Tried when the first is used up; needs a bot token.
    pub(super) fallback: Option<Target>,
    /// When the question was asked.
    pub(super) asked: DateTime<Utc>,
}

/// One way to say it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// At the response URL of the command.
    ResponseUrl {
        /// A bearer secret.
        url: Box<Url>,
        /// Whether all see it.
        in_channel: bool,
    },
    /// `chat.postMessage`.
    Channel {
        /// In this thread, or in the channel itself.
        thread: Option<String>,
    },
    /// `chat.postEphemeral`.
    Whisper {
        /// Who sees it.
        user: String,
        /// In this thread, or in the channel itself.
        thread: Option<String>,
    },
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.method())
    }
}

/// Why an answer has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAddress {
    /// Slack's channel is missing.
    #[error("the event that asked names no channel")]
    Channel,
    /// Somebody else's URL.
    #[error("the response_url is not at a host of SLACK_RESPONSE_HOSTS")]
    Host,
    /// Nobody to whisper to.
    #[error("the event that asked names no user")]
    User,
}

/// Hosts that a `response_url` may have.
#[derive(Debug, Clone)]
pub(super) struct ResponseHosts(pub(super) Vec<String>);

impl ResponseHosts {
    /// Https at its usual port on a listed host; plain http, at any port, only where the list names a loopback address.
    pub(super) fn allow(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let listed = self.0.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|head| head.len() > 1 && head.ends_with('.')),
            None => pattern.eq_ignore_ascii_case(host),
        });
        let plain = url.username().is_empty() && url.password().is_none();
        let secure = url.scheme() == "https" && url.port().is_none();
        listed && plain && (secure || (is_loopback(url) && matches!(url.scheme(), "http" | "https")))
    }
}

/// Whether a URL stays on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl Target {
    /// The method by which Slack counts and limits it.
    pub(super) const fn method(&self) -> &'static str {
        match self {
            Self::ResponseUrl { .. } => "response_url",
            Self::Channel { .. } => "chat.postMessage",
            Self::Whisper { .. } => "chat.postEphemeral",
        }
    }
}

impl Address {
    /// Where this answer goes; `None` when it does not go to Slack at all.
    pub(super) fn of(answer: &Answered, hosts: &ResponseHosts) -> Option<Result<Self, NoAddress>> {
        let team = answer.origin.source.strip_prefix(SOURCE_PREFIX)?;
        if answer.reply == SlackReply::None {
            return None;
        }
        Some(Self::within(team, answer, hosts))
    }

    /// The way to try after so many tries: the fallback once the response URL is used up or too old.
    pub(super) fn target(&self, tries: u32, now: DateTime<Utc>) -> &Target {
        let spent = tries >= RESPONSE_URL_USES || (now - self.asked).num_minutes() >= RESPONSE_URL_MINUTES;
        match &self.fallback {
            Some(fallback) if spent => fallback,
            _ => &self.first,
        }
    }

    fn within(team: &str, answer: &Answered, hosts: &ResponseHosts) -> Result<Self, NoAddress> {
        let question = answer.origin.data.value();
        let word = |key: &str| question.get(key).and_then(Value::as_str).map(str::to_owned);
        let channel = word("channel").ok_or(NoAddress::Channel)?;
        let in_place = match answer.reply {
            SlackReply::Ephemeral => {
                word("user").map(|user| Target::Whisper { user, thread: word("thread_ts") }).ok_or(NoAddress::User)
            }
            SlackReply::Channel | SlackReply::None => Ok(Target::Channel { thread: None }),
            SlackReply::Thread => Ok(Target::Channel { thread: word("thread_ts").or_else(|| word("ts")) }),
        };
        let (first, fallback) = match word("response_url") {
            None => (in_place?, None),
            Some(text) => {
                let url = text.parse::<Url>().ok().filter(|url| hosts.allow(url)).ok_or(NoAddress::Host)?;
                let in_channel = answer.reply != SlackReply::Ephemeral;
                (Target::ResponseUrl { url: Box::new(url), in_channel }, in_place.ok())
            }
        };
        Ok(Self { team: team.to_owned(), channel, first, fallback, asked: answer.origin.time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slack_s_hosts_are_answered() {
        let hosts = ResponseHosts(["hooks.slack.com", "*.slack.com", "127.0.0.1"].map(str::to_owned).to_vec());
        let allow = |url: &str| hosts.allow(&url.parse().unwrap());
        assert!(allow("https://hooks.slack.com/commands/T/1/x"));
        assert!(allow("https://acme.slack.com/x"));
        assert!(allow("http://127.0.0.1:8099/commands/1"));
        for bad in [
            "http://hooks.slack.com/x",
            "https://hooks.slack.com:8443/x",
            "https://hooks.slack.com@evil.example/x",
            "https://user@hooks.slack.com/x",
            "https://evilslack.com/x",
            "https://.slack.com/x",
            "https://hooks.slack.com.evil.example/x",
            "http://127.0.0.2/x",
            "http://169.254.169.254/x",
            "http://[::ffff:127.0.0.1]/x",
            "file:///etc/passwd",
            "ftp://127.0.0.1/x",
        ] {
            assert!(!allow(bad), "{bad}");
        }
        assert!(!ResponseHosts(vec!["hooks.slack.com".to_owned()]).allow(&"http://127.0.0.1/x".parse().unwrap()));
    }
}
