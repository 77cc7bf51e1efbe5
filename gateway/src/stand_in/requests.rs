//! What Slack would send us, signed: slash commands and deliveries of the Events API.
//!
//! Used by the demo and by tests, which send them to `POST <path>` with any HTTP client. Nothing here can fail.

use chrono::Utc;
use secrecy::SecretString;
use serde_json::json;
use url::form_urlencoded;

use super::SIGNING_SECRET;
use crate::slack::signature::sign;

/// Who asks, and where.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Signs the requests.
    pub secret: SecretString,
    /// The workspace.
    pub team: String,
    /// The channel.
    pub channel: String,
    /// The person.
    pub user: String,
    /// Seconds since 1970 to sign with; `None` = now.
    pub timestamp: Option<i64>,
}

/// One request, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// Where to.
    pub path: &'static str,
    /// Content type, timestamp and signature.
    pub headers: Vec<(&'static str, String)>,
    /// What.
    pub body: String,
}

impl Default for Asker {
    fn default() -> Self {
        Self {
            secret: SecretString::from(SIGNING_SECRET),
            team: "T1".to_owned(),
            channel: "C1".to_owned(),
            user: "U1".to_owned(),
            timestamp: None,
        }
    }
}

impl Asker {
    /// `/command text`; the trigger is what makes it a command of its own.
    #[must_use]
    pub fn slash_command(&self, command: &str, text: &str, trigger_id: &str, response_url: &str) -> SignedRequest {
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", "deprecated")
            .append_pair("team_id", &self.team)
            .append_pair("channel_id", &self.channel)
            .append_pair("user_id", &self.user)
            .append_pair("command", command)
            .append_pair("text", text)
            .append_pair("response_url", response_url)
            .append_pair("trigger_id", trigger_id)
            .append_pair("api_app_id", "A1")
            .finish();
        self.signed("application/x-www-form-urlencoded", body)
    }

    /// A message in the channel; `ts` is what makes it a message of its own.
    #[must_use]
    pub fn message(&self, text: &str, ts: &str, thread_ts: Option<&str>) -> SignedRequest {
        self.said("message", text, ts, thread_ts)
    }

    /// The same message as Slack tells it to an app that it names.
    #[must_use]
    pub fn mention(&self, text: &str, ts: &str, thread_ts: Option<&str>) -> SignedRequest {
        self.said("app_mention", &format!("<@UBOT> {text}"), ts, thread_ts)
    }

    /// Any body, signed.
    #[must_use]
    pub fn signed(&self, content_type: &str, body: String) -> SignedRequest {
        let timestamp = self.timestamp.unwrap_or_else(|| Utc::now().timestamp());
        SignedRequest { path: "/slack/events", headers: signed(&self.secret, content_type, &body, timestamp), body }
    }

    fn said(&self, kind: &str, text: &str, ts: &str, thread_ts: Option<&str>) -> SignedRequest {
        let mut event = json!({"type": kind, "user": self.user, "text": text, "ts": ts, "channel": self.channel});
        if let Some(thread_ts) = thread_ts {
            event["thread_ts"] = json!(thread_ts);
        }
        let body = json!({
            "type": "event_callback", "token": "deprecated", "team_id": self.team, "api_app_id": "A1",
            "event": event, "event_id": format!("Ev-{kind}-{ts}"), "event_time": 1_700_000_000,
            "authorizations": [{"team_id": self.team, "user_id": "UBOT", "is_bot": true}],
        });
        self.signed("application/json", body.to_string())
    }
}

/// The headers of a body that was signed at `timestamp`.
#[must_use]
pub fn signed(secret: &SecretString, content_type: &str, body: &str, timestamp: i64) -> Vec<(&'static str, String)> {
    vec![
        ("content-type", content_type.to_owned()),
        ("x-slack-request-timestamp", timestamp.to_string()),
        ("x-slack-signature", sign(secret, timestamp, body.as_bytes())),
    ]
}
