//! From what a crash left to rows that hold the whole journal.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use till_core::{Record, Shard, ShardConfig, StoreRow};
use till_embedded::{EmbeddedConfig, EmbeddedViews};
use till_protocol::id::StoreId;
use till_storage::base::FoldError;
use till_storage::disk::Disk;
use till_storage::facts::{Facts, FactsConfig};
use till_storage::journal::{Cut, Journal, JournalConfig, Lsn, OpenError, Writer};
use till_storage::rebuild::{Caught, Fold, Registrations, catch_up, lost_end, rebuild, replay};
use till_storage::views::{Fit, StoreError, Views, WriteViews, check_base};

use crate::route::shard_of;

mod lost;

pub use lost::LostEnd;

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
    /// The journal ends before what the rows hold.
    #[error("{0}")]
    LostEnd(Box<LostEnd>),
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
    /// Records that were applied again.
    pub replayed: u64,
    /// Records that wait in the journal, by store: salvage lost the store's registration.
    pub left_out: Vec<(StoreId, u64)>,
    /// Time that it took.
    pub took: Duration,
}

/// An open data folder. Rows and shards together hold every record of its journal.
pub(crate) struct Recovered {
    pub(crate) journal: Journal,
    pub(crate) writer: Writer,
    pub(crate) facts: Arc<Facts>,
    pub(crate) views: Arc<dyn WriteViews>,
    /// What the rows lack, by shard; none where the rows hold everything.
    pub(crate) shards: Vec<Shard>,
    /// Registrations that the journal has nowhere and that old rows knew: to be journalled.
    pub(crate) restated: Vec<Record>,
    pub(crate) report: StartReport,
}

/// Who gets what the rows lack.
pub(crate) enum Target {
    /// The rows, and registrations that were read from rows of before.
    Rows(Vec<(StoreId, StoreRow)>),
    /// Shards, which write it to the rows while they work.
    Shards {
        /// How many.
        count: usize,
        /// What each starts with.
        config: ShardConfig,
        /// Changed rows that each may hold.
        dirty_rows: usize,
    },
}

/// Where rows are kept: on disk in a folder, or wherever a test wants them.
#[derive(Clone)]
pub(crate) enum RowsAt {
    Dir(PathBuf),
    Given(Arc<dyn WriteViews>),
}

/// Opens journal and rows, and applies what the rows lack.
pub(crate) fn recover(
    disk: Arc<dyn Disk>,
    dir: &Path,
    journal: JournalConfig,
    (rows, into): (&RowsAt, Target),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Recovered, RecoveryError> {
    let started = Instant::now();
    let found = Found::open(rows)?;
    let known = Lsn::new(found.reach()?);
    let opened = Journal::open_known(disk, &dir.join("journal"), journal, known)?;
    if let Some(cut) = &opened.cut {
        tracing::warn!(
            segment = cut.segment,
            at = cut.at.get(),
            bytes = cut.bytes,
            "the last group was torn by a crash and is cut off; none of it was acknowledged"
        );
    }
    let facts = Arc::new(Facts::new(opened.journal.clone(), FactsConfig::default()));
    let (views, rebuilt) = found.fit(&opened.journal, opened.end)?;
    let end = opened.end.get();
    let mut records = 0_u64;
    let mut told = |lsn: Lsn| {
        records += 1;
        if records.is_multiple_of(4_096) {
            progress(lsn.get(), end);
        }
    };
    let parts = Parts {
        journal: &opened.journal,
        facts: &facts,
        views: views.as_ref(),
        is_empty: rebuilt.is_some(),
    };
    let given = match &into {
        Target::Rows(given) => given.clone(),
        Target::Shards { .. } => Vec::new(),
    };
    let registrations = Registrations::new(opened.journal.clone(), given);
    let (caught, shards) = parts.apply(&into, &registrations, &mut told)?;
    let report = StartReport {
        cut: opened.cut,
        closed_cleanly: opened.closed_cleanly,
        is_new: opened.is_new,
        rebuilt,
        replayed: caught.records,
        left_out: caught.left_out.into_iter().collect(),
        took: started.elapsed(),
    };
    Ok(Recovered {
        journal: opened.journal,
        writer: opened.writer,
        facts,
        views,
        shards,
        restated: registrations.restated(),
        report,
    })
}

struct Parts<'a> {
    journal: &'a Journal,
    facts: &'a Facts,
    views: &'a dyn WriteViews,
    is_empty: bool,
}

impl Parts<'_> {
    // What lies above the checkpoint; a store leaves out by itself what its rows hold.
    fn apply(
        &self,
        into: &Target,
        registrations: &Registrations,
        progress: &mut dyn FnMut(Lsn),
    ) -> Result<(Caught, Vec<Shard>), RecoveryError> {
        let Self {
            journal,
            facts,
            views,
            is_empty,
        } = *self;
        if is_empty {
            let caught = rebuild(journal, facts, views, registrations, progress)?;
            return Ok((caught, Vec::new()));
        }
        let from = Lsn::new(views.checkpoint()?);
        let Target::Shards {
            count,
            config,
            dirty_rows,
        } = *into
        else {
            let from = (from, registrations);
            let caught = catch_up(journal, facts, views, from, progress)?;
            return Ok((caught, Vec::new()));
        };
        let fold = |_| {
            Fold::new(views, facts, config)
                .with_dirty_rows(dirty_rows)
                .with_registrations(registrations)
        };
        let folds = (0..count).map(fold).collect();
        let fold_of = |store| shard_of(store, count);
        let replayed = replay(journal, (from, journal.end()), folds, &fold_of, progress)?;
        let mut caught = Caught {
            records: replayed.records,
            ..Caught::default()
        };
        for fold in &replayed.folds {
            caught.left_out.extend(fold.left_out());
        }
        let shards = replayed.folds.into_iter().map(Fold::into_shard);
        Ok((caught, shards.collect()))
    }
}

/// The rows as they were found.
enum Found {
    Given(Arc<dyn WriteViews>),
    Opened {
        dir: PathBuf,
        views: EmbeddedViews,
        fresh: bool,
    },
    // They cannot be used, for this reason.
    Useless {
        dir: PathBuf,
        reason: String,
    },
}

impl Found {
    fn open(rows: &RowsAt) -> Result<Self, RecoveryError> {
        let dir = match rows {
            RowsAt::Given(views) => return Ok(Self::Given(Arc::clone(views))),
            RowsAt::Dir(dir) => dir.clone(),
        };
        let fresh = !dir.exists();
        let damaged = |dir, reason| Ok(Self::Useless { dir, reason });
        let views = match open_rows(&dir) {
            Ok(views) => views,
            Err(till_embedded::OpenError::Damaged { cause, .. }) => return damaged(dir, cause),
            Err(error) => return Err(error.into()),
        };
        match reach(&views) {
            Err(error) if error.is_damage() => damaged(dir, error.to_string()),
            other => other
                .map(|_| Self::Opened { dir, views, fresh })
                .map_err(Into::into),
        }
    }

    // Everything before this position was durable once.
    fn reach(&self) -> Result<u64, StoreError> {
        match self {
            Self::Given(views) => reach(views.as_ref()),
            Self::Opened { views, .. } => reach(views),
            Self::Useless { .. } => Ok(0),
        }
    }

    // Rows that fit the journal, or empty ones with the reason why the old were moved aside.
    fn fit(
        self,
        journal: &Journal,
        end: Lsn,
    ) -> Result<(Arc<dyn WriteViews>, Option<String>), RecoveryError> {
        let base = journal.base().map_or(0, Lsn::get);
        let (dir, reason) = match self {
            Self::Given(views) => {
                check_end(journal, end, views.as_ref(), Path::new("memory"))?;
                return Ok((views, None));
            }
            Self::Opened { dir, views, fresh } => {
                check_end(journal, end, &views, &dir)?;
                if check_base(&views, base, end.get())? == Fit::Good {
                    return Ok((Arc::new(views), None));
                }
                let reason = if fresh {
                    "there were none"
                } else {
                    "they end before the oldest record"
                };
                (dir, reason.to_owned())
            }
            Self::Useless { dir, reason } => (dir, reason),
        };
        tracing::warn!(
            reason,
            "rows are moved aside and made anew from the journal"
        );
        move_aside(&dir)?;
        let views = EmbeddedViews::open(EmbeddedConfig::new(&dir))?;
        Ok((Arc::new(views), Some(reason)))
    }
}

// The position up to which rows hold records of any store.
fn reach(views: &dyn Views) -> Result<u64, StoreError> {
    let mut reach = views.checkpoint()?;
    views.stores(&mut |_, row| {
        reach = reach.max(row.applied);
        ControlFlow::Continue(())
    })?;
    Ok(reach)
}

/// The journal position up to which the rows of a data folder hold records: everything before it was durable once. Zero
/// without rows that can be read.
pub fn rows_reach(data_dir: &Path) -> Lsn {
    let dir = crate::runtime::rows_dir(data_dir);
    if !dir.exists() {
        return Lsn::ZERO;
    }
    let reach = open_rows(&dir).map(|views| reach(&views));
    match reach {
        Ok(Ok(reach)) => Lsn::new(reach),
        Ok(Err(_)) | Err(_) => Lsn::ZERO,
    }
}

// Stops where the rows hold records that the journal has lost: going on would give their places to others.
fn check_end(
    journal: &Journal,
    end: Lsn,
    views: &dyn Views,
    rows: &Path,
) -> Result<(), RecoveryError> {
    if check_base(views, 0, end.get())? != Fit::NewerThanJournal {
        return Ok(());
    }
    let reach = reach(views)?;
    let lost = lost_end(journal, views)?;
    Err(RecoveryError::LostEnd(Box::new(LostEnd {
        journal: journal.dir().to_path_buf(),
        rows: rows.to_path_buf(),
        end: end.get(),
        reach,
        lost,
    })))
}

/// The stores that rows know, as far as they can still be read.
pub(crate) fn stores_of(dir: &Path) -> Vec<(StoreId, StoreRow)> {
    let mut stores = Vec::new();
    if !dir.exists() {
        return stores;
    }
    let read = open_rows(dir)
        .map_err(|error| error.to_string())
        .and_then(|views| {
            let read = views.stores(&mut |store, row| {
                stores.push((store, row));
                ControlFlow::Continue(())
            });
            read.map_err(|error| error.to_string())
        });
    if let Err(cause) = read {
        tracing::warn!(
            cause,
            "the old rows cannot be read; registrations come from the journal alone"
        );
    }
    stores
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
