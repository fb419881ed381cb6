//! A journal that does not open, beside what the rows still know of it.

use std::collections::BTreeSet;
use std::path::Path;

use thiserror::Error;
use till_storage::base::FoldError;
use till_storage::disk::StdDisk;
use till_storage::doctor::{DoctorError, Report, doctor, salvage};
use till_storage::journal::{Lost, Lsn};
use till_storage::rebuild::{LostRegistration, lost_events, lost_registrations};

use crate::cluster::identity::has_joined;
use crate::lifecycle::lock::{DirLock, LockError, Role};
use crate::lifecycle::recovery::lost::LostEnd;
use crate::lifecycle::recovery::{Found, RecoveryError, RowsAt};
use crate::lifecycle::runtime::rows_dir;

/// What a journal holds, and what its rows know that it does not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Examined {
    /// What the journal's folder holds, before anything was salvaged. What is lost is named with the help of the rows.
    pub report: Report,
    /// The journal ends before what the rows hold, also after salvage: a start refuses it.
    pub lost_end: Option<LostEnd>,
    /// Stores whose registration is lost.
    pub unregistered: Vec<LostRegistration>,
    /// The folder is that of an engine that shares a store with others, which has what its journal lacks: registrations, and
    /// all rows. The journal was examined alone.
    pub is_shared: bool,
}

impl Examined {
    /// Whether nothing is damaged or missing.
    pub const fn is_sound(&self) -> bool {
        self.report.is_sound() && self.lost_end.is_none() && self.unregistered.is_empty()
    }

    /// Whether an engine starts on the folder once damage is salvaged, and everything that is in the journal is in its
    /// answers: registrations that rows know are stated again by the start itself.
    pub fn starts(&self) -> bool {
        self.lost_end.is_none() && self.unregistered.iter().all(|one| one.in_rows)
    }
}

/// Why a folder could not be examined.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExamineError {
    /// An engine has it open, or it is not there.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The journal could not be looked at or salvaged.
    #[error(transparent)]
    Doctor(#[from] DoctorError),
    /// The rows could not be read.
    #[error(transparent)]
    Rows(#[from] RecoveryError),
    /// Rows or base could not be read.
    #[error(transparent)]
    Read(#[from] FoldError),
}

/// Looks at every byte of the journal of a data folder that no engine has open, and at what its rows know. With `salvages`
/// keeps what is whole of damaged segments; changes nothing otherwise.
///
/// # Errors
/// [`ExamineError`]. Damage is no error.
pub fn examine(data_dir: &Path, salvages: bool) -> Result<Examined, ExamineError> {
    let _lock = DirLock::wait_blocking(data_dir, Role::Visitor)?;
    let dir = data_dir.join("journal");
    if has_joined(data_dir) {
        return examine_shared(&dir, salvages);
    }
    let rows = rows_dir(data_dir);
    // Rows that are not there are not made.
    let found = if rows.exists() {
        Some(Found::open(&RowsAt::Dir(rows))?)
    } else {
        None
    };
    let reach = found.as_ref().map_or(Ok(0), Found::reach);
    let known = Lsn::new(reach.map_err(RecoveryError::from)?);
    let disk = StdDisk;
    let mut report = if salvages {
        salvage(&disk, &dir, known)?
    } else {
        doctor(&disk, &dir, known)?
    };
    // Where a damaged end is filled by salvage, it reaches as far as it can be seen to be written.
    let end = if salvages && !report.is_sound() {
        doctor(&disk, &dir, known)?.end
    } else {
        report.end
    };
    let views = found.as_ref().and_then(Found::views);
    let lost = match views {
        Some(views) => lost_events((&disk, &dir), &report, views)?,
        None => Vec::new(),
    };
    let lost_end = found.as_ref().filter(|_| end < known).map(|found| LostEnd {
        journal: dir.clone(),
        rows: found.dir().to_path_buf(),
        end: end.get(),
        reach: known.get(),
        lost: lost.clone(),
    });
    if !report.is_sound() {
        report.lost = Lost::together(std::mem::take(&mut report.lost), lost);
    }
    let quarantined: BTreeSet<_> = match &found {
        Some(found) => found.stores_known(),
        None => crate::lifecycle::recovery::stores_known(&rows_dir(data_dir), None),
    }
    .map_err(RecoveryError::from)?
    .into_keys()
    .collect();
    let unregistered = lost_registrations((&disk, &dir), &report, views, &quarantined)?;
    Ok(Examined {
        report,
        lost_end,
        unregistered,
        is_shared: false,
    })
}

// What such a journal does not name is in the shared store. Rows that lie in its folder are not its own.
fn examine_shared(dir: &Path, salvages: bool) -> Result<Examined, ExamineError> {
    let report = if salvages {
        salvage(&StdDisk, dir, Lsn::ZERO)?
    } else {
        doctor(&StdDisk, dir, Lsn::ZERO)?
    };
    Ok(Examined {
        report,
        lost_end: None,
        unregistered: Vec::new(),
        is_shared: true,
    })
}
