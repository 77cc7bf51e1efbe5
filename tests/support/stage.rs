//! One test's world: a temporary folder with agents, data and settings, and two free ports.
//!
//! Nodes of one stage follow one another on the same data and the same addresses. The environment of a node holds only
//! what is set here, so that a key on the developer's machine changes nothing. Gone with its folder when dropped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use troupe_gateway::stand_in::{BOT_TOKEN, SIGNING_SECRET, SlackStandIn};

use crate::admin::Admin;
use crate::node::{self, NodeProcess};
use crate::ports::free_port;
use crate::wait::until;

/// A folder, its settings and its addresses.
#[derive(Debug)]
pub struct Stage {
    dir: TempDir,
    env: BTreeMap<String, String>,
    http: u16,
    admin: u16,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Said {
    /// The exit code; -1 when it was killed.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// An empty folder and two free ports.
    #[must_use]
    pub fn new() -> Self {
        crate::tls();
        let dir = tempfile::Builder::new().prefix("troupe-test-").tempdir().expect("a temporary folder");
        fs::create_dir(dir.path().join("agents")).expect("the agents' folder");
        let mut stage = Self { dir, env: BTreeMap::new(), http: free_port(), admin: free_port() };
        let (http, admin) = (format!("127.0.0.1:{}", stage.http), format!("127.0.0.1:{}", stage.admin));
        stage.set("TROUPE_HTTP_ADDR", &http).set("TROUPE_ADMIN_ADDR", &admin);
        stage.set("TROUPE_ADMIN_URL", &format!("http://{admin}"));
        let (agents, data) = (stage.path("agents"), stage.path("data"));
        stage.set("TROUPE_AGENTS_DIR", &agents.to_string_lossy()).set("TROUPE_DATA_DIR", &data.to_string_lossy());
        stage.set("TROUPE_NODE_NAME", "stage").set("TROUPE_LOG_FORMAT", "json");
        stage
    }

    /// Something in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Sets a variable of every node and command that is started from now on.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// What a variable is set to.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    /// Takes a variable away.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.env.remove(name);
        self
    }

    /// Writes an agent's spec.
    pub fn agent(&mut self, name: &str, spec: &str) -> &mut Self {
        self.file(&format!("agents/{name}.yaml"), spec)
    }

    /// Writes a file.
    pub fn file(&mut self, name: &str, text: &str) -> &mut Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder of the stage");
        fs::write(path, text).expect("a file of the stage");
        self
    }

    /// Connects the node to a stand-in for Slack, in both directions.
    pub fn slack(&mut self, slack: &SlackStandIn) -> &mut Self {
        self.set("SLACK_SIGNING_SECRET", SIGNING_SECRET).set("SLACK_BOT_TOKEN", BOT_TOKEN);
        self.set("SLACK_API_BASE", &slack.base_url()).set("SLACK_RESPONSE_HOSTS", "127.0.0.1")
    }

    /// Where Slack would knock.
    #[must_use]
    pub fn public_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// The admin API.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(&format!("http://127.0.0.1:{}", self.admin))
    }

    /// Starts a node and waits until it is ready.
    ///
    /// # Panics
    /// With the node's log, when it ends or is not ready in time.
    pub async fn start(&self) -> NodeProcess {
        let mut node = self.spawn();
        node.ready(&self.admin()).await;
        node
    }

    /// Starts a node and does not wait.
    #[must_use]
    pub fn spawn(&self) -> NodeProcess {
        let mut command = self.command(&["up"]);
        NodeProcess::spawn(&mut command, self.path("node.log"))
    }

    /// Runs `troupe args…` to its end.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    pub async fn run(&self, args: &[&str], limit: Duration) -> Said {
        let id = format!("{:016x}", rand::random::<u64>());
        let (out, err) = (self.path(&format!("{id}.out")), self.path(&format!("{id}.err")));
        let mut command = self.command(args);
        let file = |path: &Path| Stdio::from(fs::File::create(path).expect("a file of the stage"));
        command.stdout(file(&out)).stderr(file(&err));
        let mut child = node::Owned::spawn(&mut command);
        let status = until(&format!("the end of troupe {}", args.join(" ")), limit, async || child.ended()).await;
        let text = |path: &Path| fs::read_to_string(path).expect("what the command said");
        Said { code: status.code().unwrap_or(-1), out: text(&out), err: text(&err) }
    }

    /// The binary with this stage's environment and nothing else.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(node::binary());
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null()).env_clear().envs(&self.env);
        for name in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }
}
