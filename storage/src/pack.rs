//! Rows and their keys as bytes: what stores of rows and the base keep.
//!
//! Keys are big-endian with signs flipped, so that their bytes sort as the keys do. A row is a schema byte and then its
//! fields in order as variable-length integers (seven bits a byte, signed ones zigzag): most sums are small, and a row
//! of an hour takes about 20 bytes instead of 130. Writing the same row gives the same bytes.

mod row;

use till_core::{Dim, QuarantineKey, RollupKey, Space};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};

/// The tables. The numbers are on disk and never change.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Table {
    /// Stores by number.
    Stores = 1,
    /// Terminals by store and till.
    Terminals = 2,
    /// Stock by store and SKU.
    Skus = 3,
    /// Sums by store, dimension, day, hour and key.
    Rollups = 4,
    /// Events by event id.
    EventIds = 5,
    /// Quarantine by terminal, epoch, sequence number and line.
    Quarantine = 6,
    /// Names by space and id.
    Names = 7,
}

impl Table {
    /// All tables by number.
    pub const ALL: [Self; 7] = [
        Self::Stores,
        Self::Terminals,
        Self::Skus,
        Self::Rollups,
        Self::EventIds,
        Self::Quarantine,
        Self::Names,
    ];

    /// The table with this number on disk.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Stores),
            2 => Some(Self::Terminals),
            3 => Some(Self::Skus),
            4 => Some(Self::Rollups),
            5 => Some(Self::EventIds),
            6 => Some(Self::Quarantine),
            7 => Some(Self::Names),
            _ => None,
        }
    }

    /// The number on disk.
    #[expect(clippy::as_conversions, reason = "a repr(u8) enum's own number")]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name in errors and file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stores => "stores",
            Self::Terminals => "terminals",
            Self::Skus => "skus",
            Self::Rollups => "rollups",
            Self::EventIds => "event_ids",
            Self::Quarantine => "quarantine",
            Self::Names => "names",
        }
    }
}

/// A key of a table as bytes that sort as the keys do.
pub trait Key: Sized {
    /// The bytes.
    fn to_key(&self) -> Vec<u8>;
    /// Reads the key back; `None` for bytes that are no such key.
    fn from_key(bytes: &[u8]) -> Option<Self>;
}

/// A row as bytes.
pub trait Row: Sized {
    /// The table of such rows.
    const TABLE: Table;
    /// Appends the bytes, the schema byte first.
    fn pack(&self, out: &mut Vec<u8>);
    /// Reads the row back; `None` for bytes that are no such row, or one of a newer schema.
    fn unpack(bytes: &[u8]) -> Option<Self>;

    /// The bytes.
    fn to_row(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        self.pack(&mut out);
        out
    }
}

struct Parts<'a>(&'a [u8]);

impl Parts<'_> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        let (first, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*first))
    }

    fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*first))
    }

    fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

const SIGN: u64 = 1 << 63;

// Flips the sign bit, so that negative numbers sort before positive ones.
const fn ordered(value: i64) -> u64 {
    value.cast_unsigned() ^ SIGN
}

const fn from_ordered(value: u64) -> i64 {
    (value ^ SIGN).cast_signed()
}

impl Key for StoreId {
    fn to_key(&self) -> Vec<u8> {
        self.get().to_be_bytes().to_vec()
    }

    fn from_key(bytes: &[u8]) -> Option<Self> {
        let mut parts = Parts(bytes);
        let store = Self::new(parts.u32()?).ok()?;
        parts.end(store)
    }
}

impl Key for TerminalId {
    fn to_key(&self) -> Vec<u8> {
        self.to_u64().to_be_bytes().to_vec()
    }

    fn from_key(bytes: &[u8]) -> Option<Self> {
        let mut parts = Parts(bytes);
        let terminal = Self::from_u64(parts.u64()?).ok()?;
        parts.end(terminal)
    }
}

impl Key for (StoreId, SkuId) {
    fn to_key(&self) -> Vec<u8> {
        let mut out = self.0.to_key();
        out.extend(self.1.get().to_be_bytes());
        out
    }

    fn from_key(bytes: &[u8]) -> Option<Self> {
        let mut parts = Parts(bytes);
        let store = StoreId::new(parts.u32()?).ok()?;
        let sku = SkuId::from_u64(parts.u64()?);
        parts.end((store, sku))
    }
}

impl Key for RollupKey {
    fn to_key(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(23);
        out.extend(self.store.to_be_bytes());
        out.push(self.dim.number());
        out.extend(self.day.to_be_bytes());
        out.extend(ordered(self.hour_us).to_be_bytes());
        out.extend(self.key.to_be_bytes());
        out
    }

    fn from_key(bytes: &[u8]) -> Option<Self> {
        let mut parts = Parts(bytes);
        let key = Self {
            store: parts.u32()?,
            dim: Dim::from_u8(parts.u8()?)?,
            day: parts.u16()?,
            hour_us: from_ordered(parts.u64()?),
            key: parts.u64()?,
        };
        parts.end(key)
    }
}

impl Key for EventId {
    fn to_key(&self) -> Vec<u8> {
        self.to_bytes().to_vec()
    }

    fn from_key(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_bytes)
    }
}

impl Key for QuarantineKey {
    fn to_key(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(22);
        out.extend(self.terminal.to_be_bytes());
        out.extend(self.epoch.to_be_bytes());
        out.extend(self.seq.to_be_bytes());
        out.extend(self.line.to_be_bytes());
        out
    }

    fn from_key(bytes: &[u8]) -> Option<Self> {
        let mut parts = Parts(bytes);
        let key = Self {
            terminal: parts.u64()?,
            epoch: parts.u32()?,
            seq: parts.u64()?,
            line: parts.u16()?,
        };
        parts.end(key)
    }
}

impl Key for (Space, u64) {
    fn to_key(&self) -> Vec<u8> {
        let space = match self.0 {
            Space::Sku => 1,
            Space::Tender => 2,
        };
        let mut out = vec![space];
        out.extend(self.1.to_be_bytes());
        out
    }

    fn from_key(bytes: &[u8]) -> Option<Self> {
        let mut parts = Parts(bytes);
        let space = match parts.u8()? {
            1 => Space::Sku,
            2 => Space::Tender,
            _ => return None,
        };
        let id = parts.u64()?;
        parts.end((space, id))
    }
}

#[cfg(test)]
mod tests;
