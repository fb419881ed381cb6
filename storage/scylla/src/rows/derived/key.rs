//! Partitions, and the numbers that keys are made of.

use till_core::{Dim, Space};
use till_protocol::id::StoreId;

/// Partitions that the stores are spread over.
pub(crate) const STORE_PARTS: i32 = 16;
/// Partitions that the SKUs of a store are spread over.
pub(crate) const SKU_BUCKETS: i32 = 64;
/// Partitions that a day's sums by SKU are spread over.
pub(crate) const ROLLUP_BUCKETS: i32 = 8;

/// The partition of a store.
pub(crate) fn part_of_store(store: StoreId) -> i32 {
    signed(store.get()) % STORE_PARTS
}

/// The partition of a SKU within its store.
pub(crate) fn bucket_of_sku(sku: u64) -> i32 {
    low_bits(sku, SKU_BUCKETS)
}

/// The partition of a sum within its day.
pub(crate) fn bucket_of_rollup(dim: Dim, key: u64) -> i32 {
    match dim {
        Dim::Sku => low_bits(key, ROLLUP_BUCKETS),
        Dim::Store | Dim::Category | Dim::Tender | Dim::Operator => 0,
    }
}

/// Buckets of a dimension.
pub(crate) const fn buckets_of(dim: Dim) -> i32 {
    match dim {
        Dim::Sku => ROLLUP_BUCKETS,
        Dim::Store | Dim::Category | Dim::Tender | Dim::Operator => 1,
    }
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
