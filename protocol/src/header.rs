//! The fixed header of every frame: 32 bytes, little-endian.

use thiserror::Error;

use crate::code::Reason;
use crate::family::Family;
use crate::id::Seq;
use crate::limits::{FRAME_BYTES_MAX, FRAME_EVENTS_MAX, SESSION_BYTES_MAX};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 32;
/// First four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"TILL";
/// Family number of session messages; their `version` is the kind of the message.
pub const SESSION: u8 = 0;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FrameHeader {
    /// Number of the event family, or [`SESSION`].
    pub family: u8,
    /// Version of the family, or kind of the session message.
    pub version: u8,
    /// Bytes of the payload.
    pub length: u32,
    /// Events in the payload; 0 for session messages.
    pub count: u32,
    /// Sequence number of the first event; 0 for session messages.
    pub first_seq: u64,
    /// CRC-32C of bytes 0..28 of the header and the payload.
    pub crc: u32,
}

/// Why bytes are no frame. Ends the stream; the device keeps its outbox.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum WireError {
    /// The frame does not start with [`MAGIC`].
    #[error("frame starts with {0:02x?}, not with TILL; the stream is out of step")]
    BadMagic([u8; 4]),
    /// Flags or the reserved field are not zero.
    #[error("reserved field of the header is not zero")]
    Reserved,
    /// The announced payload is above the limit of its family.
    #[error("payload of {bytes} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Announced bytes.
        bytes: u32,
        /// The limit.
        max: u32,
    },
    /// The announced number of events is zero or above the limit, or not zero for a session message.
    #[error("frame announces {count} events; 1 to {max} are allowed")]
    BadCount {
        /// Announced events.
        count: u32,
        /// The limit.
        max: u32,
    },
    /// The sequence numbers of the frame are out of range.
    #[error("first sequence number {first_seq} is out of range")]
    BadSeq {
        /// Announced sequence number.
        first_seq: u64,
    },
    /// The family or its version is not known.
    #[error("family {family} version {version} is not known here")]
    Unsupported {
        /// Announced family.
        family: u8,
        /// Announced version.
        version: u8,
    },
    /// The checksum does not match.
    #[error("crc32c of the frame is {found:08x}, its header says {stated:08x}")]
    BadCrc {
        /// In the header.
        stated: u32,
        /// Computed over the bytes.
        found: u32,
    },
    /// The stream ended inside a frame.
    #[error("stream ended {missing} bytes before the end of a frame")]
    Truncated {
        /// Bytes that are missing, as far as known.
        missing: u32,
    },
}

impl WireError {
    /// The reason to give in a Bye.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::BadMagic(_) => Reason::BadMagic,
            Self::Reserved | Self::BadSeq { .. } => Reason::BadHeader,
            Self::BadCount { count, .. } => {
                if *count == 0 {
                    Reason::BadHeader
                } else {
                    Reason::TooLarge
                }
            }
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::Unsupported { .. } => Reason::Unsupported,
            Self::BadCrc { .. } => Reason::BadCrc,
            Self::Truncated { .. } => Reason::Truncated,
        }
    }
}

impl FrameHeader {
    /// Reads and checks a header. The checksum is not checked here: it needs the payload.
    ///
    /// # Errors
    /// The first of magic, reserved fields, family and version, length, count and sequence number that is wrong.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, WireError> {
        let [m0, m1, m2, m3, family, version, flags0, flags1, rest @ ..] = *bytes;
        let [
            l0,
            l1,
            l2,
            l3,
            c0,
            c1,
            c2,
            c3,
            seq @ ..,
            r0,
            r1,
            r2,
            r3,
            x0,
            x1,
            x2,
            x3,
        ] = rest;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(WireError::BadMagic([m0, m1, m2, m3]));
        }
        if [flags0, flags1, r0, r1, r2, r3] != [0; 6] {
            return Err(WireError::Reserved);
        }
        let header = Self {
            family,
            version,
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            count: u32::from_le_bytes([c0, c1, c2, c3]),
            first_seq: u64::from_le_bytes(seq),
            crc: u32::from_le_bytes([x0, x1, x2, x3]),
        };
        header.check()?;
        Ok(header)
    }

    /// Checks family, length, count and sequence numbers against the limits.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn check(&self) -> Result<(), WireError> {
        let session = self.family == SESSION;
        if !session && (Family::from_u8(self.family).is_none() || self.version != 1) {
            return Err(WireError::Unsupported {
                family: self.family,
                version: self.version,
            });
        }
        let bytes_max = if session {
            SESSION_BYTES_MAX
        } else {
            FRAME_BYTES_MAX
        };
        if self.length > bytes_max {
            return Err(WireError::TooLarge {
                bytes: self.length,
                max: bytes_max,
            });
        }
        let count_right = if session {
            self.count == 0
        } else {
            (1..=FRAME_EVENTS_MAX).contains(&self.count)
        };
        if !count_right {
            let max = if session { 0 } else { FRAME_EVENTS_MAX };
            return Err(WireError::BadCount {
                count: self.count,
                max,
            });
        }
        let last = self
            .first_seq
            .saturating_add(u64::from(self.count.saturating_sub(1)));
        let seq_right = if session {
            self.first_seq == 0
        } else {
            self.first_seq > 0 && last <= Seq::MAX.get()
        };
        if !seq_right {
            return Err(WireError::BadSeq {
                first_seq: self.first_seq,
            });
        }
        Ok(())
    }

    /// The header as bytes, with the checksum that it holds.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.family;
        bytes[5] = self.version;
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[28..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    /// The checksum of this header and a payload.
    pub fn crc_of(&self, payload: &[u8]) -> u32 {
        let bytes = self.encode();
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..28]), payload)
    }

    /// Whether the frame is a session message.
    pub const fn is_session(&self) -> bool {
        self.family == SESSION
    }

    /// The event family, if the frame carries events of a known one.
    pub const fn family(&self) -> Option<Family> {
        Family::from_u8(self.family)
    }
}

#[cfg(test)]
mod tests;
