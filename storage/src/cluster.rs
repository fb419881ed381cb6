//! What several engine nodes on one store of rows agree on: who serves which store, and what a commit is.
//!
//! Everything here is pure: no I/O, no clock. A driver feeds it what the store answered and does what it says.

mod chain;
mod commit;
mod constraints;
mod days;
mod fold;
mod found;
mod log;
mod maintenance;
mod membership;
mod parts;
mod rebuild;
mod retain;
mod row;
mod slot;
mod store;
mod writer;

pub use chain::ChainId;
pub use commit::{Commit, INDEX_BITS, RECORDS_MAX};
pub use constraints::{Constraint, Constraints};
pub use days::DueDay;
pub use found::Found;
pub use log::{FoundLog, Log, Seal, records_of};
pub use maintenance::{LogNote, LogStart, Maintenance, SlotBase};
pub use membership::{Duty, MemberConfig, Membership, Route};
pub use parts::read::entry_of;
pub use parts::{
    LogError, PART_BYTES_MAX, PART_DELETE_STAMP, PART_STAMP, PARTS_MAX, PartSet, PartSetKey, Unfit,
};
pub use rebuild::{RebuildError, RebuildStep, Rebuilt, Scratch, rebuild};
pub use retain::{RetainError, RetainRequest, RetainStep, Retained, retain};
pub use row::{Change, Conditional, NodeId, NodeRow, SlotRow};
pub use slot::{SLOTS_DEFAULT, SLOTS_MAX, slot_of};
pub use store::{Decided, FlushLog, Handoff, InboxId, SharedStore, UnknownId, change_slot};
pub use writer::{Action, Answer, Command, End, Flush, NotNow, SlotWriter};
