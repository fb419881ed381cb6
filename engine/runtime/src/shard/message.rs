//! What a shard is told: by devices, by the flush, and by other engines.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use till_core::{
    Frame, Handled, Origin, QuarantineKey, Record, RecordKind, RetryError, RowsError, SessionKey,
};
use till_protocol::code::Reason;
use till_protocol::id::{Epoch, Seq, StoreId, TerminalId};
use till_protocol::reply::Hello;
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use tokio::sync::oneshot;

use crate::admission::{Permit, Room};
use crate::ingress::registry::Listing;
use crate::ingress::session::Session;
use crate::ingress::session::farewell::Farewell;

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum ShardMessage {
    /// By a device.
    Device(FromDevice),
    /// Whatever devices have said until now is to be heard.
    Hear,
    /// Stores are served elsewhere from now on: their sessions end.
    Evict { which: Which },
    /// Stores have left, and their rows with them: all that is known of them is forgotten.
    Release {
        which: Which,
        reply: oneshot::Sender<()>,
    },
    /// Rows are wanted, for a round of the flush.
    Flush { round: u64 },
    /// Rows of a take are written.
    Flushed { generation: u32 },
    /// A quarantined event is to be decided again.
    Retry {
        key: QuarantineKey,
        original: Box<Record>,
        reply: oneshot::Sender<Result<oneshot::Receiver<()>, RetryError>>,
    },
    /// Another engine hands records off.
    TakeIn {
        offers: Vec<Offer>,
        reply: oneshot::Sender<Offered>,
    },
    /// The next epoch of a terminal is taken, for events that have no position in theirs.
    TakeEpoch {
        terminal: TerminalId,
        reply: oneshot::Sender<Result<Option<Epoch>, RowsError>>,
    },
    /// Waits until the other side is gone, and panics.
    #[cfg(test)]
    Strike(std::sync::mpsc::Receiver<()>),
}

/// A frame with its room.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) content: Content,
    pub(crate) permit: Permit,
    /// When it was complete.
    pub(crate) received: Instant,
}

/// What a frame turned out to be.
#[derive(Debug)]
pub(crate) enum Content {
    /// Understood.
    Batch(Verified),
    /// Not.
    Unreadable {
        first_seq: Seq,
        count: u32,
        reason: Reason,
    },
}

impl Content {
    /// The frame as its shard's core takes it.
    pub(super) const fn origin(&self, now: Timestamp, session: SessionKey) -> Origin<'_> {
        let frame = match self {
            Self::Batch(batch) => Frame::Batch(batch),
            Self::Unreadable {
                first_seq,
                count,
                reason,
            } => Frame::Unreadable {
                first_seq: *first_seq,
                count: *count,
                reason: *reason,
            },
        };
        Origin::Device {
            now,
            session,
            frame,
        }
    }

    pub(super) fn first_seq(&self) -> u64 {
        match self {
            Self::Batch(batch) => batch.frame().header.first_seq,
            Self::Unreadable { first_seq, .. } => first_seq.get(),
        }
    }
}

impl Content {
    fn weight(&self) -> u64 {
        match self {
            Self::Batch(batch) => u64::from(Room::of(&batch.frame().header).ahead),
            Self::Unreadable { .. } => 1,
        }
    }
}

/// What a device says.
#[derive(Debug)]
pub(crate) enum FromDevice {
    /// A stream has said Hello, and its terminal may speak.
    Hello(HelloRequest),
    /// Frames of a session, in their order.
    Frames {
        session: Arc<Session>,
        frames: Vec<Inbound>,
    },
    /// Nothing more comes from a session, and it waits for its last ack.
    End {
        session: Arc<Session>,
        last: Farewell,
        permit: Permit,
    },
}

impl FromDevice {
    // How much it adds to what is heard together; a Hello asks for a terminal.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Self::Hello(_) | Self::End { .. } => 1,
            Self::Frames { frames, .. } => frames.iter().map(|frame| frame.content.weight()).sum(),
        }
    }
}

pub(super) fn has_hellos(messages: &[FromDevice]) -> bool {
    messages
        .iter()
        .any(|one| matches!(one, FromDevice::Hello(_)))
}

pub(super) fn has_frames(messages: &[FromDevice]) -> bool {
    messages
        .iter()
        .any(|one| matches!(one, FromDevice::Frames { .. }))
}

/// A Hello of a terminal that may speak, on its way to its shard. Where it gets lost before it is answered (the shard
/// crashes and its mailbox with it), the device is told to come again.
#[derive(Debug)]
pub(crate) struct HelloRequest {
    pub(crate) session: Arc<Session>,
    pub(crate) hello: Box<Hello>,
    pub(crate) listing: Listing,
    pub(crate) permit: Option<Permit>,
}

impl Drop for HelloRequest {
    fn drop(&mut self) {
        if self.session.key().is_none() {
            // A refusal that was said before stands.
            self.session.bye(Reason::Internal, None);
        }
    }
}

/// Some stores.
#[derive(Clone)]
pub(crate) struct Which(Arc<dyn Fn(StoreId) -> bool + Send + Sync>);

impl Which {
    pub(crate) fn new(which: impl Fn(StoreId) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(which))
    }
}

impl Deref for Which {
    type Target = dyn Fn(StoreId) -> bool + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Which")
    }
}

/// A record of the inbox.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// Its place in the chunk that it is in.
    pub(crate) index: u32,
    pub(crate) record: Record,
    /// The epoch under which it is released, where it has no position in its own.
    pub(crate) released: Option<Epoch>,
}

/// Why a record stays in the inbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Waits {
    /// Events of its epoch are missing before it, from this one on.
    Gap(u64),
    /// Another event is here under its numbers, the first under this one.
    Conflict(u64),
    /// Its store is registered otherwise.
    Registration,
    /// Nobody knows any more how far its epoch had come.
    Forgotten,
    /// Its store is not registered.
    Unregistered,
    /// Something else: it cannot be read, or its terminal is kept out.
    Other(String),
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(expected) => write!(f, "events from {expected} on are missing before it"),
            Self::Conflict(seq) => write!(f, "another event is here under its number {seq}"),
            Self::Registration => f.write_str("its store is registered otherwise"),
            Self::Forgotten => f.write_str("nobody knows any more how far its epoch had come"),
            Self::Unregistered => f.write_str("its store is not registered"),
            Self::Other(cause) => f.write_str(cause),
        }
    }
}

impl Waits {
    /// Why a record that got this answer stays; `None` where it does not.
    pub(crate) fn of(record: &Record, handled: &Handled) -> Option<Self> {
        match handled {
            Handled::Journal { .. } | Handled::Known { .. } => None,
            Handled::Gap { expected } => Some(Self::Gap(expected.get())),
            Handled::Conflict { .. } if record.head.kind == RecordKind::StoreRegistered => {
                Some(Self::Registration)
            }
            Handled::Conflict { seq } => Some(Self::Conflict(seq.get())),
            Handled::Closed => Some(Self::Forgotten),
            Handled::Unregistered => Some(Self::Unregistered),
        }
    }
}

/// Records that stay in the inbox, by their place there.
pub(crate) type Left = Vec<(u32, Waits)>;

/// The answer to records that were offered: which stay, or why nothing more can be said of them for now.
pub(crate) type Offered = Result<Left, String>;
