//! The base: every row that later answers need of segments that are dropped, as records in the journal's own format.
//!
//! [`fold`] computes it from the base before and the segments that go, by the same `apply` as everything else;
//! [`retain`] writes it, synced and renamed, before it drops a segment. [`load`] puts its rows into empty views.

mod codec;
mod error;
mod pace;
mod scan;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use till_core::{Record, ShardConfig, TerminalRow};
use till_protocol::id::{StoreId, TerminalId};

pub use error::FoldError;
pub use pace::{Old, Pace, old};
pub(crate) use scan::records as each_record;

use crate::disk::Disk;
use crate::facts::Facts;
use crate::journal::{Journal, Lsn, read_base, write_base};
use crate::rebuild::{Fold, Progress, Registrations};
use crate::views::{FlushBatch, Views, WriteViews};

/// Records of about 64 KiB that are scanned ahead of the writing of a base.
const RECORDS_AHEAD: usize = 16;
/// Rows of one flush while a base is loaded.
const ROWS_PER_FLUSH: usize = 10_000;

/// Puts the rows of a base's records into views, and their checkpoint to `lsn`. The views must be empty.
///
/// # Errors
/// [`FoldError`] when a record is no row of a base, or the views cannot be written.
pub fn load<E>(
    views: &dyn WriteViews,
    lsn: Lsn,
    records: impl IntoIterator<Item = Result<Record, E>>,
) -> Result<(), FoldError>
where
    FoldError: From<E>,
{
    let mut flush = FlushBatch::default();
    for record in records {
        codec::decode(&record?, &mut flush)?;
        if crate::planted::is("base-without-ids") {
            flush.event_ids.clear();
        }
        if flush.rows() >= ROWS_PER_FLUSH {
            views.write(&std::mem::take(&mut flush))?;
        }
    }
    flush.checkpoint = Some(lsn.get());
    views.write(&flush)?;
    Ok(())
}

/// Shows every terminal's row of the newest base of a folder.
///
/// # Errors
/// [`FoldError`] when the base is damaged.
pub(crate) fn terminals(
    disk: &dyn Disk,
    dir: &Path,
    mut visit: impl FnMut(TerminalId, TerminalRow),
) -> Result<(), FoldError> {
    let Some((_, records)) = read_base(disk, dir)? else {
        return Ok(());
    };
    let mut rows = FlushBatch::default();
    for record in records {
        codec::decode(&record?, &mut rows)?;
        for (terminal, row) in std::mem::take(&mut rows).terminals {
            visit(terminal, row);
        }
    }
    Ok(())
}

/// The stores that the newest base of a folder has registered.
///
/// # Errors
/// [`FoldError`] when the base is damaged.
pub fn stores(disk: &dyn Disk, dir: &Path) -> Result<BTreeSet<StoreId>, FoldError> {
    let mut stores = BTreeSet::new();
    let Some((_, records)) = read_base(disk, dir)? else {
        return Ok(stores);
    };
    let mut rows = FlushBatch::default();
    // They come first, in records of their own.
    for record in records {
        codec::decode(&record?, &mut rows)?;
        if rows.stores.is_empty() {
            break;
        }
        let found = std::mem::take(&mut rows).stores.into_iter();
        stores.extend(found.map(|(store, _)| store));
    }
    Ok(stores)
}

/// Puts the newest base of a folder into empty views, and gives its position; 0 without a base.
///
/// # Errors
/// [`FoldError`] when the base is damaged or the views cannot be written.
pub fn load_newest(disk: &dyn Disk, dir: &Path, views: &dyn WriteViews) -> Result<Lsn, FoldError> {
    match read_base(disk, dir)? {
        Some((lsn, records)) => {
            load(views, lsn, records)?;
            Ok(lsn)
        }
        None => Ok(Lsn::ZERO),
    }
}

/// Brings empty `scratch` views to the state at `upto`: the base before, and then every record up to there.
///
/// Rows in memory take about 200 bytes each ([`MemoryViews`](crate::memory::MemoryViews)); hand in views on disk where
/// that is too much.
///
/// # Errors
/// [`FoldError`]; the journal is unchanged.
pub fn fold(
    journal: &Journal,
    facts: &Facts,
    scratch: &dyn WriteViews,
    upto: Lsn,
    progress: Progress<'_>,
) -> Result<(), FoldError> {
    let from = load_newest(journal.disk().as_ref(), journal.dir(), scratch)?;
    let registrations = Registrations::new(journal.clone(), []);
    let mut fold = Fold::new(scratch, facts, ShardConfig::default());
    fold = fold.with_registrations(&registrations);
    for item in journal.records_between(from, upto) {
        let (lsn, record) = item?;
        fold.apply(lsn, &record)?;
        progress(lsn);
    }
    // Records that wait must not leave with their segments.
    if let Some((store, records)) = fold.left_out().first_key_value() {
        return Err(FoldError::Unregistered {
            store: *store,
            records: *records,
        });
    }
    fold.finish(upto)?;
    Ok(())
}

/// Drops the sealed segments whose every record was received before `received_before_us`, after a base that stands in for
/// them is on disk. Gives the position that the facts start at from now on; `None` when nothing was old enough.
///
/// Only a run of segments at the front goes. The base is made at `upto`, which lies at or after their end: best where the
/// journal ends, since a late count that was decided with the help of movements that go now would come out otherwise in a
/// rebuild. What comes after `upto` is decided, and decided again by a rebuild, from the facts that stay. `scratch` are
/// empty views, see [`fold`].
///
/// # Errors
/// [`FoldError`]; what was not dropped is whole, and the base before stays until a newer one is synced.
pub fn retain(
    journal: &Journal,
    facts: &Facts,
    scratch: &dyn WriteViews,
    received_before_us: i64,
    upto: Lsn,
    progress: Progress<'_>,
) -> Result<Option<Lsn>, FoldError> {
    let Some(Old { end: dropped, .. }) = old(facts, received_before_us)? else {
        return Ok(None);
    };
    let base = upto.max(dropped);
    fold(journal, facts, scratch, base, progress)?;
    let base = if crate::planted::is("base-too-far") {
        base.plus(64)
    } else {
        base
    };
    write(journal, scratch, base)?;
    journal.drop_before(dropped)?;
    Ok(Some(dropped))
}

/// Writes the rows of views as the base at `lsn`. They must hold exactly the records below it.
///
/// # Errors
/// [`FoldError`]; the base before stays.
pub fn write(journal: &Journal, views: &dyn Views, lsn: Lsn) -> Result<(), FoldError> {
    let (to_writer, records) = sync_channel(RECORDS_AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let to_writer = to_writer;
            // Whoever writes hears of a failed scan in place of a record, and leaves the base before as it is. Where it has
            // failed itself, nobody listens any more.
            if let Err(error) =
                scan::records(views, &mut |record| to_writer.send(Ok(record)).is_ok())
            {
                let _gone = to_writer.send(Err(error));
            }
        });
        write_base(journal.disk().as_ref(), journal.dir(), lsn, records)
    })
}

#[cfg(test)]
pub(crate) mod tests;
