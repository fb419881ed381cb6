//! The device side of till/1: what a till, a shelf or a store's agent needs to hand its events to an engine.
//!
//! An event that was sent is in the [outbox](Outbox) until the engine has committed it, or it is a
//! [dead letter](DeadLetter) with a reason. The [session](Session) decides, without I/O, what goes out next; the
//! [link](Link) carries many terminals over one connection and finds its way back when it is lost.
//!
//! This crate never drops an event, never sends one that its outbox could forget, never gives one event two numbers in
//! one epoch, and never grows a queue without a bound: at the bound the sender waits.

mod backoff;
mod batch;
mod deadletter;
mod frame;
mod identity;
mod link;
mod outbox;
mod session;

#[cfg(test)]
mod testing;

pub use backoff::Backoff;
pub use batch::Event;
pub use deadletter::{
    Cause, DeadLetter, DeadLetterError, DeadLetterFile, DeadLetters, MemoryDeadLetters,
    NoDeadLetters,
};
pub use frame::{FrameError, digest, part, range, renumbered, single};
pub use identity::{ALPN, Identity, IdentityError, SERVER_NAME, Tuning};
pub use link::{
    Happening, Link, LinkConfig, LinkError, Observer, Progress, RawError, RawStream, SendError,
    Terminal, TerminalConfig,
};
pub use outbox::{
    DiskConfig, DiskOutbox, FileHandle, FileLock, FileSystem, MemoryConfig, MemoryOutbox, Outbox,
    OutboxError, Standing, StdFileSystem, Stored, Sync, SyncDone, SyncJob,
};
pub use session::{End, Notice, Session, SessionConfig, SessionError, Totals};
