//! What both sides say besides events: session messages.
//!
//! They travel in the same frames, under family 0, with the kind of the message as version. Every payload is a fixed
//! little-endian layout; trailing bytes are an error, so that a message says what it says and no more.

mod read;
mod write;

use bytes::Bytes;
use thiserror::Error;

use crate::code::Reason;
use crate::codec::Frame;
use crate::currency::Currency;
use crate::header::SESSION;
use crate::id::{Epoch, Seq, TerminalId};
use crate::time::{DeviceTime, Timestamp};

/// The protocol number that a Hello states.
pub const PROTOCOL: u16 = 1;
/// The ALPN name of the protocol.
pub const ALPN: &[u8] = b"till/1";

/// Kinds of session messages.
pub mod kind {
    /// Client: opens a session.
    pub const HELLO: u8 = 1;
    /// Client: asks which of its events the server has.
    pub const CHECK: u8 = 2;
    /// Client: closes the session in good order.
    pub const GOODBYE: u8 = 3;
    /// Server: answers a Hello.
    pub const WELCOME: u8 = 16;
    /// Server: how far events are safe.
    pub const ACK: u8 = 17;
    /// Server: events are missing.
    pub const NACK: u8 = 18;
    /// Server: wait.
    pub const SLOW: u8 = 19;
    /// Server: go elsewhere.
    pub const REDIRECT: u8 = 20;
    /// Server: ends the stream.
    pub const BYE: u8 = 21;
    /// Server: answers a Check.
    pub const CHECKED: u8 = 22;
}

/// Flags of a [`Welcome`].
pub mod welcome_flag {
    /// The epoch is closed: a later one has begun. Take a new one before sending anything.
    pub const CLOSED: u32 = 1;
    /// The device's clock is more than a day off.
    pub const CLOCK_SUSPECT: u32 = 2;
}

/// Opens a session for one terminal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// (family, version) pairs that the device may send.
    pub versions: Vec<(u8, u8)>,
    /// Who speaks.
    pub terminal: TerminalId,
    /// The device's epoch; `None` asks for a new one.
    pub epoch: Option<Epoch>,
    /// The device's clock.
    pub clock: DeviceTime,
    /// Currency of the store, needed for the first Hello of a store.
    pub currency: Option<Currency>,
    /// IANA time zone of the store, needed for the first Hello of a store; empty = not stated.
    pub zone: String,
}

/// Answers a [`Hello`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Welcome {
    /// Who is meant.
    pub terminal: TerminalId,
    /// The epoch of this session. It becomes real with its first durable event.
    pub epoch: Epoch,
    /// The latest epoch of the terminal that has events, or the granted one when none has.
    pub latest_epoch: Epoch,
    /// The sequence number that the server expects next in this epoch.
    pub next_seq: Seq,
    /// Digest of the event before `next_seq`; 0 = there is none to compare.
    pub digest: u64,
    /// Frames that may be unacknowledged at a time.
    pub credit_frames: u32,
    /// Largest payload that the server takes now.
    pub frame_bytes_max: u32,
    /// Most events of a frame that the server takes now.
    pub frame_events_max: u32,
    /// The server's clock.
    pub time: Timestamp,
    /// Bits of [`welcome_flag`].
    pub flags: u32,
}

impl Welcome {
    /// Whether the epoch is closed.
    pub const fn is_closed(&self) -> bool {
        self.flags & welcome_flag::CLOSED != 0
    }
}

/// Asks which of a range of events the server has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// The epoch that is asked about.
    pub epoch: Epoch,
    /// The first event.
    pub first_seq: Seq,
    /// Digests of the events from there on.
    pub digests: Vec<u64>,
}

/// Answers a [`Check`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checked {
    /// The epoch that was asked about.
    pub epoch: Epoch,
    /// The first event that was asked about.
    pub first_seq: Seq,
    /// Digests from the first on that are equal.
    pub matched: u16,
    /// Digests from the first on that the server could compare; fewer when retention dropped the rest.
    pub known: u16,
}

/// How far the session's events are safe. Values never fall within a session.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ack {
    /// Up to here events are on the server's disk; `None` = none is.
    pub journalled: Option<Seq>,
    /// Up to here events may be deleted from the outbox; `None` = none may.
    pub committed: Option<Seq>,
    /// Events that were refused since the last Ack. Their sequence numbers are consumed.
    pub refusals: Vec<(Seq, Reason)>,
}

/// Events are missing: send again from here. Later frames are dropped until then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Nack {
    /// The sequence number that the server expects.
    pub expected: Seq,
}

/// Wait before the next frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slow {
    /// For how long, in ms.
    pub wait_ms: u32,
}

/// Another node serves this terminal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redirect {
    /// Its address, as `host:port`.
    pub address: String,
}

/// Ends the stream; the connection and its other streams go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bye {
    /// Why.
    pub reason: Reason,
    /// More for a person to read; may be empty.
    pub text: String,
}

impl Bye {
    /// A Bye with the reason's own sentence.
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            text: reason.sentence().to_owned(),
        }
    }
}

/// Any session message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// Client: opens a session.
    Hello(Hello),
    /// Client: asks which of its events the server has.
    Check(Check),
    /// Client: closes the session in good order.
    Goodbye,
    /// Server: answers a Hello.
    Welcome(Welcome),
    /// Server: how far events are safe.
    Ack(Ack),
    /// Server: events are missing.
    Nack(Nack),
    /// Server: wait.
    Slow(Slow),
    /// Server: go elsewhere.
    Redirect(Redirect),
    /// Server: ends the stream.
    Bye(Bye),
    /// Server: answers a Check.
    Checked(Checked),
}

/// A session message that can't be understood. Ends the stream.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum MessageError {
    /// The frame carries events.
    #[error("frame of family {0} is not a session message")]
    NotSession(u8),
    /// The kind is not known.
    #[error("session message of kind {0} is not known here")]
    UnknownKind(u8),
    /// The payload ends too early.
    #[error("session message of kind {kind} is cut short")]
    Short {
        /// Kind of the message.
        kind: u8,
    },
    /// The payload goes on after its end.
    #[error("session message of kind {kind} has {extra} bytes too many")]
    Long {
        /// Kind of the message.
        kind: u8,
        /// Bytes after the end.
        extra: usize,
    },
    /// A field has a value that it can't have.
    #[error("{field} of a session message is out of range")]
    Field {
        /// Name of the field.
        field: &'static str,
    },
    /// The Hello states another protocol.
    #[error("protocol {0} is not spoken here; this is till/1")]
    Protocol(u16),
}

impl MessageError {
    /// The reason to give in a Bye.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Protocol(_) => Reason::Unsupported,
            Self::Short { kind: kind::HELLO }
            | Self::Long {
                kind: kind::HELLO, ..
            } => Reason::BadHello,
            Self::Field {
                field: read::CURRENCY,
            } => Reason::UnknownCurrency,
            Self::Field { .. }
            | Self::NotSession(_)
            | Self::UnknownKind(_)
            | Self::Short { .. }
            | Self::Long { .. } => Reason::BadMessage,
        }
    }
}

impl Message {
    /// The kind of the message, as in the header.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Check(_) => kind::CHECK,
            Self::Goodbye => kind::GOODBYE,
            Self::Welcome(_) => kind::WELCOME,
            Self::Ack(_) => kind::ACK,
            Self::Nack(_) => kind::NACK,
            Self::Slow(_) => kind::SLOW,
            Self::Redirect(_) => kind::REDIRECT,
            Self::Bye(_) => kind::BYE,
            Self::Checked(_) => kind::CHECKED,
        }
    }

    /// Whether a client sends this message (otherwise a server does).
    pub const fn is_from_client(&self) -> bool {
        self.kind() < kind::WELCOME
    }

    /// The message as a whole frame. Texts and lists beyond their limits are cut: they are advice, or come again in the
    /// next message.
    pub fn encode(&self) -> Bytes {
        let payload = write::payload(self);
        crate::codec::encode_frame(SESSION, self.kind(), 0, 0, &payload)
    }

    /// Reads the message in a frame.
    ///
    /// # Errors
    /// [`MessageError`]; the stream ends then.
    pub fn decode(frame: &Frame) -> Result<Self, MessageError> {
        if !frame.header.is_session() {
            return Err(MessageError::NotSession(frame.header.family));
        }
        read::message(frame.header.version, &frame.payload)
    }
}

macro_rules! message {
    ($($name:ident),*) => {$(
        impl From<$name> for Message {
            fn from(message: $name) -> Self {
                Self::$name(message)
            }
        }

        impl $name {
            /// The message as a whole frame (see [`Message::encode`]).
            pub fn encode(&self) -> Bytes {
                Message::$name(self.clone()).encode()
            }
        }
    )*};
}
message!(
    Hello, Check, Welcome, Ack, Nack, Slow, Redirect, Bye, Checked
);

#[cfg(test)]
mod tests;
