//! Opens a journal to be read, and leaves every byte of its folder as it is.

use std::path::Path;
use std::sync::Arc;

use super::{Cut, Folder, OpenError, check_front, damage, failed, new_shared, use_scanned, verify};
use crate::disk::Disk;
use crate::journal::scan::{proof_of_damage, written_end};
use crate::journal::{Journal, base, segment_name};

/// Threads that verify segments.
const THREADS: usize = 2;

/// What [`Journal::look`] gives.
#[derive(Debug)]
pub struct Looked {
    /// For reading, up to its last whole group.
    pub journal: Journal,
    /// What the next start cuts off behind that, where a crash tore the last group.
    pub torn: Option<Cut>,
}

pub(crate) fn look(disk: Arc<dyn Disk>, dir: &Path) -> Result<Looked, OpenError> {
    let folder = Folder::read(disk.as_ref(), dir)?;
    let base = base::newest(disk.as_ref(), dir, &folder.bases)?;
    let mut headers = folder.headers(disk.as_ref(), dir)?;
    check_front(&headers, base)?;
    let log = headers.first().map_or(0, |head| head.log);
    let shared = Arc::new(new_shared(disk, dir, log, base, &headers));
    let (scans, _owners) = verify(&shared, &headers, THREADS)?;
    use_scanned(&shared, &mut headers, &scans);
    let mut torn = None;
    if let (Some(header), Some(scan)) = (headers.last(), scans.last()) {
        let path = dir.join(segment_name(header.start));
        let io = |cause| failed("reading", &path, cause);
        let file = shared.file(header.start).map_err(io)?;
        let end = written_end(file.as_ref(), header.start).map_err(io)?;
        if end > scan.end {
            let origin = (header.start, header.salt);
            if let Some(proof) = proof_of_damage(file.as_ref(), origin, scan, end).map_err(io)? {
                return Err(damage(&shared, &headers, header, scan.end, proof));
            }
            torn = Some(Cut {
                at: scan.end,
                segment: segment_name(header.start),
                bytes: end.since(scan.end),
            });
        }
        shared.set_durable(scan.end);
    }
    let journal = Journal { shared };
    Ok(Looked { journal, torn })
}
