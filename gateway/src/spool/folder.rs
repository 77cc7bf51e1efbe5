//! The spool's folder: its segments, how far they are drained, and what was moved aside.
//!
//! ```text
//! spool/lock                           held as long as the node lives
//! spool/00000000000000000007.segment   head (magic, version, checksum), then records; the lowest number is drained first
//! spool/position                       the segment that is drained, and the place behind its last confirmed record
//! spool/isolated/…                     bytes that are no record, kept for a person
//! ```
//!
//! A segment is written by one life of the node and never reopened for writing; it is read once it is closed, and removed
//! when all of it is confirmed. A file that is made, renamed or removed is followed by a sync of its folder. Blocking:
//! [`super::writer`] and [`super::drain`] call from threads that may wait.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::record::{self, Piece, checksum};

const LOCK: &str = "lock";
const POSITION: &str = "position";
const ISOLATED: &str = "isolated";
const SUFFIX: &str = "segment";
/// What a segment begins with.
const SEGMENT_MAGIC: [u8; 8] = *b"TRPSPOOL";
/// The form of segments that this version writes, and the only one that it reads.
const VERSION: u32 = 1;
/// Bytes before the first record of a segment.
pub(super) const SEGMENT_HEAD_BYTES: usize = 16;
const POSITION_BYTES: usize = 20;
/// Events are people's words: nobody else on the machine reads them.
const MODE: u32 = 0o600;
/// A larger file is none of ours, whatever its name.
const SEGMENT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Why the spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be made, listed or read.
    #[error("spool {}: {cause}; make it readable and writable, or choose another data folder", path.display())]
    Unreadable {
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Another process has it.
    #[error("spool {} is in use by another node; stop it, or choose another data folder", .0.display())]
    InUse(PathBuf),
    /// A later version has written it.
    #[error(
        "spool {}: form {version}, which this version does not know; run the newer troupe until it is drained",
        path.display()
    )]
    Newer {
        /// Which segment.
        path: PathBuf,
        /// Its form.
        version: u32,
    },
    /// It is not what the spool writes.
    #[error("spool {}: {bytes} bytes are more than a segment has; move the file away", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

/// The folder of one node's spool. Closed by dropping it.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    _lock: File,
}

/// A segment that is written no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed {
    /// Its number.
    pub(super) number: u64,
    /// Events in it that were not confirmed when it was closed or found.
    pub(super) events: u64,
    /// Their bytes, frames included.
    pub(super) bytes: u64,
    /// Where the first of them begins.
    pub(super) from: usize,
    /// When the first of them was taken.
    pub(super) since_ms: Option<u64>,
}

/// How far the spool is drained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The segment.
    pub(super) segment: u64,
    /// Everything before is confirmed.
    pub(super) offset: u64,
}

/// What a former life has left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Segments to drain, the oldest first.
    pub(super) segments: Vec<Closed>,
    /// The number of the next segment.
    pub(super) next: u64,
    /// Files that were moved aside, and their bytes.
    pub(super) isolated: (u64, u64),
    /// Bytes of records that a crash had cut off and that were cut away.
    pub(super) torn_bytes: u64,
}

impl Folder {
    /// Makes the folder where it is missing, locks it, and takes stock of what is in it.
    pub(super) fn open(dir: &Path) -> Result<(Self, Left), OpenError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            |cause| OpenError::Unreadable { path, cause }
        };
        let isolated = dir.join(ISOLATED);
        fs::create_dir_all(&isolated).map_err(unreadable(&isolated))?;
        let path = dir.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(MODE).open(&path);
        let lock = lock.map_err(unreadable(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(dir.to_owned())),
            Err(TryLockError::Error(cause)) => return Err(unreadable(&path)(cause)),
        }
        // The folder itself may be new.
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for folder in [above, dir] {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(unreadable(folder))?;
        }
        let folder = Self { dir: dir.to_owned(), _lock: lock };
        let left = folder.take_stock()?;
        Ok((folder, left))
    }

    fn take_stock(&self) -> Result<Left, OpenError> {
        let unreadable = |path: &Path, cause| OpenError::Unreadable { path: path.to_owned(), cause };
        let here = |cause| unreadable(&self.dir, cause);
        let mut numbers: Vec<u64> =
            files(&self.dir).map_err(here)?.into_iter().filter_map(|(name, _)| number(&name)).collect();
        numbers.sort_unstable();
        let position = position(&self.dir);
        let mut left = Left { next: position.segment + 1, ..Left::default() };
        left.isolated = self.aside().map_err(|cause| unreadable(&self.dir.join(ISOLATED), cause))?;
        for number in numbers {
            left.next = left.next.max(number + 1);
            let path = self.path(number);
            if number < position.segment {
                // Drained to its end; the crash came before it was removed.
                self.remove(number).map_err(|cause| unreadable(&path, cause))?;
                continue;
            }
            let from = if number == position.segment { position.offset as usize } else { 0 };
            let (closed, torn) = self.examine(number, from.max(SEGMENT_HEAD_BYTES))?;
            left.torn_bytes += torn;
            match closed {
                Some(closed) => left.segments.push(closed),
                None => self.remove(number).map_err(|cause| unreadable(&path, cause))?,
            }
        }
        Ok(left)
    }

    /// Counts a segment of a former life and cuts off its torn tail; `None` when nothing is in it.
    fn examine(&self, number: u64, from: usize) -> Result<(Option<Closed>, u64), OpenError> {
        let path = self.path(number);
        let unreadable = |cause| OpenError::Unreadable { path: path.clone(), cause };
        let bytes = fs::metadata(&path).map_err(unreadable)?.len();
        if bytes > SEGMENT_BYTES_MAX {
            return Err(OpenError::Foreign { path: path.clone(), bytes });
        }
        let bytes = fs::read(&path).map_err(unreadable)?;
        if let Some(version) = version(&bytes).filter(|version| *version != VERSION) {
            return Err(OpenError::Newer { path: path.clone(), version });
        }
        let mut closed = Closed { number, events: 0, bytes: 0, from, since_ms: None };
        let mut torn = 0;
        for piece in record::pieces(&bytes, from) {
            match piece {
                Piece::Record(record) => {
                    closed.events += 1;
                    closed.since_ms = closed.since_ms.or(Some(record.at_ms));
                }
                Piece::Damaged(_) => closed.events += 1,
                Piece::Torn(range) => {
                    torn = range.len() as u64;
                    let file = OpenOptions::new().write(true).open(&path).map_err(unreadable)?;
                    file.set_len(range.start as u64).and_then(|()| file.sync_all()).map_err(unreadable)?;
                }
            }
        }
        closed.bytes = (bytes.len().saturating_sub(from) as u64).saturating_sub(torn);
        Ok((Some(closed).filter(|closed| closed.events > 0), torn))
    }

    /// Makes a segment and answers its file, empty but for its head, which is not synced yet; the folder is.
    pub(super) fn create(&self, number: u64) -> io::Result<File> {
        let file = OpenOptions::new().create_new(true).write(true).mode(MODE).open(self.path(number))?;
        let mut head = [0; SEGMENT_HEAD_BYTES];
        head[..8].copy_from_slice(&SEGMENT_MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let of_head = checksum(&head[..12]);
        head[12..].copy_from_slice(&of_head.to_le_bytes());
        file.write_all_at(&head, 0)?;
        self.sync(&self.dir)?;
        Ok(file)
    }

    /// All bytes of a segment.
    pub(super) fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        fs::read(self.path(number))
    }

    /// Removes a segment; one that is gone is as good.
    pub(super) fn remove(&self, number: u64) -> io::Result<()> {
        gone(fs::remove_file(self.path(number)))?;
        self.sync(&self.dir)
    }

    /// Keeps bytes of a segment that are no record in a file of their own; the same bytes again make no second file.
    pub(super) fn isolate(&self, number: u64, at: &Range<usize>, bytes: &[u8]) -> io::Result<PathBuf> {
        let dir = self.dir.join(ISOLATED);
        let path = dir.join(format!("{number:020}-{}-{}", at.start, at.end));
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(MODE).open(&path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.sync(&dir)?;
        Ok(path)
    }

    /// Files that were moved aside, and their bytes.
    pub(super) fn aside(&self) -> io::Result<(u64, u64)> {
        let aside = absent_is_empty(files(&self.dir.join(ISOLATED)))?;
        Ok((aside.len() as u64, aside.iter().map(|(_, bytes)| bytes).sum()))
    }

    /// Remembers how far the spool is drained.
    pub(super) fn save(&self, position: Position) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(POSITION_BYTES);
        bytes.extend(position.segment.to_le_bytes());
        bytes.extend(position.offset.to_le_bytes());
        bytes.extend(checksum(&bytes).to_le_bytes());
        let new = self.dir.join("position.new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(MODE).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(&new, self.dir.join(POSITION))?;
        self.sync(&self.dir)
    }

    fn path(&self, number: u64) -> PathBuf {
        segment(&self.dir, number)
    }

    fn sync(&self, dir: &Path) -> io::Result<()> {
        debug_assert!(dir.starts_with(&self.dir), "a folder of the spool");
        File::open(dir)?.sync_all()
    }
}

/// What lies in a spool: events that wait, and files that were moved aside. Changes nothing.
///
/// # Errors
/// When it is there and cannot be listed or read.
pub fn look(dir: &Path) -> io::Result<(u64, u64)> {
    let mut events = 0;
    let position = position(dir);
    let numbers = absent_is_empty(files(dir))?.into_iter().filter_map(|(name, _)| number(&name));
    for number in numbers.filter(|number| *number >= position.segment) {
        // One that is gone meanwhile is drained.
        let path = segment(dir, number);
        let bytes = fs::read(path).or_else(|error| gone(Err(error)).map(|()| Vec::new()))?;
        let from = if number == position.segment { position.offset as usize } else { 0 };
        let found = record::pieces(&bytes, from.max(SEGMENT_HEAD_BYTES));
        events += found.iter().filter(|piece| !matches!(piece, Piece::Torn(_))).count() as u64;
    }
    Ok((events, absent_is_empty(files(&dir.join(ISOLATED)))?.len() as u64))
}

/// How far it was drained; from its beginning when that cannot be read, which doubles events and loses none.
fn position(dir: &Path) -> Position {
    let bytes = match fs::read(dir.join(POSITION)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Position::default(),
        Err(error) => {
            tracing::warn!(component = "spool", %error, "the position cannot be read: what is there is published again");
            return Position::default();
        }
    };
    let word = |at: usize| bytes.get(at..at + 8)?.first_chunk().copied().map(u64::from_le_bytes);
    let sum = bytes.get(16..POSITION_BYTES).and_then(|sum| sum.first_chunk()).copied().map(u32::from_le_bytes);
    match (word(0), word(8), sum) {
        (Some(segment), Some(offset), Some(sum)) if checksum(&bytes[..16]) == sum => Position { segment, offset },
        _ => {
            tracing::warn!(component = "spool", "the position is damaged: what is there is published again");
            Position::default()
        }
    }
}

/// The form of a segment, when its head can be read.
fn version(bytes: &[u8]) -> Option<u32> {
    let head: &[u8; SEGMENT_HEAD_BYTES] = bytes.first_chunk()?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    (head.starts_with(&SEGMENT_MAGIC) && checksum(&head[..12]) == word(12)).then(|| word(8))
}

/// The file of a segment.
fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.{SUFFIX}"))
}

/// The number in a segment's name.
fn number(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.strip_suffix('.')?.parse().ok()
}

/// Names and sizes of the files in a folder.
fn files(dir: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let (Ok(name), Ok(about)) = (entry.file_name().into_string(), entry.metadata())
            && about.is_file()
        {
            files.push((name, about.len()));
        }
    }
    Ok(files)
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn absent_is_empty<T>(listed: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match listed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
