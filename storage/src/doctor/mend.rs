//! Writes what is whole of a damaged range at the place where it was, and holes for the rest.

use std::collections::BTreeMap;
use std::io;
use std::io::IoSlice;
use std::path::Path;

use super::HOLE_BYTES_MAX;
use crate::disk::{Disk, DiskFile};
use crate::journal::doctoring::{
    EntryPrefix, GROUP_HEADER, GroupHeader, SegmentChunk, entries_crc, entries_in,
};
use crate::journal::{ENTRY_PREFIX_BYTES, Lsn};
use crate::num::{narrow, size, size32, wide};

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// Places, behind the first header of a damaged range, of the entries that are whole.
pub(super) fn whole_entries(from: Lsn, bytes: &[u8]) -> BTreeMap<usize, EntryPrefix> {
    let entries = entries_in(from, bytes).into_iter();
    entries
        .filter(|(_, prefix, entry)| !prefix.is_hole() && prefix.proves(entry))
        .map(|(at, prefix, _)| (at, prefix))
        .collect()
}

/// Copies a file whole, and syncs the copy.
pub(super) fn copy_file(disk: &dyn Disk, from: &dyn DiskFile, to: &Path) -> io::Result<()> {
    let to = disk.create(to)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let read = from.read_at(&mut buffer, at)?;
        if read == 0 {
            return to.sync();
        }
        to.write_at(&[IoSlice::new(&buffer[..read])], at)?;
        at += wide(read);
    }
}

/// Copies a range of a segment to its place in another file; what is not whole becomes holes.
pub(super) fn copy(
    to: &dyn DiskFile,
    start: Lsn,
    salt: u64,
    chunk: &SegmentChunk,
) -> io::Result<()> {
    let groups = match chunk {
        SegmentChunk::Whole(group) => vec![(group.head, group.body.to_vec())],
        SegmentChunk::Damaged { from, to, bytes } => mend(*from, *to, bytes),
    };
    for (head, body) in groups {
        let header = head.encode(salt);
        // Only the front of a hole at the end is written: the rest reads as zeros, which nobody looks at.
        to.write_at(
            &[IoSlice::new(&header), IoSlice::new(&body)],
            head.lsn.since(start),
        )?;
        let end = head.end().since(start);
        if to.size()? < end {
            to.preallocate(end)?;
        }
    }
    Ok(())
}

/// Groups that fill a damaged range. There are several where it is longer than one can be: what has no bytes any more is
/// nothing but holes.
pub(super) fn mend(from: Lsn, to: Lsn, bytes: &[u8]) -> Vec<(GroupHeader, Vec<u8>)> {
    let mut groups = Vec::new();
    let (mut at, mut rest) = (from, bytes);
    loop {
        let step = HOLE_BYTES_MAX.max(wide(rest.len()));
        // The last one takes what would be too short for a group of its own.
        if to.since(at) <= step + HOLE_BYTES_MAX {
            groups.push(mend_one(at, to, rest));
            return groups;
        }
        let next = at.plus(step);
        groups.push(mend_one(at, next, rest));
        (at, rest) = (next, &[]);
    }
}

// A group that fills a damaged range: its whole entries where they were, holes between them.
fn mend_one(from: Lsn, to: Lsn, bytes: &[u8]) -> (GroupHeader, Vec<u8>) {
    let room = size(to.since(from).saturating_sub(GROUP_HEADER));
    let source = bytes.get(size(GROUP_HEADER)..).unwrap_or_default();
    let mut head = GroupHeader::watermark(from, false);
    let mut body = Vec::new();
    let mut at = 0;
    let mut put = |body: &mut Vec<u8>, prefix: &EntryPrefix, bytes: &[u8]| {
        head.entries += 1;
        head.entries_crc = entries_crc(head.entries_crc, prefix);
        body.extend_from_slice(bytes);
    };
    for (at_lsn, prefix) in whole_entries(from, bytes) {
        // Nothing that was written lies so near: there would be no room for a hole.
        if at < at_lsn && at_lsn - at < ENTRY_PREFIX_BYTES {
            continue;
        }
        if at < at_lsn {
            let hole = EntryPrefix::hole(narrow(at_lsn - at));
            put(&mut body, &hole, &hole.encode());
            body.resize(at_lsn, 0);
        }
        at = at_lsn + size32(prefix.bytes);
        put(
            &mut body,
            &prefix,
            source.get(at_lsn..at).unwrap_or_default(),
        );
    }
    if at < room {
        // At the end of the journal a few bytes may be left: the hole is as large as the smallest one then.
        let rest = (room - at).max(ENTRY_PREFIX_BYTES);
        let hole = EntryPrefix::hole(narrow(rest));
        put(&mut body, &hole, &hole.encode());
        at += rest;
    }
    head.body_bytes = narrow(at);
    (head, body)
}
