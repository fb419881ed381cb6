//! Partitions, and the numbers that keys are made of.

use till_core::{Dim, Space};
use till_protocol::id::StoreId;

/// Partitions that the stores are spread over.
pub(crate) const STORE_PARTS: i32 = 16;
/// Partitions that the SKUs of a store are spread over.
pub(crate) const SKU_BUCKETS: i32 = 4;
/// Partitions that the stores of a receipt are spread over: one number may be on receipts of all of them.
pub(crate) const RECEIPT_PARTS: i32 = 16;

/// The partition of a store.
pub(crate) fn part_of_store(store: StoreId) -> i32 {
    signed(store.get()) % STORE_PARTS
}

/// The partition of a store's receipts.
pub(crate) const fn part_of_receipt(store: i32) -> i32 {
    store % RECEIPT_PARTS
}

/// The partition of an instant within its hour.
pub(crate) fn quarter_of(at_us: i64) -> i8 {
    let minute = at_us.div_euclid(60_000_000).rem_euclid(60);
    i8::try_from(minute / 15).unwrap_or(0)
}

/// The partition of a SKU within its store.
pub(crate) fn bucket_of_sku(sku: u64) -> i32 {
    low_bits(sku, SKU_BUCKETS)
}

fn low_bits(number: u64, buckets: i32) -> i32 {
    let buckets = u64::from(buckets.unsigned_abs());
    i32::try_from(number % buckets).unwrap_or(0)
}

/// A number as the table has it; one that no table column holds does not occur.
pub(crate) const fn signed(number: u32) -> i32 {
    number.cast_signed()
}

/// The number of a dimension as the tables have it.
pub(crate) fn dim_cell(dim: Dim) -> i8 {
    i8::try_from(dim.number()).unwrap_or(0)
}

/// The number of a space as the tables have it.
pub(crate) const fn space_cell(space: Space) -> i8 {
    match space {
        Space::Sku => 1,
        Space::Tender => 2,
    }
}

/// The space of a number in the tables.
pub(crate) const fn space_of(number: i8) -> Option<Space> {
    match number {
        1 => Some(Space::Sku),
        2 => Some(Space::Tender),
        _ => None,
    }
}

/// The store of a terminal, or of the key of a store, as the tables have it.
pub(crate) fn store_of(terminal: u64) -> i32 {
    i32::try_from(terminal >> 32).unwrap_or(0)
}
