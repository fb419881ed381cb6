//! From what a crash left to rows that hold the whole journal.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use till_core::{Shard, ShardConfig, StoreRow};
use till_embedded::{EmbeddedConfig, EmbeddedViews};
use till_protocol::id::StoreId;
use till_storage::base::FoldError;
use till_storage::disk::Disk;
use till_storage::doctor::doctor;
use till_storage::facts::{Facts, FactsConfig};
use till_storage::journal::{
    Cut, Journal, JournalConfig, Lost, Lsn, OpenError, Opened, SyncError, Writer,
};
use till_storage::rebuild::{
    Caught, Fold, Registrations, Replay, Unapplied, catch_up, lost_events, rebuild, replay,
    replay_here,
};
use till_storage::views::{Fit, StoreError, Views, WriteViews, check_base, reach};

use crate::shard::handle::shard_of;

pub(crate) mod lost;
mod unreadable_views;

use crate::lifecycle::recovery::lost::LostEnd;
pub(crate) use crate::lifecycle::recovery::unreadable_views::{move_unreadable, stores_known};

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
    /// A registration that only old rows knew could not be journalled.
    #[error(transparent)]
    Commit(#[from] SyncError),
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
    /// Why the rows were rebuilt from the journal; `None` when they were not.
    pub rebuilt: Option<String>,
    /// Records that were applied again.
    pub replayed: u64,
    /// Records that wait in the journal, by store: salvage lost the store's registration.
    pub left_out: Vec<(StoreId, u64)>,
    /// Records that fit nowhere and are in no row.
    pub unapplied: Vec<Unapplied>,
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
    pub(crate) report: StartReport,
}

/// Who gets what the rows lack.
pub(crate) enum Target<'a> {
    /// The rows.
    Rows,
    /// New rows in the place of those that are there. Told what is lost before a journal that has lost its end is taken as it
    /// is.
    Rebuild(&'a mut dyn FnMut(&LostEnd)),
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

/// Opens journal and rows, and applies what the rows lack. The rows are left where they are until the journal has opened.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    journal: JournalConfig,
    (rows, mut into): (&RowsAt, Target<'_>),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Recovered, RecoveryError> {
    let started = Instant::now();
    let found = Found::open(rows)?;
    let mut opened = open_journal((disk, &dir.join("journal")), journal, &found, &mut into)?;
    let facts = Arc::new(Facts::new(opened.journal.clone(), FactsConfig::default()));
    let is_rebuild = matches!(into, Target::Rebuild(_));
    let waiting = found.without_rows(&opened.orphans)?;
    let registrations = found.registrations(&opened, is_rebuild || !waiting.is_empty())?;
    let reason = if is_rebuild {
        Some("it was asked for".to_owned())
    } else {
        come_back(&waiting, &registrations)?
    };
    let (views, rebuilt) = found.fit(&opened.journal, opened.end, reason)?;
    let end = opened.end.get();
    let mut records = 0_u64;
    let mut on_record = |lsn: Lsn| {
        records += 1;
        if records.is_multiple_of(4_096) {
            progress(lsn.get(), end);
        }
    };
    let parts = ReplayParts {
        journal: &opened.journal,
        facts: &facts,
        views: views.as_ref(),
        is_empty: rebuilt.is_some(),
        by_hand: journal.verify_threads <= 1,
    };
    let (mut caught, shards) = parts.apply(&into, &registrations, &mut on_record)?;
    if rebuilt.is_none() {
        // Rows that go on where they ended have not met the records before.
        caught.left_out.extend(waiting);
    }
    opened.writer.state(&registrations.restated())?;
    let report = StartReport {
        cut: opened.cut,
        closed_cleanly: opened.closed_cleanly,
        is_new: opened.is_new,
        rebuilt,
        replayed: caught.records,
        left_out: caught.left_out.into_iter().collect(),
        unapplied: caught.unapplied,
        took: started.elapsed(),
    };
    lost::report_start(&report);
    Ok(Recovered {
        journal: opened.journal,
        writer: opened.writer,
        facts,
        views,
        shards,
        report,
    })
}

// What the rows know was durable once. A journal that does not hold it is refused, and the message says what it was; one that
// is whole and ends too early may be taken as it is by whoever rebuilds the rows.
fn open_journal(
    (disk, dir): (&Arc<dyn Disk>, &Path),
    config: JournalConfig,
    found: &Found,
    into: &mut Target<'_>,
) -> Result<Opened, RecoveryError> {
    let open = |known| Journal::open_known(Arc::clone(disk), dir, config, known);
    let known = Lsn::new(found.reach()?);
    match open(known) {
        Err(OpenError::LostEnd { end, known: reach }) => {
            let lost = LostEnd {
                journal: dir.to_path_buf(),
                rows: found.dir().to_path_buf(),
                end,
                reach,
                lost: found.lost_events(disk.as_ref(), dir, known),
            };
            let Target::Rebuild(accepting) = into else {
                return Err(RecoveryError::LostEnd(Box::new(lost)));
            };
            accepting(&lost);
            Ok(open(Lsn::new(end))?)
        }
        Err(OpenError::Damaged(mut damage)) => {
            let more = found.lost_events(disk.as_ref(), dir, known);
            damage.lost = Lost::together(std::mem::take(&mut damage.lost), more);
            Err(OpenError::Damaged(damage).into())
        }
        other => Ok(other?),
    }
}

// Why rows are rebuilt: stores whose records waited for a registration that is found again.
fn come_back(
    waiting: &[(StoreId, u64)],
    registrations: &Registrations,
) -> Result<Option<String>, RecoveryError> {
    for (store, records) in waiting {
        if registrations.find(*store)?.is_some() {
            let reason = format!(
                "{records} records of store {store} waited for its registration, which is found again"
            );
            return Ok(Some(reason));
        }
    }
    Ok(None)
}

struct ReplayParts<'a> {
    journal: &'a Journal,
    facts: &'a Facts,
    views: &'a dyn WriteViews,
    is_empty: bool,
    /// In the thread of the caller.
    by_hand: bool,
}

impl ReplayParts<'_> {
    // What lies above the checkpoint; a store leaves out by itself what its rows hold.
    fn apply(
        &self,
        into: &Target<'_>,
        registrations: &Registrations,
        progress: &mut dyn FnMut(Lsn),
    ) -> Result<(Caught, Vec<Shard>), RecoveryError> {
        let Self {
            journal,
            facts,
            views,
            is_empty,
            ..
        } = *self;
        let replay: Replay = match self.by_hand {
            true => replay_here,
            false => replay,
        };
        if is_empty {
            let how = (registrations, replay);
            let caught = rebuild(journal, facts, views, how, progress)?;
            return Ok((caught, Vec::new()));
        }
        let from = Lsn::new(views.checkpoint()?);
        let Target::Shards {
            count,
            config,
            dirty_rows,
        } = *into
        else {
            let from = (from, registrations, replay);
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
        let range = (from, journal.end());
        let replayed = replay(journal, range, folds, &fold_of, progress)?;
        let mut caught = Caught {
            records: replayed.records,
            ..Caught::default()
        };
        for fold in &replayed.folds {
            caught.add(fold);
        }
        let shards = replayed.folds.into_iter().map(Fold::into_shard);
        Ok((caught, shards.collect()))
    }
}

/// The rows as they were found.
pub(crate) enum Found {
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
    pub(crate) fn open(rows: &RowsAt) -> Result<Self, RecoveryError> {
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
    pub(crate) fn reach(&self) -> Result<u64, StoreError> {
        match self {
            Self::Given(views) => reach(views.as_ref()),
            Self::Opened { views, .. } => reach(views),
            Self::Useless { .. } => Ok(0),
        }
    }

    pub(crate) fn views(&self) -> Option<&dyn Views> {
        match self {
            Self::Given(views) => Some(views.as_ref()),
            Self::Opened { views, .. } => Some(views),
            Self::Useless { .. } => None,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        match self {
            Self::Given(_) => Path::new("memory"),
            Self::Opened { dir, .. } | Self::Useless { dir, .. } => dir,
        }
    }

    // The stores that they know, or copies of before.
    pub(crate) fn stores_known(&self) -> Result<BTreeMap<StoreId, StoreRow>, StoreError> {
        match self {
            Self::Given(_) => Ok(BTreeMap::new()),
            Self::Opened { dir, .. } | Self::Useless { dir, .. } => stores_known(dir, self.views()),
        }
    }

    // Of stores that have records without a registration before them, those that have no row either.
    fn without_rows(&self, orphans: &[(StoreId, u64)]) -> Result<Vec<(StoreId, u64)>, StoreError> {
        let mut without = match self {
            Self::Given(_) => Vec::new(),
            Self::Opened { .. } | Self::Useless { .. } => orphans.to_vec(),
        };
        if let (Self::Opened { views, .. }, false) = (self, orphans.is_empty()) {
            views.stores(&mut |store, _| {
                without.retain(|(orphan, _)| *orphan != store);
                ControlFlow::Continue(())
            })?;
        }
        Ok(without)
    }

    // Where registrations come from: the journal, and where some are missing in it, what rows know, or copies of them. Rows may
    // be the last ones to know a store, also one without events: what the journal does not say is stated again in it.
    fn registrations(&self, opened: &Opened, asks: bool) -> Result<Registrations, RecoveryError> {
        let given = if asks {
            self.stores_known()?
        } else {
            BTreeMap::new()
        };
        let registrations = Registrations::new(opened.journal.clone(), given);
        let Self::Opened { views, .. } = self else {
            return Ok(registrations);
        };
        let mut unknown = Vec::new();
        views.stores(&mut |store, row| {
            if !opened.registered.contains(&store) {
                unknown.push((store, row));
            }
            ControlFlow::Continue(())
        })?;
        let journal = &opened.journal;
        if !unknown.is_empty() && journal.base().is_some() {
            let based = till_storage::base::stores(journal.disk().as_ref(), journal.dir())?;
            unknown.retain(|(store, _)| !based.contains(store));
        }
        for (store, row) in &unknown {
            tracing::warn!(%store, "the journal has lost the store's registration; it is stated again as the rows know it");
            registrations.restate(*store, row);
        }
        Ok(registrations)
    }

    // What they know of events that the journal has lost; it need not open.
    fn lost_events(&self, disk: &dyn Disk, dir: &Path, known: Lsn) -> Vec<Lost> {
        let Some(views) = self.views() else {
            return Vec::new();
        };
        let lost = doctor(disk, dir, known)
            .map_err(|error| error.to_string())
            .and_then(|report| {
                lost_events((disk, dir), &report, views).map_err(|error| error.to_string())
            });
        lost.unwrap_or_else(|cause| {
            tracing::warn!(cause, "could not find out which events are lost");
            Vec::new()
        })
    }

    // Rows that fit the journal, or empty ones with the reason why the old were moved aside: one that is given, or that they
    // do not fit.
    fn fit(
        self,
        journal: &Journal,
        end: Lsn,
        reason: Option<String>,
    ) -> Result<(Arc<dyn WriteViews>, Option<String>), RecoveryError> {
        let base = journal.base().map_or(0, Lsn::get);
        let (dir, reason) = match (self, reason) {
            (Self::Given(views), _) => {
                // Nothing can be moved aside; rows that are empty are filled.
                let is_blank = base > 0 && reach(views.as_ref())? == 0;
                return Ok((views, is_blank.then(|| "there were none".to_owned())));
            }
            (Self::Opened { dir, .. }, Some(reason)) => (dir, reason),
            (Self::Opened { dir, views, fresh }, None) => {
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
            (Self::Useless { dir, reason }, _) => (dir, reason),
        };
        tracing::warn!(reason, "rows are moved aside and rebuilt from the journal");
        move_unreadable(&dir)?;
        let views = EmbeddedViews::open(EmbeddedConfig::new(&dir))?;
        Ok((Arc::new(views), Some(reason)))
    }
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
