//! Secrets that change while the node runs: the next call has the new one, whatever goes leaves the last one, and no text
//! holds either.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use troupe_gateway::stand_in::requests::Asker;
use troupe_tests::admin::Admin;
use troupe_tests::recorder::{Recorded, Recorder, completion};
use troupe_tests::wait::until;
use troupe_tests::{Stage, slack};

const LIMIT: Duration = Duration::from_secs(60);

/// A provider that takes one key at a time, and tells whoever has another one what it was sent.
#[derive(Clone, Default)]
struct Lock(Arc<Mutex<String>>);

impl Lock {
    fn set(&self, key: &str) {
        key.clone_into(&mut self.0.lock().expect("a key"));
    }

    fn answer(&self, request: &Recorded) -> (u16, String) {
        if request.bearer() == *self.0.lock().expect("a key") {
            return (200, completion("opened"));
        }
        (401, json!({"error": {"message": format!("incorrect key: {}", request.bearer())}}).to_string())
    }
}

fn spec(name: &str, provider: &Recorder, key: &str) -> String {
    format!(
        "name: {name}\ntype: test\nexecution_mode: autonomous\nretries: 0\nllm_config:\n  provider: openai\n  model: m\n  \
         base_url: {}\n  api_key: \"{key}\"\n",
        provider.url("/v1")
    )
}

/// As Kubernetes mounts a secret: the file is behind a link that is turned when it changes.
fn mount(folder: &Path, version: usize, key: &str) {
    let (hidden, next) = (format!("..version-{version}"), folder.join("..data-next"));
    fs::create_dir_all(folder.join(&hidden)).expect("a folder");
    fs::write(folder.join(&hidden).join("key"), format!("{key}\n")).expect("a secret");
    symlink(&hidden, &next).expect("a link");
    fs::rename(&next, folder.join("..data")).expect("a turned link");
    if !folder.join("key").exists() {
        symlink("..data/key", folder.join("key")).expect("a link");
    }
}

async fn problems(admin: &Admin) -> Vec<String> {
    let (_, health) = admin.get("/health").await;
    let problems = health["components"]["config"]["problems"].as_array().cloned().unwrap_or_default();
    problems.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Waits until health tells of a problem with these words, or of none.
async fn told(admin: &Admin, words: Option<&str>) {
    until(&format!("a word about {words:?}"), LIMIT, async || {
        let problems = problems(admin).await;
        let so = words.map_or(problems.is_empty(), |words| problems.iter().any(|problem| problem.contains(words)));
        so.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_rotated_key_is_the_key_of_the_next_call() {
    let lock = Lock::default();
    let provider = {
        let lock = lock.clone();
        Recorder::start(move |request| lock.answer(request)).await
    };
    let mut stage = Stage::new();
    let secrets = stage.path("secrets");
    mount(&secrets, 0, "mounted-key-0");
    lock.set("mounted-key-0");
    let reference = format!("${{file:{}}}", secrets.join("key").display());
    stage.agent("mounted", &spec("mounted", &provider, &reference));
    stage.agent("lined", &spec("lined", &provider, "${DOTENV_KEY}")).file(".env", "DOTENV_KEY=dotenv-key-0\n");
    let node = stage.start().await;
    let asked = async |agent: &str| stage.run(&["ask", agent, "open", "--wait"], LIMIT).await;
    assert_eq!(asked("mounted").await.out.trim(), "opened");

    // The provider knows the new key a moment before we do.
    for version in 1..=3 {
        let key = format!("mounted-key-{version}");
        lock.set(&key);
        mount(&secrets, version, &key);
        let said = asked("mounted").await;
        assert_eq!((said.code, said.out.trim()), (0, "opened"), "rotation {version}: {}", said.err);
        let key = format!("dotenv-key-{version}");
        lock.set(&key);
        fs::write(stage.path(".env"), format!("DOTENV_KEY={key}\n")).expect("a file");
        let said = asked("lined").await;
        assert_eq!((said.code, said.out.trim()), (0, "opened"), "rotation {version}: {}", said.err);
    }

    // What goes leaves the last one, and that is said.
    fs::remove_file(secrets.join("key")).expect("a link");
    fs::remove_file(stage.path(".env")).expect("a file");
    let admin = stage.admin();
    told(&admin, Some("its last value stays in use")).await;
    told(&admin, Some(".env: DOTENV_KEY: the line is gone")).await;
    assert_eq!(asked("lined").await.out.trim(), "opened");
    lock.set("mounted-key-3");
    assert_eq!(asked("mounted").await.out.trim(), "opened");
    assert!(node.log().contains("the configuration has a problem; the last good version stays"), "the log says so");
    assert_eq!(admin.get("/health").await.1["components"]["config"]["status"], "degraded");

    // A key that nobody takes fails the task, in words without any key.
    lock.set("nobody's");
    mount(&secrets, 4, "mounted-key-4");
    fs::write(stage.path(".env"), "DOTENV_KEY=dotenv-key-4\n").expect("a file");
    told(&admin, None).await;
    for agent in ["mounted", "lined"] {
        let said = asked(agent).await;
        assert_eq!(said.code, 5, "{}{}", said.out, said.err);
        assert!(said.err.contains("incorrect key: ***"), "{}{}", said.out, said.err);
    }
    let sent: Vec<_> = provider.seen().iter().map(|request| request.bearer().to_owned()).collect();
    for version in 0..=4 {
        assert!(sent.contains(&format!("mounted-key-{version}")) && !node.log().contains("mounted-key-"), "{sent:?}");
    }
    let (_, tasks) = admin.get("/v1/tasks").await;
    assert!(!tasks.to_string().contains("-key-") && !node.log().contains("dotenv-key-"), "{tasks}");
}

#[tokio::test]
async fn the_node_s_own_secrets_change_with_their_lines() {
    let slack_api = Recorder::start(|_| (200, json!({"ok": true, "ts": "1.2"}).to_string())).await;
    let mut stage = Stage::new();
    stage.agent("echo", &super::agents::ECHO.replace("[slack.events.command.echo]", "[slack.events.mention]"));
    stage.set("SLACK_API_BASE", &slack_api.url("/api/"));
    let lines = |n: usize| {
        format!("SLACK_SIGNING_SECRET=signing-{n}\nSLACK_BOT_TOKEN=bot-token-{n}\nTROUPE_ADMIN_TOKEN=admin-token-{n}\n")
    };
    stage.file(".env", &lines(1));
    let node = stage.start().await;
    let client = slack::client();
    let admitted = async |token: &str| {
        let url = format!("{}/v1/agents", stage.get("TROUPE_ADMIN_URL").expect("an address"));
        client.get(url).bearer_auth(token).send().await.expect("an answer").status().as_u16()
    };
    let mentioned = async |n: usize, ts: usize| {
        let asker = Asker { secret: SecretString::from(format!("signing-{n}")), ..Asker::default() };
        let request = asker.mention("hello", &format!("1700000000.{ts:06}"), None);
        slack::send(&client, &stage.public_url(request.path), &request).await.expect("an answer").0
    };
    let replied = async |token: &str, count: usize| {
        until(&format!("a reply with {token}"), LIMIT, async || {
            let posts = slack_api.seen().into_iter().filter(|request| request.path.ends_with("chat.postMessage"));
            let tokens: Vec<_> = posts.map(|request| request.bearer().to_owned()).collect();
            (tokens.len() == count).then_some(tokens)
        })
        .await
    };
    assert_eq!((mentioned(1, 1).await, mentioned(2, 2).await), (200, 401));
    assert_eq!((admitted("admin-token-1").await, admitted("admin-token-2").await), (200, 401));
    assert_eq!(replied("bot-token-1", 1).await, ["bot-token-1"]);

    fs::write(stage.path(".env"), lines(2)).expect("a file");
    until("the new token to open", LIMIT, async || (admitted("admin-token-2").await == 200).then_some(())).await;
    assert_eq!(admitted("admin-token-1").await, 401);
    assert_eq!((mentioned(2, 3).await, mentioned(1, 4).await), (200, 401));
    assert_eq!(replied("bot-token-2", 2).await, ["bot-token-1", "bot-token-2"]);

    // A door does not open because a line is gone.
    fs::write(stage.path(".env"), "").expect("a file");
    until("a word about the lines", LIMIT, async || {
        node.log().contains("TROUPE_ADMIN_TOKEN: the line is gone").then_some(())
    })
    .await;
    assert_eq!((admitted("admin-token-2").await, admitted("").await), (200, 401));
    assert_eq!(mentioned(2, 5).await, 200);
    assert_eq!(replied("bot-token-2", 3).await, ["bot-token-1", "bot-token-2", "bot-token-2"]);
    for secret in ["signing-", "bot-token-", "admin-token-"] {
        assert!(!node.log().contains(secret), "{secret} is in the log");
    }
}
