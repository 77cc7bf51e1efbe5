//! Reading requests: query, path and body into types, and what is wrong with them into problems.
//!
//! Bodies are JSON within the limit; what cannot be parsed is told with line and column, what parses and does not fit
//! (an unknown field, a wrong type) is told by name. Nothing is guessed and nothing is ignored.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::problem::{Class, Problem};
use super::verb::clipped;

/// How long the caller waits for the outcome.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    wait: Option<String>,
}

impl Wait {
    /// The wait, within the limit.
    pub(super) fn within(&self, max: Duration) -> Result<Option<Duration>, Problem> {
        self.wait.as_deref().map(|text| duration("wait", text).map(|wait| wait.min(max))).transpose()
    }
}

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence != "application/json" && !(essence.starts_with("application/") && essence.ends_with("+json")) {
            let detail = format!("the body is {:?}; send it with Content-Type: application/json", clipped(kind));
            return Err(Problem::new(Class::MediaType, detail));
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(Class::TooLarge, "the body is larger than this listener takes")
            }
            _ => Problem::malformed("the body could not be read to its end"),
        })?;
        parse(&body).map(Self)
    }
}

/// Reads JSON. The texts are serde's; they name fields and types, and of the body at most a short value.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let place = |problem: Problem| problem.with("line", error.line()).with("column", error.column());
        match error.classify() {
            Category::Data => Problem::invalid(error.to_string()),
            _ if body.is_empty() => Problem::malformed("the body is empty; it must be a JSON object"),
            _ => place(Problem::malformed(format!("the body is no JSON: {error}"))),
        }
    })
}

/// The query string.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(params)| Self(params)).map_err(|rejection| Problem::malformed(rejection.body_text()))
    }
}

/// The one variable segment of a path (or its whole rest), percent-decoded.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::<String>::from_request_parts(parts, state).await;
        read.map(|Path(segment)| Self(segment)).map_err(|rejection| Problem::malformed(rejection.body_text()))
    }
}

/// The two variable segments of a path, percent-decoded.
pub(super) struct Segments(pub(super) String, pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segments {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::<(String, String)>::from_request_parts(parts, state).await;
        let read = read.map(|Path((first, second))| Self(first, second));
        read.map_err(|rejection| Problem::malformed(rejection.body_text()))
    }
}

/// A span: a whole number with `ms`, `s`, `m` or `h`.
pub(super) fn duration(name: &str, text: &str) -> Result<Duration, Problem> {
    let bad = || Problem::malformed(format!("{name}={:?} is no duration; write 500ms, 30s, 2m or 1h", clipped(text)));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    millis.map(Duration::from_millis).ok_or_else(bad)
}

/// A point in time: RFC 3339, or a span before now.
pub(super) fn moment(name: &str, text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Problem> {
    // A `+` in a query means a space; times are written with one often enough to understand it.
    if let Ok(time) = DateTime::parse_from_rfc3339(&text.replace(' ', "+")) {
        return Ok(time.with_timezone(&Utc));
    }
    let span = duration(name, text).ok().and_then(|span| chrono::TimeDelta::from_std(span).ok());
    span.and_then(|span| now.checked_sub_signed(span)).ok_or_else(|| {
        Problem::malformed(format!(
            "{name}={:?} is no time; write 2026-01-31T09:00:00Z or a span like 1h",
            clipped(text)
        ))
    })
}

/// A number of items between 1 and the limit; more is cut to it, for `next` tells of the rest.
pub(super) fn limit(text: Option<&str>, default: usize, max: usize) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(default.min(max)) };
    match text.parse::<usize>() {
        Ok(number) if number > 0 => Ok(number.min(max)),
        _ => Err(Problem::malformed(format!("limit={:?} is no number from 1 to {max}", clipped(text)))),
    }
}

/// A switch: `1`, `true` or nothing after the name is on.
pub(super) fn switch(name: &str, text: Option<&str>) -> Result<bool, Problem> {
    match text {
        None | Some("0" | "false") => Ok(false),
        Some("" | "1" | "true") => Ok(true),
        Some(other) => Err(Problem::malformed(format!("{name}={:?} is no switch: 1 or 0", clipped(other)))),
    }
}

/// Checks a word against those there are.
pub(super) fn word<'w>(
    name: &str,
    text: &str,
    mut words: impl Iterator<Item = &'w str> + Clone,
) -> Result<(), Problem> {
    let all = words.clone();
    if words.any(|word| word == text) {
        return Ok(());
    }
    let all = all.collect::<Vec<_>>().join(", ");
    Err(Problem::malformed(format!("{name}={:?} is none of {all}", clipped(text))))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn durations_have_a_unit_and_an_end() {
        let millis = |text| duration("wait", text).map(|span| span.as_millis());
        assert_eq!(millis("30s"), Ok(30_000));
        assert_eq!(millis("2m"), Ok(120_000));
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("1h"), Ok(3_600_000));
        assert_eq!(millis("0s"), Ok(0));
        for bad in ["", "s", "30", "-1s", "1.5s", "30 s", "99999999999999999999s", "9999999999999999h", "1d", "é"] {
            assert!(millis(bad).is_err(), "{bad} passed");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_a_span_before_now() {
        let now = DateTime::parse_from_rfc3339("2026-01-31T12:00:00Z").unwrap().with_timezone(&Utc);
        assert_eq!(moment("since", "1h", now).unwrap().to_rfc3339(), "2026-01-31T11:00:00+00:00");
        assert_eq!(
            moment("since", "2026-01-31T12:00:00 02:00", now).unwrap().to_rfc3339(),
            "2026-01-31T10:00:00+00:00"
        );
        for bad in ["yesterday", "", "9999999999999h", "2026-13-01T00:00:00Z"] {
            assert!(moment("since", bad, now).is_err(), "{bad} passed");
        }
    }

    #[test]
    fn limits_and_switches_are_bounded() {
        assert_eq!(limit(None, 50, 500), Ok(50));
        assert_eq!(limit(Some("9000"), 50, 500), Ok(500));
        for bad in ["0", "-1", "x", ""] {
            assert!(limit(Some(bad), 50, 500).is_err(), "{bad} passed");
        }
        assert_eq!(switch("tree", Some("1")), Ok(true));
        assert_eq!(switch("tree", None), Ok(false));
        assert!(switch("tree", Some("maybe")).is_err());
    }

    #[test]
    fn a_body_that_cannot_be_parsed_is_told_with_its_place_and_one_that_does_not_fit_by_name() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wanted {
            #[expect(dead_code, reason = "only its presence matters")]
            a: u8,
        }
        let problem = |body: &str| format!("{:?}", parse::<Wanted>(body.as_bytes()).unwrap_err());
        let broken = problem("{\n \"a\": }");
        assert!(broken.contains("Malformed") && broken.contains("line 2 column 7"), "{broken}");
        let strange = problem(r#"{"a": 1, "b": 2}"#);
        assert!(strange.contains("Invalid") && strange.contains("unknown field `b`"), "{strange}");
        assert!(problem(r#"{"a": "x"}"#).contains("Invalid"));
        assert!(problem("").contains("empty"));
        let deep = parse::<serde_json::Value>("[".repeat(100_000).as_bytes()).unwrap_err();
        assert!(format!("{deep:?}").contains("Malformed"), "{deep:?}");
    }
}
