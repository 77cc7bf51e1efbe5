//! What surrounds the handlers: who may come in, what is answered to nonsense, what a panic does to the one who caused
//! it and to the others.

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_everything_but_liveness_is_shut() {
    let house = House::open_behind("let-me-in").await;
    let with = async |path: &str, header: Option<&str>| {
        let request = house.http.get(format!("http://{}{path}", house.admin));
        sent(match header {
            Some(header) => request.header(AUTHORIZATION, header),
            None => request,
        })
        .await
    };
    for path in ["/v1/agents", "/metrics", "/health", "/v1/tasks", "/nowhere"] {
        let refused = with(path, None).await;
        assert!(refused.problem(401).contains("TROUPE_ADMIN_TOKEN"), "{path}");
        assert_eq!(refused.headers["www-authenticate"], "Bearer realm=\"troupe\"");
        with(path, Some("Bearer let-me-out")).await.problem(401);
    }
    assert_eq!(with("/v1/agents", Some("Bearer let-me-in")).await.status, 200);
    assert_eq!((with("/livez", None).await.status, with("/readyz", None).await.status), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_cannot_use_the_door_of_this_machine() {
    let house = House::open().await;
    let kill = "/v1/actors/root/orchestrator/autonomous/echo/0:kill";
    let from_page = house.request(Method::POST, kill).header(ORIGIN, "http://evil.example");
    assert!(sent(from_page).await.problem(403).contains("origin"));
    let rebound = house.request(Method::GET, "/v1/tasks").header(HOST, "evil.example:8081");
    assert!(sent(rebound).await.problem(403).contains("localhost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_with_a_problem() {
    let house = House::open().await;
    assert!(house.get("/v1/nowhere").await.problem(404).contains("/v1/nowhere"));
    house.get("/v1/tasks/").await.problem(404);
    house.get("/").await.problem(404);
    let wrong = sent(house.request(Method::DELETE, "/v1/agents")).await;
    assert!(wrong.problem(405).contains("DELETE"));
    assert_eq!(wrong.headers["allow"], "GET,HEAD");
    sent(house.request(Method::PATCH, "/v1/tasks/x")).await.problem(405);
    house.post("/metrics").await.problem(405);
    let long = house.get(&format!("/v1/agents/{}", "x".repeat(3000))).await;
    assert!(long.problem(404).len() < 200, "a caller's text is not repeated at length");
    let answer = house.get("/v1/agents").await;
    assert_eq!((&answer.headers["cache-control"], &answer.headers["x-content-type-options"]).0, "no-store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_told_so() {
    let house = House::open_with(|setup| setup.options.request_timeout = Duration::from_millis(200)).await;
    // A body that never ends: only the limit does.
    let endless = reqwest::Body::wrap_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = house.request(Method::POST, "/v1/agents/echo/tasks").header("content-type", "application/json");
    let answer = sent(request.body(endless)).await;
    assert!(answer.problem(503).contains("200ms"));
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_panic_is_one_answer_and_nobody_else_s() {
    let router = Router::new()
        .route("/fall", get(fall))
        .route("/stand", get(async || "standing"))
        .layer(CatchPanicLayer::custom(layers::fallen));
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let (addr, _door) = serve(router).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let fallen = sent(http.get(format!("http://{addr}/fall"))).await;
    assert!(!fallen.problem(500).contains("on purpose"));
    assert_eq!(sent(http.get(format!("http://{addr}/stand"))).await.text, "standing");
}

async fn fall() -> StatusCode {
    panic!("on purpose")
}
