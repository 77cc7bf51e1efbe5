//! `/v1/actors`: the live tree of this node, and the switches that cut an actor off or have it started again.
//!
//! The tree is a view, read under one short lock: it answers while every actor is busy. What a kill or a restart does is
//! the supervisor's business; here it is only a 404 with the nearest path, or a 409 when the actor is down already, or
//! lives once only.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use troupe_runtime::supervision::{ActorView, KillError, RestartError};

use super::params::{Params, Segment, switch};
use super::problem::{Class, Problem};
use super::{Admin, verb};

/// In which shape.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shape {
    tree: Option<String>,
}

/// `GET /v1/actors`: a list, a parent before its children; with `tree=1` each with its children.
pub(super) async fn list(State(admin): State<Admin>, Params(shape): Params<Shape>) -> Result<Json<Value>, Problem> {
    let node = &admin.shared.setup.node;
    let actors = admin.troupe().tree().list().into_iter().map(|actor| view(&actor, node));
    let items = if switch("tree", shape.tree.as_deref())? { nest(actors) } else { actors.collect() };
    admin.show(&json!({"items": items}))
}

/// `GET /v1/actors/{path}`
pub(super) async fn show(State(admin): State<Admin>, Segment(path): Segment) -> Result<Json<Value>, Problem> {
    let path = path.trim_matches('/');
    let actor = admin.troupe().tree().get(path);
    let actor = actor.ok_or_else(|| Problem::not_found(format!("there is no actor {}", verb::clipped(path))))?;
    let mut view = view(&actor, &admin.shared.setup.node);
    let mut falls = admin.troupe().tree().ledger().of(path);
    falls.reverse();
    view["falls"] = json!(falls);
    admin.show(&view)
}

/// `POST /v1/actors/{path}:kill`, `:restart`
pub(super) async fn act(State(admin): State<Admin>, Segment(segment): Segment) -> Result<Json<Value>, Problem> {
    let (path, verb) = verb::split(&segment, &["kill", "restart"])?;
    let path = path.trim_matches('/');
    let tree = admin.troupe().tree();
    let state = if verb == "kill" {
        tree.kill(path).map_err(refused)?;
        "killed"
    } else {
        tree.restart(path, "an operator asked for it").map_err(|error| match error {
            RestartError::NotFound(error) => refused(error),
            RestartError::LivesOnce { .. } => Problem::new(Class::Conflict, error.to_string()),
        })?;
        "restarting"
    };
    tracing::warn!(actor = path, verb, "an operator acts on the actor");
    admin.show(&json!({"path": path, "state": state, "node": admin.shared.setup.node}))
}

fn refused(error: KillError) -> Problem {
    let message = error.to_string();
    match error {
        KillError::NotFound { nearest, .. } => Problem::not_found(message).near(nearest),
        KillError::NotRunning { .. } => Problem::new(Class::Conflict, message),
    }
}

fn view(actor: &ActorView, node: &str) -> Value {
    let mut view = json!(actor);
    view["node"] = Value::from(node);
    view
}

/// The list as a tree. An actor whose parent is not listed is a root.
fn nest(actors: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut roots = Vec::new();
    // The branch from a root to the actor that was last seen.
    let mut branch: Vec<Value> = Vec::new();
    for mut actor in actors {
        actor["children"] = Value::Array(Vec::new());
        while branch.last().is_some_and(|above| !is_below(&actor, above)) {
            fold(&mut branch, &mut roots);
        }
        branch.push(actor);
    }
    while !branch.is_empty() {
        fold(&mut branch, &mut roots);
    }
    roots
}

/// The end of the branch is complete: it becomes a child of what is above it.
fn fold(branch: &mut Vec<Value>, roots: &mut Vec<Value>) {
    let Some(done) = branch.pop() else { return };
    let siblings = branch.last_mut().and_then(|above| above.get_mut("children")).and_then(Value::as_array_mut);
    siblings.unwrap_or(roots).push(done);
}

fn is_below(actor: &Value, above: &Value) -> bool {
    let path = |actor: &Value| actor["path"].as_str().unwrap_or_default().to_owned();
    path(actor).strip_prefix(&path(above)).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(actors: &[Value]) -> String {
        let one = |actor: &Value| {
            let name = actor["path"].as_str().unwrap().rsplit('/').next().unwrap();
            let children = actor["children"].as_array().unwrap();
            if children.is_empty() { name.to_owned() } else { format!("{name}({})", names(children)) }
        };
        actors.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_list_becomes_the_tree_it_stands_for() {
        let paths = ["root", "root/a", "root/a/0", "root/a/0/step", "root/a/1", "root/a-b", "root/b", "stray/x"];
        let tree = nest(paths.iter().map(|path| json!({"path": path})));
        assert_eq!(names(&tree), "root(a(0(step) 1) a-b b) x");
        assert!(nest(std::iter::empty()).is_empty());
    }
}
