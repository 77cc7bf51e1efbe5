//! A brake on the disk: every fsync and fdatasync of a process takes as long as we say, and is counted.
//!
//! `slow_fdatasync.c` is compiled here and loaded into a process before the C library; a shared page tells it how slow to
//! be, so one process is quick and slow by turns. Where there is no C compiler, or the shim is not listened to (a static
//! C library, a user who may not read it), the count stays where it is and whoever measures hears of it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

/// What a sync takes on the disk on which the peers were measured and the targets were set: one raw client commits 5,000 rows a
/// second there. A quicker disk is held to it where a target is about how much of a commit something is.
pub(crate) const USUAL: Duration = Duration::from_micros(140);

const SHIM: &str = include_str!("slow_fdatasync.c");
/// The variables by which a process is under the brake.
pub(crate) const PRELOAD: &str = "LD_PRELOAD";
pub(crate) const SLOWNESS: &str = "SLOW_FDATASYNC";
/// Three numbers of 64 bits: nanoseconds at least, calls, nanoseconds in them.
const PAGE_BYTES: u64 = 24;

/// The shim and its page.
pub(crate) struct Brake {
    folder: TempDir,
    page: File,
}

/// What the shim has counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syncs {
    /// Calls.
    pub(crate) calls: u64,
    /// Milliseconds in them.
    pub(crate) spent_ms: f64,
}

impl Brake {
    /// Compiles the shim; `None` where it cannot be.
    pub(crate) fn build() -> Option<Self> {
        // A folder that other users may look into: a server of ours runs as one.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open_to_all = |path: &PathBuf, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("a file of ours");
        };
        open_to_all(&folder.path().to_owned(), 0o755);
        let (source, page) = (folder.path().join("slow_fdatasync.c"), folder.path().join("page"));
        fs::write(&source, SHIM).expect("the shim's source");
        File::create(&page).and_then(|page| page.set_len(PAGE_BYTES)).expect("the shim's page");
        open_to_all(&page, 0o666);
        let page = File::options().read(true).write(true).open(page).expect("the shim's page");
        let brake = Self { folder, page };
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(brake.library()).arg(source).arg("-ldl");
        compiler.status().is_ok_and(|status| status.success()).then_some(brake)
    }

    /// What a process must find in its environment.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [(PRELOAD, self.library()), (SLOWNESS, self.folder.path().join("page"))]
    }

    /// From now on every sync takes this long at least.
    pub(crate) fn set(&self, at_least: Duration) {
        let nanos = u64::try_from(at_least.as_nanos()).expect("not for ever");
        self.page.write_all_at(&nanos.to_ne_bytes(), 0).expect("the shim's page");
    }

    /// What was counted so far.
    pub(crate) fn syncs(&self) -> Syncs {
        let number = |at| {
            let mut bytes = [0; 8];
            self.page.read_exact_at(&mut bytes, at).expect("the shim's page");
            u64::from_ne_bytes(bytes)
        };
        Syncs { calls: number(8), spent_ms: number(16) as f64 / 1_000_000.0 }
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("slow_fdatasync.so")
    }
}
