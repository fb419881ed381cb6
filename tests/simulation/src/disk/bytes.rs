//! The bytes of a file: those that readers see, and those that survive.

use super::DiskCounts;
use crate::rng::Rng;

/// Smallest chunk that is written whole or not at all.
pub(super) const SECTOR: usize = 512;

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct DiskNode {
    /// What readers see.
    pub(super) data: Vec<u8>,
    /// What survives a loss of power.
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<(usize, Vec<u8>)>,
    pub(super) resized: bool,
}

impl DiskNode {
    pub(super) fn write(&mut self, at: usize, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        overlay(&mut self.data, at, &bytes);
        self.pending.push((at, bytes));
    }

    pub(super) fn sync(&mut self) {
        if self.resized {
            self.durable.resize(self.data.len(), 0);
            self.resized = false;
        }
        for (at, bytes) in std::mem::take(&mut self.pending) {
            overlay(&mut self.durable, at, &bytes);
        }
    }

    pub(super) fn lose(&mut self, rng: &mut Rng, counts: &mut DiskCounts) {
        if self.resized && rng.one_in(2) {
            self.durable.resize(self.data.len(), 0);
        }
        self.resized = false;
        for (at, bytes) in std::mem::take(&mut self.pending) {
            let (mut from, mut kept, mut lost) = (0, 0, 0);
            while from < bytes.len() {
                // Up to the next border of a sector in the file.
                let step = (SECTOR - (at + from) % SECTOR).min(bytes.len() - from);
                if rng.one_in(2) {
                    overlay(&mut self.durable, at + from, &bytes[from..from + step]);
                    kept += 1;
                } else {
                    lost += 1;
                }
                from += step;
            }
            counts.torn += u64::from(kept > 0 && lost > 0);
            counts.lost_writes += u64::from(kept == 0);
        }
        self.data.clone_from(&self.durable);
    }
}

fn overlay(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[at..end].copy_from_slice(bytes);
}
