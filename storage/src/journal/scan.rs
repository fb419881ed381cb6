//! Reads a segment from front to back and checks every byte of it.

use std::io;

use bytes::Bytes;

use super::Lsn;
use super::format::{GROUP_HEADER_BYTES, GroupHeader, SEGMENT_HEADER_BYTES, proves_body};
use crate::disk::DiskFile;
use crate::num::{size, size32, wide};

/// Bytes read at once where groups are small.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// A file read in large steps; what it gives are slices of them, not copies.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    from: u64,
    bytes: Bytes,
}

impl<'a> Window<'a> {
    pub(crate) const fn new(file: &'a dyn DiskFile) -> Self {
        Self {
            file,
            from: 0,
            bytes: Bytes::new(),
        }
    }

    /// A window that still holds what was read before.
    pub(crate) const fn resume(file: &'a dyn DiskFile, from: u64, bytes: Bytes) -> Self {
        Self { file, from, bytes }
    }

    /// What was read last, and its offset.
    pub(crate) fn into_parts(self) -> (u64, Bytes) {
        (self.from, self.bytes)
    }

    /// The bytes from `offset` on: `length` of them, fewer where the file ends.
    pub(crate) fn get(&mut self, offset: u64, length: usize) -> io::Result<Bytes> {
        let held =
            offset >= self.from && offset + wide(length) <= self.from + wide(self.bytes.len());
        if !held {
            let mut buffer = vec![0; length.max(READ_AHEAD_BYTES)];
            let read = self.file.read_at(&mut buffer, offset)?;
            buffer.truncate(read);
            self.bytes = Bytes::from(buffer);
            self.from = offset;
        }
        let from = size(offset - self.from).min(self.bytes.len());
        let to = (from + length).min(self.bytes.len());
        Ok(self.bytes.slice(from..to))
    }
}

/// A group as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) head: GroupHeader,
    pub(crate) body: Bytes,
}

/// What is at a place of a segment.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Group(Group),
    /// The bytes there are no group that was written whole. The header, where at least that is right.
    Nothing(Option<GroupHeader>),
}

/// Reads and checks the group at a place.
pub(crate) fn group_at(
    window: &mut Window<'_>,
    start: Lsn,
    salt: Option<u64>,
    at: Lsn,
) -> io::Result<Found> {
    let offset = at.since(start);
    let head = window.get(offset, size(GROUP_HEADER_BYTES))?;
    let Some(head) = header(&head, salt, at) else {
        return Ok(Found::Nothing(None));
    };
    let body = window.get(offset + GROUP_HEADER_BYTES, size32(head.body_bytes))?;
    if body.len() == size32(head.body_bytes) && proves_body(&head, &body) {
        return Ok(Found::Group(Group { head, body }));
    }
    Ok(Found::Nothing(Some(head)))
}

// Without a salt (the segment's own header is lost) the place that the header names must do for proof.
fn header(bytes: &[u8], salt: Option<u64>, at: Lsn) -> Option<GroupHeader> {
    match salt {
        Some(salt) => GroupHeader::decode(bytes, salt, at),
        None => GroupHeader::decode_unproved(bytes, at),
    }
}

/// How far the groups of a segment are right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan {
    /// Where the first thing lies that is no whole group.
    pub(crate) end: Lsn,
    /// The last whole group.
    pub(crate) last: Option<GroupHeader>,
    /// The header at `end`, where at least that is right.
    pub(crate) broken: Option<GroupHeader>,
}

/// Checks groups from the start of a segment until `limit`, or until there is none.
pub(crate) fn scan(
    file: &dyn DiskFile,
    start: Lsn,
    salt: u64,
    limit: Option<Lsn>,
) -> io::Result<Scan> {
    let mut window = Window::new(file);
    let mut scan = Scan {
        end: start.plus(SEGMENT_HEADER_BYTES),
        last: None,
        broken: None,
    };
    while limit.is_none_or(|limit| scan.end < limit) {
        match group_at(&mut window, start, Some(salt), scan.end)? {
            Found::Group(group) => {
                scan.end = group.head.end();
                scan.last = Some(group.head);
            }
            Found::Nothing(broken) => {
                scan.broken = broken;
                break;
            }
        }
    }
    Ok(scan)
}

/// The first group after `from` whose header is right: proof that what lies before it was durable once.
pub(crate) fn next_group(
    file: &dyn DiskFile,
    start: Lsn,
    salt: Option<u64>,
    from: Lsn,
) -> io::Result<Option<GroupHeader>> {
    let mut window = Window::new(file);
    let end = start.plus(file.size()?);
    let mut at = from;
    while at < end {
        let chunk = window.get(at.since(start), READ_AHEAD_BYTES)?;
        let mut searched = 0;
        while let Some(hit) = find_magic(&chunk, searched) {
            let place = at.plus(wide(hit));
            let head = window.get(place.since(start), size(GROUP_HEADER_BYTES))?;
            if let Some(head) = header(&head, salt, place) {
                return Ok(Some(head));
            }
            searched = hit + 1;
        }
        // The magic may lie across the border of two chunks.
        let step = chunk.len().saturating_sub(3).max(1);
        at = at.plus(wide(step));
    }
    Ok(None)
}

fn find_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(4)
        .position(|four| four == b"TGRP")
        .map(|at| from + at)
}

/// The first byte at or after `from` that is not zero.
pub(crate) fn first_written(file: &dyn DiskFile, start: Lsn, from: Lsn) -> io::Result<Option<Lsn>> {
    let mut window = Window::new(file);
    let mut at = from;
    loop {
        let chunk = window.get(at.since(start), READ_AHEAD_BYTES)?;
        if chunk.is_empty() {
            return Ok(None);
        }
        if let Some(hit) = chunk.iter().position(|byte| *byte != 0) {
            return Ok(Some(at.plus(wide(hit))));
        }
        at = at.plus(wide(chunk.len()));
    }
}

/// A stretch of a segment.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// A group that is whole.
    Whole(Group),
    /// Bytes up to the next whole group, or up to the end of what is asked for.
    Damaged { from: Lsn, to: Lsn, bytes: Bytes },
}

/// Walks a segment in which something is damaged, and shows all of it up to `limit`, in order.
pub(crate) fn pieces(
    file: &dyn DiskFile,
    start: Lsn,
    salt: Option<u64>,
    limit: Lsn,
    mut show: impl FnMut(Piece),
) -> io::Result<()> {
    let mut window = Window::new(file);
    let mut at = start.plus(SEGMENT_HEADER_BYTES);
    while at < limit {
        if let Found::Group(group) = group_at(&mut window, start, salt, at)?
            && group.head.end() <= limit
        {
            at = group.head.end();
            show(Piece::Whole(group));
            continue;
        }
        let to = whole_group_after(file, start, salt, at)?.map_or(limit, |to| to.min(limit));
        let mut bytes = vec![0; size(to.since(at))];
        let read = file.read_at(&mut bytes, at.since(start))?;
        bytes.truncate(read);
        show(Piece::Damaged {
            from: at,
            to,
            bytes: Bytes::from(bytes),
        });
        at = to;
    }
    Ok(())
}

// The next place whose group is whole, body and all.
fn whole_group_after(
    file: &dyn DiskFile,
    start: Lsn,
    salt: Option<u64>,
    after: Lsn,
) -> io::Result<Option<Lsn>> {
    let mut window = Window::new(file);
    let mut from = after.plus(1);
    while let Some(head) = next_group(file, start, salt, from)? {
        if matches!(
            group_at(&mut window, start, salt, head.lsn)?,
            Found::Group(_)
        ) {
            return Ok(Some(head.lsn));
        }
        from = head.lsn.plus(1);
    }
    Ok(None)
}
