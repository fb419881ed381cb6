//! Stores whose records wait in the journal for a registration that salvage lost.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use till_protocol::id::StoreId;
use till_storage::base::FoldError;

/// Stores that nobody is let in for, because durable records of theirs are in no row: a terminal that was accepted would be
/// given sequence numbers that the journal holds already.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    stores: BTreeMap<StoreId, u64>,
    /// Registered again since the engine started: the next start applies what waits.
    registered: Mutex<BTreeSet<StoreId>>,
}

impl Waiting {
    pub(crate) fn new(left_out: &[(StoreId, u64)]) -> Self {
        Self {
            stores: left_out.iter().copied().collect(),
            registered: Mutex::new(BTreeSet::new()),
        }
    }

    /// The records of a store that wait; `None` where none do.
    pub(crate) fn records(&self, store: StoreId) -> Option<u64> {
        self.stores.get(&store).copied()
    }

    /// The stores.
    pub(crate) fn stores(&self) -> impl Iterator<Item = StoreId> {
        self.stores.keys().copied()
    }

    /// Notes that a registration is in the journal again.
    pub(crate) fn register(&self, store: StoreId) {
        self.registered.lock().insert(store);
    }

    pub(crate) fn is_registered(&self, store: StoreId) -> bool {
        self.registered.lock().contains(&store)
    }

    /// Records that wait must not leave with their segments, nor be behind a base that stands in for them.
    pub(crate) fn may_drop(&self) -> Result<(), FoldError> {
        match self.stores.first_key_value() {
            Some((store, records)) => Err(FoldError::Unregistered {
                store: *store,
                records: *records,
            }),
            None => Ok(()),
        }
    }

    /// In words, for whoever asks how the engine is; `None` where nothing waits.
    pub(crate) fn words(&self) -> Option<String> {
        let listed = self.stores.iter().map(|(store, records)| {
            let known = if self.is_registered(*store) {
                "registered again"
            } else {
                "not registered again yet"
            };
            format!("store {store} ({records} records, {known})")
        });
        let listed: Vec<String> = listed.collect();
        (!listed.is_empty()).then(|| {
            format!(
                "the journal has lost registrations: records of these stores are in no answer, and their terminals are \
                 refused: {}",
                listed.join(", ")
            )
        })
    }
}
