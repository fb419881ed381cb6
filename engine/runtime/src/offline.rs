//! A data folder without an engine: asked, repaired, made anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam::channel::{Sender, bounded};
use thiserror::Error;
use till_core::{Record, RetryError, Shard, ShardConfig, StoreRow};
use till_protocol::id::StoreId;
use till_storage::disk::{Disk, StdDisk};
use till_storage::facts::Facts;
use till_storage::journal::{
    CommitConfig, CommitError, Committer, Durability, Durable, Journal, JournalConfig, Lsn,
    Prepared, Sink, TooLarge, Writer,
};
use till_storage::rebuild::FactRows;
use till_storage::views::{FlushBatch, StoreError, Views};

use crate::lock::{DirLock, LockError, Role};
use crate::names::NameBook;
use crate::query::{Query, Reply, answer};
use crate::recovery::{RecoveryError, RowsAt, StartReport, Target, move_aside, recover, stores_of};
use crate::retry::{Retried, RetryAllError, keys, original};
use crate::runtime::rows_dir;
use crate::shard_actor::now;

/// Whoever asks a folder leaves its files as large as its engine made them: the active segment keeps its size, and no
/// reserve is set aside.
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
    Commit(#[from] CommitError),
    /// A decision is too large for the journal.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// An open data folder. No engine can open it meanwhile.
pub struct Offline {
    journal: Journal,
    facts: Arc<Facts>,
    views: Arc<dyn Views>,
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
    /// [`OfflineError::Lock`] when an engine has it open (ask that one) or it is not there; [`OfflineError::Recovery`] when
    /// something in it is damaged.
    pub fn open(dir: &Path) -> Result<Self, OfflineError> {
        Self::with(dir, Vec::new(), &mut |_, _| {})
    }

    /// Throws every derived row away and makes it again from base and journal. The old ones stay beside them until the
    /// next time. `progress` is told position and end.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn rebuild(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Self, OfflineError> {
        // Taken here and again below: rows are not moved away under an engine.
        let lock = DirLock::wait_blocking(dir, Role::Visitor)?;
        // What the journal may have lost of them: it is stated again in it.
        let stores = stores_of(&rows_dir(dir));
        move_aside(&rows_dir(dir))?;
        drop(lock);
        Self::with(dir, stores, progress)
    }

    fn with(
        dir: &Path,
        stores: Vec<(StoreId, StoreRow)>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, OfflineError> {
        let lock = DirLock::wait_blocking(dir, Role::Visitor)?;
        let journal = dir.join("journal");
        if !journal.is_dir() {
            return Err(LockError::Missing(journal).into());
        }
        let disk: Arc<dyn Disk> = Arc::new(StdDisk);
        let rows = RowsAt::Dir(rows_dir(dir));
        let into = (&rows, Target::Rows(stores));
        let opened = recover(disk, dir, AS_IT_IS, into, progress)?;
        let mut offline = Self {
            journal: opened.journal,
            facts: opened.facts,
            views: opened.views,
            writer: Some(opened.writer),
            report: opened.report,
            _lock: lock,
        };
        offline.restate(&opened.restated)?;
        Ok(offline)
    }

    // Journals the registrations of stores that only the old rows knew, so that the next rebuild finds them.
    fn restate(&mut self, registrations: &[Record]) -> Result<(), OfflineError> {
        if registrations.is_empty() {
            return Ok(());
        }
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let (places, placed) = bounded(registrations.len());
        let committer = Committer::start(writer, CommitConfig::default(), Places(places))?;
        for record in registrations {
            let closed = |_| CommitError::Thread("it has ended".to_owned());
            let queued = committer.appender().append(Prepared::new(record)?, ());
            queued.map_err(closed)?;
        }
        committer.close()?;
        tracing::warn!(
            stores = placed.len(),
            "registrations that the journal had lost are stated again in it, as the old rows knew them"
        );
        Ok(())
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
        let (places, placed) = bounded(1);
        let committer = Committer::start(writer, CommitConfig::default(), Places(places))?;
        let appender = committer.appender();
        let names = NameBook::new(Arc::clone(&self.views));
        let rows = FactRows::new(self.views.as_ref(), self.facts.as_ref());
        let mut shard = Shard::new(ShardConfig::default());
        let mut retried = Retried::default();
        let mut last = 0;
        for key in keys(self.views.as_ref())? {
            let found = original(&self.facts, &key).map_err(RetryAllError::from)?;
            let Some(original) = found else {
                retried.quarantined += 1;
                continue;
            };
            match shard.retry(now(), key, &original, &rows, &names) {
                Ok(record) => {
                    let closed = || CommitError::Thread("it has ended".to_owned());
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
        committer.close()?;
        flush.checkpoint = Some(self.journal.end().get());
        self.views.write(&flush)?;
        self.views.sync()?;
        Ok(retried)
    }
}

/// Tells where each record came to lie.
struct Places(Sender<u64>);

impl Sink<()> for Places {
    fn durable(&mut self, _durable: &Durable, group: &mut Vec<(Lsn, ())>) {
        for (lsn, ()) in group.drain(..) {
            // Whoever asked may have given up.
            let _gone = self.0.send(lsn.get());
        }
    }

    fn poisoned(&mut self, error: &CommitError) {
        tracing::error!(%error, "the journal failed; look at the disk");
    }
}
