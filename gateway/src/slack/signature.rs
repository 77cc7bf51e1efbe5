//! Slack's request signature, version 0: HMAC-SHA256 over `v0:<timestamp>:<raw body>`.
//!
//! It is checked over the bytes as they came, before anything is decoded, and compared in constant time. The accepted
//! forms are deliberately narrow (one header each, digits only, 64 lower-case hex digits): whatever is outside them is
//! [`Refused`], which the ingress answers with 401, never with an error of ours.

use axum::http::{HeaderMap, HeaderName};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// Carries `v0=<hex>`.
pub const SIGNATURE: HeaderName = HeaderName::from_static("x-slack-signature");
/// Carries seconds since 1970.
pub const TIMESTAMP: HeaderName = HeaderName::from_static("x-slack-request-timestamp");
/// Asks Slack not to send the request again.
pub const NO_RETRY: HeaderName = HeaderName::from_static("x-slack-no-retry");

/// The secrets that a request may be signed with: the current one, and the former one while it is being rotated out.
#[derive(Debug, Clone, Default)]
pub struct SigningSecrets(Vec<SecretString>);

/// A signing secret that is empty: everybody could sign with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry of SLACK_SIGNING_SECRET is empty; remove it or fill it in")]
pub struct EmptySecret;

/// Why a request is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A header is missing, is there twice, or is no plain text.
    #[error("header {0} must be there exactly once")]
    Header(&'static str),
    /// The timestamp is no plain number of seconds.
    #[error("the timestamp is no whole number of seconds")]
    Timestamp,
    /// The timestamp is too far from now, in the past or in the future.
    #[error("the timestamp is {0} s away from now")]
    Stale(i64),
    /// The signature is not `v0=` and 64 lower-case hex digits.
    #[error("the signature has a wrong form")]
    Form,
    /// None of our secrets made it.
    #[error("the signature does not match")]
    Mismatch,
}

impl SigningSecrets {
    /// These secrets, in any order; none at all means that Slack is not configured.
    pub fn new(secrets: Vec<SecretString>) -> Result<Self, EmptySecret> {
        if secrets.iter().any(|secret| secret.expose_secret().trim().is_empty()) {
            return Err(EmptySecret);
        }
        Ok(Self(secrets))
    }

    /// Whether Slack is not configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the secrets signed this body at a time within `skew_seconds` of `now`, in both directions.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
        skew_seconds: i64,
    ) -> Result<(), Refused> {
        let timestamp = only(headers, &TIMESTAMP).ok_or(Refused::Header("x-slack-request-timestamp"))?;
        let signature = only(headers, &SIGNATURE).ok_or(Refused::Header("x-slack-signature"))?;
        let age = now.timestamp() - seconds(timestamp).ok_or(Refused::Timestamp)?;
        if age.abs() > skew_seconds {
            return Err(Refused::Stale(age));
        }
        let claimed = digest(signature).ok_or(Refused::Form)?;
        // Every secret is tried, whichever fits: the time taken does not tell which.
        let fits =
            |secret: &&SecretString| mac(secret, timestamp, body).is_some_and(|mac| mac.verify_slice(&claimed).is_ok());
        if self.0.iter().filter(fits).count() > 0 { Ok(()) } else { Err(Refused::Mismatch) }
    }
}

/// The signature that Slack would put on `body`; for the stand-in and for tests.
#[must_use]
pub fn sign(secret: &SecretString, timestamp: i64, body: &[u8]) -> String {
    let digest = mac(secret, &timestamp.to_string(), body).map(|mac| mac.finalize().into_bytes());
    format!("v0={}", hex::encode(digest.unwrap_or_default()))
}

/// `None` never happens (HMAC takes keys of any length), and would match nothing.
fn mac(secret: &SecretString, timestamp: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).ok()?;
    mac.update(b"v0:");
    mac.update(timestamp.as_bytes());
    mac.update(b":");
    mac.update(body);
    Some(mac)
}

/// The value of a header that is there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Digits only, as many as a date within the next 30,000 years has.
fn seconds(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn digest(signature: &str) -> Option<[u8; 32]> {
    let hex = signature.strip_prefix("v0=")?;
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return None;
    }
    let mut digest = [0; 32];
    hex::decode_to_slice(hex, &mut digest).ok()?;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// Slack's own example.
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const AT: i64 = 1_531_420_618;
    const BODY: &str = include_str!("../../testdata/slack/known_answer.form");
    const SIGNED: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    fn headers(pairs: &[(&HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append((*name).clone(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn secrets(words: &[&str]) -> SigningSecrets {
        SigningSecrets::new(words.iter().map(|word| SecretString::from(*word)).collect()).unwrap()
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn verify(pairs: &[(&HeaderName, &str)], now: i64) -> Result<(), Refused> {
        secrets(&[SECRET]).verify(&headers(pairs), BODY.trim_end().as_bytes(), at(now), 300)
    }

    #[test]
    fn slack_s_own_example_is_believed() {
        assert_eq!(verify(&[(&TIMESTAMP, "1531420618"), (&SIGNATURE, SIGNED)], AT), Ok(()));
        assert_eq!(sign(&SecretString::from(SECRET), AT, BODY.trim_end().as_bytes()), SIGNED);
    }

    #[test]
    fn five_minutes_hold_in_both_directions() {
        let pairs = [(&TIMESTAMP, "1531420618"), (&SIGNATURE, SIGNED)];
        assert_eq!(verify(&pairs, AT + 300), Ok(()));
        assert_eq!(verify(&pairs, AT - 300), Ok(()));
        assert_eq!(verify(&pairs, AT + 301), Err(Refused::Stale(301)));
        assert_eq!(verify(&pairs, AT - 301), Err(Refused::Stale(-301)));
    }

    #[test]
    fn every_other_form_is_refused() {
        let good = (&TIMESTAMP, "1531420618");
        let upper = SIGNED.to_uppercase().replace("V0=", "v0=");
        let v1 = SIGNED.replace("v0=", "v1=");
        for bad in [&upper, &v1, &SIGNED[..66], "", "v0=", &format!("{SIGNED}0"), &SIGNED[3..]] {
            assert_eq!(verify(&[good, (&SIGNATURE, bad)], AT), Err(Refused::Form), "{bad}");
        }
        for bad in
            ["", "1531420618.0", "+1531420618", "-1531420618", " 1531420618", "0x5b", "99999999999999999999", "now"]
        {
            assert_eq!(verify(&[(&TIMESTAMP, bad), (&SIGNATURE, SIGNED)], AT), Err(Refused::Timestamp), "{bad}");
        }
        let missing = |bad| matches!(bad, Err(Refused::Header(_)));
        assert!(missing(verify(&[good], AT)));
        assert!(missing(verify(&[(&SIGNATURE, SIGNED)], AT)));
        assert!(missing(verify(&[good, good, (&SIGNATURE, SIGNED)], AT)));
        assert!(missing(verify(&[good, (&SIGNATURE, SIGNED), (&SIGNATURE, SIGNED)], AT)));
    }

    #[test]
    fn while_a_secret_is_rotated_both_are_taken_and_no_third() {
        let headers = headers(&[(&TIMESTAMP, "1531420618"), (&SIGNATURE, SIGNED)]);
        let body = BODY.trim_end().as_bytes();
        assert_eq!(secrets(&["new", SECRET]).verify(&headers, body, at(AT), 300), Ok(()));
        assert_eq!(secrets(&[SECRET, "new"]).verify(&headers, body, at(AT), 300), Ok(()));
        assert_eq!(secrets(&["new", "other"]).verify(&headers, body, at(AT), 300), Err(Refused::Mismatch));
        assert_eq!(secrets(&[SECRET]).verify(&headers, b"other body", at(AT), 300), Err(Refused::Mismatch));
        assert_eq!(secrets(&[]).verify(&headers, body, at(AT), 300), Err(Refused::Mismatch));
    }

    #[test]
    fn an_empty_secret_is_no_secret_and_none_is_printed() {
        assert!(SigningSecrets::new(vec![SecretString::from("a"), SecretString::from(" ")]).is_err());
        assert!(!format!("{:?}", secrets(&[SECRET])).contains(SECRET));
    }
}
