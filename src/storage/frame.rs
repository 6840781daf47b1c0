//! One commit in the log: a frame that says where it belongs and whether it is whole.
//!
//! ```text
//! length u32 | crc32 u32 | segment u64 | number u64 | synced u64 | payload
//! ```
//!
//! Little-endian; the length is that of the payload; the checksum covers everything but itself. The segment's number is part of it so that a frame that an
//! earlier use of the file left behind is not mistaken for one of its own. `synced` is the last commit that was durable when this one was written: see
//! [`Commits`](super::commits::Commits). A length of 0 ends the log: files are longer than what was written.

use std::ops::Range;

/// Bytes before the payload.
pub const HEADER: usize = 32;
/// Largest payload: far above what one turn of a shard leaves.
pub const MAX_PAYLOAD: usize = 1 << 30;

/// Appends a frame.
pub fn put(out: &mut Vec<u8>, segment: u64, frame: Frame<'_>) {
    let Frame { number, synced, payload } = frame;
    debug_assert!(!payload.is_empty() && payload.len() <= MAX_PAYLOAD);
    let start = out.len();
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for field in [segment, number, synced] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(payload);
    let checksum = checksum(&out[start..]);
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// Of a whole frame: everything but the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..4]);
    hasher.update(&frame[8..]);
    hasher.finalize()
}

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub number: u64,
    /// Every commit up to this number was durable before this one was written.
    pub synced: u64,
    pub payload: &'a [u8],
}

/// What stands in a segment: its whole frames in order, and the places that hold none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan<'a> {
    pub frames: Vec<Frame<'a>>,
    /// Bytes that are no frame and not zero: torn by a crash, or damaged since.
    pub damaged: Vec<Range<usize>>,
    /// End of the last whole frame.
    pub end: usize,
}

/// Reads a segment. Behind a damaged place the next whole frame is looked for, so that one bad sector does not take the rest along.
pub fn scan(bytes: &[u8], segment: u64) -> Scan<'_> {
    let mut scan = Scan::default();
    let mut at = 0;
    while at < bytes.len() {
        if let Some(frame) = whole_frame(&bytes[at..], segment) {
            at += HEADER + frame.payload.len();
            scan.frames.push(frame);
            scan.end = at;
            continue;
        }
        let next = next_frame(bytes, at + 1, segment).unwrap_or(bytes.len());
        let used = bytes[at..next].iter().rposition(|&byte| byte != 0).map_or(at, |last| at + last + 1);
        if used > at {
            scan.damaged.push(at..used);
        }
        at = next;
    }
    scan
}

fn whole_frame(bytes: &[u8], segment: u64) -> Option<Frame<'_>> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let field = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    if length == 0 || length > MAX_PAYLOAD || field(8)? != segment {
        return None;
    }
    let frame = bytes.get(..HEADER + length)?;
    let expected = u32::from_le_bytes(frame[4..8].try_into().ok()?);
    let found = Frame { number: field(16)?, synced: field(24)?, payload: &frame[HEADER..] };
    (checksum(frame) == expected).then_some(found)
}

/// Where the next whole frame begins, at `from` or later.
fn next_frame(bytes: &[u8], from: usize, segment: u64) -> Option<usize> {
    let wanted = segment.to_le_bytes();
    (from..bytes.len().saturating_sub(HEADER)).find(|&at| bytes[at + 8..at + 16] == wanted && whole_frame(&bytes[at..], segment).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(payloads: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, payload) in payloads.iter().enumerate() {
            put(&mut bytes, 7, Frame { number: index as u64 + 1, synced: index as u64, payload });
        }
        bytes
    }

    fn payloads<'a>(scan: &Scan<'a>) -> Vec<&'a [u8]> {
        scan.frames.iter().map(|frame| frame.payload).collect()
    }

    #[test]
    fn what_was_written_is_read_and_the_zeros_behind_it_are_not() {
        let mut bytes = log(&[b"one", b"two"]);
        let end = bytes.len();
        bytes.resize(4_096, 0);
        let scan = scan(&bytes, 7);
        assert_eq!((payloads(&scan), scan.end), (vec![&b"one"[..], b"two"], end));
        assert!(scan.damaged.is_empty());
    }

    #[test]
    fn a_log_cut_anywhere_keeps_every_frame_before_the_cut() {
        let whole = log(&[b"first", b"second", b"third"]);
        for cut in 0..whole.len() {
            let scan = scan(&whole[..cut], 7);
            let expected = [(37, 1), (75, 2), (112, 3)].iter().filter(|&&(end, _)| end <= cut).count();
            assert_eq!(scan.frames.len(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_costs_the_frame_that_it_is_in_and_no_other() {
        let whole = log(&[b"first", b"second", b"third"]);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let scan = scan(&bytes, 7);
            assert_eq!(scan.frames.len(), 2, "bit {bit}");
            assert!(!scan.damaged.is_empty());
        }
    }

    #[test]
    fn frames_of_an_earlier_use_of_the_file_do_not_count() {
        let bytes = log(&[b"old"]);
        let scan = scan(&bytes, 8);
        assert!(scan.frames.is_empty());
        assert_eq!(scan.damaged.first(), Some(&(0..bytes.len())));
    }
}
