//! The facts that an engine of a cluster decides with: those of the shared store, and above them those that are in its own
//! journal alone.

use crate::ingress::placement::own_position;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use till_core::RecordHead;
use till_protocol::id::{StoreId, TerminalId};
use till_storage::cluster::slot_of;
use till_storage::facts::{Fact, Facts};
use till_storage::journal::Lsn;
use till_storage::query::{FactReader, VisitFact, run_since};
use till_storage::rebuild::store_of;
use till_storage::views::StoreError;

use crate::cluster::node::Cluster;
use crate::cluster::owners::Since;
use crate::shard::handle::shard_of;

/// Facts of the shared store, then the own ones that are not among them. Own ones come last, as they are newer.
pub(crate) struct BothFacts {
    cluster: Arc<Cluster>,
    shared: Arc<dyn FactReader>,
    own: Arc<Facts>,
    shards: usize,
}

/// What a record is known by wherever it lies.
type Name = (u8, u64, u32, u64, u32);

const fn name_of(head: &RecordHead) -> Name {
    (
        head.kind.number(),
        head.terminal,
        head.epoch,
        head.first_seq,
        head.skip,
    )
}

impl BothFacts {
    pub(crate) fn new(cluster: Arc<Cluster>, own: Arc<Facts>, shards: usize) -> Self {
        let shared = cluster.store.facts();
        Self {
            cluster,
            shared,
            own,
            shards,
        }
    }

    // What is not in the rows is noted first, so that rows written in between show a record twice and not never.
    fn merge(
        &self,
        shared: impl FnOnce(VisitFact<'_>) -> Result<(), StoreError>,
        own: impl FnOnce(&BTreeMap<u32, Since>, VisitFact<'_>) -> Result<(), StoreError>,
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        let since = self.cluster.since();
        let mut seen = HashSet::new();
        shared(&mut |fact: &Fact| {
            seen.insert(name_of(&fact.record.head));
            visit(fact)
        })?;
        own(&since, &mut |fact: &Fact| {
            let head = &fact.record.head;
            let Some(store) = store_of(head) else {
                return Ok(());
            };
            let position = fact.lsn.get();
            let slot = slot_of(store, self.cluster.store.slots());
            let shard = shard_of(store, self.shards);
            let is_ours = since.get(&slot).is_some_and(|since| {
                position >= since.position && position > since.applied.of(shard)
            });
            if !is_ours || seen.contains(&name_of(head)) {
                return Ok(());
            }
            visit(&Fact {
                lsn: Lsn::new(own_position(position)),
                record: fact.record.clone(),
            })
        })
    }
}

impl FactReader for BothFacts {
    fn end(&self) -> u64 {
        self.shared.end()
    }

    fn start(&self) -> u64 {
        self.shared.start()
    }

    fn is_whole(&self, store: StoreId, since_us: i64) -> Result<bool, StoreError> {
        self.shared.is_whole(store, since_us)
    }

    fn of_hours(
        &self,
        store: StoreId,
        from_us: i64,
        to_us: i64,
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        let own: &dyn FactReader = self.own.as_ref();
        self.merge(
            |visit| self.shared.of_hours(store, from_us, to_us, visit),
            |_, visit| own.of_hours(store, from_us, to_us, visit),
            visit,
        )
    }

    fn of_receipt(&self, receipt: &str, visit: VisitFact<'_>) -> Result<(), StoreError> {
        let own: &dyn FactReader = self.own.as_ref();
        self.merge(
            |visit| self.shared.of_receipt(receipt, visit),
            |_, visit| own.of_receipt(receipt, visit),
            visit,
        )
    }

    fn of_run(
        &self,
        terminal: TerminalId,
        epoch: u32,
        run: (u64, u64),
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        let slot = slot_of(terminal.store(), self.cluster.store.slots());
        // The same engine may have had others under these numbers, before it lost the slot: they are not its own any more, and
        // would hide those that are.
        self.merge(
            |visit| self.shared.of_run(terminal, epoch, run, visit),
            |since, visit| match since.get(&slot) {
                Some(since) => {
                    let since = Lsn::new(since.position);
                    run_since(&self.own, terminal, epoch, (run, since), visit)
                }
                None => Ok(()),
            },
            visit,
        )
    }
}
