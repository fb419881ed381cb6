//! What commands do to a chain's shared store, and engines never: its log begins later, its tables are emptied.

use std::sync::Arc;

use bytes::Bytes;

use super::{Commit, SharedStore};
use crate::num::{u32_at, u64_at};
use crate::views::StoreError;

/// Every row of a slot as it was at a flush, kept as records in the format of the journal's base. Whoever makes rows from the log
/// starts from it, and needs no flush up to that one.
///
/// What says which records they are is 80 bytes, all numbers little-endian:
///
/// | at | bytes | what |
/// |---|---|---|
/// | 0 | 4 | `TBAS` |
/// | 4 | 1 | version, 1 |
/// | 5 | 3 | zero |
/// | 8 | 4 | slot |
/// | 12 | 4 | number of records |
/// | 16 | 8 | flush |
/// | 24 | 16 | id of this base: two that are made at the same time are two |
/// | 40 | 32 | SHA-256 over the records in order |
/// | 72 | 4 | zero |
/// | 76 | 4 | CRC-32C of bytes 0..76 |
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SlotBase {
    /// The slot.
    pub slot: u32,
    /// The flush up to which it holds everything.
    pub flush: u64,
    /// Its own id.
    pub id: [u8; 16],
    /// Number of its records.
    pub records: u32,
    /// SHA-256 of them.
    pub digest: [u8; 32],
}

impl SlotBase {
    /// Bytes of an encoded one.
    pub const BYTES: usize = 80;

    const MAGIC: [u8; 4] = *b"TBAS";
    const VERSION: u8 = 1;

    /// As it stands in the store.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0_u8; Self::BYTES];
        out[..4].copy_from_slice(&Self::MAGIC);
        out[4] = Self::VERSION;
        out[8..12].copy_from_slice(&self.slot.to_le_bytes());
        out[12..16].copy_from_slice(&self.records.to_le_bytes());
        out[16..24].copy_from_slice(&self.flush.to_le_bytes());
        out[24..40].copy_from_slice(&self.id);
        out[40..72].copy_from_slice(&self.digest);
        let crc = crc32c::crc32c(&out[..76]);
        out[76..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads one back; `None` for bytes that are none of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let is_whole = crc32c::crc32c(&bytes[..76]) == u32_at(bytes, 76);
        if bytes[..4] != Self::MAGIC || bytes[4] != Self::VERSION || !is_whole {
            return None;
        }
        Some(Self {
            slot: u32_at(bytes, 8),
            records: u32_at(bytes, 12),
            flush: u64_at(bytes, 16),
            id: bytes[24..40].try_into().ok()?,
            digest: bytes[40..72].try_into().ok()?,
        })
    }
}

/// Where the log of a slot begins.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogStart {
    /// Records of flushes up to this one are dropped; some may still be there.
    pub dropped: u64,
    /// They were received before this time, in microseconds since 1970 UTC.
    pub before_us: i64,
    /// Up to this flush all of them are deleted.
    pub cleared: u64,
    /// The rows that stand in for them.
    pub base: Option<SlotBase>,
}

/// A change of a [`LogStart`]. Each goes up only: what says less than is there changes nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogNote {
    /// A base is whole.
    Base(SlotBase),
    /// Flushes up to this one are dropped; their records were received before this time.
    Dropped(u64, i64),
    /// All of them up to this one are deleted.
    Cleared(u64),
}

/// What commands need of a shared store beside what engines do. Calls block, as all of [`SharedStore`].
pub trait Maintenance: SharedStore {
    /// Whether [`Self::clear`] can be done now. Asked before anything is changed.
    ///
    /// # Errors
    /// [`StoreError::Failed`] says what keeps it.
    fn may_clear(&self) -> Result<(), StoreError>;

    /// Empties every table that is made from the log: facts, what points to records, rows, and the rows of flushes on their
    /// way. Names stay: they are a set, and some come before their records.
    ///
    /// # Errors
    /// See [`SharedStore::all_slots`]. Some of them may be empty then.
    fn clear(&self) -> Result<(), StoreError>;

    /// Where the log of a slot begins.
    ///
    /// # Errors
    /// See [`SharedStore::all_slots`].
    fn log_start(&self, slot: u32) -> Result<LogStart, StoreError>;

    /// Says where the log of a slot begins.
    ///
    /// # Errors
    /// See [`SharedStore::all_slots`].
    fn note(&self, slot: u32, note: &LogNote) -> Result<(), StoreError>;

    /// Writes records of a base, the first of them under number `from`.
    ///
    /// # Errors
    /// See [`SharedStore::all_slots`].
    fn put_base(&self, base: &SlotBase, from: u32, records: &[Bytes]) -> Result<(), StoreError>;

    /// Up to `count` records of a base from number `from` on, in order, as far as they are there.
    ///
    /// # Errors
    /// See [`SharedStore::all_slots`].
    fn base_records(
        &self,
        base: &SlotBase,
        from: u32,
        count: u32,
    ) -> Result<Vec<Bytes>, StoreError>;

    /// Deletes a base that nobody starts from any more.
    ///
    /// # Errors
    /// See [`SharedStore::all_slots`].
    fn forget_base(&self, base: &SlotBase) -> Result<(), StoreError>;

    /// Deletes what points to the records of commits, and the facts of the quarters of an hour that they are in, as far as they
    /// were received before a time. Once more changes nothing. The log itself stays.
    ///
    /// # Errors
    /// See [`SharedStore::all_slots`].
    fn forget_facts(&self, commits: &[Arc<Commit>], before_us: i64) -> Result<(), StoreError>;

    /// Deletes the log of flushes `first` to `last`.
    ///
    /// # Errors
    /// See [`SharedStore::all_slots`].
    fn forget_log(&self, slot: u32, flushes: (u64, u64)) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::SlotBase;

    #[test]
    fn the_bytes_of_a_base_never_change() {
        let base = SlotBase {
            slot: 7,
            flush: 4_711,
            id: [3; 16],
            records: 12,
            digest: [9; 32],
        };
        let hex: String = base
            .encode()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, GOLDEN);
        assert_eq!(SlotBase::decode(&base.encode()), Some(base));
        for at in 0..SlotBase::BYTES {
            let mut bytes = base.encode();
            bytes[at] ^= 1;
            assert_eq!(SlotBase::decode(&bytes), None, "byte {at}");
        }
    }

    const GOLDEN: &str = "5442415301000000070000000c00000067120000000000000303030303030303\
        03030303030303030909090909090909090909090909090909090909090909090909090909090909\
        0000000069852f82";
}
