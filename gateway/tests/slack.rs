//! Both directions together on the real embedded bus and store: a signed request becomes one reply, whatever is
//! delivered twice or dies in between, and nothing of what people wrote stands in the log.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use chrono::Utc;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use troupe_runtime::bus::embedded::EmbeddedBus;
use troupe_runtime::bus::{self, Bus, QueueSpec, Routing};
use troupe_runtime::domain::agent::{AgentName, ExecutionMode, SlackReply};
use troupe_runtime::domain::answer::{Answered, Origin};
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::domain::topic::inbox_queue;
use troupe_runtime::sqlite::{self, Database};
use troupe_runtime::store::{self, Acceptance, Accepted, Stores};

use troupe_gateway::slack::ingress::{Ingress, IngressOptions, router};
use troupe_gateway::slack::reply::{ReplyOptions, ReplySender, ReplyStats};
use troupe_gateway::slack::signature::SigningSecrets;
use troupe_gateway::spool::{self, Spool};
use troupe_gateway::stand_in::requests::{Asker, SignedRequest};
use troupe_gateway::stand_in::{BOT_TOKEN, Misbehaviour, SIGNING_SECRET, SlackStandIn};

const PATIENCE: Duration = Duration::from_secs(20);

/// A node's Slack half, with an agent that echoes.
struct House {
    bus: Arc<EmbeddedBus>,
    stores: Stores,
    slack: SlackStandIn,
    door: String,
    client: reqwest::Client,
    _dir: tempfile::TempDir,
}

async fn house() -> House {
    log();
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), &sqlite::Options::default()).await.unwrap();
    let bus = EmbeddedBus::open(database.clone(), bus::Options::default()).await.unwrap();
    let stores = store::sqlite::stores(database, store::Options::default());
    let agent: AgentName = "echo".parse().unwrap();
    let bindings = ["slack.events.#"].map(|pattern| pattern.parse().unwrap()).to_vec();
    let inbox = QueueSpec { name: inbox_queue(&agent), bindings, single_active_consumer: false };
    bus.declare(inbox).await.unwrap();
    tokio::spawn(echo(bus.clone(), stores.clone(), agent));

    let secrets = SigningSecrets::new(vec![SecretString::from(SIGNING_SECRET)]).unwrap();
    let spool = Spool::open(&dir.path().join("spool"), bus.clone(), spool::Options::default()).await.unwrap();
    spool.begin();
    let ingress = Ingress::new(spool, secrets, IngressOptions::default());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let door = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router(ingress)).await });
    let slack = SlackStandIn::start().await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    House { bus, stores, slack, door, client, _dir: dir }
}

/// What pool, step and relay do between the two directions, without a model.
async fn echo(bus: Arc<EmbeddedBus>, stores: Stores, agent: AgentName) {
    let mut inbox = bus.consume(&inbox_queue(&agent), 64).await.unwrap();
    loop {
        for delivery in inbox.next(64).await {
            let event = delivery.event.clone();
            let acceptance = Acceptance {
                agent: agent.clone(),
                mode: ExecutionMode::Autonomous,
                spec_digest: "digest".into(),
                event: event.clone(),
                owner: Incarnation(1),
            };
            if let Accepted::New(claim) = stores.tasks.accept(acceptance).await.unwrap() {
                let outcome = Outcome::Succeeded { output: event.input() };
                let (origin, reply) = (Origin::of(&event), SlackReply::Thread);
                let answer = Answered { task_id: claim.task, agent: agent.clone(), outcome, origin, reply };
                let told = answer.event(claim.step, &event, Utc::now());
                bus.publish(Arc::new(told), Routing::Optional).await.unwrap();
            }
            delivery.settle.ack();
        }
    }
}

impl House {
    async fn send(&self, request: &SignedRequest) -> u16 {
        let mut builder = self.client.post(format!("{}{}", self.door, request.path)).body(request.body.clone());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        builder.send().await.unwrap().status().as_u16()
    }

    /// One life of the reply sender.
    fn sender(&self) -> (JoinHandle<()>, Arc<ReplyStats>) {
        let options = ReplyOptions {
            bot_token: Some(SecretString::from(BOT_TOKEN)).into(),
            response_hosts: vec!["127.0.0.1".to_owned()],
            ..ReplyOptions::new(self.slack.base_url().parse().unwrap())
        };
        let sender = ReplySender::new(self.bus.clone(), self.stores.replies.clone(), options).unwrap();
        let stats = sender.stats();
        let life = tokio::spawn(async move { sender.run(CancellationToken::new()).await.unwrap() });
        (life, stats)
    }

    /// Waits until nothing is left to be done on any queue.
    async fn quiet(&self) {
        let quiet = async {
            while self.bus.health().await.unwrap().depths.iter().any(|(_, depth)| *depth > 0) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, quiet).await.unwrap();
    }
}

#[tokio::test]
async fn pairs_retries_and_replays_of_one_message_are_one_reply() {
    let house = house().await;
    let _sender = house.sender();
    let asker = Asker::default();
    for n in 0..20 {
        let ts = format!("1700.{n}");
        let (message, mention) = (asker.message("<@UBOT> hi", &ts, None), asker.mention("hi", &ts, None));
        let command = asker.slash_command("/echo", "hi", &format!("t{n}"), &house.slack.response_url(n));
        let mut all = vec![message.clone(), mention.clone(), command.clone()];
        all.extend([mention, message, command]);
        for request in all {
            assert_eq!(house.send(&request).await, 200);
        }
    }
    assert!(house.slack.wait_for(40, PATIENCE).await);
    house.quiet().await;
    let replies = house.slack.replies();
    assert_eq!(replies.len(), 40);
    assert!(replies.iter().all(|reply| reply.text == "hi"));
}

#[tokio::test]
async fn a_sender_that_dies_within_a_call_is_followed_by_one_that_looks() {
    let house = house().await;
    let (first, _) = house.sender();
    house.slack.misbehave(Misbehaviour::Hang, 1);
    assert_eq!(house.send(&Asker::default().message("hi", "1700.1", None)).await, 200);
    while house.slack.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    first.abort();
    let (_second, stats) = house.sender();
    assert!(house.slack.wait_for(1, PATIENCE).await);
    house.quiet().await;
    let methods: Vec<_> = house.slack.calls().into_iter().map(|call| call.method).collect();
    assert_eq!(methods, ["chat.postMessage", "conversations.replies", "chat.postMessage"]);
    assert_eq!((house.slack.replies().len(), stats.sent.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn a_given_up_reply_is_sent_when_its_dead_letter_is_replayed() {
    let house = house().await;
    let _sender = house.sender();
    house.slack.misbehave(Misbehaviour::Error("not_in_channel"), 1);
    assert_eq!(house.send(&Asker::default().message("hi", "1700.1", None)).await, 200);
    let letter = loop {
        if let Some(letter) = house.bus.dead_letters(1, None).await.unwrap().pop() {
            break letter;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(letter.last_error, "chat.postMessage: not_in_channel");
    assert!(house.bus.replay(&letter.id).await.unwrap().is_some());
    assert!(house.slack.wait_for(1, PATIENCE).await);
    house.quiet().await;
    let task = house.slack.replies()[0].reply_id.clone().unwrap().parse().unwrap();
    assert_eq!(house.stores.replies.reply(task).await.unwrap().unwrap().status, "sent");
}

/// What every test of this file logs; one log, because a log of one test alone loses what another thread met first.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone());
        subscriber.init();
        log
    })
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_that_people_wrote_and_no_secret_stands_in_the_log() {
    let house = house().await;
    let _sender = house.sender();
    let asker = Asker::default();
    let url = house.slack.response_url(7).replace("/7", "/kanarie");
    house.slack.misbehave(Misbehaviour::Status(500), 1);
    assert_eq!(house.send(&asker.slash_command("/echo", "kanarie", "kanarie", &url)).await, 200);
    assert_eq!(house.send(&asker.message("kanarie", "1700.1", None)).await, 200);
    assert_eq!(house.send(&asker.signed("application/json", "{\"kanarie\":".to_owned())).await, 400);
    let stranger = Asker { secret: SecretString::from("other"), ..Asker::default() };
    assert_eq!(house.send(&stranger.message("kanarie", "1700.2", None)).await, 401);
    assert!(house.slack.wait_for(2, PATIENCE).await);
    house.quiet().await;
    let log = String::from_utf8(log().0.lock().unwrap().clone()).unwrap();
    let ours: Vec<_> = log.lines().filter(|line| line.contains("component=\"slack\"")).collect();
    assert!(ours.iter().any(|line| line.contains("reply sent")) && ours.iter().any(|line| line.contains("refused")));
    for secret in ["kanarie", BOT_TOKEN, SIGNING_SECRET] {
        let leaks: Vec<_> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
    }
}
