//! A canary in every secret, and a node that has good days and bad ones: nothing that it says, keeps or sends holds one of them,
//! in any writing.
//!
//! ```text
//! .env, environment, files, node file ─► node ─► log at trace, API, CLI, metrics, data folder, crashed and started again
//!                                          ├─► PostgreSQL (dumped), RabbitMQ (its folder), Redis (every key)
//!                                          └─► providers and Slack, each of which may see its own secret where it belongs
//! ```
//!
//! The control, a word in what the agents are asked, is in all of those places; where it is not found the search is blind. What the
//! search itself can do is tested beside it, in [`troupe_tests::canary`].
//!
//! Nothing that is known makes the binary panic, so what is told of a panic that quotes a secret is tested where it is told: the line
//! of the log in `runtime/src/telemetry/logs/tests.rs`, what is kept of a fall in `runtime/src/supervision/tests/secrets.rs`, what
//! becomes of a task in `actors/tests/troupe/falling.rs`.

use std::time::Duration;

use futures::future::join_all;
use secrecy::SecretString;
use serde_json::{Value, json};
use troupe_gateway::stand_in::requests::Asker;
use troupe_runtime::postgres::{self, Database};
use troupe_runtime::store;
use troupe_tests::admin::Admin;
use troupe_tests::canary::{Search, in_address};
use troupe_tests::node::NodeProcess;
use troupe_tests::rabbitmq::RabbitMq;
use troupe_tests::recorder::{Recorded, Recorder, completion};
use troupe_tests::redis::Redis;
use troupe_tests::wait::{PATIENCE, until};
use troupe_tests::{Stage, ports, slack};

use super::database;

const LIMIT: Duration = Duration::from_secs(60);
/// No secret: what is asked, and the name of an agent. It is to be found wherever the search looks.
const CONTROL: &str = "the-control-9f3a";
/// Everything that every library has to say.
const EVERYTHING: &str =
    "trace,hyper=trace,hyper_util=trace,h2=trace,reqwest=trace,rustls=trace,sqlx=trace,ractor=trace,lapin=trace";
/// What is packed cannot be searched; and a node that logs everything is slow.
const SETTINGS: &str = "store: {compress_above: 64 MiB, compress_min: 64 MiB}\npostgres: {start_timeout: 1s}\ncache: {answer_timeout: 1s, rest: 500ms}\n";
/// Agents whose model answers, and those whose model does not.
const WELL: [&str; 4] = ["well", "parrot", CONTROL, "headed"];
const SICK: [&str; 4] = ["refused", "filed", "down", "odd"];

/// A value that looks otherwise in every writing. Without blanks: a token may have none.
fn value(name: &str) -> String {
    format!("canary-{name}-Q\"q/s+p\\b%c&d=e'f<g")
}

/// The secrets of a stage, by name.
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn of(names: &[&str]) -> Self {
        Self(names.iter().map(|name| ((*name).to_owned(), value(name))).collect())
    }

    fn get(&self, name: &str) -> &str {
        &self.0.iter().find(|(other, _)| other == name).expect("a secret").1
    }
}

/// Says in its error everything that it was sent, in several writings.
fn echo(request: &Recorded) -> String {
    let key = request.header("authorization");
    let encoded = data_encoding::BASE64.encode(key.as_bytes());
    json!({"error": {"message": format!("no: {key}; {encoded}; {}; {}", in_address(key), request.path)}}).to_string()
}

/// A provider with a path for each mood.
async fn provider() -> Recorder {
    Recorder::start(|request| match request.path.split('/').nth(1) {
        Some("well") => (200, completion("all is well")),
        Some("parrot") => (200, completion(&format!("you have sent me {}", echo(request)))),
        Some("refused") => (401, echo(request)),
        Some("odd") => (200, format!("{{\"choices\": \"{}\"", request.bearer())),
        _ => (500, echo(request)),
    })
    .await
}

/// Slack, which is unwell at first.
async fn slack_api() -> Recorder {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    Recorder::start(move |request| {
        let quoted = request.header("authorization").replace(['"', '\\'], "?");
        match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => (500, format!("{{\"error\": \"{quoted}\"}}")),
            1 => (200, json!({"ok": false, "error": format!("no {}", request.header("authorization"))}).to_string()),
            _ => (200, json!({"ok": true, "ts": "1.2"}).to_string()),
        }
    })
    .await
}

fn spec(name: &str, base_url: &str, key: &str) -> String {
    format!(
        "name: {name}\ntype: test\nexecution_mode: autonomous\nretries: 0\nllm_config:\n  provider: openai\n  model: m\n  \
         base_url: \"{base_url}\"\n  api_key: \"{key}\"\nsubscriptions: [slack.events.mention]\n"
    )
}

/// Agents that use every secret that a spec may name, each in its own way of going well or badly.
fn cast(stage: &mut Stage, provider: &Recorder, secrets: &Secrets) {
    let scripted = |name: &str, more: &str| {
        format!(
            "name: {name}\ntype: test\nexecution_mode: autonomous\nllm_config: {{provider: scripted, script: [{{reply: 'said {{input}}'}}]}}\n{more}"
        )
    };
    let file = stage.path("secrets/key");
    stage.file("secrets/key", &format!("{}\n", secrets.get("KEY_IN_FILE")));
    stage.agent("well", &spec("well", &provider.url("/well"), "${KEY_IN_ENV}"));
    stage.agent("parrot", &spec("parrot", &provider.url("/parrot"), "${KEY_IN_ENV}"));
    stage.agent("refused", &spec("refused", &provider.url("/refused"), "${KEY_IN_ENV}"));
    stage.agent("filed", &spec("filed", &provider.url("/broken"), &format!("${{file:{}}}", file.display())));
    let nowhere = format!("http://127.0.0.1:{}/${{PART_OF_ADDRESS}}/v1", ports::free_port());
    stage.agent("down", &spec("down", &nowhere, "${KEY_IN_DOTENV}"));
    stage.agent("odd", &spec("odd", &provider.url("/odd"), "${OPENAI_API_KEY}"));
    let keeper =
        scripted(CONTROL, "memory: {session: '{channel}', window: 40}\nsubscriptions: [slack.events.mention]\n");
    stage.agent(CONTROL, &keeper.replace("autonomous", "continuous"));
    let mcp = "tools:\n  - mcp: {name: crm, url: 'http://127.0.0.1:9/mcp', headers: {Authorization: 'Bearer ${MCP_HEADER}'}}\n";
    stage.agent("headed", &scripted("headed", mcp));
    let broken = spec("broken", "${KEY_IN_ENV}", "${KEY_IN_DOTENV} ${KEY_IN_FILE} ${")
        .replace("retries: 0", "retries: ${KEY_IN_ENV}");
    // Its name is the control of the log, which has no word of what is asked.
    stage
        .agent(&format!("broken-{CONTROL}"), &broken)
        .agent("lacking", &spec("lacking", &provider.url("/well"), "${KEY_IN_ENV}${"));
}

/// Sets every secret that a node on its own parts may have.
fn provide(stage: &mut Stage, slack_api: &Recorder, secrets: &Secrets) {
    for name in ["SLACK_SIGNING_SECRET", "SLACK_BOT_TOKEN", "TROUPE_ADMIN_TOKEN", "KEY_IN_ENV", "OPENAI_API_KEY"] {
        stage.set(name, secrets.get(name));
    }
    let quoted = |name: &str| format!("\"{}\"", secrets.get(name).replace('\\', "\\\\").replace('"', "\\\""));
    let lines = ["KEY_IN_DOTENV", "PART_OF_ADDRESS", "MCP_HEADER"].map(|name| format!("{name}={}\n", quoted(name)));
    stage.file(".env", &lines.concat());
    stage.file("secrets/app", secrets.get("SLACK_APP_TOKEN"));
    let app = format!("slack: {{app_token: '${{file:{}}}'}}\n", stage.path("secrets/app").display());
    stage.file("node.yaml", &format!("{SETTINGS}{app}"));
    stage.set("TROUPE_CONFIG", "node.yaml").set("TROUPE_LOG", EVERYTHING);
    stage.set("SLACK_API_BASE", &slack_api.url("/api/")).set("SLACK_RESPONSE_HOSTS", "127.0.0.1");
}

/// Where every node leaves something, and the control with it.
const PLACES: [&str; 6] = ["the log", "the API", "the command line", "the data folder", "the provider", "Slack"];

const OF_A_NODE: [&str; 9] = [
    "SLACK_SIGNING_SECRET",
    "SLACK_BOT_TOKEN",
    "SLACK_APP_TOKEN",
    "TROUPE_ADMIN_TOKEN",
    "KEY_IN_ENV",
    "KEY_IN_DOTENV",
    "KEY_IN_FILE",
    "PART_OF_ADDRESS",
    "MCP_HEADER",
];

/// Everything that a node is asked to do: tasks that end well and badly, Slack's knocks, strangers.
async fn work(stage: &Stage, admin: &Admin, secrets: &Secrets, round: usize) {
    let said = slack::client();
    for (n, secret) in [secrets.get("SLACK_SIGNING_SECRET"), "guessed"].into_iter().enumerate() {
        let asker = Asker { secret: SecretString::from(secret), ..Asker::default() };
        let request = asker.mention(CONTROL, &format!("1700000000.{round}{n:05}"), None);
        let status = slack::send(&said, &stage.public_url(request.path), &request).await.expect("an answer").0;
        assert_eq!(status, if n == 0 { 200 } else { 401 });
    }
    let asked = WELL.iter().chain(&SICK).map(async |agent| {
        let path = format!("/v1/agents/{agent}/tasks?wait=30s");
        let (status, task) = admin.post(&path, &[], &json!({"input": format!("{CONTROL} {round}")})).await;
        assert!(status == 200 || status == 202, "{agent}: {status} {task}");
        task["id"].as_str().expect("an id").to_owned()
    });
    for id in join_all(asked).await {
        until("the end of a task", PATIENCE, async || {
            let (_, task) = admin.try_get(&format!("/v1/tasks/{id}")).await?;
            matches!(task["status"].as_str(), Some("succeeded" | "failed")).then_some(())
        })
        .await;
    }
}

fn ids(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|item| item["id"].as_str().or(item["name"].as_str()).map(str::to_owned)).collect()
}

/// Asks the API for everything that it shows, and for what it refuses.
async fn ask_the_api(search: &mut Search, admin: &Admin, secrets: &Secrets) {
    let mut paths: Vec<String> =
        ["/health", "/metrics", "/v1/agents", "/v1/tasks?limit=100", "/v1/results", "/v1/dead-letters"]
            .into_iter()
            .chain([
                "/v1/actors",
                "/v1/actors?tree=1",
                &format!("/v1/state/{CONTROL}"),
                &format!("/v1/state/{CONTROL}/C1"),
                "/v1/nowhere",
                "/v1/tasks/nobody",
                "/v1/agents/nobody",
            ])
            .map(str::to_owned)
            .collect();
    let listed = async |path: &str| ids(&admin.get(path).await.1);
    for (list, one) in
        [("/v1/agents", "/v1/agents"), ("/v1/tasks?limit=100", "/v1/tasks"), ("/v1/results", "/v1/results")]
    {
        paths.extend(listed(list).await.into_iter().map(|id| format!("{one}/{id}")));
    }
    paths.extend(listed("/v1/dead-letters").await.into_iter().map(|id| format!("/v1/dead-letters/{id}")));
    for task in listed("/v1/tasks?limit=100").await {
        let runs = admin.get(&format!("/v1/tasks/{task}")).await.1["runs"].as_array().cloned().unwrap_or_default();
        let runs = runs.iter().filter_map(|run| run["id"].as_str());
        paths.extend(runs.flat_map(|run| [format!("/v1/runs/{run}"), format!("/v1/runs/{run}/journal")]));
    }
    let many = paths.len();
    for path in paths {
        search.look("the API", admin.text(&path).await.as_bytes());
    }
    assert!(many > 40, "only {many} paths");
    // A stranger who guesses well, and an event with a secret in it that nobody should have sent.
    let wrong = admin.clone().with_token(&format!("{}x", secrets.get("TROUPE_ADMIN_TOKEN")));
    search.look("the API", wrong.text("/v1/agents").await.as_bytes());
    let (_, refused) = admin.post("/v1/events", &[], &json!({"type": secrets.get("KEY_IN_ENV")})).await;
    search.look("the API", refused.to_string().as_bytes());
}

/// Has the command line show everything that it can.
async fn ask_the_cli(search: &mut Search, stage: &Stage, admin: &Admin) {
    let mut commands: Vec<Vec<String>> = [
        "doctor",
        "check",
        "check -o json",
        "schema node",
        "agents ls -o wide",
        "agents ls -o json",
        "agents show nobody",
        "tasks ls",
        "tasks ls -o json",
        "dlq ls -o json",
        "actors tree",
        "actors ls -o json",
        &format!("state show {CONTROL}"),
        "migrate",
        "tasks show nobody",
    ]
    .iter()
    .map(|line| line.split(' ').map(str::to_owned).collect())
    .collect();
    for agent in WELL.iter().chain(&SICK) {
        commands
            .extend(["yaml", "table"].map(|form| ["agents", "show", agent, "-o", form].map(str::to_owned).to_vec()));
    }
    for task in ids(&admin.get("/v1/tasks?limit=10").await.1) {
        commands.push(["tasks", "show", &task].map(str::to_owned).to_vec());
    }
    for letter in ids(&admin.get("/v1/dead-letters").await.1).into_iter().take(4) {
        commands.push(["dlq", "show", &letter, "-o", "json"].map(str::to_owned).to_vec());
    }
    for command in commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let said = stage.run(&words, LIMIT).await;
        search.look("the command line", said.out.as_bytes());
        search.look("the command line", said.err.as_bytes());
    }
}

/// Everybody may see what is theirs, where it belongs, and nothing else.
fn look_at_the_others(search: &mut Search, place: &str, server: &Recorder, may_see: &[(&str, &str)]) {
    let seen = server.seen();
    assert!(!seen.is_empty(), "nobody has spoken to {place}");
    for mut request in seen {
        let owner = may_see.iter().find(|(path, _)| request.path.starts_with(path)).map(|(_, key)| *key);
        if owner.is_some_and(|key| request.bearer() == key) {
            request.headers.retain(|(name, _)| name != "authorization");
        }
        search.look(place, format!("{request:?}").as_bytes());
        search.look(place, request.body.as_bytes());
        search.look(place, request.path.as_bytes());
        request.headers.iter().for_each(|(_, value)| search.look(place, value.as_bytes()));
    }
}

/// Ends the node, and looks at what is left of it and at what those have seen that it spoke to.
async fn leave(
    search: &mut Search,
    stage: &Stage,
    mut node: NodeProcess,
    (provider, slack_api): (&Recorder, &Recorder),
    secrets: &Secrets,
) {
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
    search.look("the log", node.log().as_bytes());
    search.look_through("the data folder", &stage.path("data"));
    let keys = [
        ("/well", "KEY_IN_ENV"),
        ("/parrot", "KEY_IN_ENV"),
        ("/refused", "KEY_IN_ENV"),
        ("/broken", "KEY_IN_FILE"),
        ("/odd", "OPENAI_API_KEY"),
    ];
    look_at_the_others(search, "the provider", provider, &keys.map(|(path, name)| (path, secrets.get(name))));
    look_at_the_others(search, "Slack", slack_api, &[("/api/", secrets.get("SLACK_BOT_TOKEN"))]);
}

async fn crash_and_start(stage: &Stage, node: NodeProcess) -> NodeProcess {
    node.kill9();
    stage.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_its_own_parts_gives_no_secret_away() {
    let mut names = OF_A_NODE.to_vec();
    names.push("OPENAI_API_KEY");
    let secrets = Secrets::of(&names);
    let (provider, slack_api, mut stage) = (provider().await, slack_api().await, Stage::new());
    provide(&mut stage, &slack_api, &secrets);
    cast(&mut stage, &provider, &secrets);
    let mut search = Search::new(&secrets.0, CONTROL);
    let admin = stage.admin().with_token(secrets.get("TROUPE_ADMIN_TOKEN"));

    // With a spec that is no spec a node does not start; what it says then is for everybody.
    let refused = stage.run(&["check"], LIMIT).await;
    assert_eq!(refused.code, 3, "{}{}", refused.out, refused.err);
    let mut node = stage.start().await;
    work(&stage, &admin, &secrets, 1).await;
    node = crash_and_start(&stage, node).await;
    work(&stage, &admin, &secrets, 2).await;
    ask_the_api(&mut search, &admin, &secrets).await;
    ask_the_cli(&mut search, &stage, &admin).await;
    leave(&mut search, &stage, node, (&provider, &slack_api), &secrets).await;
    search.holds(&PLACES);
}

/// What the API says while a part is away.
async fn ask_in_trouble(search: &mut Search, admin: &Admin) {
    for path in ["/health", "/v1/agents", "/v1/tasks", "/v1/dead-letters", &format!("/v1/state/{CONTROL}"), "/metrics"]
    {
        search.look("the API", admin.text(path).await.as_bytes());
    }
    let (_, refused) = admin.post("/v1/agents/well/tasks", &[], &json!({"input": CONTROL})).await;
    search.look("the API", refused.to_string().as_bytes());
}

async fn is_well(admin: &Admin) {
    until("a node that is well again", PATIENCE, async || {
        let (_, health) = admin.try_get("/health").await?;
        let well = ["state", "bus", "cache"].iter().all(|part| health["components"][part]["status"] == "healthy");
        (well && health["components"]["bus"]["spool"]["events"] == 0).then_some(())
    })
    .await;
}

/// The commands that speak to a server themselves, each with a server that is not there or does not take the password.
async fn fail_to_start(search: &mut Search, stage: &mut Stage) {
    let nowhere = format!(":{}/", ports::free_port());
    for name in ["DATABASE_URL", "AMQP_URL", "REDIS_URL"] {
        let good = stage.get(name).expect("an address").to_owned();
        let (front, back) = good.rsplit_once(':').expect("a port");
        let away = format!("{front}{nowhere}{}", back.split_once('/').expect("a path").1);
        let wrong = good.replace('@', "x@");
        for bad in [away, wrong, good.replacen("://", ":/", 1), good.replace("127.0.0.1", "no such host")] {
            stage.set(name, &bad);
            let commands: &[&str] = if name == "DATABASE_URL" { &["doctor", "migrate"] } else { &["doctor", "check"] };
            for command in commands {
                let said = stage.run(&[command], LIMIT).await;
                search.look("the command line", format!("{}{}", said.out, said.err).as_bytes());
            }
        }
        stage.set(name, &good);
    }
}

/// Puts a memory into the database, as a continuous agent would; whoever asks for it has it put into Redis.
async fn remember(url: &str) {
    let database = Database::open(&url.into(), &postgres::Options::default()).await.expect("the database opens");
    let stores = store::postgres::stores(database, store::Options::default());
    let (agent, body) = (CONTROL.parse().expect("a name"), json!({"said": CONTROL}).to_string());
    stores.memory.save(&agent, "C1", 0, &body).await.expect("a memory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_servers_gives_no_secret_away() {
    let Some(mut broker) = RabbitMq::start().await else { return };
    let Some(redis) = Redis::prepare() else { return };
    let Some((mut server, mut stage, url)) = database::stage().await else { return };
    let mut names = OF_A_NODE.to_vec();
    names.extend(["OPENAI_API_KEY", "DATABASE_PASSWORD", "AMQP_PASSWORD"]);
    let mut secrets = Secrets::of(&names);
    // Redis reads its own settings, and a quote in one would end it there.
    secrets.0.push(("REDIS_PASSWORD".to_owned(), value("REDIS_PASSWORD").replace(['"', '\\', '\''], "-")));
    let mut redis = redis.locked(secrets.get("REDIS_PASSWORD"));
    redis.resume().await;
    broker.control(&["add_user", "canary", secrets.get("AMQP_PASSWORD")]);
    broker.control(&["set_permissions", "canary", ".*", ".*", ".*"]);
    let password = |name: &str| in_address(secrets.get(name));
    stage.set("DATABASE_URL", &url.replace("troupe@", &format!("troupe:{}@", password("DATABASE_PASSWORD"))));
    stage.set("AMQP_URL", &format!("amqp://canary:{}@127.0.0.1:{}/%2f", password("AMQP_PASSWORD"), broker.port()));
    stage.set("REDIS_URL", &format!("redis://:{}@127.0.0.1:{}/0", password("REDIS_PASSWORD"), redis.port()));

    let (provider, slack_api) = (provider().await, slack_api().await);
    provide(&mut stage, &slack_api, &secrets);
    cast(&mut stage, &provider, &secrets);
    let mut search = Search::new(&secrets.0, CONTROL);
    let admin = stage.admin().with_token(secrets.get("TROUPE_ADMIN_TOKEN"));
    let mut node = stage.start().await;
    is_well(&admin).await;
    remember(&url).await;
    work(&stage, &admin, &secrets, 1).await;

    // Each server is away for a while; what comes meanwhile is kept on the node's disk.
    broker.crash();
    let asker = Asker { secret: SecretString::from(secrets.get("SLACK_SIGNING_SECRET")), ..Asker::default() };
    let request = asker.mention(CONTROL, "1700000000.900000", None);
    let taken = slack::send(&slack::client(), &stage.public_url(request.path), &request).await;
    assert_eq!(taken.expect("an answer").0, 200);
    ask_in_trouble(&mut search, &admin).await;
    search.look_through("the data folder", &stage.path("data"));
    broker.resume().await;
    redis.stop();
    server.crash();
    ask_in_trouble(&mut search, &admin).await;
    server.resume().await;
    redis.resume().await;
    is_well(&admin).await;
    node = crash_and_start(&stage, node).await;
    is_well(&admin).await;
    work(&stage, &admin, &secrets, 2).await;

    ask_the_api(&mut search, &admin, &secrets).await;
    ask_the_cli(&mut search, &stage, &admin).await;
    fail_to_start(&mut search, &mut stage).await;
    for key in redis.tell(&["keys", "*"]).await.lines() {
        search.look("Redis", key.as_bytes());
        search.look("Redis", redis.tell(&["get", key]).await.as_bytes());
    }
    leave(&mut search, &stage, node, (&provider, &slack_api), &secrets).await;
    search.look("PostgreSQL", &server.dump("troupe"));
    broker.crash();
    search.look_through("RabbitMQ", broker.folder());
    search.holds(&[&PLACES[..], &["PostgreSQL", "RabbitMQ", "Redis"]].concat());
}
