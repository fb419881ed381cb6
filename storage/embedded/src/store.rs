//! The rows in fjall.

mod rows;
mod views;
mod write;

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use fjall::{PersistMode, Readable as _};
use till_storage::pack::{Key, Row};
use till_storage::rebuild::panic_text;
use till_storage::views::{StoreError, Visit};

use crate::config::EmbeddedConfig;
use crate::error::{Class, OpenError, class};
use crate::tables::{CHECKPOINT, FORMAT, FORMAT_NOW, NotOpen, Open};

/// Derived rows in an embedded LSM tree. Calls block: make them on threads of their own, never on a runtime's.
pub struct EmbeddedViews {
    config: EmbeddedConfig,
    // Empty only after a reopening that failed.
    open: RwLock<Option<Open>>,
    idle: write::Idle,
}

impl fmt::Debug for EmbeddedViews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedViews")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl EmbeddedViews {
    /// Opens the rows in `config.dir`, or makes an empty store there.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] when the folder holds something that does not read as it was written; the caller moves
    /// it aside and rebuilds. Whether the rows fit the journal is asked with
    /// [`check_base`](till_storage::views::check_base).
    pub fn open(config: EmbeddedConfig) -> Result<Self, OpenError> {
        let open = open(&config)?;
        Ok(Self {
            config,
            open: RwLock::new(Some(open)),
            idle: write::Idle::default(),
        })
    }

    /// Bytes on disk, fjall's journal included.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be looked at.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.with(|open| open.db.disk_space().map_err(|error| failed("rows", &error)))
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Open>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, work: impl FnOnce(&Open) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self.read().as_ref() {
            Some(open) => work(open),
            None => Err(StoreError::Failed {
                table: "rows",
                cause: "closed since a reopening failed; reopen".to_owned(),
            }),
        }
    }

    fn reopen_in_place(&self) -> Result<(), StoreError> {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // The old handles hold the lock file and must go first.
        drop(slot.take());
        *slot = Some(open(&self.config)?);
        Ok(())
    }

    fn get<R: Row>(&self, key: &impl Key) -> Result<Option<R>, StoreError> {
        self.with(|open| {
            let bytes = open.table(R::TABLE).get(key.to_key());
            let bytes = bytes.map_err(|error| failed(R::TABLE.name(), &error))?;
            bytes.map(|bytes| unpack(&bytes)).transpose()
        })
    }

    fn scan<K: Key, R: Row>(
        &self,
        first: &[u8],
        last: &[u8],
        visit: Visit<'_, K, R>,
    ) -> Result<(), StoreError> {
        self.with(|open| {
            // A range of the table itself would see writes as they happen, in the middle of a flush too.
            let snapshot = open.db.snapshot();
            for guard in snapshot.range(open.table(R::TABLE), first..=last) {
                let pair = guard.into_inner();
                let (key, row) = pair.map_err(|error| failed(R::TABLE.name(), &error))?;
                let key = K::from_key(&key).ok_or_else(|| not_read::<R>("key"))?;
                if let ControlFlow::Break(()) = visit(key, unpack(&row)?) {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// Bytes after every key of every table: no key is longer.
const AFTER: [u8; 32] = [0xff; 32];

fn open(config: &EmbeddedConfig) -> Result<Open, OpenError> {
    let wrong = |error: fjall::Error| OpenError::new(config.dir.clone(), &error);
    // As the journal: for the owner and the group. fjall would make a folder that everyone can read.
    let mut folder = DirBuilder::new();
    let made = folder.recursive(true).mode(0o750).create(&config.dir);
    made.map_err(|cause| wrong(cause.into()))?;
    let mut files = fs::read_dir(&config.dir).map_err(|cause| wrong(cause.into()))?;
    let is_new = files.next().is_none();
    let damaged = |cause: String| OpenError::Damaged {
        dir: config.dir.clone(),
        cause,
    };
    // Bytes that a loss of power has mixed may make fjall panic, not fail. Nothing of it is left behind but files.
    let opened = catch_unwind(AssertUnwindSafe(|| Open::new(config, is_new)));
    let open = opened
        .map_err(|panic| damaged(format!("fjall panicked: {}", panic_text(&*panic))))?
        .map_err(|error| match error {
            NotOpen::Failed(error) => wrong(error),
            NotOpen::Missing(table) => damaged(format!("the table {table} is missing")),
        })?;
    if is_new {
        begin(&open, &config.dir).map_err(wrong)?;
    }
    match open.digests.get(FORMAT).map_err(wrong)?.as_deref() {
        Some([FORMAT_NOW]) => {}
        // The format is written last into a new folder.
        None => return Err(damaged("the folder was never finished".to_owned())),
        Some(other) => {
            return Err(damaged(format!(
                "rows are of format {other:?}, not {FORMAT_NOW}"
            )));
        }
    }
    checkpoint(&open).map_err(|error| damaged(error.to_string()))?;
    Ok(open)
}

/// Ends the making of a folder. fjall syncs what is in the folders of its tables, but not their names.
fn begin(open: &Open, dir: &Path) -> Result<(), fjall::Error> {
    open.digests.insert(FORMAT, [FORMAT_NOW])?;
    open.db.persist(PersistMode::SyncAll)?;
    for folder in [&dir.join("keyspaces"), dir] {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn checkpoint(open: &Open) -> Result<u64, StoreError> {
    let bytes = open.digests.get(CHECKPOINT);
    let Some(bytes) = bytes.map_err(|error| failed("marks", &error))? else {
        return Ok(0);
    };
    let bytes = <[u8; 8]>::try_from(&*bytes).map_err(|_| StoreError::Damaged {
        table: "marks",
        cause: format!("checkpoint of {} bytes instead of 8", bytes.len()),
    })?;
    Ok(u64::from_le_bytes(bytes))
}

fn unpack<R: Row>(bytes: &[u8]) -> Result<R, StoreError> {
    R::unpack(bytes).ok_or_else(|| not_read::<R>("row"))
}

fn not_read<R: Row>(what: &str) -> StoreError {
    StoreError::Damaged {
        table: R::TABLE.name(),
        cause: format!("a {what} is not of this version"),
    }
}

fn failed(table: &'static str, error: &fjall::Error) -> StoreError {
    let cause = error.to_string();
    match class(error) {
        Class::Full => StoreError::Full { cause },
        Class::Damaged => StoreError::Damaged { table, cause },
        Class::Io | Class::Locked | Class::Poisoned => StoreError::Failed { table, cause },
    }
}

#[cfg(test)]
mod tests;
