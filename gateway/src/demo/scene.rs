//! Where the demo plays: a temporary folder, a stand-in for Slack, a node, and a client of its admin API.
//!
//! All of it is on loopback with ports that the system chose, so it disturbs nothing that runs here. The folder goes when
//! the scene is struck; after trouble it stays, for its log.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;
use tempfile::TempDir;
use troupe_runtime::config::NodeConfig;
use troupe_runtime::telemetry::logs;

use super::role::Role;
use super::{DemoOptions, Trouble};
use crate::client::{Client, ClientOptions};
use crate::node::Node;
use crate::stand_in::{BOT_TOKEN, SIGNING_SECRET, SlackStandIn};

/// The log's name in the folder.
const LOG_NAME: &str = "demo.log";

/// Everything that the demo stands on.
pub(super) struct Scene {
    /// Where Slack's answers arrive.
    pub(super) slack: SlackStandIn,
    /// The node's admin API.
    pub(super) client: Client,
    /// Where the node takes Slack's requests.
    pub(super) public: SocketAddr,
    /// Who speaks.
    pub(super) voice: String,
    /// Whether a real model speaks.
    pub(super) live: bool,
    node: Node,
    folder: TempDir,
}

impl Scene {
    /// Starts everything.
    pub(super) async fn set(role: Role, options: &DemoOptions) -> Result<Self, Trouble> {
        let machine = |what: &'static str| move |cause| Trouble::Machine { what, cause };
        let folder =
            tempfile::Builder::new().prefix("troupe-demo-").tempdir().map_err(machine("a temporary folder"))?;
        log(&folder, &role);
        let slack = SlackStandIn::start().await.map_err(machine("the Slack stand-in"))?;

        let mut config = NodeConfig { data_dir: folder.path().join("data"), ..NodeConfig::default() };
        "demo".clone_into(&mut config.node.name);
        config.http.addr = SocketAddr::from(([127, 0, 0, 1], 0));
        config.admin.addr = SocketAddr::from(([127, 0, 0, 1], 0));
        config.slack.signing_secrets = vec![SecretString::from(SIGNING_SECRET)];
        config.slack.bot_token = Some(SecretString::from(BOT_TOKEN));
        config.slack.api_base = slack.base_url();
        config.slack.response_hosts = vec!["127.0.0.1".to_owned()];

        let node = Node::start(config, role.secrets(), vec![role.read()?.into()], None).await?;
        let url = format!("http://{}", node.admin_addr);
        let client = Client::new(ClientOptions { url, timeout: options.patience, ..ClientOptions::default() })?;
        let (public, voice, live) = (node.http_addr, role.voice().to_owned(), role.is_live());
        Ok(Self { slack, client, public, voice, live, node, folder })
    }

    /// Ends everything; the folder goes.
    pub(super) async fn strike(self) {
        // The story is over; a node that does not come to its end goes with its process.
        self.node.drain().await.ok();
        drop(self.slack);
        // A folder that cannot be removed is in the system's temporary place: it is swept there.
        self.folder.close().ok();
    }

    /// Ends everything and keeps the folder; answers where the log is.
    pub(super) async fn keep_log(self) -> Option<PathBuf> {
        self.node.drain().await.ok();
        let log = self.folder.keep().join(LOG_NAME);
        log.is_file().then_some(log)
    }
}

/// Sends the log into the folder. A process that has a log already keeps it: that is a test's.
fn log(folder: &TempDir, role: &Role) {
    let options = logs::Options {
        output: logs::Output::File(folder.path().join(LOG_NAME)),
        redact: role.redact(),
        ..logs::Options::default()
    };
    logs::install(options).ok();
}
