//! `/metrics`: asks the bus how its queues stand, then renders everything.
//!
//! A bus that does not answer in time has no depths that time; a registry that does not answer leaves the last known
//! agents. A scrape is always answered, for it is what tells of the trouble.

use std::sync::{Mutex, PoisonError};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use troupe_runtime::domain::agent::{AgentName, ExecutionMode};
use troupe_runtime::telemetry::metrics;

use super::{Admin, agents};

/// Agents and their modes as they were when the registry last answered; they change with the configuration only.
#[derive(Debug, Default)]
pub(super) struct Modes {
    last: Mutex<Vec<(AgentName, ExecutionMode)>>,
}

/// `GET /metrics`
pub(super) async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let limit = admin.options().health_timeout;
    let (health, modes) = tokio::join!(
        tokio::time::timeout(limit, admin.ports().bus.health()),
        tokio::time::timeout(limit, agents::modes(&admin)),
    );
    let modes = {
        let mut last = admin.shared.modes.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Ok(modes)) = modes {
            *last = modes;
        }
        last.clone()
    };
    let metrics = &admin.ports().metrics;
    match health {
        Ok(Ok(health)) => metrics.bus_stands(&health, &modes),
        Ok(Err(_)) | Err(_) => metrics.bus_silent(),
    }
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.render())
}
