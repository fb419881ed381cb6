//! Opens a journal after whatever ended it, and trusts nothing that it has not checked.

mod look;
mod outcome;

use std::collections::BTreeSet;
use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::format::{FileKind, GroupHeader, HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::loss::Ledger;
use super::owners::Owners;
use super::scan::{
    Extent, Scan, chunks, ends_before, group_may_begin, proof_of_damage, proof_of_rows, scan,
    written_end,
};
use super::writer::{SegmentFault, Tail, WriteError, make_segment};
use super::{
    Journal, JournalConfig, Lsn, Segment, Shared, Writer, base, lock, parse_segment_name, read,
    segment_name,
};
use crate::disk::{Disk, DiskFile};
use crate::num::size;
use crate::sync::{AtomicU64, Mutex};

pub use look::Looked;
pub(crate) use look::look;
pub use outcome::{Cut, Damage, OpenError, Opened};

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    config: JournalConfig,
    known: Lsn,
) -> Result<Opened, OpenError> {
    check_config(&config)?;
    let made = disk.make_dir(dir);
    made.map_err(|cause| failed("making the folder", dir, cause))?;
    let folder = Folder::read(disk.as_ref(), dir)?;
    let base = base::newest(disk.as_ref(), dir, &folder.bases)?;
    let mut headers = folder.headers(disk.as_ref(), dir)?;
    check_front(&headers, base)?;
    let is_empty = headers.is_empty();
    // A base stands in for records that were durable, too.
    let known = base.map_or(known, |base| known.max(base));
    if is_empty && known > Lsn::ZERO {
        return Err(lost_end(Lsn::ZERO, known));
    }
    for leftover in &folder.leftovers {
        let removed = disk.remove(leftover);
        removed.map_err(|cause| failed("removing", leftover, cause))?;
    }
    let log = headers.first().map_or_else(|| disk.salt(), |head| head.log);
    if is_empty {
        headers.push(SegmentHeader {
            kind: FileKind::Segment,
            start: Lsn::ZERO,
            log,
            salt: disk.salt(),
            key: 0,
        });
    }
    let shared = Arc::new(new_shared(disk, dir, log, base, &headers));
    if is_empty {
        make_first(&shared, &headers, &config)?;
    }
    let (scans, owners) = verify(&shared, &headers, config.verify_threads)?;
    use_scanned(&shared, &mut headers, &scans);
    let mut opened = finish(&shared, config, (&headers, &scans), known)?;
    opened.orphans = owners.orphans();
    opened.registered = owners.registered().collect();
    Ok(opened)
}

const fn lost_end(end: Lsn, known: Lsn) -> OpenError {
    OpenError::LostEnd {
        end: end.get(),
        known: known.get(),
    }
}

// One scan for each segment that is in use: those before the last gap below the base have none.
fn use_scanned(shared: &Shared, headers: &mut Vec<SegmentHeader>, scans: &[Scan]) {
    let left = headers.len().saturating_sub(scans.len());
    headers.drain(..left);
    shared.segments().drain(..left);
}

fn check_config(config: &JournalConfig) -> Result<(), OpenError> {
    let (min, max) = (
        JournalConfig::SEGMENT_BYTES_MIN,
        JournalConfig::SEGMENT_BYTES_MAX,
    );
    if config.segment_bytes < min || config.segment_bytes > max {
        return Err(OpenError::Config {
            key: "segment_bytes",
            value: config.segment_bytes,
            min,
            max,
        });
    }
    Ok(())
}

fn failed(doing: &'static str, path: &Path, cause: io::Error) -> OpenError {
    OpenError::Io {
        doing,
        path: path.to_path_buf(),
        cause,
    }
}

/// The files of a journal's folder, by what their names say.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(crate) segments: Vec<Lsn>,
    pub(crate) bases: Vec<Lsn>,
    pub(crate) leftovers: Vec<PathBuf>,
}

impl Folder {
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, OpenError> {
        let listed = disk.list(dir);
        let names = listed.map_err(|cause| failed("listing", dir, cause))?;
        let mut folder = Self::default();
        for name in names {
            if let Some(start) = parse_segment_name(&name) {
                folder.segments.push(start);
            } else if let Some(position) = base::parse_name(&name) {
                folder.bases.push(position);
            } else if name.ends_with(".new") {
                folder.leftovers.push(dir.join(name));
            } else if name.ends_with(".till") {
                return Err(OpenError::Foreign(dir.join(name)));
            }
        }
        folder.segments.sort_unstable();
        folder.bases.sort_unstable();
        Ok(folder)
    }

    fn headers(&self, disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentHeader>, OpenError> {
        let mut headers: Vec<SegmentHeader> = Vec::with_capacity(self.segments.len());
        for start in &self.segments {
            let path = dir.join(segment_name(*start));
            let header = read_header(disk, &path, *start)?;
            if header.kind != FileKind::Segment {
                return Err(OpenError::Foreign(path));
            }
            if header.start != *start {
                let holds = header.start;
                return Err(OpenError::Misplaced { file: path, holds });
            }
            if headers.first().is_some_and(|first| first.log != header.log) {
                return Err(OpenError::OtherLog(path));
            }
            headers.push(header);
        }
        Ok(headers)
    }
}

/// Reads the header of a file.
pub(crate) fn read_header(
    disk: &dyn Disk,
    path: &Path,
    start: Lsn,
) -> Result<SegmentHeader, OpenError> {
    let mut bytes = [0_u8; 64];
    let file = disk.open(path);
    let file = file.map_err(|cause| failed("opening", path, cause))?;
    let read = file.read_at(&mut bytes, 0);
    let read = read.map_err(|cause| failed("reading", path, cause))?;
    let decoded = SegmentHeader::decode(&bytes[..read]);
    // With a group behind it that names its own place, it is a segment whose first bytes are damaged.
    let ours = group_may_begin(file.as_ref(), start, start.plus(SEGMENT_HEADER_BYTES));
    let ours = ours.map_err(|cause| failed("reading", path, cause))?;
    decoded.map_err(|fault| match fault {
        HeaderFault::Foreign if !ours => OpenError::Foreign(path.to_path_buf()),
        HeaderFault::Newer(version) => OpenError::Newer {
            file: path.to_path_buf(),
            version,
        },
        HeaderFault::Foreign | HeaderFault::Damaged => OpenError::Damaged(Box::new(Damage {
            segment: segment_name(start),
            offset: 0,
            at: start,
            proof: "the header of the segment is broken".to_owned(),
            lost: Vec::new(),
        })),
    })
}

// The log begins at 0, or where the base ends.
fn check_front(headers: &[SegmentHeader], base: Option<Lsn>) -> Result<(), OpenError> {
    let from = base.unwrap_or(Lsn::ZERO);
    match headers.first() {
        Some(first) if first.start > from => Err(OpenError::Missing {
            from: from.get(),
            to: first.start.get(),
        }),
        None if base.is_some() => Err(OpenError::Missing {
            from: from.get(),
            to: from.get(),
        }),
        _ => Ok(()),
    }
}

fn new_shared(
    disk: Arc<dyn Disk>,
    dir: &Path,
    log: u64,
    base: Option<Lsn>,
    headers: &[SegmentHeader],
) -> Shared {
    let ends = headers.iter().skip(1).map(|next| Some(next.start));
    let segments = headers.iter().zip(ends.chain([None]));
    let segments = segments.map(|(head, end)| Segment {
        start: head.start,
        salt: head.salt,
        end,
    });
    Shared {
        disk,
        dir: dir.to_path_buf(),
        log,
        durable: AtomicU64::new(0),
        segments: Mutex::new(segments.collect()),
        base: Mutex::new(base),
        files: read::FileCache::default(),
    }
}

fn make_first(
    shared: &Shared,
    headers: &[SegmentHeader],
    config: &JournalConfig,
) -> Result<(), OpenError> {
    let Some(segment) = shared.segments().first().copied() else {
        return Ok(());
    };
    debug_assert_eq!(headers.len(), 1);
    make_segment(shared, segment, config.segment_bytes).map_err(|fault| match fault {
        SegmentFault::Unwritten(cause) if crate::disk::is_full(&cause) => OpenError::Full {
            bytes: config.segment_bytes,
            dir: shared.dir.clone(),
        },
        fault => failed("beginning the journal in", &shared.dir, fault.into_cause()),
    })
}

/// What became of the look at one segment.
type Verified = Result<(Scan, Owners), OpenError>;

// Scans every segment, on several threads where there are several. Where segments are gone that the base stands in for, those
// before them are what retention left: they are not part of the log any more, and only those behind have a scan.
fn verify(
    shared: &Shared,
    headers: &[SegmentHeader],
    threads: usize,
) -> Result<(Vec<Scan>, Owners), OpenError> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Verified>>> = Mutex::new(headers.iter().map(|_| None).collect());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(header) = headers.get(number) else {
                return;
            };
            let limit = headers.get(number + 1).map(|after| after.start);
            let result = verify_one(shared, header, limit);
            if let Some(slot) = lock(&results).get_mut(number) {
                *slot = Some(result);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(headers.len()) {
            scope.spawn(work);
        }
        work();
    });
    let results = results.into_inner();
    let results = results.unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut scans = Vec::with_capacity(results.len());
    let mut owners = Owners::default();
    for (number, result) in results.into_iter().enumerate() {
        let Some((scan, of_segment)) = result.transpose()? else {
            continue;
        };
        owners.append(&of_segment);
        let limit = headers.get(number + 1).map(|after| after.start);
        match limit.filter(|limit| scan.end != *limit) {
            None => scans.push(scan),
            Some(limit) if is_dropped(shared, &headers[number], &scan, limit) => {
                let until = segment_name(headers[number].start);
                tracing::warn!(
                    %limit, until,
                    "segments are missing before a position that the base stands in for; those before them are left alone \
                     and may be removed"
                );
                scans.clear();
                owners = Owners::default();
            }
            Some(limit) => {
                return Err(inner_damage(
                    shared,
                    headers,
                    &headers[number],
                    &scan,
                    limit,
                ));
            }
        }
    }
    Ok((scans, owners))
}

fn verify_one(
    shared: &Shared,
    header: &SegmentHeader,
    limit: Option<Lsn>,
) -> Result<(Scan, Owners), OpenError> {
    let path = shared.dir.join(segment_name(header.start));
    let opened = shared.disk.open(&path);
    let file = opened.map_err(|cause| failed("opening", &path, cause))?;
    let mut owners = Owners::default();
    let scanned = scan(
        file.as_ref(),
        (header.start, header.salt),
        limit,
        &mut owners,
    );
    let scanned = scanned.map_err(|cause| failed("reading", &path, cause))?;
    Ok((scanned, owners))
}

// Whether what is missing behind a segment is something that the base stands in for.
fn is_dropped(shared: &Shared, header: &SegmentHeader, scan: &Scan, limit: Lsn) -> bool {
    lock(&shared.base).is_some_and(|base| limit <= base) && is_missing(shared, header, scan, limit)
}

fn is_missing(shared: &Shared, header: &SegmentHeader, scan: &Scan, limit: Lsn) -> bool {
    let file = shared.file(header.start);
    let ends = file.and_then(|file| ends_before(file.as_ref(), header.start, scan.end, limit));
    matches!(ends, Ok(true))
}

// A segment that another one follows ends too early or too late.
fn inner_damage(
    shared: &Shared,
    headers: &[SegmentHeader],
    header: &SegmentHeader,
    scan: &Scan,
    limit: Lsn,
) -> OpenError {
    if is_missing(shared, header, scan, limit) {
        return OpenError::Missing {
            from: scan.end.get(),
            to: limit.get(),
        };
    }
    let proof = format!("the segment that begins at {limit} was written after it");
    damage(shared, headers, header, scan.end, proof)
}

// Names what is lost; reads the whole journal for that.
fn damage(
    shared: &Shared,
    headers: &[SegmentHeader],
    header: &SegmentHeader,
    at: Lsn,
    proof: String,
) -> OpenError {
    let mut ledger = Ledger::default();
    for (number, one) in headers.iter().enumerate() {
        let next = headers.get(number + 1).map(|after| after.start);
        let walked = shared.file(one.start).and_then(|file| {
            let extent = match next {
                Some(next) => Extent::before(next),
                None => Extent::of_last(file.as_ref(), one.start)?,
            };
            let show = |chunk| ledger.add(&chunk);
            chunks(file.as_ref(), one.start, Some(one.salt), extent, show)
        });
        if let Err(error) = walked {
            tracing::warn!(%error, segment = segment_name(one.start), "could not look for what is lost");
        }
    }
    OpenError::Damaged(Box::new(Damage {
        segment: segment_name(header.start),
        offset: at.since(header.start),
        at,
        proof,
        lost: ledger.lost(),
    }))
}

// Settles the end of the last segment, and makes it durable before anything relies on it.
fn finish(
    shared: &Arc<Shared>,
    config: JournalConfig,
    (headers, scans): (&[SegmentHeader], &[Scan]),
    known: Lsn,
) -> Result<Opened, OpenError> {
    let (Some(header), Some(scan)) = (headers.last(), scans.last()) else {
        return Err(OpenError::Missing { from: 0, to: 0 });
    };
    let path = shared.dir.join(segment_name(header.start));
    let io = |cause| failed("settling the end of", &path, cause);
    let file = shared.file(header.start).map_err(io)?;
    let end = written_end(file.as_ref(), header.start).map_err(io)?;
    let mut cut = None;
    if end > scan.end {
        let origin = (header.start, header.salt);
        let proof = proof_of_damage(file.as_ref(), origin, scan, end).map_err(io)?;
        if let Some(proof) = proof.or_else(|| proof_of_rows(scan.end, known)) {
            return Err(damage(shared, headers, header, scan.end, proof));
        }
        let torn = Cut {
            at: scan.end,
            segment: segment_name(header.start),
            bytes: end.since(scan.end),
        };
        tracing::warn!(
            position = %torn.at, segment = torn.segment, bytes = torn.bytes,
            "the last group was torn by a crash and is cut off; it was never acknowledged"
        );
        file.truncate(scan.end.since(header.start)).map_err(io)?;
        cut = Some(torn);
    } else if scan.end < known {
        return Err(lost_end(scan.end, known));
    }
    rewrite(file.as_ref(), header, scan.last.as_ref()).map_err(io)?;
    // A segment may have got its name just before the process ended: until the folder is synced, the name is not durable.
    let synced = shared.disk.sync_dir(&shared.dir);
    synced.map_err(|cause| failed("syncing the folder", &shared.dir, cause))?;
    shared.set_durable(scan.end);
    let tail = Tail {
        segment: Segment {
            start: header.start,
            salt: header.salt,
            end: None,
        },
        at: scan.end,
        ends_with_watermark: scan.last.is_none_or(|last| last.entries == 0),
    };
    let mut writer = Writer::resume(Arc::clone(shared), config, tail).map_err(io)?;
    match writer.watermark(false) {
        Ok(()) => {}
        Err(WriteError::Full { .. }) => {
            tracing::warn!("disk is full: the journal opens without its opening mark");
        }
        Err(WriteError::Broken { cause, .. }) => return Err(io(cause)),
    }
    let first = headers.first().map_or(Lsn::ZERO, |first| first.start);
    Ok(Opened {
        journal: Journal {
            shared: Arc::clone(shared),
        },
        end: writer.at(),
        writer,
        cut,
        closed_cleanly: scan.last.is_some_and(|last| last.closing),
        is_new: first == Lsn::ZERO && headers.len() == 1 && scan.last.is_none(),
        orphans: Vec::new(),
        registered: BTreeSet::new(),
    })
}

// Writes the last group once more and syncs it: after a failed sync its bytes may be in memory alone.
fn rewrite(
    file: &dyn DiskFile,
    header: &SegmentHeader,
    last: Option<&GroupHeader>,
) -> io::Result<()> {
    if crate::planted::is("trust-tail") {
        return Ok(());
    }
    let (from, to) = match last {
        Some(last) => (last.lsn.since(header.start), last.end().since(header.start)),
        None => (0, SEGMENT_HEADER_BYTES),
    };
    let mut bytes = vec![0; size(to - from)];
    let read = file.read_at(&mut bytes, from)?;
    file.write_at(&[IoSlice::new(&bytes[..read])], from)?;
    file.sync()
}
