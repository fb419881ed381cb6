//! The index beside a sealed segment: written once, from bytes that never change again.
//!
//! An index says in which entries of its segment something may be found. Who reads the entry decides; so an index may
//! name an entry too many, but never one too few. A missing or broken index is built again from the segment.

mod build;
mod fault;
mod file;
pub(crate) mod keys;

pub(crate) use build::{Builder, Run};
pub(crate) use fault::IndexFault;
pub(crate) use file::{IndexFile, PageCache, write as write_index};

/// Hours since 1970-01-01 UTC of a time in us.
pub fn hour_of(us: i64) -> i32 {
    i32::try_from(us.div_euclid(3_600_000_000)).unwrap_or(if us < 0 { i32::MIN } else { i32::MAX })
}

/// A receipt's hash: checksum of its text, mixed so that neighbouring numbers lie apart.
pub(crate) fn receipt_hash(text: &[u8]) -> u32 {
    let mut hash = crc32c::crc32c(text);
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// A filter of receipt hashes: says "surely not here" without reading the index.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Filter {
    bytes: Vec<u8>,
}

impl Filter {
    /// Bits per receipt; with four probes about 2 % of strangers pass.
    const BITS_EACH: usize = 8;

    pub(crate) fn of(hashes: impl ExactSizeIterator<Item = u32>) -> Self {
        let mut filter = Self {
            bytes: vec![0; (hashes.len() * Self::BITS_EACH).div_ceil(8)],
        };
        if !filter.bytes.is_empty() {
            for hash in hashes {
                for bit in filter.probes(hash) {
                    if let Some(byte) = filter.bytes.get_mut(bit / 8) {
                        *byte |= 1 << (bit % 8);
                    }
                }
            }
        }
        filter
    }

    pub(crate) const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn may_hold(&self, hash: u32) -> bool {
        if self.bytes.is_empty() {
            return false;
        }
        let set = |bit: usize| self.bytes[bit / 8] & (1 << (bit % 8)) != 0;
        self.probes(hash).into_iter().all(set)
    }

    // Places of a hash's bits. Only asked of a filter that is not empty.
    fn probes(&self, hash: u32) -> [usize; 4] {
        let bits = crate::num::wide(self.bytes.len() * 8);
        let wide = u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (one, two) = (wide >> 32, (wide & u64::from(u32::MAX)) | 1);
        [0, 1, 2, 3].map(|step: u64| crate::num::size(one.wrapping_add(step * two) % bits))
    }
}
