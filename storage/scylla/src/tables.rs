//! The tables of a keyspace: commits are written to them, and rows and facts are read.

mod days; // sums of days
mod facts; // records, by store and hour, receipt and sequence number
mod flow; // all rows of many partitions
mod gather; // rows of many tables at once
mod group; // partitions that one request writes
mod log; // the committed log of each slot
mod point; // single rows
mod read; // pages, and many partitions at once
mod retain; // where logs begin
mod scan; // scans in the order of keys
mod statements; // what is prepared
mod write; // commits

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use till_core::{Record, RecordKind, Registration, Rows as _};
use till_protocol::id::StoreId;
use till_storage::cluster::Commit;
use till_storage::rebuild::store_of;
use till_storage::views::StoreError;
use tokio::sync::Semaphore;

use crate::error::CqlError;
use crate::rows::Traits;
use crate::session::Cql;
use retain::Retention;
use statements::{Reads, Writes};

pub(crate) use log::bucket_of;
pub use write::Written;

/// Statements that one connected keyspace has under way at most: enough that a few nodes are never idle.
const IN_FLIGHT: usize = 64;

/// The tables of a cluster's keyspace, shared by all threads of an engine.
///
/// Reads block: what an engine reads often it keeps in memory, and what it is going to read it asks for at once.
pub struct Tables {
    cql: Arc<Cql>,
    slots: u32,
    writes: Writes,
    reads: Arc<Reads>,
    permits: Arc<Semaphore>,
    traits: Mutex<HashMap<StoreId, Traits>>,
    ambiguous: AtomicU64,
    retention: Retention,
}

impl Tables {
    /// The tables of a connected keyspace with so many slots. They have to be there.
    ///
    /// # Errors
    /// [`CqlError::Statement`], for instance when a table is not there.
    pub fn open(cql: Arc<Cql>, slots: u32) -> Result<Self, CqlError> {
        let client = Arc::clone(cql.client());
        let prepared = cql.wait(async move {
            let writes = Writes::prepare(&client).await?;
            Ok::<_, CqlError>((writes, Reads::prepare(&client).await?))
        });
        let (writes, reads) = prepared?;
        Ok(Self {
            cql,
            slots,
            writes,
            reads: Arc::new(reads),
            permits: Arc::new(Semaphore::new(IN_FLIGHT)),
            traits: Mutex::default(),
            ambiguous: AtomicU64::new(0),
            retention: Retention::default(),
        })
    }

    /// The connection.
    pub const fn cql(&self) -> &Arc<Cql> {
        &self.cql
    }

    /// How often an id with more than one name was asked for: two engines have named one id at the same moment, and queries
    /// show the smaller name.
    pub fn ambiguous_names(&self) -> u64 {
        self.ambiguous.load(Ordering::Relaxed)
    }

    // Registrations are known from here on: the events of a store may come much later.
    fn note_registrations(&self, commits: &[Arc<Commit>]) {
        let records = commits.iter().flat_map(|commit| &commit.records);
        let registered =
            records.filter_map(|record| Some((store_of(&record.head)?, registered_by(record)?)));
        let registered: Vec<(StoreId, Traits)> = registered.collect();
        if !registered.is_empty() {
            let mut traits = self.traits.lock().unwrap_or_else(PoisonError::into_inner);
            for (store, one) in registered {
                traits.entry(store).or_insert(one);
            }
        }
    }

    // What is fixed about a store: from its row in the commit, or the table.
    fn traits(&self, commits: &[Arc<Commit>], store: StoreId) -> Result<Traits, StoreError> {
        // Nothing is asked of the cluster under the lock: whoever finds a store unknown at the same moment asks as well.
        let known = || self.traits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(traits) = known().get(&store) {
            return Ok(traits.clone());
        }
        let rows = commits.iter().flat_map(|commit| &commit.rows.stores);
        let row = rows.into_iter().find(|(id, _)| *id == store);
        let found = match row {
            Some((_, row)) => Some(row.clone()),
            None => self.store(store)?,
        };
        let found = found.map(|row| Traits {
            currency: row.currency,
            zone: row.zone,
        });
        let traits = found.ok_or_else(|| StoreError::Damaged {
            table: "stores",
            cause: format!("store {store} has events and no registration"),
        })?;
        known().insert(store, traits.clone());
        Ok(traits)
    }
}

fn registered_by(record: &Record) -> Option<Traits> {
    if record.head.kind != RecordKind::StoreRegistered {
        return None;
    }
    let registration = Registration::decode(&record.payload)?;
    Some(Traits {
        currency: registration.currency,
        zone: registration.zone,
    })
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables")
            .field("cql", &self.cql)
            .finish_non_exhaustive()
    }
}

/// A failure of the cluster while rows are written or read. Nothing that was written is lost, and what was not may be
/// written again.
impl From<CqlError> for StoreError {
    fn from(error: CqlError) -> Self {
        Self::Failed {
            table: "cluster",
            cause: error.to_string(),
        }
    }
}
