//! What [`parse`] makes of Slack's samples and of everything else.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;

use super::*;

const FORM: Option<&str> = Some("application/x-www-form-urlencoded");
const JSON: Option<&str> = Some("application/json; charset=utf-8");
const COMMAND: &str = include_str!("../../../testdata/slack/known_answer.form");
const MESSAGE: &str = include_str!("../../../testdata/slack/message.json");
const MENTION: &str = include_str!("../../../testdata/slack/app_mention.json");

fn event(content_type: Option<&str>, body: &str) -> SlackEvent {
    match parse(content_type, body.as_bytes()) {
        Ok(Inbound::Event(event)) => *event,
        other => panic!("no event: {other:?}"),
    }
}

fn ignored(body: &Value) -> &'static str {
    match parse(JSON, body.to_string().as_bytes()) {
        Ok(Inbound::Ignored { reason }) => reason,
        other => panic!("not ignored: {other:?}"),
    }
}

fn message_with(key: &str, value: Value) -> Value {
    let mut body: Value = serde_json::from_str(MESSAGE).unwrap();
    body["event"][key] = value;
    body
}

#[test]
fn a_slash_command_becomes_an_event() {
    let body = COMMAND.trim_end().replace("&text=&", "&text=AT%26amp%3BT+%26lt%3B+%C3%BC&");
    let slack = event(FORM, &body);
    assert_eq!((slack.kind, slack.text.as_str()), (Kind::Command, "AT&T < ü"));
    assert!(!format!("{slack:?}").contains("hooks.slack.com"), "the response_url is a secret");
    let bus = slack.into_event(Utc::now());
    assert_eq!(bus.topic.as_str(), "slack.events.command.webhook-collect");
    assert_eq!(bus.source, "/slack/T1DC2JH3J");
    assert_eq!(bus.subject.as_deref(), Some("G8PSS9T3V"));
    assert_eq!(bus.data.value()["user"], "U2CERLKJA");
    assert_eq!(bus.data.value()["command"], "/webhook-collect");
    assert!(bus.data.value()["response_url"].as_str().unwrap().starts_with("https://hooks.slack.com/commands/"));
    assert_eq!(bus.data.value().get("token"), None);
}

#[test]
fn a_mention_loses_its_mention_and_keeps_its_thread() {
    let bus = event(JSON, MENTION).into_event(Utc::now());
    assert_eq!(bus.topic.as_str(), "slack.events.mention");
    assert_eq!(bus.data.value()["text"], "is it everything a river should be?");
    assert_eq!(bus.subject.as_deref(), Some("C123ABC456/1515449522.000016"));
    assert_eq!(bus.data.value()["thread"], "1515449522.000016");
    assert_eq!(bus.data.value().get("thread_ts"), None);
    let threaded = message_with("thread_ts", json!("1500000000.000001")).to_string();
    let bus = event(JSON, &threaded).into_event(Utc::now());
    assert_eq!(bus.subject.as_deref(), Some("C123ABC456/1500000000.000001"));
}

#[test]
fn the_pair_of_one_message_has_one_id_and_one_text() {
    let (message, mention) = (event(JSON, MESSAGE), event(JSON, MENTION));
    assert_ne!(message.event_id, mention.event_id);
    assert_eq!(message.id(), mention.id());
    assert_eq!(message.text, mention.text);
    let elsewhere = event(JSON, &message_with("channel", json!("C2")).to_string());
    assert_ne!(message.id(), elsewhere.id());
}

#[test]
fn a_command_s_id_follows_its_trigger_alone() {
    let body = COMMAND.trim_end();
    let first = event(FORM, body).id();
    assert_eq!(first, event(FORM, &body.replace("&text=&", "&text=other&")).id());
    assert_ne!(first, event(FORM, &body.replace("trigger_id=3987", "trigger_id=3988")).id());
}

#[test]
fn handshakes_are_seen() {
    let body = json!({"type": "url_verification", "token": "t", "challenge": "3eZbrw1aB"}).to_string();
    assert!(matches!(parse(JSON, body.as_bytes()), Ok(Inbound::Challenge(text)) if text == "3eZbrw1aB"));
    assert!(matches!(parse(FORM, b"ssl_check=1&token=x"), Ok(Inbound::SslCheck)));
    assert!(is_ssl_check(FORM, b"token=x&ssl_check=1"));
    assert!(!is_ssl_check(FORM, b"text=ssl_check%3D1&command=%2Fx"));
    assert!(!is_ssl_check(JSON, b"ssl_check=1"));
}

#[test]
fn what_is_not_for_us_is_ignored_with_a_reason() {
    assert_eq!(ignored(&message_with("bot_id", json!("B1"))), "a bot said it");
    assert_eq!(ignored(&message_with("subtype", json!("message_changed"))), "an edit or another subtype");
    assert_eq!(ignored(&message_with("subtype", json!("bot_message"))), "an edit or another subtype");
    assert_eq!(ignored(&message_with("user", json!("U0LAN0Z89"))), "we said it");
    assert_eq!(ignored(&message_with("user", Value::Null)), "nobody said it");
    assert_eq!(ignored(&message_with("text", json!(" "))), "a message without text");
    assert_eq!(ignored(&message_with("type", json!("reaction_added"))), "an event type that is not handled");
    // Other kinds use the same names for other things.
    let mut joined = message_with("type", json!("team_join"));
    joined["event"]["user"] = json!({"id": "U1"});
    assert_eq!(ignored(&joined), "an event type that is not handled");
    assert_eq!(ignored(&json!({"type": "app_rate_limited", "team_id": "T1", "minute_rate_limited": 1})), RATE_LIMITED);
    assert_eq!(ignored(&json!({"type": "block_actions"})), "an outer type that is not handled");
    let buttons = parse(FORM, b"payload=%7B%22type%22%3A%22block_actions%22%7D");
    assert!(matches!(buttons, Ok(Inbound::Ignored { .. })));
    assert!(matches!(
        parse(JSON, message_with("subtype", json!("file_share")).to_string().as_bytes()),
        Ok(Inbound::Event(_))
    ));
}

#[test]
fn what_cannot_be_read_is_named_without_quoting_it() {
    let rows: [(Option<&str>, &[u8]); 10] = [
        (None, b"{}"),
        (Some("text/plain"), b"{}"),
        (JSON, b"{\"type\":"),
        (JSON, b"[]"),
        (JSON, b"{\"token\":\"sekrit\"}"),
        (JSON, b"{\"type\":\"event_callback\"}"),
        (JSON, b"{\"type\":\"event_callback\",\"event\":{}}"),
        (JSON, b"{\"type\":\"url_verification\"}"),
        (FORM, b"token=sekrit&team_id=T1"),
        (FORM, b"payload=%7Bsekrit"),
    ];
    for (content_type, body) in rows {
        let error = parse(content_type, body).unwrap_err();
        assert!(!error.to_string().contains("sekrit"), "{error}");
    }
    let deep = format!("{{\"type\":\"event_callback\",\"event\":{}", "[".repeat(100_000));
    assert!(matches!(parse(JSON, deep.as_bytes()), Err(BadInput::Json { .. })));
    for field in ["team_id", "user_id", "channel_id", "trigger_id"] {
        let body = COMMAND.trim_end().replace(&format!("{field}="), "gone=");
        assert_eq!(parse(FORM, body.as_bytes()).unwrap_err(), BadInput::Missing(field));
    }
}

#[test]
fn mutilated_samples_never_panic() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..2_000 {
        let (kind, sample) = [(JSON, MESSAGE), (JSON, MENTION), (FORM, COMMAND)][rng.random_range(0..3)];
        let mut body = sample.as_bytes().to_vec();
        for _ in 0..rng.random_range(1..8) {
            let at = rng.random_range(0..body.len());
            match rng.random_range(0..3) {
                0 => body[at] = rng.random(),
                1 => body.truncate(at.max(1)),
                _ => body.insert(at, rng.random()),
            }
        }
        if let Ok(Inbound::Event(event)) = parse(kind, &body) {
            let bus = event.into_event(Utc::now());
            assert!(bus.topic.as_str().parse::<Topic>().is_ok());
        }
    }
}
