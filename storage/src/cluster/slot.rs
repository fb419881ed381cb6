//! Slots: the unit in which stores change hands.

use till_protocol::id::StoreId;

/// Slots of a schema that does not say otherwise. Enough that a few dozen nodes share them evenly.
pub const SLOTS_DEFAULT: u32 = 256;
/// Most slots of a schema: each costs its owner a conditional write per flush.
pub const SLOTS_MAX: u32 = 4_096;

/// The slot of a store among so many. Frozen: rows on a cluster's disks depend on it. The finaliser of splitmix64 (Steele,
/// Lea, Flood 2014) spreads consecutive numbers evenly.
pub fn slot_of(store: StoreId, slots: u32) -> u32 {
    let mut hash = u64::from(store.get()).wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    u32::try_from(hash % u64::from(slots.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(number: u32) -> StoreId {
        StoreId::new(number).unwrap()
    }

    #[test]
    fn the_slots_of_stores_never_change() {
        let slots: Vec<u32> = [1, 2, 3, 1_000, 2_147_483_647]
            .map(|number| slot_of(store(number), 256))
            .to_vec();
        assert_eq!(slots, FROZEN);
    }

    const FROZEN: [u32; 5] = [193, 206, 237, 72, 231];

    #[test]
    fn consecutive_stores_spread_evenly() {
        let mut counts = [0_u32; 64];
        for number in 1..=6_400 {
            let slot = usize::try_from(slot_of(store(number), 64)).unwrap();
            counts[slot] += 1;
        }
        assert!(counts.iter().all(|count| (60..=145).contains(count)));
    }
}
