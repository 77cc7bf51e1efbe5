//! The real binary as a process: found beside the test, killed by its own id, its log kept for whoever asks why.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::admin::Admin;
use crate::wait::{PATIENCE, until};

/// Lines of a node's log that a failure shows.
const LOG_LINES_SHOWN: usize = 60;

/// A child process that does not outlive its owner.
#[derive(Debug)]
pub struct Owned(Child);

impl Owned {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        Self(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{} cannot be started: {error}", command.get_program().display())),
        )
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child of ours can be asked")
    }

    /// Kills it with -9 and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have gone by itself.
        self.0.kill().ok();
        self.0.wait().expect("a child of ours ends");
    }

    /// Sends it a signal, at once: a shell that does it comes late on a busy machine.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a child of ours takes a signal");
    }

    /// Nothing of it moves from now on; its lines stay.
    ///
    /// The signal alone is not enough: until the thread that takes it has its turn on the processor, the others go on.
    ///
    /// # Panics
    /// When it has ended.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        // Told once the last thread has stopped; kept, so that whoever waits for the end is not told of this.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid()), stopped).expect("a child of ours can be waited for");
        assert!(status.is_some_and(|status| status.stopped()), "it has ended instead");
    }

    /// It goes on.
    ///
    /// # Panics
    /// When it has ended and was asked how.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    fn pid(&self) -> Pid {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("the id of a process")
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running node.
#[derive(Debug)]
pub struct NodeProcess {
    process: Owned,
    log: PathBuf,
    begun: Instant,
}

impl NodeProcess {
    /// Starts the command; what it says goes to the end of `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(command: &mut Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).expect("the node's log");
        let second = file.try_clone().expect("the node's log");
        command.stdout(Stdio::from(file)).stderr(Stdio::from(second));
        Self { process: Owned::spawn(command), log, begun: Instant::now() }
    }

    /// Waits until it says that it is ready; answers how long that took since its start.
    ///
    /// # Panics
    /// With its log, when it ends or is not ready in time.
    pub async fn ready(&mut self, admin: &Admin) -> Duration {
        loop {
            if admin.status("/readyz").await == Some(200) {
                return self.begun.elapsed();
            }
            if let Some(status) = self.process.ended() {
                panic!("the node ended with {status} before it was ready:\n{}", self.log_tail());
            }
            assert!(self.begun.elapsed() < PATIENCE, "the node is not ready:\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// As a power cut would end it.
    pub fn kill9(mut self) {
        self.process.kill();
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Stops it in its tracks: it holds everything and does nothing until it is thawed.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        until("the node's end", limit, async || self.process.ended()).await
    }

    /// Since when it runs.
    #[must_use]
    pub const fn begun(&self) -> Instant {
        self.begun
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Memory that it holds, in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        resident_bytes(self.id())
    }

    /// Everything that nodes of this stage have said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "whoever reads a failed test needs the node's side of it")]
            {
                eprintln!("--- the node's log ends:\n{}\n---", self.log_tail());
            }
        }
    }
}

/// Memory that a process holds, in bytes; `None` where the system does not tell.
#[must_use]
pub fn resident_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The binary of the profile that this test was built in.
///
/// # Panics
/// When it is not there: `cargo test` alone does not build it.
#[must_use]
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let name = format!("troupe{}", std::env::consts::EXE_SUFFIX);
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(&name)).find(|path| path.is_file());
    let found = found.unwrap_or_else(|| panic!("there is no troupe beside {}: run `cargo build` first", own.display()));
    if let Some(newer) = newer_source(&found) {
        #[expect(clippy::print_stderr, reason = "a stale binary explains many a failure")]
        {
            eprintln!("note: {} was changed after {} was built: run `cargo build`", newer.display(), found.display());
        }
    }
    found
}

/// A source that the binary does not hold yet. Files of tests may be newer without harm.
fn newer_source(binary: &Path) -> Option<PathBuf> {
    let built = fs::metadata(binary).and_then(|file| file.modified()).ok()?;
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    ["runtime/src", "actors/src", "gateway/src"].iter().find_map(|folder| newer_than(&top.join(folder), built))
}

fn newer_than(folder: &Path, built: SystemTime) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find_map(|path| {
        if path.is_dir() {
            return (path.file_name()? != "tests").then(|| newer_than(&path, built)).flatten();
        }
        let is_test = matches!(path.file_name()?.to_str()?, "tests.rs" | "conformance.rs");
        let changed = fs::metadata(&path).and_then(|file| file.modified()).ok()?;
        (!is_test && changed > built).then_some(path)
    })
}

#[test]
fn memory_of_a_living_process_is_known_and_of_a_dead_one_not() {
    if Path::new("/proc/self/status").exists() {
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 100_000));
    }
    assert_eq!(resident_bytes(u32::MAX), None);
}
