//! The door over real sockets: every row of the head's picture, then a thousand forgeries and a thousand heaps of bytes.

use std::sync::atomic::Ordering;

use axum::http::HeaderName;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use secrecy::SecretString;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::signature::sign;
use super::super::testing::{Mood, TestBus};
use super::*;
use crate::stand_in::SIGNING_SECRET;
use crate::stand_in::requests::{Asker, SignedRequest};

/// A door on loopback, with what is behind it.
struct House {
    bus: Arc<TestBus>,
    spool: Spool,
    dir: tempfile::TempDir,
    stats: Arc<IngressStats>,
    addr: std::net::SocketAddr,
    client: reqwest::Client,
}

fn secrets() -> SigningSecrets {
    SigningSecrets::new(vec![SecretString::from(SIGNING_SECRET)]).unwrap()
}

async fn house_with(secrets: SigningSecrets, options: IngressOptions) -> House {
    house_of(secrets, options, spool::Options::default()).await
}

async fn house_of(secrets: SigningSecrets, options: IngressOptions, of_spool: spool::Options) -> House {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let bus = TestBus::new();
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(&dir.path().join("spool"), bus.clone(), of_spool).await.unwrap();
    spool.begin();
    let ingress = Ingress::new(spool.clone(), secrets, options);
    let stats = Arc::clone(&ingress.stats);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router(ingress)).await });
    House { bus, spool, dir, stats, addr, client: reqwest::Client::builder().no_proxy().build().unwrap() }
}

async fn house() -> House {
    house_with(secrets(), IngressOptions::default()).await
}

impl House {
    async fn send(&self, request: &SignedRequest) -> reqwest::Response {
        self.send_to(request.path, request).await
    }

    async fn send_to(&self, path: &str, request: &SignedRequest) -> reqwest::Response {
        let mut builder = self.client.post(format!("http://{}{path}", self.addr)).body(request.body.clone());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        builder.send().await.unwrap()
    }

    async fn status(&self, request: &SignedRequest) -> u16 {
        self.send(request).await.status().as_u16()
    }

    /// Sends bytes as they are and answers the status line's code.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.addr).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[9..]).into_owned()
    }
}

fn command(trigger: &str) -> SignedRequest {
    Asker::default().slash_command("/research", "why is the sky blue", trigger, "https://hooks.slack.com/commands/x")
}

fn header(request: &mut SignedRequest, name: &str, value: &str) {
    for (key, old) in &mut request.headers {
        if *key == name {
            value.clone_into(old);
        }
    }
}

#[tokio::test]
async fn a_signed_command_is_on_the_bus_when_the_answer_is_there() {
    let house = house().await;
    for (n, path) in ["/slack/events", "/slack/commands", "/slack/interactions"].into_iter().enumerate() {
        let answer = house.send_to(path, &command(&format!("t{n}"))).await;
        assert_eq!(house.bus.events().len(), n + 1);
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, ""));
    }
    let event = &house.bus.events()[0];
    assert_eq!(event.topic.as_str(), "slack.events.command.research");
    assert_eq!(event.input(), "why is the sky blue");
    assert_eq!(house.stats.accepted.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_retry_is_taken_and_has_the_id_of_the_first() {
    let house = house().await;
    let mut request = Asker::default().message("hello", "1.000001", None);
    assert_eq!(house.status(&request).await, 200);
    request.headers.push(("x-slack-retry-num", "1".to_owned()));
    request.headers.push(("x-slack-retry-reason", "http_timeout".to_owned()));
    assert_eq!(house.status(&request).await, 200);
    assert_eq!(house.status(&Asker::default().mention("hello", "1.000001", None)).await, 200);
    let events = house.bus.events();
    assert_eq!((&events[0].id, &events[0].id), (&events[1].id, &events[2].id));
    assert_eq!(events[2].topic.as_str(), "slack.events.mention");
}

#[tokio::test]
async fn what_is_not_signed_now_by_us_is_401() {
    let house = house().await;
    let now = Utc::now().timestamp();
    let other = Asker { secret: SecretString::from("other"), ..Asker::default() };
    let mut bad = vec![other.slash_command("/x", "", "t", "")];
    for timestamp in [now - 302, now + 302, 0] {
        bad.push(Asker { timestamp: Some(timestamp), ..Asker::default() }.slash_command("/x", "", "t", ""));
    }
    for timestamp in ["now", "1.5", "-1", "99999999999999999999", ""] {
        let mut request = command("t");
        header(&mut request, "x-slack-request-timestamp", timestamp);
        bad.push(request);
    }
    let mut doubled = command("t");
    doubled.headers.push(doubled.headers[2].clone());
    bad.push(doubled);
    bad.push(SignedRequest { headers: vec![("content-type", "application/json".to_owned())], ..command("t") });
    for request in &bad {
        assert_eq!(house.status(request).await, 401, "{:?}", request.headers);
    }
    assert_eq!(house.bus.events().len(), 0);
    assert_eq!(house.stats.refused.load(Ordering::Relaxed), bad.len() as u64);
}

#[tokio::test]
async fn a_thousand_mutated_signatures_open_nothing() {
    let house = house().await;
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..1_000 {
        let mut request = command("t");
        let which = ["x-slack-signature", "x-slack-request-timestamp"][usize::from(rng.random_ratio(1, 4))];
        let good = request.headers.iter().find(|(name, _)| *name == which).unwrap().1.clone();
        let mut bytes = good.clone().into_bytes();
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..3) {
            0 => bytes[at] = rng.random_range(b'!'..=b'~'),
            1 => _ = bytes.remove(at),
            _ => bytes.insert(at, rng.random_range(b'!'..=b'~')),
        }
        let mutated = String::from_utf8(bytes).unwrap();
        if mutated == good {
            continue;
        }
        header(&mut request, which, &mutated);
        assert_eq!(house.status(&request).await, 401, "{which}: {mutated}");
    }
    assert_eq!(house.bus.events().len(), 0);
}

#[tokio::test]
async fn signed_bytes_of_any_kind_are_answered_in_a_known_way() {
    let house = house_with(secrets(), IngressOptions { body_bytes_max: 2_000, ..IngressOptions::default() }).await;
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut answers = std::collections::BTreeMap::<u16, u32>::new();
    for n in 0..1_000 {
        let mut body: Vec<u8> = (0..rng.random_range(0..2_100)).map(|_| rng.random()).collect();
        let content_type = ["application/json", "application/x-www-form-urlencoded", "text/plain", ""][n % 4];
        if n % 3 == 0 {
            let start: &[u8] =
                [b"{\"type\":\"event_callback\",".as_slice(), b"command=/x&team_id=T&", b"payload={"][n % 9 / 3];
            body.splice(0..0, start.iter().copied());
        }
        let now = Utc::now().timestamp();
        let signature = sign(&SecretString::from(SIGNING_SECRET), now, &body);
        let request = house
            .client
            .post(format!("http://{}/slack/events", house.addr))
            .header("content-type", content_type)
            .header("x-slack-request-timestamp", now)
            .header("x-slack-signature", signature)
            .body(body);
        *answers.entry(request.send().await.unwrap().status().as_u16()).or_default() += 1;
    }
    println!("{answers:?}");
    assert!(answers.keys().all(|status| [200, 400, 413].contains(status)), "{answers:?}");
    assert!(answers.contains_key(&400) && answers.contains_key(&413), "{answers:?}");
}

#[tokio::test]
async fn too_large_is_said_before_the_body_is_read_or_the_signature_asked_for() {
    let house = house().await;
    let head = "POST /slack/events HTTP/1.1\r\nhost: x\r\n";
    let declared = format!("{head}content-length: 10485760\r\n\r\n");
    assert_eq!(house.raw(declared.as_bytes()).await, "413");
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n100001\r\n").into_bytes();
    chunked.extend(vec![b'x'; 0x10_0001]);
    assert_eq!(house.raw(&chunked).await, "413");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let options = IngressOptions { body_timeout: Duration::from_millis(20), ..IngressOptions::default() };
    let house = house_with(secrets(), options).await;
    assert_eq!(house.raw(b"POST /slack/events HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx").await, "408");
    assert_eq!(house.status(&command("t")).await, 200);
}

#[tokio::test]
async fn room_for_bodies_is_given_back() {
    let options = IngressOptions { bodies_bytes_max: 1_000, ..IngressOptions::default() };
    let house = house_with(secrets(), options).await;
    for n in 0..20 {
        assert_eq!(house.status(&command(&format!("t{n}"))).await, 200);
    }
    assert_eq!(house.raw(b"GET /slack/events HTTP/1.1\r\nhost: x\r\n\r\n").await, "405");
}

#[tokio::test]
async fn handshakes_are_answered_each_on_its_side_of_the_signature() {
    let house = house().await;
    let ssl = SignedRequest {
        path: "/slack/events",
        headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
        body: "ssl_check=1&token=x".to_owned(),
    };
    assert_eq!(house.status(&ssl).await, 200);
    let challenge = r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#.to_owned();
    let mut request = Asker::default().signed("application/json", challenge);
    let answer = house.send(&request).await;
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "3eZbrw1a"));
    header(&mut request, "x-slack-signature", "v0=00");
    assert_eq!(house.status(&request).await, 401);
}

#[tokio::test]
async fn signed_nonsense_is_400_and_not_wanted_again() {
    let house = house().await;
    let answer = house.send(&Asker::default().signed("application/json", "{\"type\":".to_owned())).await;
    assert_eq!(answer.status().as_u16(), 400);
    assert_eq!(answer.headers()[&HeaderName::from_static("x-slack-no-retry")], "1");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let bot = r#"{"type":"event_callback","team_id":"T","event":{"type":"message","bot_id":"B"}}"#.to_owned();
    assert_eq!(house.status(&Asker::default().signed("application/json", bot)).await, 200);
    assert_eq!(house.stats.ignored.load(Ordering::Relaxed), 1);
    assert_eq!(house.bus.events().len(), 0);
}

#[tokio::test]
async fn without_a_secret_nothing_is_believed() {
    let house = house_with(SigningSecrets::default(), IngressOptions::default()).await;
    let answer = house.send(&command("t")).await;
    assert_eq!(answer.status().as_u16(), 503);
    let problem: Value = answer.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("SLACK_SIGNING_SECRET"));
}

#[tokio::test]
async fn when_nobody_listens_the_one_who_asked_is_told() {
    let house = house().await;
    house.bus.is(Mood::Unroutable);
    let answer: Value = house.send(&command("t")).await.json().await.unwrap();
    assert_eq!(answer["text"], "No agent listens to /research.");
    assert_eq!(answer["response_type"], "ephemeral");
    assert_eq!(house.status(&Asker::default().message("hello", "1.1", None)).await, 200);
    assert_eq!(house.stats.unrouted.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_bus_that_fails_or_hangs_is_nothing_that_slack_or_people_hear_of() {
    let of_spool = spool::Options { publish_timeout: Duration::from_millis(20), ..spool::Options::default() };
    let house = house_of(secrets(), IngressOptions::default(), of_spool).await;
    for (n, mood) in [Mood::Fails, Mood::Hangs].into_iter().enumerate() {
        house.bus.is(mood);
        assert_eq!(house.status(&Asker::default().message("hello", &format!("1.{n}"), None)).await, 200);
        let answer = house.send(&command(&format!("t{n}"))).await;
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, ""));
    }
    assert_eq!(house.stats.spooled.load(Ordering::Relaxed), 4);
    house.bus.is(Mood::Takes);
    house.bus.published(4).await;
    let topics: Vec<_> = house.bus.events().iter().map(|event| event.topic.to_string()).collect();
    let [message, command] = ["slack.events.message", "slack.events.command.research"];
    assert_eq!(topics, [message, command, message, command], "in the order in which they came");
}

#[tokio::test]
async fn when_the_disk_fails_too_slack_is_to_come_again_and_people_are_told() {
    let house = house().await;
    house.bus.is(Mood::Fails);
    std::fs::rename(house.dir.path().join("spool"), house.dir.path().join("gone")).unwrap();
    let answer = house.send(&Asker::default().message("hello", "1.1", None)).await;
    assert_eq!(answer.status().as_u16(), 503);
    assert!(!answer.headers().contains_key("x-slack-no-retry"), "Slack is to send it again");
    let answer = house.send(&command("t")).await;
    assert_eq!(answer.status().as_u16(), 200);
    let answer: Value = answer.json().await.unwrap();
    assert!(answer["text"].as_str().unwrap().contains("try again"));
    house.bus.is(Mood::TooLarge);
    assert_eq!(house.status(&command("t")).await, 413);
    house.bus.is(Mood::Takes);
    assert_eq!(house.status(&command("t")).await, 200);
    assert_eq!(house.stats.unavailable.load(Ordering::Relaxed), 2);
    assert_eq!(house.spool.report().events, 0);
}
