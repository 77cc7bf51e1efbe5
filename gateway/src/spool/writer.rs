//! The one who writes: appends that wait share one sync, and nobody is made to wait for company.
//!
//! ```text
//! append ─┐
//! append ─┼─► what waits now ─► one write, one sync ─► all of them answered
//! append ─┘
//! ```
//!
//! A write or sync that fails fails all that share it, and its segment is closed before them: what a failed sync has left
//! of them is not known, so nothing is ever written behind it. The next append begins a new segment. Started by
//! [`super::Spool::open`], asked by the doors and by [`super::drain`]; it ends when both have let go of it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::folder::{Closed, Folder, SEGMENT_HEAD_BYTES};
use super::gate::Place;
use super::record::{self, HEAD_BYTES, Stray};

/// Bytes that are written in one go, unless a single record has more.
const WRITE_BYTES_MAX: usize = 1024 * 1024;

/// Limits of the writer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// A segment that has so many bytes is closed.
    pub(super) segment_bytes: u64,
    /// Appends that share a sync, at most.
    pub(super) batch_max: usize,
}

/// What the writer is asked.
pub(super) enum Request {
    /// To make an event durable.
    Append {
        /// When it was taken, in milliseconds since 1970.
        at_ms: u64,
        /// What becomes of it without a queue.
        stray: Stray,
        /// The event as JSON.
        payload: Vec<u8>,
        /// Its place at the gate, filled once it is on the disk, whether or not anybody still waits for the reply.
        place: Place,
        /// Told once it is on the disk, or why it is not.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// For the oldest segment, closed for the purpose when need be; `None` when nothing is written.
    Take(oneshot::Sender<Option<Closed>>),
}

/// The bytes that a payload takes in a segment.
pub(super) const fn framed(payload: usize) -> u64 {
    (HEAD_BYTES + payload) as u64
}

/// Does what it is asked until nobody can ask any more.
pub(super) async fn run(mut pen: Pen, mut requests: mpsc::Receiver<Request>) {
    let batch_max = pen.options.batch_max;
    let mut waiting = Vec::with_capacity(batch_max);
    while requests.recv_many(&mut waiting, batch_max).await > 0 {
        let asked = std::mem::take(&mut waiting);
        let written = tokio::task::spawn_blocking(move || {
            pen.serve(asked);
            pen
        });
        pen = match written.await {
            Ok(pen) => pen,
            // Who waited has lost its reply and hears that the spool is closed.
            Err(error) => {
                tracing::error!(component = "spool", %error, "the writer fell; nothing is spooled until the node restarts");
                return;
            }
        };
    }
}

/// The writer's side of the folder.
pub(super) struct Pen {
    folder: Arc<Folder>,
    options: Options,
    next: u64,
    closed: VecDeque<Closed>,
    active: Option<Active>,
    buffer: Vec<u8>,
    buffered: Vec<Buffered>,
}

/// Who waits for the next sync.
struct Buffered {
    at_ms: u64,
    place: Place,
    reply: oneshot::Sender<Result<(), String>>,
}

/// The segment that is written.
struct Active {
    file: File,
    so_far: Closed,
    end: u64,
}

impl Pen {
    /// Writes behind what a former life has left.
    pub(super) fn new(folder: Arc<Folder>, options: Options, closed: Vec<Closed>, next: u64) -> Self {
        let (buffer, buffered) = (Vec::new(), Vec::new());
        Self { folder, options, next, closed: closed.into(), active: None, buffer, buffered }
    }

    fn serve(&mut self, requests: Vec<Request>) {
        for request in requests {
            match request {
                Request::Append { at_ms, stray, payload, place, reply } => {
                    record::write(&mut self.buffer, at_ms, stray, &payload);
                    self.buffered.push(Buffered { at_ms, place, reply });
                    if self.buffer.len() >= WRITE_BYTES_MAX {
                        self.flush();
                    }
                }
                Request::Take(reply) => {
                    self.flush();
                    if self.closed.is_empty() {
                        self.close();
                    }
                    // A drain that has gone away meanwhile leaves the segment to the next life.
                    reply.send(self.closed.pop_front()).ok();
                }
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        if self.buffered.is_empty() {
            return;
        }
        let written = self.write().map_err(|error| error.to_string());
        self.buffer.clear();
        for Buffered { place, reply, .. } in self.buffered.drain(..) {
            if written.is_ok() {
                place.fill();
            }
            // Who does not wait any more was answered otherwise; the event is published all the same.
            reply.send(written.clone()).ok();
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.active.as_ref().is_some_and(|active| active.end >= self.options.segment_bytes) {
            self.close();
        }
        let mut active = match self.active.take() {
            Some(active) => active,
            None => self.begin()?,
        };
        let bytes = self.buffer.len() as u64;
        let synced = active.file.write_all_at(&self.buffer, active.end).and_then(|()| active.file.sync_data());
        if synced.is_ok() {
            active.end += bytes;
            active.so_far.events += self.buffered.len() as u64;
            active.so_far.bytes += bytes;
            active.so_far.since_ms = active.so_far.since_ms.or(self.buffered.first().map(|first| first.at_ms));
        }
        let failed = synced.is_err();
        if failed {
            // Best effort: what stays is a torn tail, or whole records that are published although nobody was told so.
            active.file.set_len(active.end).ok();
        }
        self.active = Some(active);
        if failed {
            self.close();
        }
        synced
    }

    fn begin(&mut self) -> io::Result<Active> {
        let number = self.next;
        // Also after a failure: a number is used once.
        self.next += 1;
        let file = self.folder.create(number)?;
        let so_far = Closed { number, events: 0, bytes: 0, from: SEGMENT_HEAD_BYTES, since_ms: None };
        Ok(Active { file, so_far, end: SEGMENT_HEAD_BYTES as u64 })
    }

    fn close(&mut self) {
        let Some(Active { so_far, .. }) = self.active.take() else { return };
        if so_far.events > 0 {
            self.closed.push_back(so_far);
        } else if let Err(error) = self.folder.remove(so_far.number) {
            tracing::debug!(component = "spool", %error, "an empty segment stays until the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gate::Gate;
    use super::*;

    fn pen(dir: &tempfile::TempDir, segment_bytes: u64) -> (Pen, Arc<Folder>) {
        let (folder, left) = Folder::open(&dir.path().join("spool")).unwrap();
        let folder = Arc::new(folder);
        let options = Options { segment_bytes, batch_max: 64 };
        (Pen::new(Arc::clone(&folder), options, left.segments, left.next), folder)
    }

    fn append(payload: &str) -> (Request, oneshot::Receiver<Result<(), String>>) {
        let (reply, answer) = oneshot::channel();
        let place = Arc::new(Gate::new(0, 0, 0, 1 << 20)).enter(framed(payload.len())).unwrap();
        (Request::Append { at_ms: 7, stray: Stray::Drop, payload: payload.into(), place, reply }, answer)
    }

    fn take(pen: &mut Pen) -> Option<Closed> {
        let (reply, mut answer) = oneshot::channel();
        pen.serve(vec![Request::Take(reply)]);
        answer.try_recv().unwrap()
    }

    fn append_now(pen: &mut Pen, payload: &str) -> Result<(), String> {
        let (request, mut answer) = append(payload);
        pen.serve(vec![request]);
        answer.try_recv().unwrap()
    }

    #[test]
    fn what_waits_together_is_written_together_and_taken_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (mut pen, folder) = pen(&dir, 1);
        assert_eq!(take(&mut pen), None);
        let (requests, answers): (Vec<_>, Vec<_>) = ["a", "b"].into_iter().map(append).unzip();
        pen.serve(requests);
        for mut answer in answers {
            assert_eq!(answer.try_recv().unwrap(), Ok(()));
        }
        append_now(&mut pen, "c").unwrap();
        let first = take(&mut pen).unwrap();
        assert_eq!((first.number, first.events, first.bytes, first.since_ms), (1, 2, 2 * framed(1), Some(7)));
        assert_eq!(folder.read(1).unwrap().len() as u64, SEGMENT_HEAD_BYTES as u64 + first.bytes);
        assert_eq!(take(&mut pen).map(|second| (second.number, second.events)), Some((2, 1)));
        assert_eq!(take(&mut pen), None);
    }

    #[test]
    fn a_write_that_fails_is_told_and_the_next_begins_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (mut pen, folder) = pen(&dir, 1 << 20);
        append_now(&mut pen, "kept").unwrap();
        // As if the disk answered with an error: the descriptor does not write.
        let read_only = File::open(dir.path().join("spool/00000000000000000001.segment")).unwrap();
        pen.active.as_mut().unwrap().file = read_only;
        let refused = append_now(&mut pen, "lost").unwrap_err();
        assert!(refused.contains("os error"), "{refused}");
        append_now(&mut pen, "after").unwrap();
        assert_eq!(take(&mut pen).map(|closed| (closed.number, closed.events)), Some((1, 1)));
        assert_eq!(take(&mut pen).map(|closed| (closed.number, closed.events)), Some((2, 1)));
        let bytes = folder.read(1).unwrap();
        assert!(String::from_utf8_lossy(&bytes).ends_with("kept"));
    }

    #[test]
    fn a_folder_that_is_gone_fails_appends_until_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let (mut pen, _folder) = pen(&dir, 1 << 20);
        let (spool, away) = (dir.path().join("spool"), dir.path().join("away"));
        std::fs::rename(&spool, &away).unwrap();
        assert!(append_now(&mut pen, "lost").unwrap_err().contains("os error 2"));
        std::fs::rename(&away, &spool).unwrap();
        append_now(&mut pen, "kept").unwrap();
        assert_eq!(take(&mut pen).map(|closed| closed.events), Some(1));
    }
}
