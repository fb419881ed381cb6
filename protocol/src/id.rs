//! Names of things: stores, tills, terminals, epochs, sequence numbers, SKUs and events.
//!
//! Every id is a type of its own with a private field, so that a store is never mistaken for a till.
//! Their `Display` forms can be pasted back into a command.

use std::fmt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// An id that no thing can have, with the range that it may come from.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("{what} {value} is outside {min}..={max}")]
pub struct IdError {
    what: &'static str,
    value: u64,
    min: u64,
    max: u64,
}

/// Largest store and till number: 2^31 - 1, so that both fit a signed CQL `int`.
pub const NUMBER_MAX: u32 = i32::MAX.unsigned_abs();

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(u32);

        impl $name {
            /// Makes the id, or says why the number cannot be one (1 to [`NUMBER_MAX`]).
            ///
            /// # Errors
            /// Returns [`IdError`] for 0 and for numbers above 2^31 - 1.
            pub const fn new(number: u32) -> Result<Self, IdError> {
                if number == 0 || number > NUMBER_MAX {
                    return Err(IdError {
                        what: $what,
                        value: u64_of(number),
                        min: 1,
                        max: u64_of(NUMBER_MAX),
                    });
                }
                Ok(Self(number))
            }

            /// The number itself.
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

#[expect(
    clippy::as_conversions,
    reason = "u32 to u64 widens; From is not const"
)]
const fn u64_of(number: u32) -> u64 {
    number as u64
}

number_id!(
    /// A retail location: the unit of stock, of rollups and of routing to shards.
    StoreId,
    "store"
);
number_id!(
    /// A till within its store (POSLog: WorkstationID).
    TillId,
    "till"
);

/// A till of a store: the source of one gap-free sequence of events.
///
/// Stored as one u64, the store in the upper 32 bits. A till that moves store is another terminal.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TerminalId {
    store: StoreId,
    till: TillId,
}

impl TerminalId {
    /// The terminal of a till in a store.
    pub const fn new(store: StoreId, till: TillId) -> Self {
        Self { store, till }
    }

    /// Reads a terminal back from its u64.
    ///
    /// # Errors
    /// Returns [`IdError`] when the store or the till part is not a valid number.
    pub fn from_u64(value: u64) -> Result<Self, IdError> {
        let [s0, s1, s2, s3, t0, t1, t2, t3] = value_bytes(value);
        Ok(Self {
            store: StoreId::new(u32_of([s0, s1, s2, s3]))?,
            till: TillId::new(u32_of([t0, t1, t2, t3]))?,
        })
    }

    /// The terminal as one number: store in the upper, till in the lower 32 bits.
    pub const fn to_u64(self) -> u64 {
        (u64_of(self.store.0) << 32) | u64_of(self.till.0)
    }

    /// The store that the terminal belongs to.
    pub const fn store(self) -> StoreId {
        self.store
    }

    /// The till within the store.
    pub const fn till(self) -> TillId {
        self.till
    }
}

// Most significant byte first, without naming host or network order.
fn value_bytes(value: u64) -> [u8; 8] {
    let mut bytes = value.to_le_bytes();
    bytes.reverse();
    bytes
}

fn u32_of(mut bytes: [u8; 4]) -> u32 {
    bytes.reverse();
    u32::from_le_bytes(bytes)
}

impl fmt::Display for TerminalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.store, self.till)
    }
}

/// One epoch of a terminal's storage, from 1. It rises when a device loses or restores its storage, so that "sequence 1
/// again" is a new epoch and not a duplicate.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Epoch(u32);

impl Epoch {
    /// The first epoch of a terminal.
    pub const FIRST: Self = Self(1);

    /// Makes the epoch.
    ///
    /// # Errors
    /// Returns [`IdError`] for 0 and for numbers above 2^31 - 1.
    pub const fn new(number: u32) -> Result<Self, IdError> {
        if number == 0 || number > NUMBER_MAX {
            return Err(IdError {
                what: "epoch",
                value: u64_of(number),
                min: 1,
                max: u64_of(NUMBER_MAX),
            });
        }
        Ok(Self(number))
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The epoch after this one, or `None` after the last.
    pub const fn next(self) -> Option<Self> {
        match Self::new(self.0 + 1) {
            Ok(next) => Some(next),
            Err(_) => None,
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of an event in its terminal's epoch: gap-free, from 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Seq(u64);

impl Seq {
    /// The first event of an epoch.
    pub const FIRST: Self = Self(1);
    /// The largest sequence number: 2^62, so that a frame's last number never overflows and fits a CQL `bigint`.
    pub const MAX: Self = Self(1 << 62);

    /// Makes the sequence number.
    ///
    /// # Errors
    /// Returns [`IdError`] for 0 and for numbers above [`Self::MAX`].
    pub const fn new(number: u64) -> Result<Self, IdError> {
        if number == 0 || number > Self::MAX.0 {
            return Err(IdError {
                what: "sequence number",
                value: number,
                min: 1,
                max: Self::MAX.0,
            });
        }
        Ok(Self(number))
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number `count` places further; stops at `u64::MAX`, which no valid frame reaches.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// How many places `self` lies ahead of `earlier`; 0 when it does not.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A stock keeping unit: the first 8 bytes of SHA-256 of its code, read little-endian.
///
/// It is the same number on every node and device. The code behind it travels once, as a text of kind
/// [`SKU_CODE`](crate::family::text::SKU_CODE) in the frame that first uses it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SkuId(u64);

impl SkuId {
    /// The id of a code.
    pub fn of_code(code: &str) -> Self {
        Self(first_u64_of_sha256(&[code.as_bytes()]))
    }

    /// An id as it stands in a record. Every number is possible.
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SkuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:016x}", self.0)
    }
}

/// First 8 bytes of SHA-256 over the parts, read little-endian: the one short hash of this protocol.
pub fn first_u64_of_sha256(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// What the source itself calls an event: 16 bytes, remembered for ever.
///
/// For sources without an outbox (files, HTTP, webhooks). The same id with the same content is a duplicate; with other
/// content it is quarantined as a conflict.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventId([u8; 16]);

impl EventId {
    /// An event id from its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes themselves.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The id as it is remembered: the first 16 bytes of SHA-256 over store (u32, little-endian) and id. Sources of two
    /// stores may number their events alike, and stores live in different shards.
    #[must_use]
    pub fn in_store(self, store: StoreId) -> Self {
        let mut hash = Sha256::new();
        hash.update(store.get().to_le_bytes());
        hash.update(self.0);
        let digest: [u8; 32] = hash.finalize().into();
        let (first, _) = digest.split_at(16);
        let mut scoped = [0; 16];
        scoped.copy_from_slice(first);
        Self(scoped)
    }

    /// What an event with this id and another content than the id stands for is remembered by: the first 16 bytes of
    /// SHA-256 over id and content hash (u64, little-endian).
    #[must_use]
    pub fn with_content(self, content: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(content.to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let (first, _) = digest.split_at(16);
        let mut pair = [0; 16];
        pair.copy_from_slice(first);
        Self(pair)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
