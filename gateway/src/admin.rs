//! The admin listener: the API under `/v1`, health, readiness and metrics, all JSON but the metrics.
//!
//! ```text
//! request ─► counted ─► panics caught ─► masked ─► guard ─► time limit ─► handler ─► store · bus · troupe
//!                                                                  └─ Problem, whatever went wrong
//! ```
//!
//! The node serves [`router`] on `TROUPE_ADMIN_ADDR` and merges [`public_health`] into the public listener. Nothing is
//! kept here but hints ([`recent`], the last look at the parts): the answers are read from the records that recovery
//! uses. When a part does not answer, the request is a 503 with `Retry-After` and the others go on.

mod actors;
mod agents;
mod cursor;
mod dead_letters;
mod events;
mod forks;
mod guard;
mod health;
mod identity;
mod layers;
mod masking;
mod nodes;
mod params;
mod problem;
mod recent;
mod results;
mod runs;
mod scrape;
mod state;
mod tail;
mod tasks;
mod verb;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use troupe_actors::troupe::Troupe;
use troupe_runtime::live::Live;
use troupe_runtime::ports::Ports;
use troupe_runtime::store::Stores;
use troupe_runtime::telemetry::logs::Redact;

use self::health::Pulse;
use self::problem::{Class, Problem};
use self::recent::Recent;
use self::scrape::Modes;
use self::verb::clipped;
use crate::course::Course;
use crate::spool::Spool;

/// What the admin API stands on.
#[derive(Clone)]
pub struct Setup {
    /// The actors, and through them the ports.
    pub troupe: Troupe,
    /// What publishes events, or keeps them until the bus takes them.
    pub spool: Spool,
    /// The name of this node.
    pub node: String,
    /// The bearer token as it is now; `None` only on loopback.
    pub token: Live<Option<SecretString>>,
    /// Whether the node takes work, and where a drain is asked for.
    pub course: Course,
    /// How the configuration stands.
    pub config: ConfigHealth,
    /// What every text passes before it is shown.
    pub redact: Redact,
    /// Limits.
    pub options: AdminOptions,
}

/// Tells how the configuration stands, whenever somebody asks.
pub type ConfigHealth = Arc<dyn Fn() -> ConfigReport + Send + Sync>;

/// How the configuration stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConfigReport {
    /// Agents that are configured.
    pub agents: usize,
    /// What is wrong with the files that are there now; the last good versions are served.
    pub problems: Vec<String>,
    /// How often they have had an effect since the start.
    pub reloads: u64,
    /// Keys of the node configuration that were changed and wait for a restart.
    pub needs_restart: Vec<String>,
}

/// Limits of the admin API.
#[derive(Debug, Clone)]
pub struct AdminOptions {
    /// Largest body, in bytes.
    pub body_bytes_max: usize,
    /// Limit of one request, the wait that it asks for excluded.
    pub request_timeout: Duration,
    /// Longest `?wait=`; a longer one is cut to it.
    pub wait_max: Duration,
    /// Limit of asking one part for its health.
    pub health_timeout: Duration,
    /// How long a look at the parts is good for everybody who asks.
    pub health_fresh: Duration,
    /// Items of a page when nobody says.
    pub page_default: usize,
    /// Items of a page at most.
    pub page_max: usize,
    /// Things that are listed when an id is ambiguous.
    pub candidates_max: usize,
    /// Submissions that are remembered until a pool has them.
    pub recent_max: usize,
    /// Longest `Idempotency-Key` and session, in bytes.
    pub key_bytes_max: usize,
    /// Readers of the bus's events at a time.
    pub tails_max: usize,
    /// Events that wait for one of them; more are missed.
    pub tail_events_max: usize,
    /// How often a reader without events is given a sign of life.
    pub tail_keep_alive: Duration,
}

impl Default for AdminOptions {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            request_timeout: Duration::from_secs(10),
            wait_max: Duration::from_mins(10),
            health_timeout: Duration::from_secs(1),
            health_fresh: Duration::from_secs(1),
            page_default: 50,
            page_max: 500,
            candidates_max: 10,
            recent_max: 4096,
            key_bytes_max: 256,
            tails_max: 16,
            tail_events_max: 256,
            tail_keep_alive: Duration::from_secs(15),
        }
    }
}

/// The admin API of a running node. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    shared: Arc<Shared>,
}

struct Shared {
    setup: Setup,
    recent: Recent,
    pulse: Pulse,
    modes: Modes,
}

impl Admin {
    /// The API over a running node.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let recent = Recent::new(setup.options.recent_max);
        Self { shared: Arc::new(Shared { setup, recent, pulse: Pulse::default(), modes: Modes::default() }) }
    }

    fn troupe(&self) -> &Troupe {
        &self.shared.setup.troupe
    }

    fn spool(&self) -> &Spool {
        &self.shared.setup.spool
    }

    fn ports(&self) -> &Ports {
        self.shared.setup.troupe.ports()
    }

    fn stores(&self) -> &Stores {
        &self.ports().stores
    }

    fn options(&self) -> &AdminOptions {
        &self.shared.setup.options
    }

    fn is_ready(&self) -> bool {
        self.shared.setup.course.is_ready()
    }

    /// Refuses new work while the node drains; what asks about work, or cuts it off, is answered until the end.
    fn takes_work(&self) -> Result<(), Problem> {
        if self.is_ready() {
            return Ok(());
        }
        Err(Problem::new(
            Class::Unavailable,
            "the node takes no new work: it drains; ask another node, or its next life",
        ))
    }

    /// A thing as it may be shown: without its secrets.
    fn show(&self, thing: &impl Serialize) -> Result<Json<Value>, Problem> {
        let mut value = serde_json::to_value(thing)
            .map_err(|error| Problem::new(Class::Internal, format!("the answer cannot be written: {error}")))?;
        masking::mask(&mut value, &self.shared.setup.redact);
        Ok(Json(value))
    }
}

/// Everything on the admin listener.
pub fn router(admin: Admin) -> Router {
    let within = middleware::from_fn_with_state(admin.clone(), layers::within);
    let guarded = middleware::from_fn_with_state(admin.clone(), guard::guard);
    let masked = middleware::from_fn_with_state(admin.clone(), layers::masked);
    let counted = middleware::from_fn_with_state((admin.clone(), "admin"), layers::counted);
    Router::new()
        .route("/v1/agents", get(agents::list))
        .route("/v1/agents/{agent}", get(agents::show).post(agents::act).delete(agents::drop_queue))
        .route("/v1/agents/{agent}/tasks", post(agents::submit))
        .route("/v1/tasks", get(tasks::list))
        .route("/v1/tasks/{task}", get(tasks::show))
        .route("/v1/runs/{run}", get(runs::show).post(runs::act))
        .route("/v1/runs/{run}/journal", get(runs::journal))
        .route("/v1/results", get(results::list))
        .route("/v1/results/{result}", get(results::show))
        .route("/v1/state/{agent}", get(state::list).post(state::act))
        .route("/v1/state/{agent}/", get(state::show_nameless))
        .route("/v1/state/{agent}/{session}", get(state::show))
        .route("/v1/actors", get(actors::list))
        .route("/v1/actors/{*path}", get(actors::show).post(actors::act))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{node}", post(nodes::act))
        .route("/v1/dead-letters", get(dead_letters::list))
        .route(
            "/v1/dead-letters/{letter}",
            get(dead_letters::show).post(dead_letters::act).delete(dead_letters::remove),
        )
        .route("/v1/events", get(tail::tail).post(events::publish))
        .route("/health", get(health::parts))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(scrape::metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(admin.options().body_bytes_max))
        .layer(within)
        .layer(guarded)
        .layer(masked)
        .layer(CatchPanicLayer::custom(layers::fallen))
        .layer(counted)
        .with_state(admin)
}

/// What the public listener tells of the node's health: one word.
pub fn public_health(admin: Admin) -> Router {
    let counted = middleware::from_fn_with_state((admin.clone(), "public"), layers::counted);
    Router::new()
        .route("/health", get(health::public))
        .method_not_allowed_fallback(wrong_method)
        .layer(counted)
        .with_state(admin)
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}", clipped(uri.path())))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Class::Method, format!("{} takes no {}", clipped(uri.path()), clipped(method.as_str())))
}

#[cfg(test)]
mod tests;
