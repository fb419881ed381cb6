//! A record made ready for the disk by whoever made the record, so that the journal's thread only gathers bytes.

use bytes::Bytes;
use thiserror::Error;
use till_core::{Record, RecordHead, Verdict};

use super::format::{ENTRY_BYTES_MAX, ENTRY_PREFIX_BYTES, EntryPrefix};
use crate::num::narrow;

/// Bytes before the payload of an entry.
pub(crate) const FRONT_BYTES: usize = ENTRY_PREFIX_BYTES + RecordHead::BYTES;

/// An entry of the journal with its checksum. The payload is the record's own bytes, not a copy.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) front: [u8; FRONT_BYTES],
    pub(crate) payload: Bytes,
    pub(crate) tail: Box<[u8]>,
}

/// A record that no entry can hold.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("record of {bytes} bytes exceeds the limit of {ENTRY_BYTES_MAX}")]
pub struct TooLarge {
    /// Bytes that its entry would take.
    pub bytes: usize,
}

impl Prepared {
    /// Lays the record out as an entry, and computes its checksum.
    ///
    /// # Errors
    /// Returns [`TooLarge`] for a record above [`ENTRY_BYTES_MAX`].
    pub fn new(record: &Record) -> Result<Self, TooLarge> {
        let tail_bytes = record.verdicts.len() * Verdict::BYTES;
        let bytes = FRONT_BYTES + record.payload.len() + tail_bytes;
        if bytes > ENTRY_BYTES_MAX {
            return Err(TooLarge { bytes });
        }
        let mut tail = Vec::with_capacity(tail_bytes);
        for verdict in &record.verdicts {
            tail.extend_from_slice(&verdict.encode());
        }
        let mut prefix = EntryPrefix {
            bytes: narrow(bytes),
            crc: 0,
            payload: narrow(record.payload.len()),
            verdicts: narrow(record.verdicts.len()),
        };
        let head = record.head.encode();
        let crc = crc32c::crc32c_append(prefix.crc_of_lengths(), &head);
        let crc = crc32c::crc32c_append(crc, &record.payload);
        prefix.crc = crc32c::crc32c_append(crc, &tail);
        let mut front = [0_u8; FRONT_BYTES];
        front[..ENTRY_PREFIX_BYTES].copy_from_slice(&prefix.encode());
        front[ENTRY_PREFIX_BYTES..].copy_from_slice(&head);
        Ok(Self {
            front,
            payload: record.payload.clone(),
            tail: tail.into_boxed_slice(),
        })
    }

    /// Bytes of the entry on disk.
    pub fn bytes(&self) -> usize {
        FRONT_BYTES + self.payload.len() + self.tail.len()
    }

    pub(crate) fn prefix(&self) -> EntryPrefix {
        let [
            l0,
            l1,
            l2,
            l3,
            c0,
            c1,
            c2,
            c3,
            p0,
            p1,
            p2,
            p3,
            v0,
            v1,
            v2,
            v3,
            ..,
        ] = self.front;
        EntryPrefix {
            bytes: u32::from_le_bytes([l0, l1, l2, l3]),
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
            payload: u32::from_le_bytes([p0, p1, p2, p3]),
            verdicts: u32::from_le_bytes([v0, v1, v2, v3]),
        }
    }
}
