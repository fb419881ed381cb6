//! What changes for an engine where several share the stores of a chain.

use till_protocol::id::StoreId;

/// When an event that is in the journal of its engine is committed: when no loss of one disk can take it away again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Commits {
    /// At once: the journal is all there is.
    #[default]
    WithJournal,
    /// When [`Handle::committed`](crate::Handle::committed) says so.
    Apart,
}

/// Where a store is served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Location {
    /// By this engine.
    Here,
    /// By another one, at this address for devices (`host:port`, at most 255 bytes).
    There(String),
    /// By none for the moment.
    Nobody,
}

/// Knows where stores are served.
///
/// It is asked at each Hello at the moment when a shard answers it, and [`is_here`](Self::is_here) for each message of a device
/// after that: neither may block. [`Location::Here`] is for an engine that surely knows how far the store's terminals are.
/// `is_here` may stay true for longer: whoever is in a session was nowhere else since. Once it says that a store is not here,
/// nothing of that store is applied any more but what a shard was at in that moment; whatever is put into the mailbox of a shard
/// after that comes behind it.
pub trait Placement: Send + Sync {
    /// Where a store is served now.
    fn locate(&self, store: StoreId) -> Location;

    /// Whether this engine serves a store now.
    fn is_here(&self, store: StoreId) -> bool {
        self.locate(store) == Location::Here
    }
}

/// The placement of an engine that serves all stores.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Placement for Alone {
    fn locate(&self, _store: StoreId) -> Location {
        Location::Here
    }

    fn is_here(&self, _store: StoreId) -> bool {
        true
    }
}

/// A place of the own journal among those of the shared store: behind all of them.
pub(crate) const fn own_position(position: u64) -> u64 {
    (1 << 63) | position
}

/// Whether a fact lies at such an LSN: in the journal of this engine, and not among the facts of the shared store.
pub(crate) const fn is_own_position(position: u64) -> bool {
    position >> 63 == 1
}
