//! A keyspace as the store that several engines share.

use std::sync::Arc;

use bytes::Bytes;
use till_core::{ReadSet, Space};
use till_storage::cluster::{
    Commit, Conditional, Constraint, Constraints, Decided, DueDay, FlushLog, Found, Handoff,
    InboxId, Log, LogNote, LogStart, Maintenance, NodeId, NodeRow, Seal, SharedStore, SlotBase,
    SlotRow,
};
use till_storage::query::FactReader;
use till_storage::views::{FlushBatch, StoreError, Views};

use crate::error::CqlError;
use crate::schema::{self, SchemaError};
use crate::session::Cql;
use crate::slots::Slots;
use crate::tables::Tables;

/// A keyspace that several engines share.
#[derive(Debug)]
pub struct ScyllaStore {
    tables: Arc<Tables>,
    slots: Arc<Slots>,
    count: u32,
}

impl ScyllaStore {
    /// Opens the tables of a connected keyspace, if they are there and of a version that this program knows.
    ///
    /// # Errors
    /// [`SchemaError`] says what has to be done; [`SchemaError::Cql`] when the cluster does not answer.
    pub fn open(cql: Arc<Cql>) -> Result<Self, SchemaError> {
        let count = schema::check(&cql)?;
        Self::with_slots(cql, count)
    }

    /// A store of a keyspace that was looked at.
    pub(crate) fn with_slots(cql: Arc<Cql>, count: u32) -> Result<Self, SchemaError> {
        let client = Arc::clone(cql.client());
        let slots = cql.wait(async move { Slots::prepare(&client).await })?;
        Ok(Self {
            tables: Arc::new(Tables::open(cql, count)?),
            slots: Arc::new(slots),
            count,
        })
    }

    /// The tables.
    pub const fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    // Runs statements on the cluster's threads.
    fn try_run<T, F>(
        &self,
        work: impl FnOnce(Arc<Slots>, Arc<crate::client::Client>) -> F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let cql = self.tables.cql();
        cql.wait(work(Arc::clone(&self.slots), Arc::clone(cql.client())))
    }

    // Runs a statement of the slots on the cluster's threads.
    fn run<T, F>(
        &self,
        work: impl FnOnce(Arc<Slots>, Arc<crate::client::Client>) -> F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CqlError>> + Send + 'static,
    {
        let cql = self.tables.cql();
        let work = work(Arc::clone(&self.slots), Arc::clone(cql.client()));
        Ok(cql.wait(work)?)
    }
}

impl SharedStore for ScyllaStore {
    fn slots(&self) -> u32 {
        self.count
    }

    fn views(&self) -> Arc<dyn Views> {
        Arc::<Tables>::clone(&self.tables)
    }

    fn facts(&self) -> Arc<dyn FactReader> {
        Arc::<Tables>::clone(&self.tables)
    }

    fn chain_key(&self, proposed: [u8; 32]) -> Result<[u8; 32], StoreError> {
        self.run(move |slots, client| async move { slots.chain_key(&client, proposed).await })
    }

    fn known_chain_key(&self) -> Result<Option<[u8; 32]>, StoreError> {
        self.run(|slots, client| async move { slots.known_chain_key(&client).await })
    }

    fn all_slots(&self) -> Result<Vec<SlotRow>, StoreError> {
        self.run(|slots, client| async move { slots.all(&client).await })
    }

    fn slot(&self, slot: u32) -> Result<SlotRow, StoreError> {
        self.run(move |slots, client| async move { slots.one(&client, slot).await })
    }

    fn decide(&self, constraint: &Conditional) -> Result<Decided, StoreError> {
        let constraint = constraint.clone();
        self.run(move |slots, client| async move { slots.decide(&client, &constraint).await })
    }

    fn constraints(&self) -> Result<Constraints, StoreError> {
        self.run(|slots, client| async move { slots.constraints.all(&client).await })
    }

    fn constraint(&self, constraint: &Constraint) -> Result<(), StoreError> {
        let constraint = constraint.clone();
        self.run(move |slots, client| async move {
            slots.constraints.change(&client, &constraint).await
        })
    }

    fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.run(|slots, client| async move { slots.nodes(&client).await })
    }

    fn heartbeat(&self, row: &NodeRow) -> Result<(), StoreError> {
        let row = row.clone();
        self.run(move |slots, client| async move { slots.heartbeat(&client, &row).await })
    }

    fn write_log(
        &self,
        of: (u32, u64),
        log: &Log,
        before: Option<&Seal>,
    ) -> Result<(), StoreError> {
        self.tables.write_log(of, log, before)
    }

    fn logs(&self, row: &SlotRow, flushes: (u64, u64)) -> Result<Vec<FlushLog>, StoreError> {
        self.tables.logs(row, flushes)
    }

    fn project(&self, commits: &[Arc<Commit>]) -> Result<(), StoreError> {
        self.tables.project(commits).map(|_| ())
    }

    fn days_due(&self, slot: u32) -> Result<Vec<DueDay>, StoreError> {
        self.tables.days_due(slot)
    }

    fn sum_day(&self, slot: u32, due: &DueDay, applied: u64) -> Result<(), StoreError> {
        self.tables.sum_day(slot, due, applied)
    }

    fn forget_rows(&self, slot: u32, flushes: (u64, u64)) -> Result<(), StoreError> {
        self.tables.forget_rows(slot, flushes)
    }

    fn write_names(&self, names: &[(Space, u64, String)]) -> Result<(), StoreError> {
        let commit = Commit {
            rows: FlushBatch {
                names: names.to_vec(),
                ..FlushBatch::default()
            },
            ..Commit::default()
        };
        self.project(&[Arc::new(commit)])
    }

    fn hand_off(&self, handoff: &Handoff) -> Result<(), StoreError> {
        let handoff = handoff.clone();
        self.try_run(move |slots, client| async move { slots.handoff.put(&client, &handoff).await })
    }

    fn waiting(&self) -> Result<Vec<(u32, NodeId, u64)>, StoreError> {
        self.run(|slots, client| async move { slots.handoff.all(&client).await })
    }

    fn handed_off(
        &self,
        slot: u32,
        from: NodeId,
        number: u64,
    ) -> Result<Option<Handoff>, StoreError> {
        let key = (slot, from, number);
        self.try_run(move |slots, client| async move { slots.handoff.get(&client, key).await })
    }

    fn taken_in(&self, slot: u32, from: NodeId, number: u64) -> Result<(), StoreError> {
        let key = (slot, from, number);
        self.run(move |slots, client| async move { slots.handoff.remove(&client, key).await })
    }

    fn release(&self, record: &InboxId, proposed: Option<u32>) -> Result<Option<u32>, StoreError> {
        let name = format!("release {record}");
        self.run(move |slots, client| async move {
            let proposed = proposed.map(|epoch| epoch.to_string());
            let epoch = slots.settled(&client, &name, proposed).await?;
            let odd = |error| CqlError::answer("settings", error);
            epoch.map(|epoch| epoch.parse()).transpose().map_err(odd)
        })
    }

    fn rows_of(&self, read_set: &ReadSet) -> Result<Found, StoreError> {
        self.tables.rows_of(read_set)
    }
}

impl Maintenance for ScyllaStore {
    fn may_clear(&self) -> Result<(), StoreError> {
        self.tables.may_clear()
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.tables.clear()
    }

    fn log_start(&self, slot: u32) -> Result<LogStart, StoreError> {
        self.tables.log_start(slot)
    }

    fn note(&self, slot: u32, note: &LogNote) -> Result<(), StoreError> {
        self.tables.note_start(slot, note)
    }

    fn put_base(&self, base: &SlotBase, from: u32, records: &[Bytes]) -> Result<(), StoreError> {
        self.tables.put_base(base, from, records)
    }

    fn base_records(
        &self,
        base: &SlotBase,
        from: u32,
        count: u32,
    ) -> Result<Vec<Bytes>, StoreError> {
        self.tables.base_records(base, from, count)
    }

    fn forget_base(&self, base: &SlotBase) -> Result<(), StoreError> {
        self.tables.forget_base(base)
    }

    fn forget_facts(&self, commits: &[Arc<Commit>], before_us: i64) -> Result<(), StoreError> {
        self.tables.forget_facts(commits, before_us)
    }

    fn forget_log(&self, slot: u32, flushes: (u64, u64)) -> Result<(), StoreError> {
        self.tables.forget_log(slot, flushes)
    }
}
