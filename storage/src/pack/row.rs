//! The fields of every row, in order.

use till_core::{
    EpochProgress, EventIdRow, MoveKey, QuarantineRow, RollupRow, SkuRow, StoreRow, TerminalRow,
    Totals,
};

use super::{Row, Table};

/// The one schema of every row so far. A changed row gets a number of its own and a reader for each.
const SCHEMA: u8 = 1;

fn put(out: &mut Vec<u8>, value: impl Into<u128>) {
    let mut rest: u128 = value.into();
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

fn put_signed(out: &mut Vec<u8>, value: impl Into<i128>) {
    let value: i128 = value.into();
    put(out, ((value << 1) ^ (value >> 127)).cast_unsigned());
}

/// Reads fields in order. After the first that does not fit, all are zero and [`Self::end`] gives `None`.
struct Fields<'a> {
    rest: &'a [u8],
    good: bool,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        match bytes.split_first() {
            Some((&SCHEMA, rest)) => Self { rest, good: true },
            _ => Self {
                rest: &[],
                good: false,
            },
        }
    }

    fn wide(&mut self) -> u128 {
        let mut value = 0_u128;
        let mut shift = 0_u32;
        while let Some((&byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            let bits = u128::from(byte & 0x7f);
            // The 19th byte holds the last 2 of 128 bits.
            if shift > 126 || (shift == 126 && bits > 3) {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return value;
            }
            shift += 7;
        }
        self.good = false;
        0
    }

    fn number<T: TryFrom<u128> + Default>(&mut self) -> T {
        let value = self.wide();
        T::try_from(value).unwrap_or_else(|_| {
            self.good = false;
            T::default()
        })
    }

    fn signed<T: TryFrom<i128> + Default>(&mut self) -> T {
        let value = self.wide();
        let value = (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
        T::try_from(value).unwrap_or_else(|_| {
            self.good = false;
            T::default()
        })
    }

    fn text(&mut self) -> String {
        let bytes: usize = self.number();
        let text = self.rest.split_at_checked(bytes).and_then(|(text, rest)| {
            self.rest = rest;
            std::str::from_utf8(text).ok()
        });
        self.good &= text.is_some();
        text.unwrap_or("").to_owned()
    }

    fn totals(&mut self) -> Totals {
        Totals {
            transactions: self.number(),
            lines: self.number(),
            quantity: self.signed(),
            net: self.signed(),
            discount: self.signed(),
            tax: self.signed(),
        }
    }

    fn move_key(&mut self) -> MoveKey {
        MoveKey {
            at_us: self.signed(),
            epoch: self.number(),
            seq: self.number(),
            terminal: self.number(),
            line: self.number(),
        }
    }

    fn end<T>(self, value: T) -> Option<T> {
        (self.good && self.rest.is_empty()).then_some(value)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, u128::try_from(text.len()).unwrap_or(u128::MAX));
    out.extend(text.as_bytes());
}

fn put_totals(out: &mut Vec<u8>, totals: &Totals) {
    put(out, totals.transactions);
    put(out, totals.lines);
    put_signed(out, totals.quantity);
    put_signed(out, totals.net);
    put_signed(out, totals.discount);
    put_signed(out, totals.tax);
}

fn put_move_key(out: &mut Vec<u8>, key: &MoveKey) {
    put_signed(out, key.at_us);
    put(out, key.epoch);
    put(out, key.seq);
    put(out, key.terminal);
    put(out, key.line);
}

impl Row for StoreRow {
    const TABLE: Table = Table::Stores;

    fn pack(&self, out: &mut Vec<u8>) {
        out.push(SCHEMA);
        put(out, self.currency);
        put_text(out, &self.zone);
        put_signed(out, self.registered_at_us);
        put(out, self.applied);
        put_totals(out, &self.training);
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let row = Self {
            currency: fields.number(),
            zone: fields.text(),
            registered_at_us: fields.signed(),
            applied: fields.number(),
            training: fields.totals(),
        };
        fields.end(row)
    }
}

impl Row for TerminalRow {
    const TABLE: Table = Table::Terminals;

    fn pack(&self, out: &mut Vec<u8>) {
        out.push(SCHEMA);
        put(out, u128::try_from(self.epochs.len()).unwrap_or(u128::MAX));
        for progress in &self.epochs {
            put(out, progress.epoch);
            put(out, progress.next_seq);
            out.extend(progress.digest.to_le_bytes());
        }
        put_signed(out, self.last_seen_us);
        put_signed(out, self.last_event_at_us);
        put_totals(out, &self.totals);
        put(out, self.shift_day);
        put_totals(out, &self.shift);
        put(out, self.applied);
        put(out, self.duplicates);
        put(out, self.refused);
        put(out, self.quarantined);
        put(out, self.flags);
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let count: u32 = fields.number();
        let mut epochs = Vec::new();
        for _ in 0..count {
            let (epoch, next_seq) = (fields.number(), fields.number());
            let (digest, rest) = fields.rest.split_first_chunk::<8>()?;
            fields.rest = rest;
            epochs.push(EpochProgress {
                epoch,
                next_seq,
                digest: u64::from_le_bytes(*digest),
            });
        }
        let row = Self {
            epochs,
            last_seen_us: fields.signed(),
            last_event_at_us: fields.signed(),
            totals: fields.totals(),
            shift_day: fields.number(),
            shift: fields.totals(),
            applied: fields.number(),
            duplicates: fields.number(),
            refused: fields.number(),
            quarantined: fields.number(),
            flags: fields.number(),
        };
        fields.end(row)
    }
}

impl Row for SkuRow {
    const TABLE: Table = Table::Skus;

    fn pack(&self, out: &mut Vec<u8>) {
        out.push(SCHEMA);
        match &self.counted {
            None => out.push(0),
            Some((key, quantity)) => {
                out.push(1);
                put_move_key(out, key);
                put_signed(out, *quantity);
            }
        }
        put_signed(out, self.moved);
        put_signed(out, self.reserved);
        put_move_key(out, &self.last_move);
        put_signed(out, self.as_of_us);
        put(out, self.flags);
        put(out, self.unit);
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let counted = match fields.number::<u8>() {
            0 => None,
            1 => Some((fields.move_key(), fields.signed())),
            _ => return None,
        };
        let row = Self {
            counted,
            moved: fields.signed(),
            reserved: fields.signed(),
            last_move: fields.move_key(),
            as_of_us: fields.signed(),
            flags: fields.number(),
            unit: fields.number(),
        };
        fields.end(row)
    }
}

impl Row for RollupRow {
    const TABLE: Table = Table::Rollups;

    fn pack(&self, out: &mut Vec<u8>) {
        out.push(SCHEMA);
        put_totals(out, &self.totals);
        put_signed(out, self.returns_net);
        put_signed(out, self.moved);
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let row = Self {
            totals: fields.totals(),
            returns_net: fields.signed(),
            moved: fields.signed(),
        };
        fields.end(row)
    }
}

impl Row for EventIdRow {
    const TABLE: Table = Table::EventIds;

    fn pack(&self, out: &mut Vec<u8>) {
        out.push(SCHEMA);
        put(out, self.terminal);
        put(out, self.epoch);
        put(out, self.seq);
        out.extend(self.content.to_le_bytes());
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let (terminal, epoch, seq) = (fields.number(), fields.number(), fields.number());
        let (content, rest) = fields.rest.split_first_chunk::<8>()?;
        fields.rest = rest;
        fields.end(Self {
            terminal,
            epoch,
            seq,
            content: u64::from_le_bytes(*content),
        })
    }
}

impl Row for QuarantineRow {
    const TABLE: Table = Table::Quarantine;

    fn pack(&self, out: &mut Vec<u8>) {
        out.push(SCHEMA);
        put(out, self.reason);
        put_signed(out, self.received_at_us);
        put(out, self.position);
        put(out, self.sku);
        put_signed(out, self.quantity);
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let row = Self {
            reason: fields.number(),
            received_at_us: fields.signed(),
            position: fields.number(),
            sku: fields.number(),
            quantity: fields.signed(),
        };
        fields.end(row)
    }
}

impl Row for String {
    const TABLE: Table = Table::Names;

    fn pack(&self, out: &mut Vec<u8>) {
        out.push(SCHEMA);
        put_text(out, self);
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let name = fields.text();
        fields.end(name)
    }
}
