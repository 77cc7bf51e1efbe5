//! `/v1/nodes`: the nodes of the database, and the switch that drains this one.
//!
//! The database knows who has started and who holds a lease; of this node there is more to tell. A drain is answered before it
//! begins and ends the process; as long as it takes, the admin API answers. Another node is another process: it is drained
//! at its own address.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use troupe_runtime::store::NodeRow;

use super::params::Segment;
use super::problem::{Class, Problem};
use super::{Admin, verb};
use crate::course::Phase;

/// `GET /v1/nodes`
pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Value>, Problem> {
    let nodes = admin.stores().nodes.list(admin.options().page_max).await?;
    let items: Vec<Value> = nodes.iter().map(|node| view(&admin, node)).collect();
    admin.show(&json!({"items": items}))
}

/// `POST /v1/nodes/{name}:drain`
pub(super) async fn act(
    State(admin): State<Admin>,
    Segment(segment): Segment,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let (name, _) = verb::split(&segment, &["drain"])?;
    let own = admin.shared.setup.node.as_str();
    if name != own {
        let nodes = admin.stores().nodes.list(admin.options().page_max).await?;
        let problem = if nodes.iter().any(|node| node.name == name) {
            let detail = format!("node {name} is another process: ask at its own address (--url); {own} answers here");
            Problem::new(Class::Conflict, detail)
        } else {
            Problem::not_found(format!("there is no node {}; {own} answers here", verb::clipped(name)))
        };
        return Err(problem.near(Some(own.to_owned())));
    }
    let steps = admin.troupe().in_hand();
    tracing::warn!(node = name, steps, "an operator drains the node");
    admin.shared.setup.course.drain();
    Ok((StatusCode::ACCEPTED, admin.show(&json!({"name": name, "state": "draining", "steps": steps}))?))
}

/// A node as it is shown; what only the node itself knows is known of this one.
fn view(admin: &Admin, node: &NodeRow) -> Value {
    let here = node.name == admin.shared.setup.node;
    let state = match (node.ended_at.is_some(), node.is_held) {
        (true, _) => "gone",
        (false, _) if here && admin.shared.setup.course.phase() == Phase::Draining => "draining",
        (false, true) => "alive",
        // It may be frozen, or cut off; another node says when it is gone.
        (false, false) => "lapsed",
    };
    json!({
        "name": node.name,
        "state": state,
        "here": here,
        "since": node.ended_at.unwrap_or(node.started_at),
        "started_at": node.started_at,
        "ended_at": node.ended_at,
        "lease_until": node.lease_until,
        "incarnation": node.incarnation,
        "steps": here.then(|| admin.troupe().in_hand()),
    })
}
