//! Which segments there are, and how old ones leave.

use std::io;

use thiserror::Error;

use super::{Lsn, Shared, base, index_name, segment_name};

/// A segment of the journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentInfo {
    /// Where it starts.
    pub start: Lsn,
    /// Where its last durable group ends.
    pub end: Lsn,
    /// Whether another segment has begun, so that this one never changes again.
    pub sealed: bool,
}

/// Why segments were not dropped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DropError {
    /// Nothing stands in for what would be dropped.
    #[error("segments up to position {wanted} cannot be dropped: the base reaches only to {base}")]
    NoBase {
        /// Where the last segment to be dropped ends.
        wanted: Lsn,
        /// How far the newest base reaches; 0 without one.
        base: Lsn,
    },
    /// A file could not be removed; those before it are gone.
    #[error("removing {file} failed: {cause}")]
    Io {
        /// The file.
        file: String,
        /// What the file system said.
        cause: io::Error,
    },
}

pub(crate) fn infos(shared: &Shared) -> Vec<SegmentInfo> {
    let (segments, durable) = shared.snapshot();
    let infos = segments.iter().map(|segment| SegmentInfo {
        start: segment.start,
        end: segment.end.unwrap_or(durable),
        sealed: segment.end.is_some(),
    });
    infos.collect()
}

pub(crate) fn drop_before(shared: &Shared, lsn: Lsn) -> Result<Vec<SegmentInfo>, DropError> {
    let old = infos(shared).into_iter();
    let old: Vec<SegmentInfo> = old.filter(|info| info.sealed && info.end <= lsn).collect();
    let Some(last) = old.last() else {
        return Ok(old);
    };
    // Asked of the disk, not of memory: the base may have been written a moment ago.
    let base = base::find(shared.disk.as_ref(), &shared.dir).unwrap_or(None);
    let reach = base.unwrap_or(Lsn::ZERO);
    if reach < last.end {
        return Err(DropError::NoBase {
            wanted: last.end,
            base: reach,
        });
    }
    shared.set_base(reach);
    // Oldest first, so that a crash between two leaves a log without holes.
    for info in &old {
        // Forgotten once it is gone, so that one that cannot be removed keeps those behind it; and under the lock, so that
        // whoever finds no file finds no segment either.
        let mut segments = shared.segments();
        remove(shared, segment_name(info.start))?;
        segments.retain(|one| one.start != info.start);
        drop(segments);
        shared.forget_file(info.start);
        remove(shared, index_name(info.start))?;
        let synced = shared.disk.sync_dir(&shared.dir);
        synced.map_err(|cause| DropError::Io {
            file: segment_name(info.start),
            cause,
        })?;
    }
    Ok(old)
}

fn remove(shared: &Shared, file: String) -> Result<(), DropError> {
    match shared.disk.remove(&shared.dir.join(&file)) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(DropError::Io { file, cause }),
        _ => Ok(()),
    }
}
