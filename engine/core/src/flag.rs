//! Flags: what was odd about an event that was taken all the same, and about a SKU.
//!
//! Flags are bits of a u32 that is journalled (events) or stored (SKUs, terminals); a bit never changes its meaning. Bit 8 of
//! events was used once, and is not used again.

/// The tenders do not pay what is due.
pub const UNBALANCED: u32 = 1;
/// A SKU of the event has no name. Of an event without effect: it brings a name whose id has another.
pub const UNNAMED_SKU: u32 = 1 << 1;
/// The device's clock was more than a day off at Hello.
pub const CLOCK_SUSPECT: u32 = 1 << 2;
/// The event claims a time that lies in the future of its receipt.
pub const FUTURE: u32 = 1 << 3;
/// Card data was found in the event and masked.
pub const CARD_MASKED: u32 = 1 << 4;
/// The event is older than a day at its receipt.
pub const LATE: u32 = 1 << 5;
/// The event made a stock level negative. Shown, never journalled: a level is a matter of what came before.
pub const NEGATIVE: u32 = 1 << 6;
/// The event was rung up in training mode.
pub const TRAINING: u32 = 1 << 7;

/// The event flags that have a name here, with their names.
pub const NAMES: [(u32, &str); 8] = [
    (UNBALANCED, "unbalanced"),
    (UNNAMED_SKU, "unnamed_sku"),
    (CLOCK_SUSPECT, "clock_suspect"),
    (FUTURE, "future"),
    (CARD_MASKED, "card_masked"),
    (LATE, "late"),
    (NEGATIVE, "negative"),
    (TRAINING, "training"),
];

/// The names of the event flags that are set, in the order of their bits.
pub fn names(flags: u32) -> impl Iterator<Item = &'static str> {
    set_in(&NAMES, flags)
}

/// Flags of a SKU's stock in a store.
pub mod sku {
    /// The level is below zero.
    pub const NEGATIVE: u32 = 1;
    /// The SKU's id has no name yet.
    pub const UNNAMED: u32 = 1 << 1;
    /// The level left its range: movements wait in the quarantine until it is recomputed.
    pub const PARKED: u32 = 1 << 2;

    /// The SKU flags that have a name here, with their names.
    pub const NAMES: [(u32, &str); 3] = [
        (NEGATIVE, "negative"),
        (UNNAMED, "unnamed"),
        (PARKED, "parked"),
    ];

    /// The names of the SKU flags that are set, in the order of their bits.
    pub fn names(flags: u32) -> impl Iterator<Item = &'static str> {
        super::set_in(&NAMES, flags)
    }
}

fn set_in(table: &'static [(u32, &'static str)], flags: u32) -> impl Iterator<Item = &'static str> {
    table
        .iter()
        .filter(move |(bit, _)| flags & bit != 0)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_the_order_of_their_bits() {
        let found: Vec<_> = names(LATE | UNBALANCED | CARD_MASKED).collect();
        assert_eq!(found, ["unbalanced", "card_masked", "late"]);
        assert_eq!(
            sku::names(sku::PARKED | sku::NEGATIVE).collect::<Vec<_>>(),
            ["negative", "parked"]
        );
    }
}
