//! A fast hash with a fixed seed: the same on every machine and in every run.

use std::hash::{BuildHasher, Hasher};

/// Odd constants without a pattern: the fractional parts of the golden ratio and of pi.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FOLD: u64 = 0x2437_54f7_3b3c_9d29;

/// Multiplies to 128 bits and folds the halves: every input bit reaches every output bit.
#[inline]
#[expect(clippy::as_conversions, reason = "the two halves of a u128")]
pub(crate) const fn fold(a: u64, b: u64) -> u64 {
    let wide = ((a ^ SEED) as u128).wrapping_mul((b ^ FOLD) as u128);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// Makes [`FixedHasher`]s.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FixedState;

impl BuildHasher for FixedState {
    type Hasher = FixedHasher;

    fn build_hasher(&self) -> FixedHasher {
        // Not SEED: folding starts with an exclusive or with it, and nothing comes back from zero.
        FixedHasher(0)
    }
}

/// Hashes the parts of a key one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0_u8; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.0 = fold(self.0, u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = fold(self.0, value);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map whose order never depends on the machine. Even so, nothing that leaves the crate is in the order of a map.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::{BuildHasher as _, Hash};

    use super::FixedState;

    /// Different hashes of 10,000 keys, of which a map's buckets are made.
    fn spread<K: Hash>(key: impl Fn(u64) -> K) -> usize {
        let hashes = (0..10_000).map(|number| FixedState.hash_one(key(number)));
        hashes.collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn keys_of_every_kind_have_hashes_of_their_own() {
        assert_eq!(spread(|number| number), 10_000);
        assert_eq!(spread(|number| format!("S{number}")), 10_000);
        assert_eq!(
            spread(|number| format!("a longer code {number} with an end")),
            10_000
        );
        assert_eq!(spread(|number| (7_u32, number)), 10_000);
    }
}
