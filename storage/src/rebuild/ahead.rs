//! Rows that know more than the journal: what it has lost.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::base::{self, FoldError};
use crate::journal::{Journal, Lost, range_of};
use crate::views::Views;

/// Events whose terminals' rows know them and that neither journal nor base has. Reads the whole journal.
///
/// # Errors
/// [`FoldError`] when rows, base or journal cannot be read.
pub fn lost_end(journal: &Journal, views: &dyn Views) -> Result<Vec<Lost>, FoldError> {
    let mut next: BTreeMap<(u64, u32), u64> = BTreeMap::new();
    let mut has = |terminal: u64, epoch: u32, next_seq: u64| {
        let known = next.entry((terminal, epoch)).or_insert(1);
        *known = next_seq.max(*known);
    };
    base::terminals(journal.disk().as_ref(), journal.dir(), |terminal, row| {
        for mark in &row.epochs {
            has(terminal.to_u64(), mark.epoch, mark.next_seq);
        }
    })?;
    for item in journal.records(journal.start()) {
        let (_, record) = item?;
        if let Some((_, last)) = range_of(&record.head) {
            has(
                record.head.terminal,
                record.head.epoch,
                last.saturating_add(1),
            );
        }
    }
    let mut stores = Vec::new();
    views.stores(&mut |store, _| {
        stores.push(store);
        ControlFlow::Continue(())
    })?;
    let mut lost = Vec::new();
    for store in stores {
        views.terminals(store, &mut |terminal, row| {
            for mark in &row.epochs {
                let key = (terminal.to_u64(), mark.epoch);
                let first = next.get(&key).copied().unwrap_or(1);
                if first < mark.next_seq {
                    lost.push(Lost {
                        terminal: key.0,
                        epoch: key.1,
                        first,
                        last: mark.next_seq - 1,
                        certain: true,
                    });
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(lost)
}
