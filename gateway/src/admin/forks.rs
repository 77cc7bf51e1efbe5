//! `POST /v1/runs/{id}:fork`: a new task that keeps what a run had done before a place.
//!
//! `{"from_step": N}` counts turns in a run of one step, `{"from_entry": N}` entries of its journal; `set` changes keys of
//! the spec that the run pins. Answered once the fork is durable, as a submission is. What cannot be is a problem that says
//! which place would do, and nothing was made.

use std::collections::BTreeMap;

use axum::extract::FromRequest as _;
use axum::extract::Request;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::Value;
use troupe_actors::fork::Forking;
use troupe_runtime::domain::fork::Place;

use super::identity::{self, Known};
use super::params::Body;
use super::problem::Problem;
use super::{Admin, agents, tasks};

/// What is asked of a run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    from_step: Option<u32>,
    from_entry: Option<u32>,
    #[serde(default)]
    set: BTreeMap<String, Value>,
}

impl Asked {
    fn place(&self) -> Result<Place, Problem> {
        match (self.from_step, self.from_entry) {
            (Some(step), None) => Ok(Place::Turn(step)),
            (None, Some(entry)) => Ok(Place::Entry(entry)),
            _ => Err(Problem::invalid("say where to fork from: from_step or from_entry, one of them")),
        }
    }

    fn set(self) -> Result<BTreeMap<String, String>, Problem> {
        let text = |(key, value): (String, Value)| match value {
            Value::String(text) => Ok((key, text)),
            Value::Number(number) => Ok((key, number.to_string())),
            _ => Err(Problem::invalid(format!("set.{key} is neither a text nor a number"))),
        };
        self.set.into_iter().map(text).collect()
    }
}

/// Makes the fork.
pub(super) async fn make(admin: &Admin, id: &str, request: Request) -> Result<Response, Problem> {
    admin.takes_work()?;
    let idempotency_key = agents::idempotency_key(request.headers(), admin.options().key_bytes_max)?;
    let Body(asked) = Body::<Asked>::from_request(request, admin).await?;
    let found = identity::run(admin, id).await?;
    let forking = Forking { run: found.run, place: asked.place()?, set: asked.set()?, idempotency_key };
    let made = admin.troupe().fork(&found.task, forking).await?;
    let location = HeaderValue::try_from(format!("/v1/tasks/{}", made.id));
    let body = admin.show(&tasks::view(&Known::Stored(Box::new(made))))?;
    let mut response = (StatusCode::ACCEPTED, body).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}
