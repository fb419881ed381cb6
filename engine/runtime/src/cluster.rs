//! An engine among others: which stores are its own, and how its flushes become everyone's.
//!
//! The rules are state machines in `till_storage::cluster`; here is what drives them. A small pool of threads carries out
//! what they ask for, so that no wait for the shared store holds up a clock, a shard or the journal.

pub(crate) mod backlog;
pub(crate) mod both;
pub(crate) mod chain;
pub(crate) mod clock;
pub(crate) mod commits;
pub(crate) mod cursors;
pub(crate) mod days;
pub(crate) mod gather;
pub(crate) mod identity;
pub(crate) mod inbox;
pub(crate) mod intake;
pub(crate) mod job;
pub(crate) mod leaver;
pub(crate) mod node;
pub(crate) mod note;
pub(crate) mod owners;
pub(crate) mod pipe;
pub(crate) mod reread;
#[cfg(feature = "testing")]
pub(crate) mod sight;
pub(crate) mod slots;
pub(crate) mod start;
pub(crate) mod stranded;
pub(crate) mod submit;
pub(crate) mod unread;
pub(crate) mod views;
pub(crate) mod wanted;
pub(crate) mod watched;
pub(crate) mod work;
