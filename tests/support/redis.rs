//! A Redis of the test's own: on a free port of 127.0.0.1, nothing kept on disk, gone at the end.
//!
//! The program is Debian's or whatever lies in the path; `make test` installs it. It is spoken to over its own wire, as a
//! stranger would: what is checked here is what others may do to our values.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;

use crate::node::Owned;
use crate::ports::free_port;
use crate::proxy::Proxy;
use crate::wait::until;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// One server.
pub struct Redis {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    password: Option<String>,
    server: Option<Owned>,
}

impl Redis {
    /// A running server; `None` when Redis is not installed, which fails where `CI` is set.
    ///
    /// # Panics
    /// When it is installed and does not start, or must be and is not.
    pub async fn start() -> Option<Self> {
        let mut redis = Self::prepare()?;
        redis.resume().await;
        Some(redis)
    }

    /// A server that does not run yet.
    ///
    /// # Panics
    /// When it must be installed and is not.
    #[must_use]
    pub fn prepare() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path).map(|bin| bin.join("redis-server")).find(|file| file.is_file());
        let Some(program) = program else {
            assert!(std::env::var_os("CI").is_none(), "Redis is not installed");
            #[expect(clippy::print_stdout, reason = "a test that was passed over says so")]
            {
                println!("skipped: Redis is not installed (apt-get install redis-server)");
            }
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        Some(Self { program, folder, port: free_port(), options: Vec::new(), password: None, server: None })
    }

    /// Asks for a password from the next start on.
    #[must_use]
    pub fn locked(mut self, password: &str) -> Self {
        self.options.extend(["--requirepass".to_owned(), password.to_owned()]);
        self.password = Some(password.to_owned());
        self
    }

    /// Speaks TLS on a second port from the next start on; answers that port.
    #[must_use]
    pub fn secure(&mut self, certificate: &Path, key: &Path) -> u16 {
        let port = free_port();
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let options = ["--tls-port", &port.to_string(), "--tls-cert-file", &certificate, "--tls-key-file", &key];
        self.options.extend(options.map(str::to_owned));
        self.options.extend(["--tls-auth-clients", "no"].map(str::to_owned));
        port
    }

    /// Starts the server, empty, on the same port as ever, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn resume(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut command = Command::new(&self.program);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--dir"]).arg(self.folder.path());
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]).args(&self.options);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        self.server = Some(Owned::spawn(&mut command));
        let answer = async || {
            let ended = self.server.as_mut().is_some_and(|server| server.ended().is_some());
            assert!(!ended, "Redis has ended: {}", fs::read_to_string(self.log()).unwrap_or_default());
            Wire::connect(self.port, self.password.as_deref()).await
        };
        until("Redis to answer", PATIENCE, answer).await;
    }

    /// Ends the server at once, with all that it has.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Nothing of it moves from now on; its lines stay.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self) {
        self.server.as_ref().expect("a server").freeze();
    }

    /// It goes on, with all that was sent to it meanwhile.
    ///
    /// # Panics
    /// When it does not run.
    pub fn thaw(&self) {
        self.server.as_ref().expect("a server").thaw();
    }

    /// It forgets everything.
    pub async fn flush(&self) {
        self.tell(&["flushall"]).await;
    }

    /// One command; answers what it said, the texts of a list a line each.
    ///
    /// # Panics
    /// When it does not answer, or with an error.
    pub async fn tell(&self, words: &[impl AsRef<[u8]>]) -> String {
        let mut wire = Wire::connect(self.port, self.password.as_deref()).await.expect("Redis answers");
        wire.say(words).await.expect("Redis does it")
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{password}127.0.0.1:{}/0", self.port)
    }

    /// The same, by the port of a proxy.
    #[must_use]
    pub fn through(&self, proxy: &Proxy) -> String {
        self.url().replace(&format!(":{}/", self.port), &format!(":{}/", proxy.port()))
    }

    /// The server's port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// One line to the server.
struct Wire(BufStream<TcpStream>);

impl Wire {
    /// `None` when nobody answers.
    async fn connect(port: u16, password: Option<&str>) -> Option<Self> {
        let mut wire = Self(BufStream::new(TcpStream::connect(("127.0.0.1", port)).await.ok()?));
        if let Some(password) = password {
            wire.say(&["auth", password]).await.ok()?;
        }
        wire.say(&["ping"]).await.ok()?;
        Some(wire)
    }

    async fn say(&mut self, words: &[impl AsRef<[u8]>]) -> Result<String, String> {
        let mut sent = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            sent.extend(format!("${}\r\n", word.as_ref().len()).as_bytes());
            sent.extend(word.as_ref());
            sent.extend(b"\r\n");
        }
        self.0.write_all(&sent).await.map_err(|error| error.to_string())?;
        self.0.flush().await.map_err(|error| error.to_string())?;
        let (mut open, mut said) = (1, Vec::new());
        while open > 0 {
            open -= 1;
            let mut line = String::new();
            self.0.read_line(&mut line).await.map_err(|error| error.to_string())?;
            let (kind, rest) = line.trim_end().split_at_checked(1).ok_or("nothing came")?;
            match kind {
                "*" => open += rest.parse::<usize>().map_err(|error| error.to_string())?,
                "$" if rest != "-1" => {
                    let mut text = vec![0; rest.parse::<usize>().map_err(|error| error.to_string())? + 2];
                    self.0.read_exact(&mut text).await.map_err(|error| error.to_string())?;
                    said.push(String::from_utf8_lossy(&text[..text.len() - 2]).into_owned());
                }
                "-" => return Err(rest.to_owned()),
                _ => said.push(rest.to_owned()),
            }
        }
        Ok(said.join("\n"))
    }
}
