//! What the folder of agents, and each other file that the node goes by, looks like from outside: cheap to take, and another one as soon as a file is another.
//!
//! Taken by whoever watches the folder, again and again; so no file is opened, and of ten thousand files one number is kept. Links
//! are followed: a mounted configuration is replaced by turning one link (`..data`), and then every file behind it is another
//! inode. What cannot be looked at is part of the stamp too, so that its coming and going is a change.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The outside of a folder and some files at one time: how many there are, and the sum of their outsides, in no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    files: u64,
    sum: u64,
}

/// The outside of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Outside {
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
        let mut stamp = Self::default();
        match fs::read_dir(dir) {
            Ok(entries) => {
                for entry in entries.filter_map(Result::ok) {
                    let name = entry.file_name();
                    if is_spec(&name) {
                        stamp.add(&name, followed(&entry));
                    }
                }
            }
            // One file instead of a folder, or nothing that can be read.
            Err(_) => stamp.add(dir.as_os_str(), fs::metadata(dir)),
        }
        for path in others {
            stamp.add(path.as_os_str(), fs::metadata(&path));
        }
        stamp
    }

    fn add(&mut self, name: &OsStr, found: io::Result<Metadata>) {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        match found {
            Ok(found) => Outside::of(&found).hash(&mut hasher),
            Err(error) => error.kind().hash(&mut hasher),
        }
        self.files += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

impl Outside {
    pub(super) fn of(file: &Metadata) -> Self {
        Self {
            place: (file.dev(), file.ino()),
            bytes: file.size(),
            written: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// Whether nothing was done to the file for so many seconds before `now`, in seconds since 1970: then a later write is another outside,
    /// however coarse the file system's clock is.
    pub(super) fn has_rested(&self, seconds: i64, now: i64) -> bool {
        self.written.0.max(self.changed.0) < now - seconds
    }
}

/// What an entry leads to. Asked by its name within the folder where it is no link: the path to the folder is not walked for each.
pub(super) fn followed(entry: &DirEntry) -> io::Result<Metadata> {
    if entry.file_type()?.is_symlink() { fs::metadata(entry.path()) } else { entry.metadata() }
}

/// Whether a file of this name in the folder is a spec; editors' and Kubernetes' hidden ones are not ours.
pub(super) fn is_spec(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    !name.starts_with(b".") && (name.ends_with(b".yaml") || name.ends_with(b".yml"))
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
    fn two_files_that_change_places_are_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a.yaml"), "1").unwrap();
        fs::write(path("b.yaml"), "2").unwrap();
        let before = Stamp::of(dir.path());
        for (from, to) in [("a.yaml", "c"), ("b.yaml", "a.yaml"), ("c", "b.yaml")] {
            fs::rename(path(from), path(to)).unwrap();
        }
        assert_ne!(Stamp::of(dir.path()), before);
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
