//! What must hold of engines that share a store.

use std::sync::Arc;

use till_core::RecordKind;
use till_protocol::id::StoreId;
use till_runtime::testing::Stepped;
use till_storage::cluster::{Commit, SlotRow, slot_of};
use till_storage::journal::Lsn;

use crate::coverage::Sight;
use crate::oracle::{Model, compare, same_rows};
use crate::plan::{MS, SECOND};
use crate::shared::News;
use crate::world::{Event, World};

impl World {
    /// What happened in the shared store reaches the oracle. True: something was committed.
    pub(in crate::world) fn read_news(&mut self) -> bool {
        let Some(store) = self.shared.as_ref().map(|shared| Arc::clone(&shared.store)) else {
            return false;
        };
        let (news, broken) = (store.take_news(), store.take_broken());
        for write in store.take_late() {
            let Some(shared) = &mut self.shared else {
                return false;
            };
            shared.next += 1;
            let number = shared.next;
            shared.late.insert(number, write);
            let most = if self.rng.one_in(3) {
                25 * SECOND
            } else {
                SECOND
            };
            let delay = self.rng.within(MS, most);
            self.after(delay, Event::Late(number));
        }
        if let Some(broken) = broken {
            self.oracle.fail(broken.id, broken.what);
        }
        let mut has_committed = false;
        for one in news {
            match one {
                News::Committed(commit) => {
                    has_committed = true;
                    self.note(&[u64::from(commit.slot), commit.flush]);
                    for (index, record) in (0..).zip(&commit.records) {
                        let position = Commit::position(commit.flush, index);
                        self.oracle.durable(position, record);
                    }
                    let again = self.oracle.take_again();
                    self.coverage.saw_times(Sight::RetriedShared, again);
                    let doubled = self.oracle.take_doubled();
                    self.coverage.saw_times(Sight::Doubled, doubled);
                }
                News::HandedOff(chunk) => self.oracle.hands_off(&chunk.records),
                News::TakenAway(chunk) => {
                    self.saw(Sight::TakenIn);
                    let kinds = chunk.records.iter().map(|record| record.head.kind);
                    let retries = kinds.filter(|kind| *kind == RecordKind::Retry).count();
                    let retries = u64::try_from(retries).unwrap_or(0);
                    self.coverage.saw_times(Sight::RetryTakenIn, retries);
                    self.oracle.taken_away(&chunk.records);
                }
            }
        }
        has_committed
    }

    // What an engine serves of its own is whole.
    pub(super) fn look_at_slots(&mut self, n: usize) {
        let node = &self.nodes[n];
        let (Some(shared), Some(engine), Some(member)) = (&self.shared, &node.engine, &node.member)
        else {
            return;
        };
        let served = engine.served();
        let rows = shared.store.slots();
        let is_own = |row: &&SlotRow| served.contains(&row.slot) && row.owner == Some(member.me);
        let torn = rows
            .iter()
            .filter(is_own)
            .find(|row| !shared.store.has_all(row));
        if let Some(row) = torn {
            let what = format!("slot {} is served without its last rows", row.slot);
            self.oracle.fail("CLU-3", what);
        }
    }

    /// A device that is accepted is told by the owner of its slot how far it is.
    pub(in crate::world) fn look_at_handshake(&mut self, n: usize, store: StoreId) {
        let (Some(shared), Some(engine)) = (&self.shared, &self.nodes[n].engine) else {
            return;
        };
        let slots = shared.store.slots();
        let slot = slot_of(store, u32::try_from(slots.len()).unwrap_or(1));
        let owner = slots.iter().find(|row| row.slot == slot);
        let me = self.nodes[n].member.as_ref().map(|member| member.me);
        let is_owner = owner.is_some_and(|row| row.owner == me);
        if engine.served().contains(&slot) {
            if !is_owner {
                let what = format!("engine {n} accepts devices of slot {slot}, which is another's");
                self.oracle.fail("OWN-1", what);
            }
        } else if is_owner {
            self.saw(Sight::HandshakeRefused);
        }
    }

    /// Records that are durable at one engine may be all that is left of them.
    pub(in crate::world) fn read_member(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let (Some(engine), Some(member)) = (&node.engine, &mut node.member) else {
            return;
        };
        let (end, disk) = (engine.journal().end(), member.disk);
        // What was dropped is committed, or was read before.
        let from = Lsn::new(member.read_upto).max(engine.journal().start());
        member.read_upto = end.get();
        if end <= from {
            return;
        }
        let _unhindered = node.disk.look();
        for item in engine.journal().records_between(from, end) {
            match item {
                Ok((_, record)) => {
                    self.oracle.journalled((n, disk), &record);
                }
                Err(error) => {
                    let what = format!("the journal of engine {n} cannot be read: {error}");
                    return self.oracle.fail("JRN-1", what);
                }
            }
        }
    }

    /// Whether the shared store has all there is, and every slot its owner.
    pub(in crate::world) fn is_shared_quiet(&self) -> bool {
        let Some(shared) = &self.shared else {
            return false;
        };
        let engines = self.nodes.iter().map(|node| node.engine.as_ref());
        let engines: Option<Vec<&Stepped>> = engines.collect();
        let Some(engines) = engines else {
            return false;
        };
        let slots = shared.store.slots();
        let served: usize = engines.iter().map(|engine| engine.served().len()).sum();
        let flushed = engines.iter().all(|engine| !engine.has_waiting());
        let whole = slots.iter().all(|row| shared.store.is_whole(row));
        let patient = self.now > self.plan.calm_at + 100 * SECOND;
        let crashed = self.nodes.iter().all(|node| node.crashes > 0);
        // What an engine finds in its journal when it starts, it hands off at its first look. No device waits for that if it
        // was put back meanwhile.
        let handed_off = engines
            .iter()
            .all(|engine| engine.is_written() >= engine.journal().end().get());
        crashed
            && handed_off
            && flushed
            && whole
            && served == slots.len()
            && (patient || shared.store.waiting().is_empty())
            && self.tills.iter().all(|till| till.waits_for().is_none())
    }

    /// What is said of engines that share a store when all is over.
    pub(in crate::world) fn finish_shared(&mut self) {
        let Some(shared) = &self.shared else {
            return;
        };
        let (waiting, rows) = (shared.store.waiting(), shared.store.rows());
        let (mut kept, mut committed) = shared.store.facts();
        kept.sort_by_key(|(position, record)| (*position, record.head.terminal));
        committed.sort_by_key(|(position, record)| (*position, record.head.terminal));
        if kept != committed {
            let what = format!(
                "{} records are facts, and {} were committed",
                kept.len(),
                committed.len()
            );
            return self.oracle.fail("FEN-1", what);
        }
        let stranded = waiting
            .iter()
            .map(|chunk| chunk.records.len())
            .sum::<usize>();
        self.coverage
            .saw_times(Sight::Stranded, u64::try_from(stranded).unwrap_or(0));
        self.oracle.none_waits_to_no_effect(&waiting);
        let stuck: Vec<_> = waiting.into_iter().flat_map(|one| one.records).collect();
        let disks: Vec<u64> = self
            .nodes
            .iter()
            .map(|node| node.member.as_ref().map_or(0, |member| member.disk))
            .collect();
        self.oracle.quiesced(&stuck);
        self.oracle.all_handed_off(&disks, &stuck);
        let model = Model::of(&self.oracle, i64::MIN);
        let written = shared.store.rebuilt();
        let judged = written.and_then(|written| {
            compare(&model, &written)?;
            same_rows(&model, &written, rows.as_ref())
        });
        if let Err(broken) = judged {
            self.oracle.fail(broken.id, broken.what);
        }
    }
}
