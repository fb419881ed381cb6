//! A data folder without an engine: asked, repaired, rebuilt.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam::channel::{Sender, bounded};
use thiserror::Error;
use till_core::{RetryError, Shard, ShardConfig};
use till_storage::disk::{Disk, StdDisk};
use till_storage::facts::Facts;
use till_storage::journal::{
    Cut, Durability, Durable, Journal, JournalConfig, Looked, Lsn, Prepared, Sink, SyncConfig,
    SyncError, Syncer, TooLarge, Writer,
};
use till_storage::rebuild::FactRows;
use till_storage::views::{FlushBatch, StoreError, Views, WriteViews};

use crate::clock::now;
use crate::cluster::identity::has_joined;
use crate::lifecycle::lock::{DirLock, LockError, Role};
use crate::lifecycle::recovery::lost::LostEnd;
use crate::lifecycle::recovery::{RecoveryError, RowsAt, StartReport, Target, recover};
use crate::lifecycle::retry::{Retried, RetryAllError, keys, original};
use crate::lifecycle::runtime::rows_dir;
use crate::observe::query::{Query, Reply, answer};
use crate::publish::names::NameBook;

/// Whoever asks a folder leaves its files as large as its engine made them: the active segment keeps its size, and no
/// reserve is quarantined.
const AS_IT_IS: JournalConfig = JournalConfig {
    segment_bytes: 1 << 20,
    reserve_bytes: 0,
    durability: Durability::Disk,
    verify_threads: 2,
};

/// Why a data folder could not be worked on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// An engine has it open, or it is not there.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It is that of an engine that shares a store with others: rows made from it alone would lack what is there.
    #[error(
        "{0} is the data folder of an engine that shares a store with others: its rows are in that store, and its journal alone \
         does not have them. Nothing was changed. Ask the store: `tillstream query --scylla HOST:PORT --keyspace NAME`"
    )]
    OfCluster(PathBuf),
    /// Journal or rows do not open.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// Rows cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The quarantine could not be gone through.
    #[error(transparent)]
    Retry(#[from] RetryAllError),
    /// A decision could not be journalled.
    #[error(transparent)]
    Commit(#[from] SyncError),
    /// A decision is too large for the journal.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// An open data folder. No engine can open it meanwhile.
pub struct Offline {
    journal: Journal,
    facts: Arc<Facts>,
    views: Arc<dyn WriteViews>,
    writer: Option<Writer>,
    report: StartReport,
    _lock: DirLock,
}

impl std::fmt::Debug for Offline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offline")
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl Offline {
    /// Opens a data folder that no engine has open, and brings its rows up to its journal. A new journal is not begun.
    /// Waits some seconds for others who ask it, and for an engine that comes up.
    ///
    /// # Errors
    /// [`OfflineError::Lock`] when an engine has it open (ask that one) or it is not there; [`OfflineError::OfCluster`] when
    /// its rows are elsewhere; [`OfflineError::Recovery`] when something in it is damaged.
    pub fn open(dir: &Path) -> Result<Self, OfflineError> {
        Self::with(dir, Target::Rows, &mut |_, _| {})
    }

    /// Throws every derived row away and makes it again from base and journal. `progress` is told position and end.
    ///
    /// The old rows say up to where the journal was durable: one that is damaged below that, also in its last group, is
    /// refused as by a start. One that is whole and ends before it is taken as it is, after `accepting` was told what is
    /// lost. Nothing is moved before the journal has opened; the old rows then stay beside the new ones until rows that
    /// hold as much are moved aside.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn rebuild(
        dir: &Path,
        progress: &mut dyn FnMut(u64, u64),
        accepting: &mut dyn FnMut(&LostEnd),
    ) -> Result<Self, OfflineError> {
        Self::with(dir, Target::Rebuild(accepting), progress)
    }

    fn with(
        dir: &Path,
        into: Target<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, OfflineError> {
        let lock = DirLock::wait_blocking(dir, Role::Visitor)?;
        let journal = Self::journal_dir(dir);
        if !journal.is_dir() {
            return Err(LockError::Missing(journal).into());
        }
        if has_joined(dir) {
            return Err(OfflineError::OfCluster(dir.to_path_buf()));
        }
        let disk: Arc<dyn Disk> = Arc::new(StdDisk);
        let rows = RowsAt::Dir(rows_dir(dir));
        let opened = recover(&disk, dir, AS_IT_IS, (&rows, into), progress)?;
        Ok(Self {
            journal: opened.journal,
            facts: opened.facts,
            views: opened.views,
            writer: Some(opened.writer),
            report: opened.report,
            _lock: lock,
        })
    }

    /// What opening found and did.
    pub const fn report(&self) -> &StartReport {
        &self.report
    }

    /// The journal, for those who look inside.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The rows.
    pub fn views(&self) -> &dyn Views {
        self.views.as_ref()
    }

    /// The folder of the journal in a data folder.
    pub fn journal_dir(dir: &Path) -> PathBuf {
        dir.join("journal")
    }

    /// Answers a question with everything that is in the folder.
    ///
    /// # Errors
    /// [`OfflineError::Store`] when rows or facts cannot be read.
    pub fn query(&self, query: &Query) -> Result<Reply, OfflineError> {
        Ok(answer(self.views.as_ref(), self.facts.as_ref(), query)?)
    }

    /// Decides everything in quarantine again.
    ///
    /// # Errors
    /// [`OfflineError`]; what was decided before stays decided.
    pub fn retry_quarantine(&mut self) -> Result<Retried, OfflineError> {
        let Some(writer) = self.writer.take() else {
            return Ok(Retried::default());
        };
        let (lsns, placed) = bounded(1);
        let syncer = Syncer::start(writer, SyncConfig::default(), LastLsn(lsns))?;
        let appender = syncer.appender();
        let names = NameBook::new(Arc::<dyn WriteViews>::clone(&self.views));
        let rows = FactRows::new(self.views.as_ref(), self.facts.as_ref());
        let mut shard = Shard::new(ShardConfig::default());
        let mut retried = Retried::default();
        let mut last = 0;
        for key in keys(self.views.as_ref())? {
            let found = original(self.facts.as_ref(), &key).map_err(RetryAllError::from)?;
            let Some(original) = found else {
                retried.quarantined += 1;
                continue;
            };
            match shard.retry(now(), key, &original, &rows, &names) {
                Ok(record) => {
                    let closed = || SyncError::Thread("it has ended".to_owned());
                    let queued = appender.append(Prepared::new(&record)?, ());
                    queued.map_err(|_| closed())?;
                    last = placed.recv().map_err(|_| closed())?;
                    retried.applied += 1;
                }
                Err(RetryError::Still(_) | RetryError::OtherRecord) => retried.quarantined += 1,
                Err(RetryError::Gone) => {}
                Err(error) => return Err(RetryAllError::from(error).into()),
            }
        }
        let mut dirty = shard.take_dirty();
        dirty.set_applied(last);
        let mut flush = FlushBatch::from(dirty);
        drop(appender);
        syncer.close()?;
        flush.checkpoint = Some(self.journal.end().get());
        self.views.write(&flush)?;
        self.views.sync()?;
        Ok(retried)
    }
}

/// A journal that is looked at and not changed. No engine can open it meanwhile.
#[derive(Debug)]
pub struct Look {
    looked: Looked,
    _lock: DirLock,
}

impl Look {
    /// Opens the journal of a data folder that no engine has open, and writes nothing to it: no mark is set, a torn end is
    /// not cut, rows are not touched.
    ///
    /// # Errors
    /// [`OfflineError::Lock`] when an engine has it open or it is not there; [`OfflineError::Recovery`] when it is damaged.
    pub fn open(dir: &Path) -> Result<Self, OfflineError> {
        let lock = DirLock::wait_blocking(dir, Role::Visitor)?;
        let journal = Offline::journal_dir(dir);
        if !journal.is_dir() {
            return Err(LockError::Missing(journal).into());
        }
        let looked = Journal::look(Arc::new(StdDisk), &journal).map_err(RecoveryError::from)?;
        Ok(Self {
            looked,
            _lock: lock,
        })
    }

    /// The journal, up to its last whole group.
    pub const fn journal(&self) -> &Journal {
        &self.looked.journal
    }

    /// What the next start cuts off behind that: a group that a crash tore.
    pub const fn torn(&self) -> Option<&Cut> {
        self.looked.torn.as_ref()
    }
}

/// Tells where each record came to lie.
struct LastLsn(Sender<u64>);

impl Sink<()> for LastLsn {
    fn durable(&mut self, _durable: &Durable, group: &mut Vec<(Lsn, ())>) {
        for (lsn, ()) in group.drain(..) {
            // Whoever asked may have given up.
            let _gone = self.0.send(lsn.get());
        }
    }

    fn poisoned(&mut self, error: &SyncError) {
        tracing::error!(%error, "the journal failed; look at the disk");
    }
}
