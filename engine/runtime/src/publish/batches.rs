//! Cuts a flush into calls of bounded size, each with whole stores.

use std::collections::BTreeMap;

use till_core::QuarantineKey;
use till_storage::views::FlushBatch;

/// Rows after which a call takes no further store.
const ROWS_PER_CALL: usize = 16_384;

/// The calls that write what shards gave, in order; the last one moves the checkpoint. Shards share no store.
pub(crate) fn split(shards: Vec<FlushBatch>, checkpoint: Option<u64>) -> Vec<FlushBatch> {
    let mut calls = Vec::new();
    for batch in shards {
        if batch.rows() <= ROWS_PER_CALL {
            calls.push(batch);
            continue;
        }
        let mut call = FlushBatch::default();
        for (_, store) in by_store(batch) {
            if call.rows() > 0 && call.rows() + store.rows() > ROWS_PER_CALL {
                calls.push(std::mem::take(&mut call));
            }
            call.append(store);
        }
        calls.push(call);
    }
    calls.retain(|call| call.rows() > 0);
    if calls.is_empty() {
        calls.push(FlushBatch::default());
    }
    if let Some(last) = calls.last_mut() {
        last.checkpoint = checkpoint;
    }
    calls
}

// Names belong to no store and come first: rows that use them follow.
fn by_store(batch: FlushBatch) -> BTreeMap<u32, FlushBatch> {
    let mut stores: BTreeMap<u32, FlushBatch> = BTreeMap::new();
    stores.entry(0).or_default().names = batch.names;
    let mut of = |store: u32, put: &mut dyn FnMut(&mut FlushBatch)| {
        put(stores.entry(store).or_default());
    };
    for (key, row) in batch.stores {
        of(key.get(), &mut |to| to.stores.push((key, row.clone())));
    }
    for (key, row) in batch.terminals {
        of(key.store().get(), &mut |to| {
            to.terminals.push((key, row.clone()))
        });
    }
    for (key, row) in batch.skus {
        of(key.0.get(), &mut |to| to.skus.push((key, row)));
    }
    for (key, row) in batch.rollups {
        of(key.store, &mut |to| to.rollups.push((key, row)));
    }
    for (key, row) in batch.event_ids {
        of(store_of(row.terminal), &mut |to| {
            to.event_ids.push((key, row))
        });
    }
    for (key, row) in batch.quarantine {
        let QuarantineKey { terminal, .. } = key;
        of(store_of(terminal), &mut |to| to.quarantine.push((key, row)));
    }
    stores
}

fn store_of(terminal: u64) -> u32 {
    u32::try_from(terminal >> 32).unwrap_or(0)
}
