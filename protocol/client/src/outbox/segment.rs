//! The records of an outbox file.
//!
//! A record is 20 bytes of head (magic, kind, length of the body, byte below which the file was synced, crc32c over the
//! sixteen bytes before it and the body), all little-endian, and its body.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Bytes before the body of a record.
pub(super) const HEAD_BYTES: usize = 20;
const MAGIC: u32 = u32::from_le_bytes(*b"TOB1");
/// Version 2 had twelve bytes more in its head, of which nothing is needed.
const VERSION: u32 = 1;
const FILE_HEAD_BYTES: usize = 32;
const FILE_HEAD: u32 = 1;
const FRAME: u32 = 2;
const COMMITTED: u32 = 3;

/// What the first record of a file says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FileHead {
    pub(super) terminal: u64,
    /// 0 while the engine has not granted one.
    pub(super) epoch: u32,
    /// Sequence number of the first frame in the file.
    pub(super) first: u64,
    pub(super) committed: u64,
}

/// A record as read back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Record {
    Head(FileHead),
    /// An encoded frame, and where it lies in the file.
    Frame {
        bytes: Bytes,
        offset: u64,
    },
    Committed(u64),
}

/// Why reading stopped before the end of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// Nothing that was synced lies behind this byte: the tail of a write that a crash cut short.
    Torn(u64),
    /// A later record says that this byte had been synced.
    Damaged(u64),
}

pub(super) fn put_head(into: &mut BytesMut, head: &FileHead) {
    let mut body = [0_u8; FILE_HEAD_BYTES];
    let mut to = body.as_mut_slice();
    to.put_u32_le(VERSION);
    to.put_u32_le(head.epoch);
    to.put_u64_le(head.terminal);
    to.put_u64_le(head.first);
    to.put_u64_le(head.committed);
    put(into, FILE_HEAD, 0, &body);
}

pub(super) fn put_frame(into: &mut BytesMut, synced: u64, frame: &[u8]) {
    put(into, FRAME, synced, frame);
}

pub(super) fn put_committed(into: &mut BytesMut, synced: u64, upto: u64) {
    put(into, COMMITTED, synced, &upto.to_le_bytes());
}

fn put(into: &mut BytesMut, kind: u32, synced: u64, body: &[u8]) {
    let mut head = [0_u8; 16];
    let mut to = head.as_mut_slice();
    to.put_u32_le(MAGIC);
    to.put_u32_le(kind);
    to.put_u32_le(u32::try_from(body.len()).unwrap_or(u32::MAX));
    to.put_u32_le(u32::try_from(synced).unwrap_or(u32::MAX));
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head), body);
    into.reserve(HEAD_BYTES + body.len());
    into.put_slice(&head);
    into.put_u32_le(crc);
    into.put_slice(body);
}

/// The record at `offset`, the byte below which it says the file was synced, and where the next one starts.
fn record_at(file: &Bytes, offset: usize) -> Option<(Record, u64, usize)> {
    let mut head = file.get(offset..offset.checked_add(HEAD_BYTES)?)?;
    let summed = head.get(..16)?;
    let (magic, kind, len) = (head.get_u32_le(), head.get_u32_le(), head.get_u32_le());
    let (synced, crc) = (head.get_u32_le(), head.get_u32_le());
    let start = offset + HEAD_BYTES;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    if magic != MAGIC || end > file.len() {
        return None;
    }
    let body = file.slice(start..end);
    if crc32c::crc32c_append(crc32c::crc32c(summed), &body) != crc {
        return None;
    }
    let record = match kind {
        FILE_HEAD => {
            let mut from = body.get(..FILE_HEAD_BYTES)?;
            let _version = from.get_u32_le();
            Record::Head(FileHead {
                epoch: from.get_u32_le(),
                terminal: from.get_u64_le(),
                first: from.get_u64_le(),
                committed: from.get_u64_le(),
            })
        }
        FRAME => Record::Frame {
            bytes: body,
            offset: u64::try_from(start).ok()?,
        },
        COMMITTED => Record::Committed(body.get(..8)?.get_u64_le()),
        _ => return None,
    };
    Some((record, u64::from(synced), end))
}

/// Reads a file to its end, or to where it can't be read further.
pub(super) fn read(file: &Bytes) -> (Vec<Record>, Option<Stop>) {
    let mut records = Vec::new();
    let mut at = 0;
    while at < file.len() {
        match record_at(file, at) {
            Some((record, _, next)) => {
                records.push(record);
                at = next;
            }
            None => return (records, Some(judge(file, at))),
        }
    }
    (records, None)
}

/// Tells a torn tail from damage: looks for a later record that knows more to have been synced.
fn judge(file: &Bytes, at: usize) -> Stop {
    let bad = u64::try_from(at).unwrap_or(u64::MAX);
    let magic = MAGIC.to_le_bytes();
    let later = file.get(at + 1..).unwrap_or_default();
    let damaged = later
        .windows(magic.len())
        .enumerate()
        .filter(|(_, window)| *window == magic)
        .filter_map(|(found, _)| record_at(file, at + 1 + found))
        .any(|(_, synced, _)| synced > bad);
    if damaged {
        Stop::Damaged(bad)
    } else {
        Stop::Torn(bad)
    }
}
