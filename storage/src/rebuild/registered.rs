//! Registrations of stores that a damaged journal has lost.

use std::collections::BTreeMap;

use bytes::Bytes;
use till_core::{Record, RecordHead, RecordKind, Registration, StoreRow};
use till_protocol::id::StoreId;

use super::store_of;
use crate::base::FoldError;
use crate::journal::{Journal, lock};
use crate::sync::Mutex;

/// Where the registration of a store is found when the journal has lost the record before its events: stated again later
/// in the journal, or in rows of before.
#[derive(Debug)]
pub struct Registrations {
    journal: Journal,
    given: BTreeMap<StoreId, Record>,
    later: Mutex<Option<BTreeMap<StoreId, Record>>>,
    restated: Mutex<BTreeMap<StoreId, Record>>,
}

impl Registrations {
    /// Those of a journal, and those of rows that are known otherwise.
    pub fn new(journal: Journal, given: impl IntoIterator<Item = (StoreId, StoreRow)>) -> Self {
        let given = given.into_iter();
        Self {
            journal,
            given: given
                .map(|(store, row)| (store, registration_of(store, &row)))
                .collect(),
            later: Mutex::new(None),
            restated: Mutex::new(BTreeMap::new()),
        }
    }

    /// The registration of a store. The first call reads the whole journal.
    ///
    /// # Errors
    /// [`FoldError`] when the journal cannot be read.
    pub fn find(&self, store: StoreId) -> Result<Option<Record>, FoldError> {
        let mut later = lock(&self.later);
        if later.is_none() {
            *later = Some(self.read()?);
        }
        if let Some(record) = later.as_ref().and_then(|later| later.get(&store)) {
            return Ok(Some(record.clone()));
        }
        let given = self.given.get(&store).cloned();
        if let Some(record) = &given {
            lock(&self.restated).insert(store, record.clone());
        }
        Ok(given)
    }

    /// Takes in that a store has this row, and that neither journal nor base says so.
    pub fn restate(&self, store: StoreId, row: &StoreRow) {
        lock(&self.restated).insert(store, registration_of(store, row));
    }

    /// Registrations that were asked for and that the journal has nowhere: to be journalled again.
    pub fn restated(&self) -> Vec<Record> {
        lock(&self.restated).values().cloned().collect()
    }

    fn read(&self) -> Result<BTreeMap<StoreId, Record>, FoldError> {
        let mut found = BTreeMap::new();
        for item in self.journal.records(self.journal.start()) {
            let (_, record) = item?;
            if record.head.kind == RecordKind::StoreRegistered
                && let Some(store) = store_of(&record.head)
            {
                found.entry(store).or_insert(record);
            }
        }
        Ok(found)
    }
}

/// The record that registers a store as its row says.
pub fn registration_of(store: StoreId, row: &StoreRow) -> Record {
    let registration = Registration {
        currency: row.currency,
        zone: row.zone.clone(),
    };
    Record {
        head: RecordHead {
            kind: RecordKind::StoreRegistered,
            family: 0,
            version: 0,
            terminal: u64::from(store.get()) << 32,
            epoch: 0,
            first_seq: 0,
            count: 0,
            skip: 0,
            received_at_us: row.registered_at_us,
            digest: 0,
        },
        payload: Bytes::from(registration.encode()),
        verdicts: Vec::new(),
    }
}
