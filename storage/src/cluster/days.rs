//! Days whose sums are to be made of those of their hours, once they are over.

use till_protocol::id::StoreId;

/// A day of a store of which hours were written, and whose own sums do not have that yet.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DueDay {
    /// The store.
    pub store: StoreId,
    /// Business day in days since 1970-01-01.
    pub day: u16,
    /// The last flush that wrote hours of it.
    pub flush: u64,
}
