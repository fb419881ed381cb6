//! Writing a flush, and the care that fjall needs around it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fjall::{Keyspace, OwnedWriteBatch, PersistMode};
use till_storage::pack::{Key, Row, Table};
use till_storage::views::{FlushBatch, StoreError};

use super::{EmbeddedViews, checkpoint, failed};
use crate::error::{Class, class};
use crate::tables::{CHECKPOINT, Open};

/// Sealed memtables of a table at which a write waits. At 4, fjall itself waits inside of a commit, and would for ever
/// if its workers had died of a full disk; this wait is our own and looks whether they live.
const SEALED_MAX: usize = 2;
/// Files of level 0 at which a write waits, for the same reason: fjall halts at 30.
const LEVEL0_MAX: usize = 24;
/// How long a write waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Free bytes below which a failure of fjall's workers is taken for a full disk.
const ROOM_MIN: u64 = 128 << 20;
/// Flushes between two looks at the size of fjall's journal.
const LOOK_AT_JOURNAL: u64 = 64;

/// Counts flushes, so that idle tables are written out now and then: an idle table's memtable holds back every sealed
/// journal file since its first row.
#[derive(Debug, Default)]
pub(super) struct Idle {
    flushes: AtomicU64,
}

impl EmbeddedViews {
    pub(super) fn write_flush(&self, flush: &FlushBatch) -> Result<(), StoreError> {
        self.with(|open| {
            self.wait_for_workers(open)?;
            let mut batch = open.db.batch().durability(Some(PersistMode::Buffer));
            put_all(&mut batch, open, flush);
            if let Some(digest) = flush.checkpoint
                && digest > checkpoint(open)?
            {
                batch.insert(&open.digests, CHECKPOINT, digest.to_le_bytes());
            }
            batch.commit().map_err(|error| self.write_failed(&error))?;
            self.write_out_idle(open)
        })
    }

    pub(super) fn sync_all(&self) -> Result<(), StoreError> {
        self.with(|open| {
            let done = open.db.persist(PersistMode::SyncData);
            done.map_err(|error| self.write_failed(&error))
        })
    }

    fn wait_for_workers(&self, open: &Open) -> Result<(), StoreError> {
        let busy = |table: &Keyspace| {
            table.sealed_memtable_count() > SEALED_MAX || table.l0_table_count() > LEVEL0_MAX
        };
        while open.keyspaces().any(busy) {
            let alive = open.db.persist(PersistMode::Buffer);
            alive.map_err(|error| self.write_failed(&error))?;
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn write_out_idle(&self, open: &Open) -> Result<(), StoreError> {
        let flushes = self.idle.flushes.fetch_add(1, Ordering::Relaxed);
        if !flushes.is_multiple_of(LOOK_AT_JOURNAL) {
            return Ok(());
        }
        let bytes = open.db.journal_disk_space();
        let bytes = bytes.map_err(|error| self.write_failed(&error))?;
        if bytes <= self.config.journal_bytes / 2 {
            return Ok(());
        }
        for table in open.keyspaces() {
            let rotated = table.rotate_memtable();
            rotated.map_err(|error| self.write_failed(&error))?;
        }
        Ok(())
    }

    /// fjall's workers die without saying why, and later calls say "poisoned": a full disk is told by its free bytes.
    fn write_failed(&self, error: &fjall::Error) -> StoreError {
        let full = matches!(class(error), Class::Poisoned | Class::Io)
            && rustix::fs::statvfs(&self.config.dir)
                .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_MIN);
        if full {
            return StoreError::Full {
                cause: error.to_string(),
            };
        }
        failed("rows", error)
    }
}

fn put_all(batch: &mut OwnedWriteBatch, open: &Open, flush: &FlushBatch) {
    put(
        batch,
        open,
        flush.stores.iter().map(|(key, row)| (key, row)),
    );
    put(
        batch,
        open,
        flush.terminals.iter().map(|(key, row)| (key, row)),
    );
    put(batch, open, flush.skus.iter().map(|(key, row)| (key, row)));
    put(
        batch,
        open,
        flush.rollups.iter().map(|(key, row)| (key, row)),
    );
    put(
        batch,
        open,
        flush.event_ids.iter().map(|(key, row)| (key, row)),
    );
    for (space, id, name) in &flush.names {
        batch.insert(
            open.table(Table::Names),
            (*space, *id).to_key(),
            name.to_row(),
        );
    }
    for (key, row) in &flush.quarantine {
        let table = open.table(Table::Quarantine);
        match row {
            Some(row) => batch.insert(table, key.to_key(), row.to_row()),
            None => batch.remove(table, key.to_key()),
        }
    }
}

fn put<'a, K: Key + 'a, R: Row + 'a>(
    batch: &mut OwnedWriteBatch,
    open: &Open,
    rows: impl Iterator<Item = (&'a K, &'a R)>,
) {
    let table = open.table(R::TABLE);
    for (key, row) in rows {
        batch.insert(table, key.to_key(), row.to_row());
    }
}
