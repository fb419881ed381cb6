//! Reads a segment from front to back and checks every byte of it.

use std::io;
use std::mem;

use bytes::Bytes;

use super::Lsn;
use super::format::{
    ENTRY_PREFIX_BYTES, EntryPrefix, GROUP_HEADER_BYTES, GroupHeader, SEGMENT_HEADER_BYTES,
    proves_body,
};
use super::owners::Owners;
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
            let rest = self.file.size()?.saturating_sub(offset);
            // The room of the last read, unless somebody still holds a part of it.
            let last = mem::take(&mut self.bytes).try_into_mut();
            let mut buffer = last.unwrap_or_default();
            buffer.resize(length.max(READ_AHEAD_BYTES).min(size(rest)), 0);
            let read = self.file.read_at(&mut buffer, offset)?;
            buffer.truncate(read);
            self.bytes = buffer.freeze();
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
pub(crate) enum GroupFound {
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
) -> io::Result<GroupFound> {
    let offset = at.since(start);
    // Nothing of the window is held when it reads on: else it would need new room each time.
    let head = header(&window.get(offset, size(GROUP_HEADER_BYTES))?, salt, at);
    let Some(head) = head else {
        return Ok(GroupFound::Nothing(None));
    };
    let body = window.get(offset + GROUP_HEADER_BYTES, size32(head.body_bytes))?;
    if body.len() == size32(head.body_bytes) && proves_body(&head, &body) {
        return Ok(GroupFound::Group(Group { head, body }));
    }
    Ok(GroupFound::Nothing(Some(head)))
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

/// Checks groups from the start of a segment until `limit`, or until there is none, and notes whose records they hold.
pub(crate) fn scan(
    file: &dyn DiskFile,
    (start, salt): (Lsn, u64),
    limit: Option<Lsn>,
    owners: &mut Owners,
) -> io::Result<Scan> {
    let mut window = Window::new(file);
    let mut scan = Scan {
        end: start.plus(SEGMENT_HEADER_BYTES),
        last: None,
        broken: None,
    };
    while limit.is_none_or(|limit| scan.end < limit) {
        match group_at(&mut window, start, Some(salt), scan.end)? {
            GroupFound::Group(group) => {
                owners.add(&group);
                scan.end = group.head.end();
                scan.last = Some(group.head);
            }
            GroupFound::Nothing(broken) => {
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
    first_header(file, start, from, |bytes, at| header(bytes, salt, at))
}

// The first group from `from` on that lies where another one belongs, and where that is: the disk has put it there.
fn stray_group(
    file: &dyn DiskFile,
    (start, salt): (Lsn, u64),
    from: Lsn,
) -> io::Result<Option<(Lsn, GroupHeader)>> {
    first_header(file, start, from, |bytes, at| {
        let head = GroupHeader::decode_anywhere(bytes, salt)?;
        (head.lsn != at).then_some((at, head))
    })
}

// What `decode` finds first of what begins like a header.
fn first_header<T>(
    file: &dyn DiskFile,
    start: Lsn,
    from: Lsn,
    decode: impl Fn(&[u8], Lsn) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut window = Window::new(file);
    let end = start.plus(file.size()?);
    let mut at = from;
    while at < end {
        let chunk = window.get(at.since(start), READ_AHEAD_BYTES)?;
        let mut searched = 0;
        while let Some(hit) = find_magic(&chunk, searched) {
            let at_lsn = at.plus(wide(hit));
            let head = window.get(at_lsn.since(start), size(GROUP_HEADER_BYTES))?;
            if let Some(found) = decode(&head, at_lsn) {
                return Ok(Some(found));
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

/// Whether a segment ends at `end`, so that what should follow up to `next` lay in another one that is gone: nothing is
/// written behind `end`, and the file is too short for the rest. Zeros in a file that is long enough are damage.
pub(crate) fn ends_before(
    file: &dyn DiskFile,
    start: Lsn,
    end: Lsn,
    next: Lsn,
) -> io::Result<bool> {
    let is_short = start.plus(file.size()?) < next;
    let least = SEGMENT_HEADER_BYTES + GROUP_HEADER_BYTES + wide(ENTRY_PREFIX_BYTES);
    let is_a_segment = next.since(end) >= least;
    Ok(is_short && is_a_segment && written_end(file, start)? <= end)
}

/// Whether bytes at a place begin like a group of that place. No proof: a sender could have sent them.
pub(crate) fn group_may_begin(file: &dyn DiskFile, start: Lsn, at: Lsn) -> io::Result<bool> {
    let mut bytes = [0_u8; 48];
    let read = file.read_at(&mut bytes, at.since(start))?;
    Ok(GroupHeader::decode_unproved(&bytes[..read], at).is_some())
}

/// A range of a segment.
#[derive(Clone, Debug)]
pub(crate) enum SegmentChunk {
    /// A group that is whole.
    Whole(Group),
    /// Bytes up to the next whole group, or up to the end of what is asked for.
    Damaged { from: Lsn, to: Lsn, bytes: Bytes },
}

/// How far a segment reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Extent {
    /// Up to here bytes were written.
    pub(crate) written: Lsn,
    /// No group ends behind this place. A group whose last bytes are zeros ends behind what can be seen to be written.
    pub(crate) room: Lsn,
}

impl Extent {
    /// A segment that another one follows.
    pub(crate) const fn before(next: Lsn) -> Self {
        Self {
            written: next,
            room: next,
        }
    }

    /// The last segment: up to the last byte that is not zero.
    pub(crate) fn of_last(file: &dyn DiskFile, start: Lsn) -> io::Result<Self> {
        Ok(Self {
            written: written_end(file, start)?,
            room: start.plus(file.size()?),
        })
    }
}

/// The place behind the last byte of a file that is not zero.
pub(crate) fn written_end(file: &dyn DiskFile, start: Lsn) -> io::Result<Lsn> {
    let mut end = file.size()?;
    let mut buffer = vec![0_u8; size(end).min(READ_AHEAD_BYTES)];
    while end > 0 {
        let step = size(end).min(READ_AHEAD_BYTES);
        let from = end - wide(step);
        let read = file.read_at(&mut buffer[..step], from)?;
        if let Some(last) = buffer[..read].iter().rposition(|byte| *byte != 0) {
            return Ok(start.plus(from + wide(last) + 1));
        }
        end = from;
    }
    Ok(start)
}

/// What shows that the group at the end of a scan was followed by another one, and so was durable once, or that the disk has
/// put one where it does not belong. `None`: it may be one that a crash tore.
pub(crate) fn proof_of_damage(
    file: &dyn DiskFile,
    (start, salt): (Lsn, u64),
    scan: &Scan,
    written: Lsn,
) -> io::Result<Option<String>> {
    if let Some(later) = next_group(file, start, Some(salt), scan.end.plus(1))?
        && later.durable_before > scan.end
    {
        let at = later.lsn;
        return Ok(Some(format!("the group at {at} was written after it")));
    }
    if let Some(broken) = scan.broken.filter(|broken| broken.end() < written) {
        let after = broken.end();
        return Ok(Some(format!(
            "bytes behind its end at {after} were written after it"
        )));
    }
    if crate::planted::is("stray-is-torn") {
        return Ok(None);
    }
    // What it has fallen on was whole before. A crash puts no write elsewhere.
    let stray = stray_group(file, (start, salt), scan.end)?;
    Ok(stray.map(|(at, group)| {
        let lsn = group.lsn;
        format!("the disk has put the group of position {lsn} to position {at}")
    }))
}

/// What shows that a group at `at` was durable, where rows hold every record before `known`.
pub(crate) fn proof_of_rows(at: Lsn, known: Lsn) -> Option<String> {
    (at < known).then(|| format!("the rows hold records up to position {known}"))
}

/// Walks a segment in which something is damaged, and shows all of it, in order.
pub(crate) fn chunks(
    file: &dyn DiskFile,
    start: Lsn,
    salt: Option<u64>,
    extent: Extent,
    mut show: impl FnMut(SegmentChunk),
) -> io::Result<()> {
    let mut window = Window::new(file);
    let limit = extent.written;
    let mut at = start.plus(SEGMENT_HEADER_BYTES);
    while at < limit {
        let broken = match group_at(&mut window, start, salt, at)? {
            GroupFound::Group(group) if group.head.end() <= extent.room => {
                at = group.head.end();
                show(SegmentChunk::Whole(group));
                continue;
            }
            GroupFound::Group(_) | GroupFound::Nothing(None) => None,
            GroupFound::Nothing(Some(head)) => salt.map(|_| head.end()),
        };
        let after = group_after(file, start, salt, at)?;
        let to = after.into_iter().chain(broken);
        let to = to.filter(|to| *to <= extent.room).min().unwrap_or(limit);
        let offset = at.since(start);
        // What follows may lie far behind the end of the file.
        let length = to.since(at).min(file.size()?.saturating_sub(offset));
        let mut bytes = vec![0; size(length)];
        let read = file.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        show(SegmentChunk::Damaged {
            from: at,
            to,
            bytes: Bytes::from(bytes),
        });
        at = to;
    }
    Ok(())
}

// The next place where a group begins. Without a salt only a whole one proves that.
fn group_after(
    file: &dyn DiskFile,
    start: Lsn,
    salt: Option<u64>,
    after: Lsn,
) -> io::Result<Option<Lsn>> {
    let mut window = Window::new(file);
    let mut from = after.plus(1);
    while let Some(head) = next_group(file, start, salt, from)? {
        let found = group_at(&mut window, start, salt, head.lsn)?;
        if salt.is_some() || matches!(found, GroupFound::Group(_)) {
            return Ok(Some(head.lsn));
        }
        from = head.lsn.plus(1);
    }
    Ok(None)
}

/// What can still be told apart as entries in a damaged range: their LSNs behind the header of its first group. Their
/// lengths agree; whether their bytes are right is for the caller to find out.
///
/// Behind a prefix that is broken the next entry is where one of its lengths says, if something begins there; else wherever
/// the next one is whole.
pub(crate) fn entries_in(from: Lsn, bytes: &[u8]) -> Vec<(usize, EntryPrefix, &[u8])> {
    let body = Body {
        from: from.plus(GROUP_HEADER_BYTES),
        bytes: bytes.get(size(GROUP_HEADER_BYTES)..).unwrap_or_default(),
    };
    let mut found = Vec::new();
    let mut at = 0;
    while at < body.bytes.len() {
        // The next group's header may be damaged too, so that it ends no body.
        if body.is_header(at) {
            at += size(GROUP_HEADER_BYTES);
            continue;
        }
        let entry = body.entry(at);
        found.extend(entry.map(|(prefix, entry)| (at, prefix, entry)));
        at = match entry {
            Some((prefix, entry)) if prefix.proves(entry) => at + entry.len(),
            _ => body.after_broken(at),
        };
    }
    found
}

// The entries of a damaged body.
struct Body<'a> {
    from: Lsn,
    bytes: &'a [u8],
}

impl<'a> Body<'a> {
    fn rest(&self, at: usize) -> &'a [u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    fn is_header(&self, at: usize) -> bool {
        GroupHeader::decode_unproved(self.rest(at), self.from.plus(wide(at))).is_some()
    }

    // The entry at a place, as far as its lengths agree.
    fn entry(&self, at: usize) -> Option<(EntryPrefix, &'a [u8])> {
        let rest = self.rest(at);
        let prefix = EntryPrefix::decode(rest, wide(rest.len()))?;
        Some((prefix, &rest[..size32(prefix.bytes)]))
    }

    // Where to go on behind an entry that is not whole. Its lengths are asked first: what lies inside it came from a sender,
    // who may have sent what looks like an entry.
    fn after_broken(&self, at: usize) -> usize {
        let length = self.bytes.len();
        for said in EntryPrefix::lengths_said(self.rest(at)) {
            let next = at.saturating_add(said);
            let begins = || self.is_header(next) || self.entry(next).is_some();
            if next == length || (next < length && begins()) {
                return next;
            }
        }
        let is_whole = |next: &usize| {
            let entry = self.entry(*next);
            let whole = entry.filter(|(prefix, entry)| !prefix.is_hole() && prefix.proves(entry));
            whole.is_some() || self.is_header(*next)
        };
        (at + 1..length).find(is_whole).unwrap_or(length)
    }
}
