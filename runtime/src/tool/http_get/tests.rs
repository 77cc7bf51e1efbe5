//! `http_get` against a local server, and against everything it must not reach.

use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::progress::Progress;

/// A small server: what it answers follows from the path.
async fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if socket.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let answer = |status: &str, headers: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let reply = match path.split_once("?to=") {
        Some((_, to)) => answer("302 Found", &format!("location: {to}\r\n"), ""),
        None => match path {
            "/page" => answer("200 OK", "content-type: text/html; charset=utf-8\r\n", "<p>good morning</p>"),
            "/data" => answer("200 OK", "content-type: application/problem+json\r\n", "{}"),
            "/key" => answer("200 OK", "content-type: text/plain\r\n", &key_in(&request)),
            "/picture" => answer("200 OK", "content-type: image/png\r\n", "PNG"),
            "/bare" => answer("200 OK", "", "a\0b"),
            "/nowhere" => answer("302 Found", "", ""),
            "/long" => answer("200 OK", "content-type: text/plain\r\n", &"x".repeat(5_000)),
            "/endless" => "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n".to_owned(),
            "/hang" => String::new(),
            _ => answer("404 Not Found", "content-type: text/plain\r\n", "no such page"),
        },
    };
    socket.write_all(reply.as_bytes()).await?;
    match path {
        "/endless" => loop {
            socket.write_all(&[b'x'; 512]).await?;
        },
        "/hang" => tokio::time::sleep(Duration::from_hours(1)).await,
        _ => {}
    }
    socket.shutdown().await
}

fn key_in(request: &str) -> String {
    let keys = request.lines().filter_map(|line| line.strip_prefix("idempotency-key: "));
    keys.collect::<Vec<_>>().join(",")
}

async fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    port
}

fn tool(hosts: &[&str], options: HttpGetOptions) -> HttpGetTool {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    HttpGetTool::new(&hosts, options.client().unwrap(), options).unwrap()
}

/// A tool that may reach the local server, and small limits.
fn local_tool() -> HttpGetTool {
    let options = HttpGetOptions {
        timeout: Duration::from_secs(10),
        body_bytes_max: 4_096,
        allow_loopback: true,
        ..HttpGetOptions::default()
    };
    tool(&["127.0.0.1:*", "localhost:*", "*"], options)
}

async fn get(tool: &HttpGetTool, url: &str) -> Answer {
    let time_left = Duration::from_mins(1);
    let (arguments, idempotency_key) = (json!({"url": url}), "k7".into());
    tool.call(Invocation { arguments, idempotency_key, time_left, progress: Progress::begin() }).await
}

async fn refused(tool: &HttpGetTool, url: &str, reason: &str) {
    let answer = get(tool, url).await;
    assert!(answer.is_error && answer.content.contains(reason), "{url} gave {answer:?}, not {reason:?}");
}

#[tokio::test]
async fn a_page_is_read_with_its_status() {
    let (tool, port) = (local_tool(), server().await);
    let answer = get(&tool, &format!("http://127.0.0.1:{port}/page#top")).await;
    let url = format!("http://127.0.0.1:{port}/page");
    let content = format!("status: 200 OK\nurl: {url}\ncontent-type: text/html\n\n<p>good morning</p>");
    assert_eq!(answer, Answer::ok(content));
    assert!(!get(&tool, &format!("http://localhost:{port}/data")).await.is_error);
    let missing = get(&tool, &format!("http://127.0.0.1:{port}/x")).await;
    assert!(missing.is_error && missing.content.starts_with("status: 404 Not Found\n"), "{missing:?}");
    assert!(missing.content.ends_with("no such page"));
}

#[tokio::test]
async fn the_call_carries_its_key_also_where_it_is_redirected_to() {
    let (tool, port) = (local_tool(), server().await);
    for path in ["/key", "/x?to=/key"] {
        let answer = get(&tool, &format!("http://127.0.0.1:{port}{path}")).await;
        assert!(answer.content.ends_with("\n\nk7"), "{answer:?}");
    }
}

#[tokio::test]
async fn loopback_is_refused_in_every_disguise_and_nothing_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tool = tool(&["*:*"], HttpGetOptions::default());
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "①②⑦.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "0.0.0.0",
        "0",
        "localhost",
        "LOCALHOST",
    ] {
        refused(&tool, &format!("http://{host}:{port}/"), "not an address of the public internet").await;
    }
    assert!(listener.accept().now_or_never().is_none(), "somebody connected");
}

#[tokio::test]
async fn private_and_link_local_addresses_are_refused() {
    let tool = tool(&["*"], HttpGetOptions::default());
    for host in ["10.0.0.1", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "[fd00::1]", "[fe80::1]"] {
        refused(&tool, &format!("http://{host}/latest/meta-data"), "not an address of the public internet").await;
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_loopback_is_refused_by_the_resolver() {
    let resolver = CheckedResolver { allow_loopback: false };
    let error = resolver.resolve("localhost".parse().unwrap()).await.err().unwrap();
    let not_public = error.downcast_ref::<NotPublic>().unwrap();
    assert!(not_public.address.is_loopback());
    let resolver = CheckedResolver { allow_loopback: true };
    assert!(resolver.resolve("localhost".parse().unwrap()).await.is_ok());
}

#[tokio::test]
async fn only_listed_hosts_plain_http_and_no_user_names() {
    let listed = tool(&["example.org"], HttpGetOptions::default());
    refused(&listed, "https://example.com/", "example.com is not among the hosts").await;
    refused(&listed, "https://example.org:8443/", "example.org:8443 is not among the hosts").await;
    refused(&listed, "https://example.org@example.com/", "user name").await;
    refused(&listed, "https://:secret@example.org/", "user name").await;
    refused(&listed, "file:///etc/passwd", "file: only http").await;
    refused(&listed, "gopher://example.org/", "gopher: only http").await;
    refused(&listed, "/page", "absolute").await;
    let arguments = Value::Null;
    let (idempotency_key, time_left) = (String::new(), Duration::from_secs(1));
    let invocation = Invocation { arguments, idempotency_key, time_left, progress: Progress::begin() };
    assert!(listed.call(invocation).await.is_error);
}

#[tokio::test]
async fn redirects_are_followed_and_checked_like_the_first_address() {
    let (tool, port) = (local_tool(), server().await);
    let via = |to: &str| format!("http://127.0.0.1:{port}/r?to={to}");
    let answer = get(&tool, &via("/page")).await;
    assert!(!answer.is_error && answer.content.contains("good morning"), "{answer:?}");
    assert!(!get(&tool, &via(&via(&via("/page")))).await.is_error);
    refused(&tool, &via("http://169.254.169.254/latest/meta-data"), "169.254.169.254, which is not an address").await;
    refused(&tool, &via("//10.0.0.1/"), "10.0.0.1, which is not an address").await;
    refused(&tool, &via("http://[::ffff:127.0.0.1]/"), "not an address of the public internet").await;
    refused(&tool, &via("http://example.org:22/"), "example.org:22 is not among the hosts").await;
    refused(&tool, &via("http://me:pw@127.0.0.1/"), "user name").await;
    refused(&tool, &via("file:///etc/passwd"), "file: only http").await;
    refused(&tool, &via("http://"), "without a usable place").await;
    refused(&tool, &format!("http://127.0.0.1:{port}/nowhere"), "answered 302 without a usable place").await;
}

#[tokio::test]
async fn redirects_have_an_end() {
    let (mut tool, port) = (local_tool(), server().await);
    let mut url = format!("http://127.0.0.1:{port}/page");
    for _ in 0..5 {
        url = format!("http://127.0.0.1:{port}/r?to={url}");
    }
    assert!(!get(&tool, &url).await.is_error, "five are followed");
    tool.options.redirects_max = 4;
    refused(&tool, &url, "gave up after 4 redirects").await;
}

#[tokio::test]
async fn bodies_have_a_limit_and_are_text() {
    let (tool, port) = (local_tool(), server().await);
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    refused(&tool, &url("/long"), "longer than body_bytes_max = 4096 bytes").await;
    refused(&tool, &url("/endless"), "longer than body_bytes_max = 4096 bytes").await;
    refused(&tool, &url("/picture"), "the body is image/png, not text").await;
    refused(&tool, &url("/bare"), "not text").await;
}

#[tokio::test]
async fn a_page_that_does_not_come_is_given_up() {
    let (mut tool, port) = (local_tool(), server().await);
    tool.options.timeout = Duration::from_millis(100);
    refused(&tool, &format!("http://127.0.0.1:{port}/hang"), "did not come within 100ms").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    tool.options.timeout = Duration::from_secs(10);
    refused(&tool, &format!("http://{closed}/"), &format!("no answer from {closed}: ")).await;
}
