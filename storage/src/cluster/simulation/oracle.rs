//! What must be true, watched from outside: knows what was committed and compares everything else with it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use till_core::{
    EpochProgress, QuarantineKey, QuarantineRow, Record, RecordHead, RecordKind, StoreRow,
    TerminalRow, Totals,
};
use till_protocol::id::{StoreId, TerminalId, TillId};

use super::store::{RowWrite, Store};
use crate::cluster::{Change, Commit, LogKey, NodeId, SlotRow};
use crate::pack::{Key, Row};

/// A row's key and its bytes; without bytes it is deleted.
pub(super) type Cell = (Vec<u8>, Option<Vec<u8>>);

/// The next sequence number of each device of a slot.
pub(super) type Next = BTreeMap<u32, u64>;

/// What was committed of one slot.
#[derive(Default)]
struct OracleFold {
    next: Next,
    flushes: Vec<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

pub(super) struct Oracle {
    folds: Vec<OracleFold>,
    served: Vec<u64>,
    pub(super) error: Option<String>,
    pub(super) seen: BTreeSet<&'static str>,
}

fn terminal(slot: u32, device: u32) -> TerminalId {
    let store = StoreId::new(slot + 1).unwrap();
    TerminalId::new(store, TillId::new(device + 1).unwrap())
}

fn device_of(terminal: u64) -> u32 {
    u32::try_from(terminal & 0xffff_ffff).unwrap() - 1
}

/// A flush of these events over what was before.
pub(super) fn commit_of(slot: u32, flush: u64, next: &Next, events: &[(u32, u64)]) -> Commit {
    let mut commit = Commit {
        slot,
        flush,
        ..Commit::default()
    };
    let mut after = next.clone();
    for (device, seq) in events {
        let terminal = terminal(slot, *device).to_u64();
        commit.records.push(Record {
            head: RecordHead {
                kind: RecordKind::Batch,
                family: 1,
                version: 1,
                terminal,
                epoch: 1,
                first_seq: *seq,
                count: 1,
                skip: 0,
                received_at_us: 0,
                digest: *seq,
            },
            payload: Bytes::from_static(b"an event"),
            verdicts: Vec::new(),
        });
        after.insert(*device, seq + 1);
        // A row that comes and goes, so that deletions count as well.
        let key = QuarantineKey {
            terminal,
            epoch: 1,
            seq: seq / 5,
            line: 0,
        };
        match seq % 5 {
            0 => {
                let row = QuarantineRow {
                    reason: 201,
                    received_at_us: 0,
                    position: flush,
                    sku: 0,
                    quantity: 0,
                };
                commit.rows.quarantine.push((key, Some(row)));
            }
            3 => commit.rows.quarantine.push((key, None)),
            _ => {}
        }
        let row = TerminalRow {
            epochs: vec![EpochProgress {
                epoch: 1,
                next_seq: seq + 1,
                digest: *seq,
            }],
            ..TerminalRow::default()
        };
        let id = TerminalId::from_u64(terminal).unwrap();
        commit.rows.terminals.push((id, row));
    }
    let row = StoreRow {
        currency: 978,
        zone: "UTC".to_owned(),
        registered_at_us: 0,
        applied: after.values().sum(),
        training: Totals::default(),
    };
    let store = StoreId::new(slot + 1).unwrap();
    commit.rows.stores.push((store, row));
    commit
}

/// The rows of a commit as cells.
pub(super) fn cells(commit: &Commit) -> Vec<Cell> {
    fn named<K: Key>(table: u8, key: &K) -> Vec<u8> {
        [&[table][..], &key.to_key()].concat()
    }
    let rows = &commit.rows;
    let stores = rows.stores.iter();
    let stores = stores.map(|(key, row)| (named(1, key), Some(row.to_row())));
    let terminals = rows.terminals.iter();
    let terminals = terminals.map(|(key, row)| (named(2, key), Some(row.to_row())));
    let quarantine = rows.quarantine.iter();
    let quarantine = quarantine.map(|(key, row)| (named(6, key), row.as_ref().map(Row::to_row)));
    stores.chain(terminals).chain(quarantine).collect()
}

/// What an owner loads: the next sequence numbers in the rows of a slot.
pub(super) fn load(store: &Store, slot: u32) -> Next {
    let from = (slot, vec![2]);
    let rows = store.rows.range(from..(slot, vec![3]));
    rows.filter_map(|((_, key), row)| {
        let terminal = TerminalId::from_key(&key[1..]).unwrap();
        let row = TerminalRow::unpack(row.cell.as_ref()?).unwrap();
        Some((device_of(terminal.to_u64()), row.epochs[0].next_seq))
    })
    .collect()
}

impl Oracle {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            folds: (0..slots).map(|_| OracleFold::default()).collect(),
            served: vec![0; usize::try_from(slots).unwrap()],
            error: None,
            seen: BTreeSet::new(),
        }
    }

    fn fold(&self, slot: u32) -> &OracleFold {
        &self.folds[usize::try_from(slot).unwrap()]
    }

    pub(super) fn fail(&mut self, what: String) {
        if self.error.is_none() {
            self.error = Some(what);
        }
    }

    /// A slot's row has changed.
    pub(super) fn changed(&mut self, row: &SlotRow, after: &SlotRow, change: &Change, by: NodeId) {
        let is_acquire = matches!(change, Change::Acquire { .. });
        if !is_acquire && row.owner != Some(by) {
            self.fail(format!(
                "{by} is not the owner and did {change:?} to {row:?}"
            ));
        }
        let epoch = row.epoch + u64::from(!matches!(change, Change::Commit { .. }));
        if after.epoch != epoch || after.flush < row.flush {
            self.fail(format!("{row:?} became {after:?}"));
        }
    }

    /// A commit happened; these are the parts of its log.
    pub(super) fn committed(&mut self, row: &SlotRow, parts: &[(u32, Bytes)]) {
        let key = LogKey {
            slot: row.slot,
            flush: row.flush,
            epoch: row.flush_epoch,
            parts: row.parts,
            digest: row.digest,
        };
        let commit = match Commit::from_parts(&key, parts) {
            Ok(commit) => commit,
            Err(error) => return self.fail(format!("committed without its log: {error}, {row:?}")),
        };
        let index = usize::try_from(row.slot).unwrap();
        let fold = &mut self.folds[index];
        let mut errors = Vec::new();
        if u64::try_from(fold.flushes.len()).unwrap() + 1 != row.flush {
            errors.push(format!("flush {} after {}", row.flush, fold.flushes.len()));
        }
        let mut events = Vec::new();
        let before = fold.next.clone();
        for record in &commit.records {
            let (device, seq) = (device_of(record.head.terminal), record.head.first_seq);
            let next = fold.next.entry(device).or_insert(1);
            if *next != seq {
                errors.push(format!("event {seq} of device {device}, wanted {next}"));
            }
            *next = seq + 1;
            events.push((device, seq));
        }
        let expected = commit_of(row.slot, row.flush, &before, &events).settled();
        if expected != commit {
            errors.push(format!("rows of flush {} of slot {}", row.flush, row.slot));
        }
        let rows: BTreeMap<_, _> = cells(&commit).into_iter().collect();
        fold.rows.extend(rows.clone());
        fold.flushes.push(rows);
        for error in errors {
            self.fail(format!("slot {}: {error}", row.slot));
        }
    }

    /// A row was written and is visible now; `over` is the flush of what was there.
    pub(super) fn written(&mut self, write: &RowWrite, over: Option<u64>) {
        let index = usize::try_from(write.flush).unwrap();
        let committed = self.fold(write.slot).flushes.get(index - 1);
        let is_committed =
            committed.is_some_and(|rows| rows.get(&write.cell.0) == Some(&write.cell.1));
        if !is_committed {
            self.fail(format!(
                "a row of flush {}, which is not committed",
                write.flush
            ));
        }
        if over.is_some_and(|over| over > write.flush) {
            self.fail(format!("a row of flush {} over {over:?}", write.flush));
        }
    }

    /// A node begins to serve a slot.
    pub(super) fn serves(&mut self, store: &Store, slot: u32, flush: u64, epoch: u64) {
        let index = usize::try_from(slot).unwrap();
        if epoch <= self.served[index] {
            self.fail(format!("slot {slot} served twice in epoch {epoch}"));
        }
        self.served[index] = epoch;
        let known = u64::try_from(self.fold(slot).flushes.len()).unwrap();
        if known != flush {
            self.fail(format!("slot {slot} served at flush {flush} of {known}"));
        }
        self.compare(store, slot, "when its owner began");
    }

    /// Whether the rows of a slot are the fold of its commits.
    pub(super) fn compare(&mut self, store: &Store, slot: u32, when: &str) {
        let rows = store.rows.range((slot, Vec::new())..(slot + 1, Vec::new()));
        let rows = rows.map(|((_, key), row)| (key, &row.cell));
        if !rows.eq(&self.fold(slot).rows) {
            self.fail(format!(
                "rows of slot {slot} are not what was committed, {when}"
            ));
        }
    }

    /// A node takes an event in.
    pub(super) fn accepted(&mut self, slot: u32, epoch: u64) {
        let served = self.served[usize::try_from(slot).unwrap()];
        if epoch < served {
            self.fail(format!(
                "slot {slot} took an event in epoch {epoch}, served in {served}"
            ));
        }
    }

    /// A device is told that its event is committed.
    pub(super) fn notified(&mut self, slot: u32, device: u32, seq: u64) {
        if !self.has(slot, device, seq) {
            self.fail(format!(
                "event {seq} of device {device} told committed, and is not"
            ));
        }
    }

    pub(super) fn has(&self, slot: u32, device: u32, seq: u64) -> bool {
        self.fold(slot)
            .next
            .get(&device)
            .is_some_and(|next| *next > seq)
    }
}
