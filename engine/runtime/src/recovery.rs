//! From what a crash left to rows that hold the whole journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use till_core::ShardConfig;
use till_embedded::{EmbeddedConfig, EmbeddedViews};
use till_storage::base::FoldError;
use till_storage::disk::Disk;
use till_storage::facts::{Facts, FactsConfig};
use till_storage::journal::{Cut, Journal, JournalConfig, Lsn, OpenError, Writer};
use till_storage::rebuild::{Fold, rebuild};
use till_storage::views::{Fit, StoreError, Views, check_base};

/// Longest wait for the last reader of rows of an engine that has ended.
const LOCKED_FOR: Duration = Duration::from_secs(3);

/// Why a data folder does not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The journal does not open.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The rows do not open, and moving them aside would not help.
    #[error(transparent)]
    Rows(#[from] till_embedded::OpenError),
    /// The rows cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Records could not be folded into rows.
    #[error("rows could not be brought up to the journal: {0}")]
    Fold(#[from] FoldError),
    /// The file system refused.
    #[error("{doing} {} failed: {cause}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the file system said.
        cause: std::io::Error,
    },
}

/// What a start found and did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StartReport {
    /// The torn end that was cut off the journal: it was never acknowledged.
    pub cut: Option<Cut>,
    /// The journal was closed in good order.
    pub closed_cleanly: bool,
    /// The journal was empty.
    pub is_new: bool,
    /// Why the rows were made anew from the journal; `None` when they were not.
    pub rebuilt: Option<String>,
    /// Records that were applied to rows.
    pub replayed: u64,
    /// Time that it took.
    pub took: Duration,
}

/// An open data folder whose rows hold every record of its journal.
pub(crate) struct Recovered {
    pub(crate) journal: Journal,
    pub(crate) writer: Writer,
    pub(crate) facts: Arc<Facts>,
    pub(crate) views: Arc<dyn Views>,
    pub(crate) report: StartReport,
}

/// Where rows are kept: on disk in a folder, or wherever a test wants them.
#[derive(Clone)]
pub(crate) enum RowsAt {
    Dir(PathBuf),
    Given(Arc<dyn Views>),
}

/// Opens journal and rows, and applies what the rows lack.
pub(crate) fn recover(
    disk: Arc<dyn Disk>,
    dir: &Path,
    journal: JournalConfig,
    rows: &RowsAt,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Recovered, RecoveryError> {
    let started = Instant::now();
    let opened = Journal::open(disk, &dir.join("journal"), journal)?;
    if let Some(cut) = &opened.cut {
        tracing::warn!(
            segment = cut.segment,
            at = cut.at.get(),
            bytes = cut.bytes,
            "the last group was torn by a crash and is cut off; none of it was acknowledged"
        );
    }
    let facts = Arc::new(Facts::new(opened.journal.clone(), FactsConfig::default()));
    let (views, rebuilt) = views(&opened.journal, opened.end, rows)?;
    let mut report = StartReport {
        cut: opened.cut,
        closed_cleanly: opened.closed_cleanly,
        is_new: opened.is_new,
        rebuilt,
        ..StartReport::default()
    };
    let end = opened.end.get();
    let mut told = |lsn: Lsn, records: u64| {
        if records.is_multiple_of(4_096) {
            progress(lsn.get(), end);
        }
    };
    if report.rebuilt.is_some() {
        let replayed = &mut report.replayed;
        rebuild(&opened.journal, &facts, views.as_ref(), &mut |lsn| {
            *replayed += 1;
            told(lsn, *replayed);
        })?;
    } else {
        report.replayed = replay(
            &opened.journal,
            &facts,
            views.as_ref(),
            opened.end,
            &mut told,
        )?;
    }
    report.took = started.elapsed();
    Ok(Recovered {
        journal: opened.journal,
        writer: opened.writer,
        facts,
        views,
        report,
    })
}

// What lies above the checkpoint; a store leaves out by itself what its rows hold.
fn replay(
    journal: &Journal,
    facts: &Facts,
    views: &dyn Views,
    end: Lsn,
    progress: &mut dyn FnMut(Lsn, u64),
) -> Result<u64, RecoveryError> {
    let from = views.checkpoint()?;
    if from >= end.get() {
        return Ok(0);
    }
    let mut fold = Fold::new(views, facts, ShardConfig::default());
    let mut records = 0;
    for item in journal.records(Lsn::new(from)) {
        let (lsn, record) = item.map_err(FoldError::from)?;
        fold.apply(lsn, &record)?;
        records += 1;
        progress(lsn, records);
    }
    fold.finish(end)?;
    Ok(records)
}

// Rows that fit the journal, or empty ones with the reason why the old were moved aside.
fn views(
    journal: &Journal,
    end: Lsn,
    rows: &RowsAt,
) -> Result<(Arc<dyn Views>, Option<String>), RecoveryError> {
    let dir = match rows {
        RowsAt::Given(views) => return Ok((Arc::clone(views), None)),
        RowsAt::Dir(dir) => dir,
    };
    let base = journal.base().map_or(0, Lsn::get);
    let fresh = !dir.exists();
    let reason = match open_rows(dir) {
        Ok(views) => match check_base(&views, base, end.get()) {
            Ok(Fit::Good) => return Ok((Arc::new(views), None)),
            Ok(Fit::OlderThanBase) if fresh => "there were none".to_owned(),
            Ok(Fit::OlderThanBase) => "they end before the oldest record".to_owned(),
            Ok(Fit::NewerThanJournal) => "they hold records that the journal does not".to_owned(),
            Err(error) if error.is_damage() => error.to_string(),
            Err(error) => return Err(error.into()),
        },
        Err(till_embedded::OpenError::Damaged { cause, .. }) => cause,
        Err(error) => return Err(error.into()),
    };
    tracing::warn!(
        reason,
        "rows are moved aside and made anew from the journal"
    );
    move_aside(dir)?;
    let views = EmbeddedViews::open(EmbeddedConfig::new(dir))?;
    Ok((Arc::new(views), Some(reason)))
}

// The folder is ours, so that whoever has the rows open is on its way out: a reader of an engine of this process.
fn open_rows(dir: &Path) -> Result<EmbeddedViews, till_embedded::OpenError> {
    let until = Instant::now() + LOCKED_FOR;
    loop {
        match EmbeddedViews::open(EmbeddedConfig::new(dir)) {
            Err(till_embedded::OpenError::Locked { .. }) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

/// Gives the rows another name, so that new ones can be made. One old copy is kept.
pub(crate) fn move_aside(dir: &Path) -> Result<(), RecoveryError> {
    let aside = dir.with_extension("aside");
    if aside.exists() {
        std::fs::remove_dir_all(&aside).map_err(|cause| RecoveryError::Io {
            doing: "removing",
            path: aside.clone(),
            cause,
        })?;
    }
    if dir.exists() {
        std::fs::rename(dir, &aside).map_err(|cause| RecoveryError::Io {
            doing: "moving aside",
            path: dir.to_path_buf(),
            cause,
        })?;
    }
    Ok(())
}
