//! Derived tables: whole rows, and their way to the rows of the core and back.

mod flush; // the rows of a flush
mod key; // what keys are made of
mod tables; // the tables, column by column

use scylla::value::CqlVarint;
use till_core::{
    Dim, EpochProgress, EventIdRow, MoveKey, QuarantineKey, QuarantineRow, RollupKey, RollupRow,
    SkuRow, StoreRow, TerminalRow, Totals,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};
use till_protocol::quantity::unit;
use till_storage::query::currency_code;

use super::{Id64, date, day_of_date, varint, wide};

pub(crate) use flush::derived_of;
pub(crate) use key::{
    RECEIPT_PARTS, SKU_BUCKETS, STORE_PARTS, bucket_of_sku, dim_cell, part_of_receipt,
    part_of_store, quarter_of, signed, space_cell, space_of, store_of,
};
pub(crate) use tables::{
    EventIdCells, LevelRow, NameRow, QuarantineCells, QuarantineGone, RollupCells, RollupDayRow,
    StoreCells, TerminalCells,
};

/// Why cells are no row: one of them is out of its range.
pub(crate) const OUT_OF_RANGE: &str = "a cell is out of its range";

// Sums as three and four cells.
fn totals(counts: [i64; 2], sums: [&CqlVarint; 4]) -> Option<Totals> {
    let [transactions, lines] = counts.map(i64::cast_unsigned);
    let [quantity, net, discount, tax] = sums.map(wide);
    Some(Totals {
        transactions,
        lines,
        quantity: quantity?,
        net: net?,
        discount: discount?,
        tax: tax?,
    })
}

impl StoreCells {
    pub(crate) fn new(store: StoreId, row: &StoreRow) -> Self {
        let training = &row.training;
        Self {
            part: part_of_store(store),
            store: signed(store.get()),
            currency: i32::from(row.currency),
            currency_code: currency_code(row.currency),
            zone: row.zone.clone(),
            registered_at_us: row.registered_at_us,
            applied: row.applied.cast_signed(),
            training_transactions: training.transactions.cast_signed(),
            training_lines: training.lines.cast_signed(),
            training_quantity_e5: varint(training.quantity),
            training_net_minor: varint(training.net),
            training_discount_minor: varint(training.discount),
            training_tax_minor: varint(training.tax),
        }
    }

    pub(crate) fn read(self) -> Option<(StoreId, StoreRow)> {
        let row = StoreRow {
            currency: u16::try_from(self.currency).ok()?,
            zone: self.zone,
            registered_at_us: self.registered_at_us,
            applied: self.applied.cast_unsigned(),
            training: totals(
                [self.training_transactions, self.training_lines],
                [
                    &self.training_quantity_e5,
                    &self.training_net_minor,
                    &self.training_discount_minor,
                    &self.training_tax_minor,
                ],
            )?,
        };
        Some((StoreId::new(self.store.cast_unsigned()).ok()?, row))
    }
}

impl TerminalCells {
    pub(crate) fn new(terminal: TerminalId, row: &TerminalRow) -> Self {
        let epochs = row.epochs.iter().map(|progress| {
            let next_seq = progress.next_seq.cast_signed();
            (
                signed(progress.epoch),
                next_seq,
                progress.digest.cast_signed(),
            )
        });
        let (sums, shift) = (&row.totals, &row.shift);
        Self {
            store: signed(terminal.store().get()),
            terminal: terminal.to_u64().cast_signed(),
            till: signed(terminal.till().get()),
            epochs: epochs.collect(),
            last_seen_us: row.last_seen_us,
            last_event_at_us: row.last_event_at_us,
            transactions: sums.transactions.cast_signed(),
            lines: sums.lines.cast_signed(),
            quantity_e5: varint(sums.quantity),
            net_minor: varint(sums.net),
            discount_minor: varint(sums.discount),
            tax_minor: varint(sums.tax),
            shift_day: date(row.shift_day),
            shift_transactions: shift.transactions.cast_signed(),
            shift_lines: shift.lines.cast_signed(),
            shift_quantity_e5: varint(shift.quantity),
            shift_net_minor: varint(shift.net),
            shift_discount_minor: varint(shift.discount),
            shift_tax_minor: varint(shift.tax),
            applied: row.applied.cast_signed(),
            duplicates: row.duplicates.cast_signed(),
            refused: row.refused.cast_signed(),
            quarantined: row.quarantined.cast_signed(),
            flags: i64::from(row.flags),
        }
    }

    pub(crate) fn read(self) -> Option<(TerminalId, TerminalRow)> {
        let digests = self
            .epochs
            .iter()
            .map(|(epoch, next_seq, digest)| EpochProgress {
                epoch: epoch.cast_unsigned(),
                next_seq: next_seq.cast_unsigned(),
                digest: digest.cast_unsigned(),
            });
        let row = TerminalRow {
            epochs: digests.collect(),
            last_seen_us: self.last_seen_us,
            last_event_at_us: self.last_event_at_us,
            totals: totals(
                [self.transactions, self.lines],
                [
                    &self.quantity_e5,
                    &self.net_minor,
                    &self.discount_minor,
                    &self.tax_minor,
                ],
            )?,
            shift_day: day_of_date(self.shift_day)?,
            shift: totals(
                [self.shift_transactions, self.shift_lines],
                [
                    &self.shift_quantity_e5,
                    &self.shift_net_minor,
                    &self.shift_discount_minor,
                    &self.shift_tax_minor,
                ],
            )?,
            applied: self.applied.cast_unsigned(),
            duplicates: self.duplicates.cast_unsigned(),
            refused: self.refused.cast_unsigned(),
            quarantined: self.quarantined.cast_unsigned(),
            flags: u32::try_from(self.flags).ok()?,
        };
        let terminal = TerminalId::from_u64(self.terminal.cast_unsigned()).ok()?;
        Some((terminal, row))
    }
}

impl LevelRow {
    pub(crate) fn new(store: StoreId, sku: SkuId, row: &SkuRow) -> Self {
        let (key, counted) = row.counted.unwrap_or_default();
        let level = counted.saturating_add(row.moved);
        let last = &row.last_move;
        Self {
            store: signed(store.get()),
            bucket: bucket_of_sku(sku.get()),
            sku: Id64(sku.get()),
            quantity_e5: level,
            is_counted: row.counted.is_some(),
            counted_at_us: key.at_us,
            counted_epoch: signed(key.epoch),
            counted_seq: key.seq.cast_signed(),
            counted_terminal: key.terminal.cast_signed(),
            counted_line: i32::from(key.line),
            counted_e5: counted,
            moved_e5: row.moved,
            reserved_e5: row.reserved,
            last_at_us: last.at_us,
            last_epoch: signed(last.epoch),
            last_seq: last.seq.cast_signed(),
            last_terminal: last.terminal.cast_signed(),
            last_line: i32::from(last.line),
            as_of_us: row.as_of_us,
            flags: i64::from(row.flags),
            unit: unit::name(row.unit).to_owned(),
        }
    }

    pub(crate) fn read(&self) -> Option<(SkuId, SkuRow)> {
        let counted = MoveKey {
            at_us: self.counted_at_us,
            epoch: self.counted_epoch.cast_unsigned(),
            seq: self.counted_seq.cast_unsigned(),
            terminal: self.counted_terminal.cast_unsigned(),
            line: u16::try_from(self.counted_line).ok()?,
        };
        let row = SkuRow {
            counted: self.is_counted.then_some((counted, self.counted_e5)),
            moved: self.moved_e5,
            reserved: self.reserved_e5,
            last_move: MoveKey {
                at_us: self.last_at_us,
                epoch: self.last_epoch.cast_unsigned(),
                seq: self.last_seq.cast_unsigned(),
                terminal: self.last_terminal.cast_unsigned(),
                line: u16::try_from(self.last_line).ok()?,
            },
            as_of_us: self.as_of_us,
            flags: u32::try_from(self.flags).ok()?,
            unit: match self.unit.as_str() {
                "" => unit::UNSTATED,
                name => unit::from_code(name)?,
            },
        };
        Some((SkuId::from_u64(self.sku.0), row))
    }
}

impl RollupCells {
    pub(crate) fn new(key: &RollupKey, row: &RollupRow) -> Self {
        let sums = &row.totals;
        Self {
            store: signed(key.store),
            day: date(key.day),
            dim: dim_cell(key.dim),
            hour_us: key.hour_us,
            key: Id64(key.key),
            transactions: sums.transactions.cast_signed(),
            lines: sums.lines.cast_signed(),
            quantity_e5: varint(sums.quantity),
            net_minor: varint(sums.net),
            discount_minor: varint(sums.discount),
            tax_minor: varint(sums.tax),
            returns_net_minor: varint(row.returns_net),
            moved_e5: varint(row.moved),
        }
    }

    pub(crate) fn read(&self) -> Option<(RollupKey, RollupRow)> {
        let key = RollupKey {
            store: self.store.cast_unsigned(),
            dim: Dim::from_u8(u8::try_from(self.dim).ok()?)?,
            day: day_of_date(self.day)?,
            hour_us: self.hour_us,
            key: self.key.0,
        };
        let row = RollupRow {
            totals: totals(
                [self.transactions, self.lines],
                [
                    &self.quantity_e5,
                    &self.net_minor,
                    &self.discount_minor,
                    &self.tax_minor,
                ],
            )?,
            returns_net: wide(&self.returns_net_minor)?,
            moved: wide(&self.moved_e5)?,
        };
        Some((key, row))
    }
}

impl EventIdCells {
    pub(crate) fn new(id: &EventId, row: &EventIdRow) -> Self {
        Self {
            event_id: id.to_bytes().to_vec(),
            terminal: row.terminal.cast_signed(),
            epoch: signed(row.epoch),
            seq: row.seq.cast_signed(),
            content: row.content.cast_signed(),
        }
    }

    pub(crate) fn read(&self) -> Option<(EventId, EventIdRow)> {
        let row = EventIdRow {
            terminal: self.terminal.cast_unsigned(),
            epoch: self.epoch.cast_unsigned(),
            seq: self.seq.cast_unsigned(),
            content: self.content.cast_unsigned(),
        };
        let id = self.event_id.as_slice().try_into().ok()?;
        Some((EventId::from_bytes(id), row))
    }
}

impl QuarantineGone {
    pub(crate) fn new(key: &QuarantineKey) -> Self {
        Self {
            store: store_of(key.terminal),
            terminal: key.terminal.cast_signed(),
            epoch: signed(key.epoch),
            seq: key.seq.cast_signed(),
            line: i32::from(key.line),
        }
    }
}

impl QuarantineCells {
    pub(crate) fn new(key: &QuarantineKey, row: &QuarantineRow) -> Self {
        Self {
            store: store_of(key.terminal),
            terminal: key.terminal.cast_signed(),
            epoch: signed(key.epoch),
            seq: key.seq.cast_signed(),
            line: i32::from(key.line),
            reason: i32::from(row.reason),
            received_at_us: row.received_at_us,
            position: row.position.cast_signed(),
            sku: Id64(row.sku),
            quantity_e5: row.quantity,
        }
    }

    pub(crate) fn read(&self) -> Option<(QuarantineKey, QuarantineRow)> {
        let key = QuarantineKey {
            terminal: self.terminal.cast_unsigned(),
            epoch: self.epoch.cast_unsigned(),
            seq: self.seq.cast_unsigned(),
            line: u16::try_from(self.line).ok()?,
        };
        let row = QuarantineRow {
            reason: u16::try_from(self.reason).ok()?,
            received_at_us: self.received_at_us,
            position: self.position.cast_unsigned(),
            sku: self.sku.0,
            quantity: self.quantity_e5,
        };
        Some((key, row))
    }
}
