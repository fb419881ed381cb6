//! The keys that get most of the work, in memory that does not grow (space-saving).

use std::mem;

/// Keys that are kept.
const KEYS_MAX: usize = 64;
/// Keys that are told.
const TOP: usize = 8;

/// Counts the heaviest keys of a stream. A count is at most too high by the smallest one kept.
#[derive(Debug, Default)]
pub(crate) struct Sketch {
    entries: Vec<(u64, u64)>,
}

impl Sketch {
    pub(crate) fn add(&mut self, key: u64, weight: u64) {
        if let Some(at) = self.entries.iter().position(|entry| entry.0 == key) {
            if let Some(entry) = self.entries.get_mut(at) {
                entry.1 += weight;
            }
            // Hot keys wander to the front, where they are found first.
            if at > 0 {
                self.entries.swap(at, at / 2);
            }
            return;
        }
        if self.entries.len() < KEYS_MAX {
            self.entries.push((key, weight));
            return;
        }
        if let Some(least) = self.entries.iter_mut().min_by_key(|entry| entry.1) {
            *least = (key, least.1 + weight);
        }
    }

    /// The heaviest keys since the last take, heaviest first.
    pub(crate) fn take(&mut self) -> Vec<(u64, u64)> {
        let mut entries = mem::take(&mut self.entries);
        entries.sort_unstable_by_key(|(key, weight)| (std::cmp::Reverse(*weight), *key));
        entries.truncate(TOP);
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_a_large_share_is_always_found() {
        let mut sketch = Sketch::default();
        for number in 0..100_000_u64 {
            sketch.add(1_000 + number, 1);
            if number % 10 == 0 {
                sketch.add(7, 1);
            }
        }
        let top = sketch.take();
        assert_eq!(top[0].0, 7);
        assert!(top[0].1 >= 10_000 && top.len() <= TOP);
        assert!(sketch.take().is_empty());
    }
}
