//! The bytes of every record, written and read field by field.
//!
//! This is the wire format in its plainest form: fields one after another, little-endian, without padding. It agrees with
//! the rkyv archives byte for byte; tests hold the two together. Builders write with it, the second decoder
//! ([`safe`](crate::safe)) reads with it.

use crate::family::{
    ArchivedReference, ArchivedText, Reference, Text, device, sale, sensor, stock,
};

/// A record with a fixed layout.
pub trait Layout: Copy {
    /// Bytes of one record.
    const BYTES: usize;

    /// Appends the record.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads a record from the start of `bytes`; `None` when there are fewer than [`Self::BYTES`].
    fn get(bytes: &[u8]) -> Option<Self>;
}

/// An archived record that can be read back into its native form.
pub trait Native {
    /// The native form.
    type Record: Layout;

    /// Copies the record out of the archive.
    fn native(&self) -> Self::Record;
}

trait Field: Copy {
    const BYTES: usize;
    fn read(bytes: &[u8]) -> Option<Self>;
}

macro_rules! field {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            const BYTES: usize = size_of::<$ty>();
            #[inline]
            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|chunk| Self::from_le_bytes(*chunk))
            }
        }
    )*};
}
field!(u8, u16, u32, u64, i16, i64);

// Bytes are their own little-endian form.
macro_rules! le {
    ($value:expr, bytes) => {
        $value
    };
    ($value:expr, $ty:ident) => {
        $value.to_le_bytes()
    };
}
macro_rules! field_bytes {
    (bytes) => {
        16
    };
    ($ty:ident) => {
        <$ty as Field>::BYTES
    };
}
macro_rules! read {
    ($bytes:expr, bytes) => {
        $bytes.first_chunk::<16>().copied()
    };
    ($bytes:expr, $ty:ident) => {
        <$ty as Field>::read($bytes)
    };
}
macro_rules! native {
    ($value:expr, bytes) => {
        $value
    };
    ($value:expr, u8) => {
        $value
    };
    ($value:expr, $ty:ident) => {
        $value.to_native()
    };
}

macro_rules! layout {
    ($name:ty, $archived:ty, $size:literal { $($field:ident: $ty:ident),* $(,)? }) => {
        const _: () = assert!(size_of::<$archived>() == $size);
        const _: () = assert!(0 $(+ field_bytes!($ty))* == $size);

        impl Layout for $name {
            const BYTES: usize = $size;

            #[inline]
            #[expect(unused_assignments, reason = "the last field ends the record")]
            fn put(&self, out: &mut Vec<u8>) {
                let mut record = [0_u8; $size];
                let mut at = 0;
                $(
                    let bytes = le!(self.$field, $ty);
                    record[at..at + field_bytes!($ty)].copy_from_slice(&bytes);
                    at += field_bytes!($ty);
                )*
                out.extend_from_slice(&record);
            }

            #[inline]
            #[expect(unused_assignments, reason = "the last field ends the record")]
            fn get(bytes: &[u8]) -> Option<Self> {
                let mut rest = bytes.get(..$size)?;
                $(
                    let $field = read!(rest, $ty)?;
                    rest = &rest[field_bytes!($ty)..];
                )*
                Some(Self { $($field),* })
            }
        }

        impl Native for $archived {
            type Record = $name;

            #[inline]
            fn native(&self) -> $name {
                Self::Record { $($field: native!(self.$field, $ty)),* }
            }
        }
    };
}

layout!(Text, ArchivedText, 6 { event: u16, item: u16, kind: u8, len: u8 });
layout!(Reference, ArchivedReference, 20 { event: u16, kind: u8, reserved: u8, value: bytes });
layout!(sale::v1::Sale, sale::v1::ArchivedSale, 34 {
    at: i64, receipt: u64, operator: u32, offset_min: i16, business_day: u16, lines: u16,
    taxes: u16, adjustments: u16, tenders: u8, kind: u8, flags: u16,
});
layout!(sale::v1::Line, sale::v1::ArchivedLine, 32 {
    sku: u64, quantity: i64, amount: i64, category: u32, kind: u8, unit: u8, flags: u16,
});
layout!(sale::v1::Tender, sale::v1::ArchivedTender, 10 { amount: i64, kind: u8, flags: u8 });
layout!(sale::v1::Tax, sale::v1::ArchivedTax, 22 {
    amount: i64, rate: i64, line: u16, code: u16, inclusive: u8, reserved: u8,
});
layout!(sale::v1::Adjustment, sale::v1::ArchivedAdjustment, 14 {
    amount: i64, line: u16, group: u16, kind: u8, reserved: u8,
});
layout!(sale::v1::TenderExtra, sale::v1::ArchivedTenderExtra, 12 {
    event: u16, tender: u8, kind: u8, amount: i64,
});
layout!(sale::v1::UnitPrice, sale::v1::ArchivedUnitPrice, 14 {
    event: u16, line: u16, price: i64, scale: u8, reserved: u8,
});
layout!(stock::v1::Move, stock::v1::ArchivedMove, 32 {
    at: i64, sku: u64, quantity: i64, offset_min: i16, kind: u8, unit: u8, reason: u16, flags: u16,
});
layout!(sensor::v1::Reading, sensor::v1::ArchivedReading, 34 {
    at: i64, sku: u64, value: i64, sensor: u32, offset_min: i16, kind: u8, unit: u8, flags: u16,
});
layout!(device::v1::Sign, device::v1::ArchivedSign, 32 {
    at: i64, backlog: u64, uptime_ms: u64, code: u32, offset_min: i16, kind: u8, flags: u8,
});

/// Bytes of one entry of the root: a relative pointer (i32) and a length (u32).
pub const VECTOR_BYTES: usize = 8;

/// Bytes of the entries of each vector of a family's root, in the order of the root.
pub const fn vectors(family: crate::family::Family) -> &'static [usize] {
    match family {
        crate::family::Family::Sale => &[34, 32, 10, 22, 14, 12, 14, 20, 6, 1],
        crate::family::Family::Stock | crate::family::Family::Device => &[32, 20, 6, 1],
        crate::family::Family::Sensor => &[34, 20, 6, 1],
    }
}
