//! What Slack sends, decoded: slash commands, Events API, interactivity, and the two handshakes.
//!
//! [`parse`] is pure and total: any bytes lead to an [`Inbound`] or a [`BadInput`]. What is well-formed but not for us
//! (bots, edits, kinds that no agent can work on) is [`Inbound::Ignored`] with a reason, because Slack counts anything
//! but a 2xx as our failure and ends the subscription in the end. Fields that we do not know are skipped: Slack adds some.
//!
//! The id of the bus event is derived from what Slack itself keeps unique, so that Slack's retries, and the
//! `app_mention` and `message` that one user message may cause, collapse in the inbox without a table of their own:
//!
//! | kind | id from | because |
//! |---|---|---|
//! | message, mention | (team, channel, `ts`) | the pair has two event ids, but one `ts` |
//! | slash command | (team, `trigger_id`) | it has no event id, and no `ts` |
//! | anything else | (team, `event_id`) | |

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::event_id_from;
use troupe_runtime::domain::topic::Topic;
use url::form_urlencoded;

use super::SOURCE_PREFIX;

/// A request of Slack's, understood.
#[derive(Debug)]
pub enum Inbound {
    /// `url_verification`: answer with this text.
    Challenge(String),
    /// `ssl_check`: answer with nothing.
    SslCheck,
    /// Somebody said something that an agent may work on.
    Event(Box<SlackEvent>),
    /// Well-formed, and not for us.
    Ignored {
        /// Why, for the log; never a part of the body.
        reason: &'static str,
    },
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/name text`.
    Command,
    /// A message in a channel, thread or direct conversation.
    Message,
    /// A message that names the app.
    Mention,
}

/// Something that happened in Slack.
#[derive(Debug, Clone)]
pub struct SlackEvent {
    /// Its kind.
    pub kind: Kind,
    /// The workspace (or the organisation, for an app installed in all of it).
    pub team: String,
    /// Who did it.
    pub user: String,
    /// Where.
    pub channel: String,
    /// The thread that the message belongs to, when it belongs to one.
    pub thread_ts: Option<String>,
    /// Slack's id of the message within the channel.
    pub ts: Option<String>,
    /// What they said, free of Slack's escapes and of the leading mention of the app.
    pub text: String,
    /// Where a command may be answered, by whoever holds it: a bearer secret.
    pub response_url: Option<SecretString>,
    /// Unique for a command.
    pub trigger_id: Option<String>,
    /// The command with its slash.
    pub command: Option<String>,
    /// Unique for a delivery of the Events API.
    pub event_id: Option<String>,
}

/// A request that is signed and cannot be read. Free of anything the body said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadInput {
    /// Neither JSON nor a form.
    #[error("content type must be application/json or application/x-www-form-urlencoded")]
    ContentType,
    /// Not JSON, or a known field has a type that it never has.
    #[error("not the JSON that was expected (line {line}, column {column})")]
    Json {
        /// Where it stopped making sense.
        line: usize,
        /// Where it stopped making sense.
        column: usize,
    },
    /// A field is missing without which nothing can be done.
    #[error("field {0} is missing")]
    Missing(&'static str),
}

impl From<serde_json::Error> for BadInput {
    fn from(error: serde_json::Error) -> Self {
        // The error's own text may quote the body; its place does not.
        Self::Json { line: error.line(), column: error.column() }
    }
}

/// Reads a request body. Whoever calls has checked the signature.
pub fn parse(content_type: Option<&str>, body: &[u8]) -> Result<Inbound, BadInput> {
    match media_type(content_type).as_deref() {
        Some("application/json") => parse_json(body),
        Some("application/x-www-form-urlencoded") => parse_form(body),
        _ => Err(BadInput::ContentType),
    }
}

/// Whether this is Slack's look at our certificate, which is not signed and is answered before the signature is asked for.
#[must_use]
pub fn is_ssl_check(content_type: Option<&str>, body: &[u8]) -> bool {
    media_type(content_type).as_deref() == Some("application/x-www-form-urlencoded")
        && form_urlencoded::parse(body).any(|(key, value)| key == "ssl_check" && value == "1")
}

impl SlackEvent {
    /// The id that is the same whenever the same thing arrives again (see the head of this file).
    #[must_use]
    pub fn id(&self) -> String {
        match (self.kind, &self.trigger_id, &self.ts) {
            (Kind::Command, Some(trigger), _) => event_id_from(&["slack", "command", &self.team, trigger]),
            (Kind::Message | Kind::Mention, _, Some(ts)) => {
                event_id_from(&["slack", "message", &self.team, &self.channel, ts])
            }
            _ => event_id_from(&["slack", "event", &self.team, self.event_id.as_deref().unwrap_or_default()]),
        }
    }

    /// The event on the bus: topic by kind, `data` with what an agent and the reply sender need.
    ///
    /// `data.thread` is the thread to answer in: the one that the message is in, or the one that it would begin.
    #[must_use]
    pub fn into_event(self, received: DateTime<Utc>) -> Event {
        let id = self.id();
        let topic = match self.kind {
            Kind::Command => Topic::slack_command(self.command.as_deref().unwrap_or_default().trim_start_matches('/')),
            Kind::Message => Topic::slack_message(),
            Kind::Mention => Topic::slack_mention(),
        };
        let thread = self.thread_ts.clone().or_else(|| self.ts.clone());
        let subject = match &thread {
            Some(thread) => format!("{}/{thread}", self.channel),
            None => self.channel.clone(),
        };
        let source = format!("{SOURCE_PREFIX}{}", self.team);
        let optional = [
            ("command", self.command),
            ("thread_ts", self.thread_ts),
            ("thread", thread),
            ("ts", self.ts),
            ("response_url", self.response_url.map(|url| url.expose_secret().to_owned())),
            ("event_id", self.event_id),
        ];
        let mut data = Map::new();
        for (key, value) in [("text", self.text), ("user", self.user), ("channel", self.channel), ("team", self.team)] {
            data.insert(key.to_owned(), Value::String(value));
        }
        for (key, value) in optional {
            if let Some(value) = value {
                data.insert(key.to_owned(), Value::String(value));
            }
        }
        let mut event = Event::new(topic, source, Value::Object(data));
        event.id = id;
        event.time = received;
        event.subject = Some(subject);
        event
    }
}

/// The outer object of the Events API.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    challenge: Option<String>,
    team_id: Option<String>,
    enterprise_id: Option<String>,
    event_id: Option<String>,
    event: Option<Value>,
    #[serde(default)]
    authorizations: Option<Vec<Authorization>>,
}

/// For whom the event was sent to us.
#[derive(Deserialize)]
struct Authorization {
    user_id: Option<String>,
    #[serde(default)]
    is_bot: bool,
}

/// A message or mention; only read when its kind is one of them, for other kinds reuse the names with other types.
#[derive(Deserialize)]
struct Said {
    user: Option<String>,
    channel: Option<String>,
    ts: Option<String>,
    thread_ts: Option<String>,
    text: Option<String>,
}

fn parse_json(body: &[u8]) -> Result<Inbound, BadInput> {
    let envelope: Envelope = serde_json::from_slice(body)?;
    match envelope.kind.as_str() {
        "url_verification" => envelope.challenge.map(Inbound::Challenge).ok_or(BadInput::Missing("challenge")),
        "event_callback" => parse_callback(envelope),
        "app_rate_limited" => Ok(Inbound::Ignored { reason: RATE_LIMITED }),
        _ => Ok(Inbound::Ignored { reason: "an outer type that is not handled" }),
    }
}

/// The reason under which Slack's own complaint is ignored; the ingress raises its voice for it.
pub const RATE_LIMITED: &str = "app_rate_limited: Slack withholds events of this app";

/// Subtypes that are nevertheless a person saying something.
const SAID_SUBTYPES: [&str; 3] = ["thread_broadcast", "file_share", "me_message"];

fn parse_callback(envelope: Envelope) -> Result<Inbound, BadInput> {
    let event = envelope.event.ok_or(BadInput::Missing("event"))?;
    let word = |key: &str| event.get(key).and_then(Value::as_str);
    let kind = match word("type") {
        Some("message") => Kind::Message,
        Some("app_mention") => Kind::Mention,
        Some(_) => return Ok(Inbound::Ignored { reason: "an event type that is not handled" }),
        None => return Err(BadInput::Missing("event.type")),
    };
    if event.get("bot_id").is_some_and(|bot| !bot.is_null()) {
        return Ok(Inbound::Ignored { reason: "a bot said it" });
    }
    if word("subtype").is_some_and(|subtype| !SAID_SUBTYPES.contains(&subtype)) || event.get("hidden").is_some() {
        return Ok(Inbound::Ignored { reason: "an edit or another subtype" });
    }
    let said: Said = serde_json::from_value(event)?;
    let bots = envelope.authorizations.unwrap_or_default();
    let bot = bots.into_iter().find(|who| who.is_bot).and_then(|who| who.user_id);
    let Some(user) = said.user else { return Ok(Inbound::Ignored { reason: "nobody said it" }) };
    if bot.as_ref() == Some(&user) {
        return Ok(Inbound::Ignored { reason: "we said it" });
    }
    let text = clean(without_mention(said.text.as_deref().unwrap_or_default(), bot.as_deref(), kind));
    if text.is_empty() && kind == Kind::Message {
        return Ok(Inbound::Ignored { reason: "a message without text" });
    }
    if said.ts.is_none() && envelope.event_id.is_none() {
        return Err(BadInput::Missing("event.ts"));
    }
    Ok(Inbound::Event(Box::new(SlackEvent {
        kind,
        team: envelope.team_id.or(envelope.enterprise_id).ok_or(BadInput::Missing("team_id"))?,
        user,
        channel: said.channel.ok_or(BadInput::Missing("event.channel"))?,
        thread_ts: said.thread_ts,
        ts: said.ts,
        text,
        response_url: None,
        trigger_id: None,
        command: None,
        event_id: envelope.event_id,
    })))
}

fn parse_form(body: &[u8]) -> Result<Inbound, BadInput> {
    let field = |name: &str| {
        let mut found = form_urlencoded::parse(body).filter(|(key, value)| key == name && !value.is_empty());
        found.next().map(|(_, value)| value.into_owned())
    };
    if is_ssl_check(Some("application/x-www-form-urlencoded"), body) {
        return Ok(Inbound::SslCheck);
    }
    if let Some(payload) = field("payload") {
        serde_json::from_str::<serde::de::IgnoredAny>(&payload)?;
        return Ok(Inbound::Ignored { reason: "interactivity is not handled yet" });
    }
    let command = field("command").ok_or(BadInput::Missing("command"))?;
    let team = field("team_id").or_else(|| field("enterprise_id")).ok_or(BadInput::Missing("team_id"))?;
    Ok(Inbound::Event(Box::new(SlackEvent {
        kind: Kind::Command,
        team,
        user: field("user_id").ok_or(BadInput::Missing("user_id"))?,
        channel: field("channel_id").ok_or(BadInput::Missing("channel_id"))?,
        thread_ts: None,
        ts: None,
        text: clean(&field("text").unwrap_or_default()),
        response_url: field("response_url").map(SecretString::from),
        trigger_id: Some(field("trigger_id").ok_or(BadInput::Missing("trigger_id"))?),
        command: Some(command),
        event_id: None,
    })))
}

fn media_type(content_type: Option<&str>) -> Option<String> {
    let media = content_type?.split(';').next()?.trim();
    Some(media.to_ascii_lowercase())
}

/// The text after `<@BOT>`; a mention whose bot is not named by Slack loses its first mention, whoever that is.
fn without_mention<'a>(text: &'a str, bot: Option<&str>, kind: Kind) -> &'a str {
    let Some((who, rest)) = text.trim_start().strip_prefix("<@").and_then(|tail| tail.split_once('>')) else {
        return text;
    };
    let who = who.split('|').next().unwrap_or(who);
    let ours = bot.map_or(kind == Kind::Mention, |bot| bot == who);
    if ours { rest } else { text }
}

/// Without Slack's three escapes (the reply sender puts them on again), without NUL, which some stores refuse.
fn clean(text: &str) -> String {
    let text = text.trim();
    let plain: Cow<'_, str> = if text.contains(['&', '\0']) {
        text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").replace('\0', "").into()
    } else {
        text.into()
    };
    plain.into_owned()
}

#[cfg(test)]
mod tests;
