//! A RabbitMQ of the test's own: a node name, ports and folders of its own on 127.0.0.1, gone at the end.
//!
//! The programs are Debian's or whatever lies in the path; `make test` installs them. Debian's wrappers in `/usr/sbin` change the
//! user, so the scripts behind them are called. The node's name service (epmd) is a process of ours too: what the node would
//! start by itself outlives it. No plugin is needed, and a broker that runs already is left alone.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::node::Owned;
use crate::ports::free_port;
use crate::proxy::Proxy;
use crate::wait::until;

/// How long the broker may take to start: a killed one first reads its logs again.
const PATIENCE: Duration = Duration::from_secs(90);
const USER: &str = "troupe";
const PASSWORD: &str = "under-the-stage";
/// What a client says first, and what the broker's first frame begins with: a method on channel 0.
const HELLO: &[u8] = b"AMQP\x00\x00\x09\x01";
const METHOD: u8 = 1;

/// One broker.
pub struct RabbitMq {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    server: Option<Owned>,
    /// Its name service; dropped after it.
    _epmd: Owned,
}

impl RabbitMq {
    /// A running broker; `None` when RabbitMQ is not installed, which fails where `CI` is set.
    ///
    /// # Panics
    /// When it is installed and does not start, or must be and is not.
    pub async fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("CI").is_none(), "RabbitMQ is not installed");
            #[expect(clippy::print_stdout, reason = "a test that was passed over says so")]
            {
                println!("skipped: RabbitMQ is not installed (apt-get install rabbitmq-server)");
            }
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (port, dist_port, epmd_port) = (free_port(), free_port(), free_port());
        let mut epmd = Command::new("epmd");
        epmd.args(["-address", "127.0.0.1", "-port", &epmd_port.to_string()]);
        let epmd = Owned::spawn(epmd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        let mut rabbitmq = Self { programs, folder, port, dist_port, epmd_port, server: None, _epmd: epmd };
        rabbitmq.configure("");
        rabbitmq.resume().await;
        Some(rabbitmq)
    }

    /// Has the broker speak TLS too, after a new start; answers the port for that.
    ///
    /// # Panics
    /// When it does not.
    pub async fn secure(&mut self, authority: &Path, certificate: &Path, key: &Path) -> u16 {
        let port = free_port();
        self.crash();
        self.configure(&format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\n\
             ssl_options.cacertfile = {}\n\
             ssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\n",
            authority.display(),
            certificate.display(),
            key.display()
        ));
        self.resume().await;
        port
    }

    fn configure(&self, more: &str) {
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\n\
             default_user = {USER}\n\
             default_pass = {PASSWORD}\n\
             vm_memory_high_watermark.absolute = 8GB\n\
             disk_free_limit.absolute = 10MB\n{more}",
            self.port
        );
        for (name, text) in [("rabbitmq.conf", settings.as_str()), ("plugins", "[].\n"), ("environment", "")] {
            fs::write(self.folder.path().join(name), text).expect("the broker's settings");
        }
    }

    /// Starts the broker again on the same port, with all that it has, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn resume(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut command = self.command("rabbitmq-server");
        // The script becomes the broker, so that its process is ours.
        command.env("RABBITMQ_ALLOW_INPUT", "1");
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-noinput -kernel inet_dist_use_interface {127,0,0,1}");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.server = Some(Owned::spawn(&mut command));
        until("RabbitMQ to answer", PATIENCE, async || {
            let ended = self.server.as_mut().is_some_and(|server| server.ended().is_some());
            assert!(!ended, "RabbitMQ has ended: {}", fs::read_to_string(self.log()).unwrap_or_default());
            greets(self.port).then_some(())
        })
        .await;
    }

    /// Ends the broker with -9: what it had not written is lost.
    pub fn crash(&mut self) {
        self.server = None;
    }

    /// Nothing of it moves from now on; its lines stay.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self) {
        self.server.as_ref().expect("a broker").freeze();
    }

    /// It goes on, with all that was sent to it meanwhile.
    ///
    /// # Panics
    /// When it does not run.
    pub fn thaw(&self) {
        self.server.as_ref().expect("a broker").thaw();
    }

    /// New, empty vhosts, in one go.
    ///
    /// # Panics
    /// When the broker does not make them.
    #[must_use]
    pub fn create(&self, prefix: &str, count: usize) -> Vec<String> {
        let names: Vec<String> = (1..=count).map(|n| format!("{prefix}_{n}")).collect();
        let list: Vec<String> = names.iter().map(|name| format!("<<\"{name}\">>")).collect();
        self.control(&[
            "eval",
            &format!(
                "[begin ok = rabbit_vhost:add(V, <<\"test\">>), ok = rabbit_auth_backend_internal:set_permissions(\
                 <<\"{USER}\">>, V, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>) end || V <- [{}]], ok.",
                list.join(",")
            ),
        ]);
        names
    }

    /// The broker is short of memory from now on, or no longer.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn alarm(&self, on: bool) {
        self.control(&["set_vm_memory_high_watermark", if on { "0.0001" } else { "0.9" }]);
    }

    /// Has `rabbitmqctl` do something.
    ///
    /// # Panics
    /// When it fails.
    pub fn control(&self, arguments: &[&str]) {
        let said = self.command("rabbitmqctl").arg("--quiet").args(arguments).output().expect("rabbitmqctl");
        let (out, error) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(said.status.success(), "rabbitmqctl {arguments:?}: {out}{error}");
    }

    /// Where a vhost is.
    #[must_use]
    pub fn url(&self, vhost: &str) -> String {
        format!("amqp://{USER}:{PASSWORD}@127.0.0.1:{}/{}", self.port, vhost.replace('/', "%2f"))
    }

    /// The same, by the port of a proxy.
    #[must_use]
    pub fn through(&self, proxy: &Proxy, url: &str) -> String {
        url.replace(&format!(":{}/", self.port), &format!(":{}/", proxy.port()))
    }

    /// Where everything of it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its first process; the broker descends from it.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.server.as_ref().expect("it runs").id()
    }

    /// The broker's port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn command(&self, program: &str) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(folder).stdin(Stdio::null());
        command.env("HOME", folder).env("LC_ALL", "C.UTF-8");
        command.env("ERL_EPMD_PORT", self.epmd_port.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODENAME", format!("troupe-{}@localhost", self.port));
        command.env("RABBITMQ_DIST_PORT", self.dist_port.to_string());
        for (name, file) in [
            ("RABBITMQ_CONF_ENV_FILE", "environment"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_LOG_BASE", "logs"),
            ("RABBITMQ_PID_FILE", "pid"),
        ] {
            command.env(name, folder.join(file));
        }
        command
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Whether a broker answers a greeting.
fn greets(port: u16) -> bool {
    let greeted = || -> std::io::Result<u8> {
        let mut line = TcpStream::connect(("127.0.0.1", port))?;
        line.set_read_timeout(Some(Duration::from_secs(5)))?;
        line.write_all(HELLO)?;
        let mut first = [0];
        line.read_exact(&mut first)?;
        Ok(first[0])
    };
    greeted().is_ok_and(|first| first == METHOD)
}

/// Where the scripts lie: in Debian's folder, the newest first, else in the path.
fn programs() -> Option<PathBuf> {
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/rabbitmq/lib")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("sbin"))
        .collect();
    debian.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = debian.into_iter().rev().chain(std::env::split_paths(&path));
    candidates.into_iter().find(|bin| ["rabbitmq-server", "rabbitmqctl"].iter().all(|name| bin.join(name).is_file()))
}
