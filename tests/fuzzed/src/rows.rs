//! Rows and keys of the stores, as any bytes that a store may give back.

use std::fmt::Debug;

use till_core::{
    EventIdRow, QuarantineKey, QuarantineRow, RollupKey, RollupRow, SkuRow, Space, StoreRow,
    TerminalRow,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};
use till_storage::pack::{Key, Row, Table};

/// A row or, with the highest bit set, a key of the table that the first byte names.
pub(crate) fn rows(bytes: &[u8]) {
    let Some((table, rest)) = bytes.split_first() else {
        return;
    };
    let is_key = *table >= 0x80;
    match Table::from_u8(table & 0x7f) {
        Some(Table::Stores) => either::<StoreId, StoreRow>(is_key, rest),
        Some(Table::Terminals) => either::<TerminalId, TerminalRow>(is_key, rest),
        Some(Table::Skus) => either::<(StoreId, SkuId), SkuRow>(is_key, rest),
        Some(Table::Rollups) => either::<RollupKey, RollupRow>(is_key, rest),
        Some(Table::EventIds) => either::<EventId, EventIdRow>(is_key, rest),
        Some(Table::Quarantine) => either::<QuarantineKey, QuarantineRow>(is_key, rest),
        Some(Table::Names) => either::<(Space, u64), String>(is_key, rest),
        None => {}
    }
}

fn either<K: Key + PartialEq + Debug, R: Row + PartialEq + Debug>(is_key: bool, bytes: &[u8]) {
    match is_key {
        true => key::<K>(bytes),
        false => row::<R>(bytes),
    }
}

// A key has one form: stores compare the bytes.
fn key<K: Key + PartialEq + Debug>(bytes: &[u8]) {
    if let Some(key) = K::from_key(bytes) {
        assert_eq!(key.to_key(), bytes, "{key:?}");
    }
}

fn row<R: Row + PartialEq + Debug>(bytes: &[u8]) {
    if let Some(row) = R::unpack(bytes) {
        assert_eq!(R::unpack(&row.to_row()), Some(row));
    }
}
