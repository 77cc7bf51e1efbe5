//! How the node is: alive, ready, and part by part.
//!
//! | path | asks | 503 when |
//! |---|---|---|
//! | `/livez` | nothing | never: a process that answers is alive |
//! | `/readyz` | the ready flag | the node starts or drains |
//! | `/health` (admin) | every part | the store or the registry does not answer, or neither bus nor spool takes events |
//! | `/health` (public) | the same, one word | the same, or the node is not ready |
//!
//! A look at the parts is good for a second for everybody: the public path costs the store nothing, however often it
//! is asked. An agent that is unavailable, a broken file, a sick Redis, a broker that is away or blocked, or a bus whose
//! events the spool keeps makes the node `degraded`, which still serves.

use std::collections::BTreeMap;
use std::future::Future;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use troupe_actors::registry::{AgentFilter, AgentStatus};
use troupe_runtime::store::redis_cache::Standing;
use troupe_runtime::store::tiers;

use super::Admin;

const HEALTHY: &str = "healthy";
const DEGRADED: &str = "degraded";
const UNHEALTHY: &str = "unhealthy";

/// The last look at the parts; one at a time looks, the others wait for what it sees.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    last: Mutex<Option<(Instant, Value)>>,
}

/// `GET /livez`
pub(super) async fn live() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// `GET /readyz`
pub(super) async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    let (status, word) =
        if admin.is_ready() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    (status, Json(json!({"status": word})))
}

/// `GET /health` on the admin listener.
pub(super) async fn parts(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    let report = look(&admin).await;
    let status = if report["status"] == UNHEALTHY { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(report))
}

/// `GET /health` on the public listener: nothing that helps a stranger.
pub(super) async fn public(State(admin): State<Admin>) -> (StatusCode, Json<Value>) {
    if admin.is_ready() && look(&admin).await["status"] != UNHEALTHY {
        (StatusCode::OK, Json(json!({"status": HEALTHY})))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": UNHEALTHY})))
    }
}

/// The parts as they are, or were a moment ago.
async fn look(admin: &Admin) -> Value {
    let mut last = admin.shared.pulse.last.lock().await;
    if let Some((at, report)) = &*last
        && at.elapsed() < admin.options().health_fresh
    {
        return report.clone();
    }
    let (state, bus, cache, agents) = tokio::join!(state(admin), bus(admin), cache(admin), agents(admin));
    let components = json!({
        "state": state,
        "bus": bus,
        "cache": cache,
        "config": config(admin),
        "scheduler": off(),
        "cluster": off(),
        "agents": agents,
    });
    let report = json!({"status": worst(&components), "node": admin.shared.setup.node, "components": components});
    *last = Some((Instant::now(), report.clone()));
    report
}

/// A database that is away makes the node unhealthy: it accepts nothing and finishes nothing until it is back. Without
/// its lease the node answers and begins nothing.
async fn state(admin: &Admin) -> Value {
    let report = admin.ports().state();
    let mut state = answer(admin, admin.stores().nodes.ping(), |()| json!({"status": HEALTHY})).await;
    let lease = admin.troupe().lease();
    if lease.own().is_none() && state["status"] == HEALTHY {
        state["status"] = json!(DEGRADED);
    }
    state["lease"] = json!(lease.word());
    state["incarnation"] = json!(lease.incarnation());
    state["adapter"] = json!(report.adapter);
    state["place"] = json!(report.place);
    state["written"] = json!(report.written);
    state["waiting"] = json!(report.waiting);
    state
}

/// A cache that is sick degrades: every load is answered, by the database alone.
async fn cache(admin: &Admin) -> Value {
    let answers = admin.ports().cache.ping().await;
    let tiers::Report { process, redis } = admin.ports().cache.report();
    let Some(redis) = redis else {
        let mut cache = json!(process);
        cache["status"] = json!(HEALTHY);
        cache["adapter"] = json!("in-process");
        return cache;
    };
    let well = answers && redis.breaker == Standing::Closed && redis.takes_writes;
    let mut cache = json!(redis);
    cache["status"] = json!(if well { HEALTHY } else { DEGRADED });
    cache["adapter"] = json!("redis");
    cache["in_process"] = json!(process);
    if let Some(last) = &redis.last_error {
        let error = (admin.shared.setup.redact)(&last.error);
        cache["last_error"]["error"] = json!(error);
        if !well {
            cache["error"] = json!(format!("{error}; memories are read from the database alone"));
        }
    }
    cache
}

/// A bus that is away or blocked degrades as long as the spool keeps what is meant for it: doors need not be closed for that.
async fn bus(admin: &Admin) -> Value {
    let mut bus = queues(admin).await;
    let redact = |text: &str| (admin.shared.setup.redact)(text).into_owned();
    let mut report = admin.spool().examined().await;
    report.bus_error = report.bus_error.as_deref().map(redact);
    let keeps = report.append_error.is_none() && report.bytes < report.bytes_max;
    let stuck = if report.bus_error.is_some() {
        Some("the spool does not drain")
    } else if report.append_error.is_some() {
        Some("the spool does not take events")
    } else if report.isolated > 0 {
        Some("damaged records of the spool were moved aside and wait for a person")
    } else {
        None
    };
    match (&bus["status"], stuck) {
        (status, _) if status == UNHEALTHY && keeps => bus["status"] = json!(DEGRADED),
        (status, _) if status == DEGRADED && !keeps => bus["status"] = json!(UNHEALTHY),
        (status, Some(why)) if status == HEALTHY => {
            bus["status"] = json!(DEGRADED);
            bus["error"] = json!(why);
        }
        _ => {}
    }
    let status = if stuck.is_some() { DEGRADED } else { HEALTHY };
    bus["spool"] = json!(report);
    bus["spool"]["status"] = json!(status);
    bus
}

async fn queues(admin: &Admin) -> Value {
    answer(admin, admin.ports().bus.health(), |health| {
        let waiting: u64 = health.depths.iter().map(|(_, depth)| depth).sum();
        let mut bus = json!({
            "status": HEALTHY,
            "adapter": health.adapter,
            "queues": health.depths.len(),
            "waiting": waiting,
            "depths": health.depths.into_iter().collect::<BTreeMap<_, _>>(),
            "dead_letters": health.dead_letters,
            "unroutable": health.unroutable,
        });
        if let Some(connection) = health.connection {
            bus["connection"] = json!(connection);
            bus["connection"]["error"] =
                json!(connection.error.as_deref().map(|error| (admin.shared.setup.redact)(error)));
            if !connection.is_well() {
                bus["status"] = json!(DEGRADED);
                let why = connection.blocked.as_deref().or(connection.error.as_deref()).unwrap_or(connection.state);
                let word = if connection.blocked.is_some() { "blocked" } else { connection.state };
                bus["error"] = json!((admin.shared.setup.redact)(&format!("{} is {word}: {why}", connection.place)));
            }
        }
        bus
    })
    .await
}

async fn agents(admin: &Admin) -> Value {
    answer(admin, admin.troupe().agents(AgentFilter::default()), |agents| {
        let mut by_status: BTreeMap<&str, usize> = BTreeMap::new();
        for agent in &agents {
            *by_status.entry(agent.status.as_str()).or_default() += 1;
        }
        let sick = agents.iter().filter(|agent| agent.status == AgentStatus::Unavailable);
        let sick: Vec<&str> = sick.map(|agent| agent.name.as_str()).collect();
        let status = if sick.is_empty() { HEALTHY } else { DEGRADED };
        json!({"status": status, "total": agents.len(), "by_status": by_status, "unavailable": sick})
    })
    .await
}

fn config(admin: &Admin) -> Value {
    let report = (admin.shared.setup.config)();
    let status = if report.problems.is_empty() { HEALTHY } else { DEGRADED };
    let problems: Vec<_> = report.problems.iter().map(|problem| (admin.shared.setup.redact)(problem)).collect();
    json!({"status": status, "agents": report.agents, "problems": problems, "reloads": report.reloads, "needs_restart": report.needs_restart})
}

/// A part that this node does not have.
fn off() -> Value {
    json!({"status": "off"})
}

/// What a part says of itself, or that it says nothing.
async fn answer<T, E: std::fmt::Display>(
    admin: &Admin,
    asked: impl Future<Output = Result<T, E>>,
    say: impl FnOnce(T) -> Value,
) -> Value {
    let limit = admin.options().health_timeout;
    match timeout(limit, asked).await {
        Ok(Ok(answer)) => say(answer),
        Ok(Err(error)) => {
            json!({"status": UNHEALTHY, "error": (admin.shared.setup.redact)(&error.to_string())})
        }
        Err(_) => json!({"status": UNHEALTHY, "error": format!("no answer within {limit:?}")}),
    }
}

/// The node is as its sickest part.
fn worst(components: &Value) -> &'static str {
    let any = |word: &str| components.as_object().is_some_and(|all| all.values().any(|part| part["status"] == word));
    if any(UNHEALTHY) {
        UNHEALTHY
    } else if any(DEGRADED) {
        DEGRADED
    } else {
        HEALTHY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_as_its_sickest_part() {
        let with = |a: &str, b: &str| worst(&json!({"a": {"status": a}, "b": {"status": b}, "c": off()}));
        assert_eq!(with(HEALTHY, HEALTHY), HEALTHY);
        assert_eq!(with(HEALTHY, DEGRADED), DEGRADED);
        assert_eq!(with(UNHEALTHY, DEGRADED), UNHEALTHY);
    }
}
