//! Secrets in what the API shows: events carry what Slack sent, and some of that is a key to somebody's channel.
//!
//! Three nets, each for what the others miss: fields with a telling name, addresses that are keys in themselves, and
//! the node's redactor, which knows the secrets of its configuration.

use serde_json::Value;
use troupe_runtime::telemetry::logs::Redact;

const MASK: &str = "***";

/// Names of fields whose value is a secret, in lower case without `_` and `-`.
const TELLING: [&str; 12] = [
    "responseurl",
    "token",
    "accesstoken",
    "refreshtoken",
    "bottoken",
    "apikey",
    "authorization",
    "password",
    "secret",
    "clientsecret",
    "signingsecret",
    "cookie",
];

/// Hosts whose addresses are keys: whoever has one can post.
const KEY_HOSTS: [&str; 2] = ["hooks.slack.com/", "hooks.slack-gov.com/"];

/// Masks every secret in a value, however deep.
pub(super) fn mask(value: &mut Value, redact: &Redact) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if is_telling(name) && !value.is_null() {
                    *value = Value::from(MASK);
                } else {
                    mask(value, redact);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, redact)),
        Value::String(text) => {
            if let Some(masked) = masked_text(text, redact) {
                *text = masked;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_telling(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect();
    TELLING.contains(&plain.as_str())
}

/// The text without its secrets; `None` when it holds none.
fn masked_text(text: &str, redact: &Redact) -> Option<String> {
    // An event without a text is given to the agent as JSON, and shown as the task's input.
    if text.starts_with(['{', '['])
        && let Ok(mut inner) = serde_json::from_str::<Value>(text)
    {
        let before = inner.clone();
        mask(&mut inner, redact);
        return (inner != before).then(|| inner.to_string());
    }
    let mut masked = redact(text).into_owned();
    for host in KEY_HOSTS {
        masked = without_keys(&masked, host);
    }
    (masked != text).then_some(masked)
}

/// Cuts what stands behind the host, up to the end of the address.
fn without_keys(text: &str, host: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(host) {
        let (before, after) = rest.split_at(at + host.len());
        masked.push_str(before);
        masked.push_str(MASK);
        let end = after.find(|c: char| c.is_whitespace() || "\"'<>|)".contains(c)).unwrap_or(after.len());
        rest = &after[end..];
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn masked(mut value: Value) -> Value {
        let redact: Redact = Arc::new(|text| {
            if text.contains("hunter2") { Cow::Owned(text.replace("hunter2", MASK)) } else { Cow::Borrowed(text) }
        });
        mask(&mut value, &redact);
        value
    }

    #[test]
    fn a_response_url_is_masked_wherever_it_stands() {
        let url = "https://hooks.slack.com/commands/T1/2/secretpart";
        let event = json!({"data": {"response_url": url, "text": "hi", "n": [{"responseUrl": url}], "other": url}});
        let shown = masked(event);
        assert_eq!(shown["data"]["response_url"], MASK);
        assert_eq!(shown["data"]["text"], "hi");
        assert_eq!(shown["data"]["n"][0]["responseUrl"], MASK);
        assert_eq!(shown["data"]["other"], "https://hooks.slack.com/***");
    }

    #[test]
    fn a_secret_inside_a_text_is_masked_too() {
        let shown = masked(json!({
            "input": r#"{"response_url":"https://hooks.slack.com/x","user":"U1"}"#,
            "said": "see <https://hooks.slack.com/a/b|here> and https://hooks.slack.com/c.",
            "error": "401 for hunter2",
        }));
        assert_eq!(shown["input"], r#"{"response_url":"***","user":"U1"}"#);
        assert_eq!(shown["said"], "see <https://hooks.slack.com/***|here> and https://hooks.slack.com/***");
        assert_eq!(shown["error"], "401 for ***");
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        let plain = json!({"usage": {"input_tokens": 3}, "input": "{not json", "list": [1, true, null], "token": null,
            "spaced": "{ \"a\" : 1 }", "key": "idempotency"});
        assert_eq!(masked(plain.clone()), plain);
    }
}
