//! What several engine nodes on one store of rows agree on: who serves which store, and what a commit is.
//!
//! Everything here is pure: no I/O, no clock. A driver feeds it what the store answered and does what it says.

mod chain;
mod commit;
mod constraints;
mod found;
mod log;
mod membership;
mod row;
mod slot;
mod store;
mod writer;

pub use chain::ChainId;
pub use commit::{Commit, INDEX_BITS, RECORDS_MAX};
pub use constraints::{Constraint, Constraints};
pub use found::Found;
pub use log::{
    LOG_DELETE_STAMP, LOG_STAMP, Log, LogError, LogKey, PART_BYTES_MAX, PARTS_MAX, Unfit,
};
pub use membership::{Duty, MemberConfig, Membership, Route};
pub use row::{Change, Conditional, NodeId, NodeRow, SlotRow};
pub use slot::{SLOTS_DEFAULT, SLOTS_MAX, slot_of};
pub use store::{Decided, Handoff, InboxId, SharedStore, UnknownId};
pub use writer::{Action, Answer, Command, End, Flush, NotNow, SlotWriter};
