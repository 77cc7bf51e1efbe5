//! The forms in which a secret may turn up in somebody's text: as it is, escaped, percent-encoded, in base64.
//!
//! A provider that quotes a request, a library that shows an address, a line of JSON around it all: each writes a value in
//! its own way. Used by the [redactor](super::redactor), once for each value.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, Encoding};

/// Shorter forms are not looked for: a key of "1" would black out every number in the log.
pub(super) const BYTES_MIN: usize = 8;

/// Every form of `value` that is long enough to be looked for.
pub(super) fn forms(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([value.to_owned(), in_debug(value)]);
    let escaped = in_json(value);
    // JSON within JSON: an event inside a text, a quoted request inside an answer.
    forms.extend([in_json(&escaped), escaped]);
    for upper in [true, false] {
        // As addresses have it, as forms have it, and with nothing encoded but what would end the part of an address.
        forms.insert(percent(value, upper, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)));
        forms.insert(
            percent(value, upper, |byte| byte.is_ascii_alphanumeric() || b"*-._ ".contains(&byte)).replace(' ', "+"),
        );
        forms.insert(percent(value, upper, |byte| byte.is_ascii_graphic() && !b"\"#/:;<=>?@[\\]^`{|}".contains(&byte)));
        forms.insert(percent(value, upper, |byte| byte.is_ascii_graphic() && !b"\"#<>%".contains(&byte)));
    }
    for alphabet in [&BASE64_NOPAD, &BASE64URL_NOPAD] {
        forms.extend((0..3).map(|offset| inner_base64(value.as_bytes(), offset, alphabet)));
    }
    if let Some(password) = password(value) {
        let decoded = decoded(password);
        forms.extend([password.to_owned(), decoded.clone()]);
        if decoded != value {
            forms.extend(self::forms(&decoded));
        }
    }
    forms.retain(|form| form.len() >= BYTES_MIN);
    forms
}

fn in_debug(value: &str) -> String {
    let quoted = format!("{value:?}");
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

fn in_json(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

fn percent(value: &str, upper: bool, plain: impl Fn(u8) -> bool) -> String {
    let mut text = String::with_capacity(value.len() * 2);
    for byte in value.bytes() {
        // Writing to a String cannot fail.
        let _ = match byte {
            _ if plain(byte) => write!(text, "{}", char::from(byte)),
            _ if upper => write!(text, "%{byte:02X}"),
            _ => write!(text, "%{byte:02x}"),
        };
    }
    text
}

/// What base64 makes of a value that stands `offset` bytes behind a boundary of three, whatever stands around it: the digits
/// that depend on the value alone.
fn inner_base64(value: &[u8], offset: usize, alphabet: &Encoding) -> String {
    let padded: Vec<u8> = std::iter::repeat_n(0, offset).chain(value.iter().copied()).collect();
    let digits = alphabet.encode(&padded);
    let (from, to) = ((offset * 8).div_ceil(6), padded.len() * 8 / 6);
    digits.get(from..to).unwrap_or_default().to_owned()
}

/// The password of an address such as `amqp://user:password@host/`, as it stands there.
fn password(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let code = text.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        plain.push(code.unwrap_or(*byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_found(value: &str, text: &str) -> bool {
        forms(value).iter().any(|form| text.contains(form.as_str()))
    }

    #[test]
    fn a_value_is_known_in_every_writing() {
        let value = "k\"e/y+1 2\\é%3";
        for text in [
            "k\"e/y+1 2\\é%3",
            r#"{"a":"k\"e/y+1 2\\é%3"}"#,
            r#"{"a":"{\"b\":\"k\\\"e/y+1 2\\\\é%3\"}"}"#,
            "x=k%22e%2Fy%2B1%202%5C%C3%A9%253&y",
            "x=k%22e%2fy%2b1%202%5c%c3%a9%253&y",
            "x=k%22e%2Fy%2B1+2%5C%C3%A9%253",
        ] {
            assert!(is_found(value, text), "{text}");
        }
        assert!(!is_found(value, "k\"e/y+1 2"));
    }

    #[test]
    fn the_password_of_an_address_is_a_secret_by_itself() {
        let url = "postgres://me:pass%2Fword+1@db.example/x?sslmode=disable";
        for text in ["password \"pass/word+1\" is wrong", "user=me pass%2Fword+1", url] {
            assert!(is_found(url, text), "{text}");
        }
        assert!(!is_found(url, "db.example"));
        assert_eq!(password("amqp://me@host/a:b@c"), None);
        assert_eq!(password("a:b@c"), None);
    }

    #[test]
    fn what_is_short_has_no_form() {
        assert!(forms("1234567").iter().all(|form| form.len() >= BYTES_MIN));
        assert!(!is_found("1", "1 of 11111111"));
    }

    proptest! {
        #[test]
        fn base64_hides_nothing(value in "[ -~]{12,40}", before in "[ -~]{0,9}", after in "[ -~]{0,9}") {
            let text = format!("{before}{value}{after}");
            prop_assert!(is_found(&value, &BASE64_NOPAD.encode(text.as_bytes())));
            prop_assert!(is_found(&value, &data_encoding::BASE64URL.encode(text.as_bytes())));
        }
    }
}
