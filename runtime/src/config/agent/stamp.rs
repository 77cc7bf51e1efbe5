//! What the folder of agents, and each other file that the node goes by, looks like from outside: cheap to take, and another one as soon as a file is another.
//!
//! Taken by whoever watches the folder, again and again; so no file is opened. Links are followed: a mounted configuration
//! is replaced by turning one link (`..data`), and then every file behind it is another inode. What cannot be looked at is
//! part of the stamp too, so that its coming and going is a change.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::folder::spec_files;

/// The outside of a folder and some files at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamp {
    /// By name; as a text, for a path is compared part by part.
    files: Vec<(OsString, Result<Outside, io::ErrorKind>)>,
    unread: bool,
}

/// The outside of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outside {
    place: (u64, u64),
    bytes: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Looks at the files that [`load_agents`](super::load_agents) would read. Never fails.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        Self::of_with(dir, Vec::new())
    }

    /// The same, and at these other files.
    #[must_use]
    pub fn of_with(dir: &Path, others: Vec<PathBuf>) -> Self {
        let (mut paths, unread) = spec_files(dir).map_or((Vec::new(), true), |paths| (paths, false));
        paths.extend(others);
        let outside = |path: PathBuf| {
            let outside = fs::metadata(&path).map(|file| Outside {
                place: (file.dev(), file.ino()),
                bytes: file.size(),
                written: (file.mtime(), file.mtime_nsec()),
                changed: (file.ctime(), file.ctime_nsec()),
            });
            (path.into_os_string(), outside.map_err(|error| error.kind()))
        };
        Self { files: paths.into_iter().map(outside).collect(), unread }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_kind_of_change_is_another_stamp_and_rest_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut seen = vec![Stamp::of(dir.path())];
        let mut changes = |what: &str| {
            let stamp = Stamp::of(dir.path());
            assert!(!seen.contains(&stamp), "{what} is not seen");
            assert_eq!(stamp, Stamp::of(dir.path()), "nothing has changed since");
            seen.push(stamp);
        };
        fs::write(path("a.yaml"), "1").unwrap();
        changes("a new file");
        fs::write(path("a.yaml"), "12").unwrap();
        changes("a longer file");
        fs::rename(path("a.yaml"), path("b.yaml")).unwrap();
        changes("another name");
        fs::write(path("new"), "34").unwrap();
        fs::rename(path("new"), path("b.yaml")).unwrap();
        changes("another file of the same size");
        fs::remove_file(path("b.yaml")).unwrap();
        symlink("nowhere", path("c.yaml")).unwrap();
        changes("a link to nowhere");
    }

    #[test]
    fn a_turned_link_is_seen_and_what_is_hidden_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for version in ["..1", "..2"] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("a.yaml"), "same").unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/a.yaml", path("a.yaml")).unwrap();
        let first = Stamp::of(dir.path());
        fs::write(path(".a.yaml.swp"), "an editor's").unwrap();
        assert_eq!(Stamp::of(dir.path()), first);
        symlink("..2", path("..next")).unwrap();
        fs::rename(path("..next"), path("..data")).unwrap();
        assert_ne!(Stamp::of(dir.path()), first);
    }

    #[test]
    fn a_folder_that_goes_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let (there, other) = (Stamp::of(&gone), || Stamp::of_with(&gone, vec![dir.path().join(".env")]));
        fs::remove_dir(&gone).unwrap();
        assert_ne!(Stamp::of(&gone), there);
        let without = other();
        fs::write(dir.path().join(".env"), "A=1").unwrap();
        assert_ne!(other(), without, "a file elsewhere counts too, and with a folder that cannot be read");
    }
}
