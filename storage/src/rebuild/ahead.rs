//! Rows that know more than the journal: what it has lost.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use till_protocol::id::StoreId;

use crate::base::{self, FoldError};
use crate::disk::Disk;
use crate::doctor::Report;
use crate::journal::Lost;
use crate::views::Views;

/// Events whose terminals' rows know them and that neither journal nor base has, by what the doctor has found in the
/// journal of a folder. The journal need not open.
///
/// # Errors
/// [`FoldError`] when rows or base cannot be read.
pub fn lost_events(
    (disk, dir): (&dyn Disk, &Path),
    report: &Report,
    views: &dyn Views,
) -> Result<Vec<Lost>, FoldError> {
    let mut next = report.next.clone();
    base::terminals(disk, dir, |terminal, row| {
        for progress in &row.epochs {
            let of_epoch = (terminal.to_u64(), progress.epoch);
            let known = next.entry(of_epoch).or_insert(1);
            *known = progress.next_seq.max(*known);
        }
    })?;
    let mut lost = Vec::new();
    for store in stores_of(views)? {
        views.terminals(store, &mut |terminal, row| {
            for progress in &row.epochs {
                let key = (terminal.to_u64(), progress.epoch);
                let first = next.get(&key).copied().unwrap_or(1);
                if first < progress.next_seq {
                    lost.push(Lost {
                        terminal: key.0,
                        epoch: key.1,
                        first,
                        last: progress.next_seq - 1,
                        certain: true,
                    });
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(lost)
}

/// A store whose registration neither journal nor base has.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LostRegistration {
    /// The store.
    pub store: StoreId,
    /// Its records in the journal: nobody can apply them without currency and time zone.
    pub records: u64,
    /// Whether rows still know the registration, so that a rebuild states it again.
    pub in_rows: bool,
}

/// Registrations that are lost, by what the doctor has found in the journal of a folder: stores that have records, or rows,
/// and no registration. `quarantined` are stores that older copies of the rows know.
///
/// # Errors
/// [`FoldError`] when rows or base cannot be read.
pub fn lost_registrations(
    (disk, dir): (&dyn Disk, &Path),
    report: &Report,
    views: Option<&dyn Views>,
    quarantined: &BTreeSet<StoreId>,
) -> Result<Vec<LostRegistration>, FoldError> {
    let mut found = BTreeMap::new();
    for (store, records) in report.owners.unregistered() {
        found.insert(store, (records, quarantined.contains(&store)));
    }
    if let Some(views) = views {
        let registered: BTreeSet<StoreId> = report.owners.registered().collect();
        for store in stores_of(views)? {
            if !registered.contains(&store) {
                found.entry(store).or_insert((0, true)).1 = true;
            }
        }
    }
    if !found.is_empty() {
        for store in base::stores(disk, dir)? {
            found.remove(&store);
        }
    }
    let found = found.into_iter();
    Ok(found
        .map(|(store, (records, in_rows))| LostRegistration {
            store,
            records,
            in_rows,
        })
        .collect())
}

fn stores_of(views: &dyn Views) -> Result<Vec<StoreId>, FoldError> {
    let mut stores = Vec::new();
    views.stores(&mut |store, _| {
        stores.push(store);
        ControlFlow::Continue(())
    })?;
    Ok(stores)
}
