//! A PostgreSQL of the test's own: a fresh cluster in a temporary folder, on a free port of 127.0.0.1, gone at the end.
//!
//! The programs are Debian's or whatever lies in the path; `make test` installs them. PostgreSQL refuses to run as root:
//! then it runs as the user `postgres`, else as `nobody`. Writes are synced as in production, for what a commit costs
//! and what it promises is what is tested.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use crate::node::Owned;
use crate::ports::free_port;
use crate::proxy::Proxy;
use crate::wait::until;

/// Who owns the databases.
const USER: &str = "troupe";
/// A commit as it goes to the server, where a [`proxy`](crate::proxy) may cut. What goes with it stands before it in the same query,
/// and what the next transaction begins with behind it.
pub const COMMIT: &[u8] = b"commit;";
/// How long the server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// One running server.
pub struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    account: Option<(u32, u32)>,
    port: u16,
    environment: Vec<(&'static str, PathBuf)>,
    server: Option<Owned>,
}

impl Postgres {
    /// Its first process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.server.as_ref().expect("it runs").id()
    }

    /// A new server; `None` when PostgreSQL is not installed.
    ///
    /// # Panics
    /// When it is installed and does not start.
    pub async fn start() -> Option<Self> {
        Self::start_with(Vec::new()).await
    }

    /// The same, its processes with this in their environment.
    ///
    /// # Panics
    /// When it is installed and does not start.
    pub async fn start_with(environment: Vec<(&'static str, PathBuf)>) -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let account = account(folder.path());
        if let Some((user, group)) = account {
            chown(folder.path(), Some(user), Some(group)).expect("the folder can be given away");
        }
        let mut postgres = Self { programs, folder, account, port: free_port(), environment, server: None };
        let made = postgres
            .command("initdb")
            .args(["--username", USER, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--pgdata"])
            .arg(postgres.data())
            .output()
            .expect("initdb can be started");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        postgres.resume().await;
        Some(postgres)
    }

    /// Starts the server again on the same port, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn resume(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k", ""]);
        command.args(["-c", "fsync=on", "-c", "max_connections=100"]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::null()).stderr(log);
        self.server = Some(Owned::spawn(&mut command));
        let url = self.url("postgres");
        let answer = async || {
            let ended = self.server.as_mut().is_some_and(|server| server.ended().is_some());
            assert!(!ended, "PostgreSQL has ended: {}", fs::read_to_string(self.log()).unwrap_or_default());
            PgConnection::connect(&url).await.ok()
        };
        let connection = until("PostgreSQL to answer", PATIENCE, answer).await;
        connection.close().await.expect("a goodbye");
    }

    /// Ends the server at once, as a crash would: it recovers from its log when it is started again.
    pub fn crash(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal(Signal::QUIT);
            let begun = Instant::now();
            // What is left after that is killed when its owner is dropped.
            while server.ended().is_none() && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Has the server speak TLS too, with this certificate.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn secure(&self, certificate: &Path, key: &Path) {
        for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = self.data().join(to);
            fs::copy(from, &to).expect("a file of the server");
            fs::set_permissions(&to, Permissions::from_mode(0o600)).expect("a file of the server");
            if let Some((user, group)) = self.account {
                chown(&to, Some(user), Some(group)).expect("a file of the server");
            }
        }
        self.administer("alter system set ssl = on".to_owned()).await;
        self.administer("select pg_reload_conf()".to_owned()).await;
        let url = self.url("postgres").replace("sslmode=disable", "sslmode=require");
        let secured = until("TLS", PATIENCE, async || PgConnection::connect(&url).await.ok()).await;
        secured.close().await.expect("a goodbye");
    }

    /// A new, empty database.
    ///
    /// # Panics
    /// When there is one of this name.
    pub async fn create(&self, name: &str) -> String {
        self.administer(format!("create database {name}")).await;
        self.url(name)
    }

    /// A database and whoever is connected to it go.
    ///
    /// # Panics
    /// When there is none of this name.
    pub async fn remove(&self, name: &str) {
        self.administer(format!("drop database {name} with (force)")).await;
    }

    async fn administer(&self, statement: String) {
        let mut admin = PgConnection::connect(&self.url("postgres")).await.expect("the server answers");
        sqlx::query(AssertSqlSafe(statement)).execute(&mut admin).await.expect("the server does it");
        admin.close().await.expect("a goodbye");
    }

    /// Where a database is.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// The same database, by the port of a proxy.
    #[must_use]
    pub fn through(&self, proxy: &Proxy, url: &str) -> String {
        url.replace(&format!(":{}/", self.port), &format!(":{}/", proxy.port()))
    }

    /// Everything in a database, as statements.
    ///
    /// # Panics
    /// When it cannot be dumped.
    #[must_use]
    pub fn dump(&self, database: &str) -> Vec<u8> {
        let mut dump = self.command("pg_dump");
        let said = dump.arg("--inserts").arg(self.url(database)).output().expect("pg_dump can be started");
        assert!(said.status.success(), "pg_dump: {}", String::from_utf8_lossy(&said.stderr));
        said.stdout
    }

    /// The server's port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).env("LC_ALL", "C").stdin(Stdio::null());
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Where initdb and postgres lie together: in Debian's folder, the newest first, else in the path.
fn programs() -> Option<PathBuf> {
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    debian.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = debian.into_iter().rev().map(|(_, bin)| bin).chain(std::env::split_paths(&path));
    candidates.into_iter().find(|bin| ["initdb", "postgres"].iter().all(|name| bin.join(name).is_file()))
}

/// Who runs it, when we are root (and so own the folder that we have made).
fn account(folder: &Path) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    if fs::metadata(folder).expect("the folder is there").uid() != 0 {
        return None;
    }
    let number = |flag: &str, name: &str| {
        let said = Command::new("id").args([flag, name]).stderr(Stdio::null()).output().ok()?;
        String::from_utf8(said.stdout).ok()?.trim().parse::<u32>().ok()
    };
    ["postgres", "nobody"].into_iter().find_map(|name| Some((number("-u", name)?, number("-g", name)?)))
}
