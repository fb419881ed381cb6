//! The data folder: its lock, its journal, its rows, and bringing the rows to the journal's end.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use till_core::ShardConfig;
use till_embedded::{EmbeddedConfig, EmbeddedViews};
use till_storage::base::FoldError;
use till_storage::disk::StdDisk;
use till_storage::facts::{Facts, FactsConfig};
use till_storage::journal::{Cut, Journal, JournalConfig, Lsn, OpenError, Writer};
use till_storage::rebuild::{Fold, rebuild};
use till_storage::views::{Fit, StoreError, Views, check_base};

/// Records between two looks at the progress of a rebuild.
const PROGRESS_EVERY: u64 = 50_000;

/// Who has a data folder open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// What its `engine.json` says; empty where there is none.
    pub text: String,
}

/// Why a data folder could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// Another process has it open.
    #[error("{} is open in another process {}; stop it first, or ask it", dir.display(), holder.text)]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// A file or folder could not be made, read or written.
    #[error("could not {doing} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The journal does not open.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The rows do not open, and a fresh set could not be made either.
    #[error("rows: {0}")]
    Rows(String),
    /// The rows could not be brought to the journal's end.
    #[error("could not bring the rows to the journal's end: {0}")]
    Fold(#[from] FoldError),
}

/// What a start found and did.
#[derive(Clone, Debug)]
pub struct StartReport {
    /// A torn group that was cut off; it was never acknowledged.
    pub cut: Option<Cut>,
    /// The journal was closed in good order.
    pub closed_cleanly: bool,
    /// Records that were applied because the rows did not have them yet.
    pub replayed: u64,
    /// Why the rows were moved aside and rebuilt, where they were.
    pub rebuilt: Option<String>,
    /// Time from the first look to the last row.
    pub took: Duration,
}

/// An open data folder.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) dir: PathBuf,
    /// Held for its lock.
    pub(crate) lock: File,
    pub(crate) journal: Journal,
    pub(crate) writer: Writer,
    pub(crate) views: Arc<EmbeddedViews>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) report: StartReport,
}

impl Data {
    /// Opens a folder, or makes one: takes the lock, verifies the journal, opens the rows or rebuilds them, applies what they
    /// lack. Blocks; with a long journal for seconds.
    pub(crate) fn open(dir: &Path, config: JournalConfig) -> Result<Self, DataError> {
        Self::open_with(dir, config, None)
    }

    /// As [`Self::open`]; with a reason, the rows are moved aside and rebuilt in any case.
    pub(crate) fn open_with(
        dir: &Path,
        config: JournalConfig,
        rebuild_because: Option<&str>,
    ) -> Result<Self, DataError> {
        let began = Instant::now();
        let lock = lock(dir)?;
        let opened = Journal::open(Arc::new(StdDisk), &dir.join("journal"), config)?;
        if let Some(cut) = &opened.cut {
            tracing::warn!(segment = %cut.segment, at = cut.at.get(), bytes = cut.bytes,
                "the last group was torn by a crash and never acknowledged; it was cut off");
        }
        let facts = Arc::new(Facts::new(opened.journal.clone(), FactsConfig::default()));
        let (views, rebuilt) = rows(dir, &opened.journal, &facts, rebuild_because)?;
        let replayed = replay(&opened.journal, views.as_ref(), &facts)?;
        let report = StartReport {
            cut: opened.cut,
            closed_cleanly: opened.closed_cleanly,
            replayed,
            rebuilt,
            took: began.elapsed(),
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            lock,
            journal: opened.journal,
            writer: opened.writer,
            views,
            facts,
            report,
        })
    }
}

/// Takes the folder's lock, which the system gives back when the process ends, however it ends.
pub(crate) fn lock(dir: &Path) -> Result<File, DataError> {
    std::fs::create_dir_all(dir).map_err(io_error("make the folder", dir))?;
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let text = std::fs::read_to_string(dir.join("engine.json")).unwrap_or_default();
            Err(DataError::Locked {
                dir: dir.to_path_buf(),
                holder: Holder {
                    text: text.trim().to_owned(),
                },
            })
        }
        Err(std::fs::TryLockError::Error(cause)) => Err(io_error("lock", &path)(cause)),
    }
}

/// The rows: as they are where they fit the journal, else rebuilt beside the old ones.
fn rows(
    dir: &Path,
    journal: &Journal,
    facts: &Facts,
    because: Option<&str>,
) -> Result<(Arc<EmbeddedViews>, Option<String>), DataError> {
    let path = dir.join("views");
    let is_fresh = !path.exists();
    let base = journal.base().map_or(0, Lsn::get);
    let misfit = match (because, EmbeddedViews::open(EmbeddedConfig::new(&path))) {
        (Some(because), _) => because.to_owned(),
        (None, Err(error)) => error.to_string(),
        (None, Ok(views)) => match check_base(&views, base, journal.end().get()) {
            Ok(Fit::Good) if !is_fresh || base == 0 => return Ok((Arc::new(views), None)),
            Ok(Fit::Good) => "there were none".to_owned(),
            Ok(Fit::OlderThanBase) => "they end before the base".to_owned(),
            Ok(Fit::NewerThanJournal) => "they hold records that the journal does not".to_owned(),
            Err(error) => error.to_string(),
        },
    };
    let aside = move_aside(dir, &path)?;
    tracing::warn!(reason = %misfit, aside = %aside.display(), "rows were moved aside; rebuilding them from the journal");
    let views = EmbeddedViews::open(EmbeddedConfig::new(&path))
        .map_err(|error| DataError::Rows(error.to_string()))?;
    let end = journal.end().get().max(1);
    let mut records = 0_u64;
    rebuild(journal, facts, &views, &mut |at: Lsn| {
        records += 1;
        if records.is_multiple_of(PROGRESS_EVERY) {
            tracing::info!(
                records,
                percent = at.get().saturating_mul(100).div_euclid(end),
                "rebuilding rows"
            );
        }
    })?;
    tracing::info!(records, "rows are rebuilt");
    Ok((Arc::new(views), Some(misfit)))
}

/// Gives the folder of the rows a name that is not taken; returns it.
fn move_aside(dir: &Path, path: &Path) -> Result<PathBuf, DataError> {
    let mut number = 1_u32;
    loop {
        let aside = dir.join(format!("views.broken-{number}"));
        if aside.exists() {
            number += 1;
            continue;
        }
        if path.exists() {
            std::fs::rename(path, &aside).map_err(io_error("move aside", path))?;
        }
        return Ok(aside);
    }
}

/// Applies the records above the rows' checkpoint.
pub(crate) fn replay(
    journal: &Journal,
    views: &dyn Views,
    facts: &Facts,
) -> Result<u64, DataError> {
    let end = journal.end();
    let from = Lsn::new(views.checkpoint().map_err(FoldError::from)?);
    if from >= end {
        return Ok(0);
    }
    let mut fold = Fold::new(views, facts, ShardConfig::default());
    let mut records = 0;
    for item in journal.records_between(from, end) {
        let (lsn, record) = item.map_err(FoldError::from)?;
        fold.apply(lsn, &record)?;
        records += 1;
    }
    fold.finish(end)?;
    Ok(records)
}

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_path_buf();
    move |cause| DataError::Io { doing, path, cause }
}

impl From<StoreError> for DataError {
    fn from(error: StoreError) -> Self {
        Self::Fold(FoldError::from(error))
    }
}
