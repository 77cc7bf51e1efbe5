//! What surrounds every handler: a limit in time, a mask over refusals, a net under panics, a count, and headers that keep answers private.
//!
//! Put on by [`super::router`], outermost first: count, net, mask, guard, limit. What they refuse is a problem like any other.

use std::any::Any;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::params::duration;
use super::problem::{Class, PROBLEM_JSON, Problem};
use super::{Admin, masking};

/// The route of what matches none.
const NO_ROUTE: &str = "none";
/// Largest problem; ours have a bound for each part and stay far below.
const PROBLEM_BYTES_MAX: usize = 1024 * 1024;

/// Ends a request that takes longer than its limit; what it asked to wait for comes on top.
pub(super) async fn within(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let options = admin.options();
    let limit = options.request_timeout + asked_wait(request.uri().query()).min(options.wait_max);
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(Class::Unavailable, format!("no answer within {limit:?}")).into_response(),
    }
}

/// The wait that a query asks for; one that cannot be read is the handler's to refuse.
fn asked_wait(query: Option<&str>) -> Duration {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let wait = pairs.filter(|(name, _)| *name == "wait").find_map(|(_, text)| duration("wait", text).ok());
    wait.unwrap_or_default()
}

/// Counts the answer by its route and tells the log of it.
pub(super) async fn counted(
    State((admin, listener)): State<(Admin, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let route = matched.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let status = response.status().as_u16();
    // A method is a caller's word; only those there are become a label.
    let word = if matches!(method.as_str(), "GET" | "HEAD" | "POST" | "DELETE") { method.as_str() } else { "other" };
    admin.ports().metrics.http_answered(listener, route, word, status);
    tracing::debug!(listener, route, %method, status, took_ms = begun.elapsed().as_millis() as u64, "answered");
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Masks secrets in what is refused: a problem quotes what it refuses, and libraries quote what they like.
pub(super) async fn masked(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let (parts, body) = next.run(request).await.into_parts();
    if parts.headers.get(CONTENT_TYPE).is_none_or(|kind| kind != PROBLEM_JSON) {
        return Response::from_parts(parts, body);
    }
    let read = to_bytes(body, PROBLEM_BYTES_MAX).await.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(mut problem) = read else {
        return Response::from_parts(parts, Body::empty());
    };
    masking::mask(&mut problem, &admin.shared.setup.redact);
    let (mut parts, body) = (parts, problem.to_string());
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

/// What is answered when a handler panics; the panic itself is in the log.
pub(super) fn fallen(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::new(Class::Internal, "the node could not answer this; its log says where it went wrong").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_grows_by_the_wait_that_is_asked_for() {
        assert_eq!(asked_wait(Some("limit=3&wait=30s")), Duration::from_secs(30));
        assert_eq!(asked_wait(Some("wait=soon")), Duration::ZERO);
        assert_eq!(asked_wait(None), Duration::ZERO);
    }
}
