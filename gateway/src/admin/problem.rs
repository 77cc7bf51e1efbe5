//! What is answered when something is not done: `application/problem+json` (RFC 9457), and the one table from errors
//! to statuses.
//!
//! Every refusal of the admin listener is one of these, unknown paths and panics included, so a program needs one way
//! to read them. A problem says what is wrong and what to do; it holds nothing of a body.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use troupe_actors::{fork, troupe};
use troupe_runtime::domain::fork::Unforkable;
use troupe_runtime::fault::{Fault, Faulty};
use troupe_runtime::{bus, store};

use crate::spool;

/// The media type of problems.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// When to come back where nobody has named a time.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// The member that names a damaged entry.
const ENTRY: &str = "entry";

/// The classes of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The request cannot be read.
    Malformed,
    /// The token is missing or wrong.
    Unauthorized,
    /// The caller may not, whatever it knows.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The thing is there, the method is not.
    Method,
    /// It does not fit how things stand.
    Conflict,
    /// The body is over the limit.
    TooLarge,
    /// The body is not JSON.
    MediaType,
    /// The request can be read and makes no sense.
    Invalid,
    /// A bug of ours.
    Internal,
    /// More than the node takes; what was taken before is worked off first.
    Busy,
    /// Not now.
    Unavailable,
}

impl Class {
    /// The name for programs, the status, the title for people.
    const fn row(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Malformed => ("malformed", StatusCode::BAD_REQUEST, "The request cannot be read"),
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED, "A token is needed"),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "Not allowed"),
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "Not found"),
            Self::Method => ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "Not with this method"),
            Self::Conflict => ("conflict", StatusCode::CONFLICT, "Conflict"),
            Self::TooLarge => ("too-large", StatusCode::PAYLOAD_TOO_LARGE, "Too large"),
            Self::MediaType => ("media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "Only JSON is read"),
            Self::Invalid => ("invalid", StatusCode::UNPROCESSABLE_ENTITY, "The request makes no sense"),
            Self::Busy => ("busy", StatusCode::TOO_MANY_REQUESTS, "Too much at a time"),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "Something of ours is wrong"),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "Not now"),
        }
    }

    /// The class of an error that has nothing more to say than its fault.
    const fn of(fault: Fault) -> Self {
        match fault {
            Fault::Transient { .. } => Self::Unavailable,
            Fault::Permanent => Self::Invalid,
            Fault::Fenced => Self::Conflict,
            Fault::Bug => Self::Internal,
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    class: Class,
    detail: String,
    more: Map<String, Value>,
    retry_after: Option<Duration>,
}

impl Problem {
    pub(super) fn new(class: Class, detail: impl Into<String>) -> Self {
        let retry_after = matches!(class, Class::Busy | Class::Unavailable).then_some(RETRY_AFTER_DEFAULT);
        Self { class, detail: detail.into(), more: Map::new(), retry_after }
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Class::NotFound, detail)
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Class::Invalid, detail)
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Class::Malformed, detail)
    }

    /// A further member for programs.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// What is wrong, for people.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The number of the journal's entry that is damaged, when that is the problem.
    pub(super) fn entry(&self) -> Option<u32> {
        self.more.get(ENTRY)?.as_u64().and_then(|number| u32::try_from(number).ok())
    }

    /// A thing with a name like it is there.
    pub(super) fn near(self, nearest: Option<String>) -> Self {
        match nearest {
            Some(nearest) => self.with("nearest", nearest),
            None => self,
        }
    }

    fn of(error: &impl Faulty) -> Self {
        let fault = error.fault();
        let problem = Self::new(Class::of(fault), error.to_string());
        match fault {
            Fault::Transient { retry_after: Some(wait) } => Self { retry_after: Some(wait), ..problem },
            _ => problem,
        }
    }
}

impl From<troupe::Error> for Problem {
    fn from(error: troupe::Error) -> Self {
        match error {
            troupe::Error::UnknownAgent { ref near, .. } => Self::not_found(error.to_string()).near(near.clone()),
            troupe::Error::KeyReused(_) | troupe::Error::Configured(_) => Self::new(Class::Conflict, error.to_string()),
            troupe::Error::Bus(error) => error.into(),
            troupe::Error::Store(error) => error.into(),
            troupe::Error::Unavailable(_) => Self::of(&error),
        }
    }
}

impl From<fork::Error> for Problem {
    fn from(error: fork::Error) -> Self {
        let text = error.to_string();
        match error {
            fork::Error::Place(Unforkable::Cleaned | Unforkable::Unfit(_))
            | fork::Error::Gone(_)
            | fork::Error::KeyReused(_) => Self::new(Class::Conflict, text),
            // Another place would do, so it is the caller's to mend.
            fork::Error::Damaged(damage) => match damage.entry {
                Some(number) => Self::new(Class::Conflict, text).with(ENTRY, number),
                None => Self::new(Class::Conflict, text),
            },
            fork::Error::Place(_) | fork::Error::Settings(_) | fork::Error::Unservable(_) => Self::invalid(text),
            fork::Error::Store(error) => error.into(),
        }
    }
}

impl From<bus::Error> for Problem {
    fn from(error: bus::Error) -> Self {
        match &error {
            bus::Error::Unroutable(topic) => Self::invalid(error.to_string()).with("topic", topic.as_str()),
            bus::Error::NoQueue(_) => Self::not_found(error.to_string()),
            bus::Error::QueueFull { queue, .. } => {
                Self::new(Class::Busy, error.to_string()).with("queue", queue.as_str())
            }
            bus::Error::Kept { .. } => Self::new(Class::Conflict, error.to_string()),
            bus::Error::TooLarge { .. } => Self::new(Class::TooLarge, error.to_string()),
            _ => Self::of(&error),
        }
    }
}

impl From<spool::Error> for Problem {
    fn from(error: spool::Error) -> Self {
        match error {
            spool::Error::Bus(error) => error.into(),
            spool::Error::Neither { .. } => Self::of(&error),
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        match &error {
            store::Error::Conflict(_) => Self::new(Class::Conflict, error.to_string()),
            // Permanent, but nothing that the caller could mend.
            store::Error::Corrupt(damage) => {
                let problem = Self::new(Class::Internal, error.to_string());
                match damage.entry {
                    Some(number) => problem.with(ENTRY, number),
                    None => problem,
                }
            }
            store::Error::TooLarge { .. } => Self::new(Class::TooLarge, error.to_string()),
            _ => Self::of(&error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (name, status, title) = self.class.row();
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), detail = self.detail, "a request was not met");
        }
        let mut body = self.more;
        let members = json!({
            "type": format!("urn:troupe:problem:{name}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
        });
        if let Value::Object(members) = members {
            body.extend(members);
        }
        let mut response = (status, Value::Object(body).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(wait) = self.retry_after {
            // Whole seconds, and never 0, which would mean at once.
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64));
        }
        if self.class == Class::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"troupe\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use troupe_runtime::domain::ids::TaskId;

    use super::*;

    fn status(problem: impl Into<Problem>) -> (u16, bool) {
        let response = problem.into().into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        (response.status().as_u16(), response.headers().contains_key(RETRY_AFTER))
    }

    #[test]
    fn every_fault_has_its_status() {
        let text = || "x".to_owned();
        assert_eq!(status(bus::Error::Unroutable(text())), (422, false));
        assert_eq!(status(bus::Error::NoQueue(text())), (404, false));
        assert_eq!(status(bus::Error::Kept { queue: text(), why: text() }), (409, false));
        assert_eq!(status(troupe::Error::Configured("x".parse().unwrap())), (409, false));
        assert_eq!(status(bus::Error::TooLarge { bytes: 2, limit: 1 }), (413, false));
        assert_eq!(status(bus::Error::QueueFull { queue: text(), limit: 1 }), (429, true));
        assert_eq!(status(bus::Error::Unavailable(text())), (503, true));
        assert_eq!(status(bus::Error::Internal(text())), (500, false));
        let spool = spool::Failure::Full(1);
        assert_eq!(status(spool::Error::Neither { bus: text(), spool }), (503, true));
        assert_eq!(status(spool::Error::Bus(bus::Error::Unroutable(text()))), (422, false));
        assert_eq!(status(store::Error::Fenced(TaskId::derive("e", "a").run(0).step(0))), (409, false));
        assert_eq!(status(store::Error::Conflict(text())), (409, false));
        assert_eq!(status(store::Error::Unavailable(text())), (503, true));
        assert_eq!(status(store::Error::Corrupt(store::Damage::of("journal", text()))), (500, false));
        assert_eq!(status(store::Error::TooLarge { what: "event", bytes: 2, limit: 1 }), (413, false));
        assert_eq!(status(store::Error::Internal(text())), (500, false));
        assert_eq!(status(troupe::Error::UnknownAgent { name: text(), near: None }), (404, false));
        assert_eq!(status(troupe::Error::KeyReused(text())), (409, false));
        assert_eq!(status(troupe::Error::Unavailable(text())), (503, true));
        assert_eq!(status(troupe::Error::Bus(bus::Error::Unroutable(text()))), (422, false));
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_as_none() {
        let wait = |retry_after| {
            let problem = Problem { retry_after: Some(retry_after), ..Problem::new(Class::Unavailable, "x") };
            problem.into_response().headers()[RETRY_AFTER].to_str().unwrap().to_owned()
        };
        assert_eq!(wait(Duration::from_millis(1)), "1");
        assert_eq!(wait(Duration::ZERO), "1");
        assert_eq!(wait(Duration::from_millis(2_001)), "3");
    }
}
