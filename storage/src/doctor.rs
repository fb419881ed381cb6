//! Looks at a journal that does not open, says what is lost, and keeps the rest.
//!
//! Works on a journal that nobody has open. [`doctor`] changes nothing. [`salvage`] copies each damaged segment aside,
//! unchanged, and writes another in its place that holds every entry that is whole, at the place where it was: positions
//! that rows and devices remember stay right. What is lost becomes a hole, which readers step over.

mod mend;

use std::collections::BTreeMap;
use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::disk::{Disk, DiskFile};
use crate::journal::doctoring::{
    Extent, FileKind, Folder, GroupHeader, Ledger, Scan, SegmentChunk, SegmentHeader, chunks,
    ends_before, newest_base, proof_of_damage, proof_of_rows, read_header,
};
use crate::journal::owners::Owners;
use crate::journal::{Lost, Lsn, OpenError, SEGMENT_HEADER_BYTES, segment_name};
use crate::num::wide;
use mend::{copy, copy_file, whole_entries};

/// What the names of copies of damaged segments end in. The journal never reads them.
pub const DAMAGED_SUFFIX: &str = "damaged";

/// Bytes of a segment that is one hole, about: as large as segments are by default.
const HOLE_BYTES_MAX: u64 = 64 << 20;

/// What is wrong with one range of a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wound {
    /// The segment's file.
    pub segment: String,
    /// Offset in the file.
    pub offset: u64,
    /// Bytes up to the next whole group.
    pub bytes: u64,
    /// In words.
    pub what: &'static str,
}

/// What a journal's folder holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Segments there are.
    pub segments: usize,
    /// Whole groups.
    pub groups: u64,
    /// Whole entries, those in damaged groups counted.
    pub records: u64,
    /// Damaged stretches below the end.
    pub wounds: Vec<Wound>,
    /// The torn group at the end, which the next start cuts; it was never acknowledged.
    pub torn: Option<Wound>,
    /// Segments that are not there: their start, and the start of the next one.
    pub missing: Vec<(Lsn, Lsn)>,
    /// Events that are lost, as far as they can be told.
    pub lost: Vec<Lost>,
    /// Copies of damaged segments that [`salvage`] has put away.
    pub moved: Vec<PathBuf>,
    /// Where the journal ends once a start has cut what is torn, or salvage has filled what is damaged.
    pub end: Lsn,
    /// The sequence number that comes next, by terminal and epoch, as far as whole records say.
    pub(crate) next: BTreeMap<(u64, u32), u64>,
    /// Whose whole records there are.
    pub(crate) owners: Owners,
}

/// Why a journal could not be looked at or salvaged.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DoctorError {
    /// The folder or a file's name is wrong in a way that only a person can decide.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file system refused.
    #[error("{doing} {path} failed: {cause}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
}

impl Report {
    /// Whether no byte of the journal is damaged or missing. One that is whole may still end before what rows hold, see
    /// [`end`](Self::end).
    pub const fn is_sound(&self) -> bool {
        self.wounds.is_empty() && self.missing.is_empty()
    }
}

/// Looks at every byte of a journal that nobody has open, and changes nothing. Rows show that everything before `known` was
/// durable once; zero where there are none.
///
/// # Errors
/// [`DoctorError`]. Damage is no error: it is in the report.
pub fn doctor(disk: &dyn Disk, dir: &Path, known: Lsn) -> Result<Report, DoctorError> {
    Ok(Patient::examine(disk, dir, known)?.report)
}

/// Puts damaged segments aside and writes what is whole of them in their place. A journal that is sound is left alone.
/// The report is that of before.
///
/// # Errors
/// [`DoctorError`]; each segment is either as it was or replaced whole.
pub fn salvage(disk: &dyn Disk, dir: &Path, known: Lsn) -> Result<Report, DoctorError> {
    let mut patient = Patient::examine(disk, dir, known)?;
    for segment in std::mem::take(&mut patient.segments) {
        if segment.is_wounded {
            patient.replace(&segment)?;
        }
    }
    for (from, to) in patient.report.missing.clone() {
        patient.fill(from, to)?;
    }
    Ok(patient.report)
}

struct Patient<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    known: Lsn,
    base: Lsn,
    // Of the first segment whose header is whole.
    log: Option<u64>,
    segments: Vec<Examined>,
    report: Report,
}

#[derive(Clone, Copy, Debug)]
struct Examined {
    start: Lsn,
    salt: Option<u64>,
    extent: Extent,
    is_wounded: bool,
}

impl<'a> Patient<'a> {
    fn examine(disk: &'a dyn Disk, dir: &'a Path, known: Lsn) -> Result<Self, DoctorError> {
        let folder = Folder::read(disk, dir)?;
        // A start reads it whole, and so does whoever wants to know how a start will go.
        let base = newest_base(disk, dir, &folder.bases).map_err(OpenError::from)?;
        let mut patient = Self {
            disk,
            dir,
            known,
            base: base.unwrap_or(Lsn::ZERO),
            log: None,
            segments: Vec::new(),
            report: Report {
                segments: folder.segments.len(),
                ..Report::default()
            },
        };
        let mut ledger = Ledger::default();
        let mut next = folder.segments.iter().skip(1).copied();
        for start in &folder.segments {
            patient.examine_one(*start, next.next(), &mut ledger)?;
        }
        let from = patient.base;
        match folder.segments.first() {
            Some(first) if *first > from => patient.report.missing.push((from, *first)),
            // The base names where the log goes on.
            None if base.is_some() => patient.report.missing.push((from, from)),
            _ => {}
        }
        patient.report.missing.sort_unstable();
        let missing = patient.report.missing.iter().map(|(_, to)| *to).max();
        patient.report.end = patient.report.end.max(missing.unwrap_or(Lsn::ZERO));
        patient.report.next = ledger.next();
        patient.report.owners = ledger.owners().clone();
        patient.report.lost = ledger.lost();
        Ok(patient)
    }

    fn examine_one(
        &mut self,
        start: Lsn,
        next: Option<Lsn>,
        ledger: &mut Ledger,
    ) -> Result<(), DoctorError> {
        let path = self.dir.join(segment_name(start));
        let io = |cause| failed("reading", &path, cause);
        let salt = self.salt_of(&path, start)?;
        let file = self.disk.open(&path).map_err(io)?;
        let least = start.plus(SEGMENT_HEADER_BYTES);
        let extent = match next {
            Some(next) => Extent::before(next),
            None => Extent::of_last(file.as_ref(), start).map_err(io)?,
        };
        let mut walk = Walk::new(start, ledger);
        chunks(file.as_ref(), start, salt, extent, |chunk| walk.add(&chunk)).map_err(io)?;
        let mut examined = Examined {
            start,
            salt,
            extent,
            is_wounded: salt.is_none(),
        };
        if salt.is_none() {
            let what = "the segment's header is broken";
            walk.wounds.insert(0, walk.wound(start, least, what));
        }
        self.report.groups += walk.groups;
        self.report.records += walk.records;
        let last = walk.last_damage.take();
        let last = last.filter(|last| last.to >= extent.written);
        let mut wounds = std::mem::take(&mut walk.wounds);
        if let Some(last) = last {
            match next {
                Some(next) if ends_before(file.as_ref(), start, last.from, next).map_err(io)? => {
                    wounds.pop();
                    // A start goes on behind what the base stands in for.
                    if next > self.base {
                        self.report.missing.push((last.from, next));
                    }
                    examined.extent = Extent::before(last.from);
                }
                None if proof_of_rows(last.from, self.known).is_none()
                    && last.is_torn(file.as_ref(), start, salt).map_err(io)? =>
                {
                    self.report.torn = wounds.pop();
                    examined.extent = Extent::before(last.from);
                }
                _ => {}
            }
        }
        let torn = self.report.torn.is_some() && next.is_none();
        self.report.end = if torn {
            examined.extent.written
        } else {
            walk.end
        };
        examined.is_wounded |= !wounds.is_empty();
        self.report.wounds.append(&mut wounds);
        self.segments.push(examined);
        Ok(())
    }

    // The salt of a segment; `None` when its header is broken.
    fn salt_of(&mut self, path: &Path, start: Lsn) -> Result<Option<u64>, DoctorError> {
        match read_header(self.disk, path, start) {
            Ok(header) if header.kind != FileKind::Segment => {
                Err(OpenError::Foreign(path.to_path_buf()).into())
            }
            Ok(header) if header.start != start => {
                let (file, holds) = (path.to_path_buf(), header.start);
                Err(OpenError::Misplaced { file, holds }.into())
            }
            Ok(header) => {
                if *self.log.get_or_insert(header.log) != header.log {
                    return Err(OpenError::OtherLog(path.to_path_buf()).into());
                }
                Ok(Some(header.salt))
            }
            Err(OpenError::Damaged(_) | OpenError::Foreign(_)) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    // Writes a segment with all that is whole of a wounded one, then lets it take its place.
    fn replace(&mut self, old: &Examined) -> Result<(), DoctorError> {
        let path = self.dir.join(segment_name(old.start));
        let io = |cause| failed("salvaging", &path, cause);
        let from = self.disk.open(&path).map_err(io)?;
        let salt = self.disk.salt();
        let fresh = path.with_extension("new");
        let to = self.disk.create(&fresh).map_err(io)?;
        self.begin(to.as_ref(), old.start, salt).map_err(io)?;
        let mut failure = None;
        chunks(from.as_ref(), old.start, old.salt, old.extent, |chunk| {
            let written = copy(to.as_ref(), old.start, salt, &chunk);
            if let (None, Err(cause)) = (&failure, written) {
                failure = Some(cause);
            }
        })
        .map_err(io)?;
        if let Some(cause) = failure {
            return Err(io(cause));
        }
        to.sync().map_err(io)?;
        let quarantined = self.quarantined(&path);
        // A copy, so that a crash at any moment leaves the old segment or the new one under its name.
        copy_file(self.disk, from.as_ref(), &quarantined).map_err(io)?;
        self.disk.sync_dir(self.dir).map_err(io)?;
        self.disk.rename(&fresh, &path).map_err(io)?;
        self.disk.sync_dir(self.dir).map_err(io)?;
        self.report.moved.push(quarantined);
        Ok(())
    }

    // Puts segments that are one hole each in the place of those that are gone.
    fn fill(&self, from: Lsn, to: Lsn) -> Result<(), DoctorError> {
        let mut at = from;
        while to.since(at) > 2 * HOLE_BYTES_MAX {
            let next = at.plus(HOLE_BYTES_MAX);
            self.fill_one(at, next)?;
            at = next;
        }
        self.fill_one(at, to)
    }

    fn fill_one(&self, from: Lsn, to: Lsn) -> Result<(), DoctorError> {
        let path = self.dir.join(segment_name(from));
        let io = |cause| failed("filling in", &path, cause);
        let fresh = path.with_extension("new");
        let salt = self.disk.salt();
        let file = self.disk.create(&fresh).map_err(io)?;
        self.begin(file.as_ref(), from, salt).map_err(io)?;
        let hole = SegmentChunk::Damaged {
            from: from.plus(SEGMENT_HEADER_BYTES),
            to,
            bytes: bytes::Bytes::new(),
        };
        copy(file.as_ref(), from, salt, &hole).map_err(io)?;
        file.sync().map_err(io)?;
        self.disk.rename(&fresh, &path).map_err(io)?;
        self.disk.sync_dir(self.dir).map_err(io)
    }

    fn begin(&self, file: &dyn DiskFile, start: Lsn, salt: u64) -> io::Result<()> {
        let header = SegmentHeader {
            kind: FileKind::Segment,
            start,
            log: self.log.unwrap_or_default(),
            salt,
            key: 0,
        };
        file.write_at(&[IoSlice::new(&header.encode())], 0)
    }

    // A name that no file has yet.
    fn quarantined(&self, path: &Path) -> PathBuf {
        let names = self.disk.list(self.dir).unwrap_or_default();
        let stem = path.with_extension("");
        let stem = stem
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut name = format!("{stem}.{DAMAGED_SUFFIX}");
        let mut number = 1;
        while names.contains(&name) {
            number += 1;
            name = format!("{stem}.{DAMAGED_SUFFIX}-{number}");
        }
        self.dir.join(name)
    }
}

// What a walk through one segment has met.
struct Walk<'a> {
    start: Lsn,
    ledger: &'a mut Ledger,
    groups: u64,
    records: u64,
    wounds: Vec<Wound>,
    last_damage: Option<LsnRange>,
    // Behind the last piece.
    end: Lsn,
}

// Bytes of a segment that are no whole group.
#[derive(Clone, Copy, Debug)]
struct LsnRange {
    from: Lsn,
    to: Lsn,
    first: [u8; 48],
}

impl LsnRange {
    // Whether it is what a start cuts off as torn: at the end of the journal, and without any proof that it was durable. The
    // same rules as the start has. Where the segment's own header is lost nothing can be told: it is damage.
    fn is_torn(&self, file: &dyn DiskFile, start: Lsn, salt: Option<u64>) -> io::Result<bool> {
        let Some(salt) = salt else {
            return Ok(false);
        };
        let scan = Scan {
            end: self.from,
            last: None,
            broken: GroupHeader::decode(&self.first, salt, self.from),
        };
        Ok(proof_of_damage(file, (start, salt), &scan, self.to)?.is_none())
    }
}

impl<'a> Walk<'a> {
    const fn new(start: Lsn, ledger: &'a mut Ledger) -> Self {
        Self {
            start,
            ledger,
            groups: 0,
            records: 0,
            wounds: Vec::new(),
            last_damage: None,
            end: start.plus(SEGMENT_HEADER_BYTES),
        }
    }

    fn add(&mut self, chunk: &SegmentChunk) {
        self.ledger.add(chunk);
        match chunk {
            SegmentChunk::Whole(group) => {
                self.end = group.head.end();
                self.groups += 1;
                self.records += u64::from(group.head.entries);
            }
            SegmentChunk::Damaged { from, to, bytes } => {
                self.end = *to;
                self.records += wide(whole_entries(*from, bytes).len());
                let what = "no whole group";
                self.wounds.push(self.wound(*from, *to, what));
                let mut first = [0; 48];
                let length = bytes.len().min(first.len());
                first[..length].copy_from_slice(&bytes[..length]);
                self.last_damage = Some(LsnRange {
                    from: *from,
                    to: *to,
                    first,
                });
            }
        }
    }

    fn wound(&self, from: Lsn, to: Lsn, what: &'static str) -> Wound {
        Wound {
            segment: segment_name(self.start),
            offset: from.since(self.start),
            bytes: to.since(from),
            what,
        }
    }
}

fn failed(doing: &'static str, path: &Path, cause: io::Error) -> DoctorError {
    DoctorError::Io {
        doing,
        path: path.to_path_buf(),
        cause,
    }
}

#[cfg(test)]
mod tests;
