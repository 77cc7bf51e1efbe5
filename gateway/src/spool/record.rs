//! One event of the spool as bytes, and what is found where such bytes should be.
//!
//! ```text
//! mark "TSPR" │ length u32 │ taken at, ms u64 │ stray u8, 0 0 0 │ checksum of the payload u32 │ checksum of the head u32 │ payload
//! ```
//!
//! Little-endian, CRC-32C. The head has a checksum of its own, so that a length is believed before it is followed; the
//! mark lets a reader find the next record behind a damaged one. The payload is the event as JSON. Pure: the files are
//! [`super::segment`]'s.

use std::ops::Range;

use crc::{CRC_32_ISCSI, Crc};

/// What every record begins with.
const MARK: [u8; 4] = *b"TSPR";
/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 28;
const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What becomes of an event that no queue wants when its turn comes: who sent it was told long before that it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// It is counted and let go, as it would have been at the door: a message in a channel that no agent listens to.
    Drop,
    /// It becomes a dead letter: somebody meant it for somebody.
    Bury,
}

/// A record, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// When it was taken, in milliseconds since 1970.
    pub(super) at_ms: u64,
    /// What becomes of it without a queue.
    pub(super) stray: Stray,
    /// The event as JSON.
    pub(super) payload: &'a [u8],
    /// Where the next record begins.
    pub(super) end: usize,
}

/// What stands at a place of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole record.
    Record(Record<'a>),
    /// Bytes that are no record, with whole ones behind them, or a whole one whose checksum is wrong.
    Damaged(Range<usize>),
    /// The rest: a record that a crash has cut off. Whoever sent it was never answered.
    Torn(Range<usize>),
}

/// The checksum of records, segments and positions.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    CASTAGNOLI.checksum(bytes)
}

/// Appends a record to `to`.
pub(super) fn write(to: &mut Vec<u8>, at_ms: u64, stray: Stray, payload: &[u8]) {
    let begin = to.len();
    to.extend(MARK);
    to.extend((payload.len() as u32).to_le_bytes());
    to.extend(at_ms.to_le_bytes());
    to.extend([u8::from(stray == Stray::Bury), 0, 0, 0]);
    to.extend(checksum(payload).to_le_bytes());
    let of_head = checksum(&to[begin..]);
    to.extend(of_head.to_le_bytes());
    to.extend(payload);
}

/// Everything in `bytes` from `from` on, in order and without gaps.
pub(super) fn pieces(bytes: &[u8], from: usize) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut at = from.min(bytes.len());
    while at < bytes.len() {
        let (piece, end) = piece(bytes, at);
        found.push(piece);
        at = end;
    }
    found
}

fn piece(bytes: &[u8], at: usize) -> (Piece<'_>, usize) {
    if let Some(head) = Head::read(bytes, at)
        && let Some(payload) = bytes.get(head.payload())
    {
        let end = head.payload().end;
        if checksum(payload) == head.of_payload {
            return (Piece::Record(Record { at_ms: head.at_ms, stray: head.stray, payload, end }), end);
        }
        return (Piece::Damaged(at..end), end);
    }
    match (at + 1..bytes.len()).find(|next| bytes[*next..].starts_with(&MARK) && Head::read(bytes, *next).is_some()) {
        Some(next) => (Piece::Damaged(at..next), next),
        None if is_cut(bytes, at) => (Piece::Torn(at..bytes.len()), bytes.len()),
        None => (Piece::Damaged(at..bytes.len()), bytes.len()),
    }
}

/// Whether the rest looks as a crash leaves it: the beginning of a record, or room that was never written.
fn is_cut(bytes: &[u8], at: usize) -> bool {
    let rest = &bytes[at..];
    let begun = rest.len() < HEAD_BYTES && rest.iter().zip(MARK).all(|(is, should)| *is == should);
    begun || Head::read(bytes, at).is_some() || rest.iter().all(|byte| *byte == 0)
}

/// What stands before a payload.
struct Head {
    begin: usize,
    length: usize,
    at_ms: u64,
    stray: Stray,
    of_payload: u32,
}

impl Head {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let head: &[u8; HEAD_BYTES] = bytes.get(at..)?.first_chunk()?;
        let whole = head.starts_with(&MARK) && checksum(&head[..24]) == number(head, 24);
        whole.then(|| Self {
            begin: at,
            length: number(head, 4) as usize,
            at_ms: u64::from(number(head, 8)) | u64::from(number(head, 12)) << 32,
            stray: if head[16] == 1 { Stray::Bury } else { Stray::Drop },
            of_payload: number(head, 20),
        })
    }

    const fn payload(&self) -> Range<usize> {
        let begin = self.begin + HEAD_BYTES;
        begin..begin + self.length
    }
}

fn number(head: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn three() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (n, payload) in ["first", "", "the third"].into_iter().enumerate() {
            write(&mut bytes, n as u64, if n == 1 { Stray::Bury } else { Stray::Drop }, payload.as_bytes());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn payloads(bytes: &[u8]) -> Vec<&[u8]> {
        let of = |piece| if let Piece::Record(record) = piece { Some(record.payload) } else { None };
        pieces(bytes, 0).into_iter().filter_map(of).collect()
    }

    #[test]
    fn what_was_written_is_read() {
        let (bytes, ends) = three();
        let found = pieces(&bytes, 0);
        let second = Record { at_ms: 1, stray: Stray::Bury, payload: b"", end: ends[1] };
        assert_eq!((found.len(), &found[1]), (3, &Piece::Record(second)));
        assert_eq!(pieces(&bytes, ends[1]), &found[2..]);
        assert_eq!(pieces(&bytes, bytes.len() + 7), []);
    }

    #[test]
    fn wherever_a_crash_cuts_the_tail_is_torn_and_the_rest_whole() {
        let (bytes, ends) = three();
        for cut in 0..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let found = pieces(&bytes[..cut], 0);
            assert_eq!(payloads(&bytes[..cut]).len(), whole, "cut at {cut}");
            let torn = found.iter().filter(|piece| matches!(piece, Piece::Torn(_))).count();
            assert_eq!((found.len(), torn), (whole + torn, usize::from(cut != 0 && !ends.contains(&cut))), "at {cut}");
        }
        let mut zeros = bytes;
        zeros.extend([0; 100]);
        assert_eq!(pieces(&zeros, 0).last(), Some(&Piece::Torn(ends[2]..ends[2] + 100)));
    }

    #[test]
    fn a_flipped_bit_costs_one_record_and_is_never_taken_for_a_whole_one() {
        let (bytes, _) = three();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let found = payloads(&bad);
            assert_eq!(found.len(), 2, "bit {bit}");
            assert!(found.iter().all(|payload| payloads(&bytes).contains(payload)), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_pieces_without_a_gap(bytes in proptest::collection::vec(any::<u8>(), 0..300), from in 0_usize..40) {
            let (mut whole, _) = three();
            whole.splice(from.min(80)..from.min(80), bytes);
            let mut at = 0;
            for piece in pieces(&whole, 0) {
                let (begin, end) = match piece {
                    Piece::Record(record) => (at, record.end),
                    Piece::Damaged(range) | Piece::Torn(range) => (range.start, range.end),
                };
                prop_assert_eq!(begin, at);
                prop_assert!(end > begin);
                at = end;
            }
            prop_assert_eq!(at, whole.len());
        }
    }
}
