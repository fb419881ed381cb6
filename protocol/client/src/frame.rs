//! Frames of events as a device handles them: where they start, how they are moved, cut and compared.

mod slice;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use thiserror::Error;
use till_protocol::limits::FRAME_EVENTS_MAX;

use crate::outbox::{OutboxError, Stored};

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 32;

/// Why bytes are not a frame of events.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum FrameError {
    /// The header is not that of a frame of events.
    #[error("not a frame of events: {0}")]
    Header(&'static str),
    /// The payload is not what the header announces.
    #[error("the payload can't be read as {family} events: {what}")]
    Payload {
        /// The family in words.
        family: &'static str,
        /// What is wrong.
        what: String,
    },
    /// There is no such event.
    #[error("the frame has {count} events, not one at index {index}")]
    Index {
        /// How many it has.
        count: u32,
        /// Which was asked for.
        index: u32,
    },
}

/// First sequence number and number of events of a frame, as its header says.
///
/// # Errors
/// Returns [`FrameError`] when the bytes are not one whole frame of events with the right checksum.
pub fn range(frame: &[u8]) -> Result<(u64, u32), FrameError> {
    let head = head(frame)?;
    Ok((head.first, head.count))
}

struct Head {
    family: u8,
    version: u8,
    count: u32,
    first: u64,
}

fn head(frame: &[u8]) -> Result<Head, FrameError> {
    let Some((mut fields, payload)) = frame.split_at_checked(HEADER_BYTES) else {
        return Err(FrameError::Header("shorter than a header"));
    };
    if fields.get(..4) != Some(b"TILL".as_slice()) {
        return Err(FrameError::Header("it does not start with TILL"));
    }
    fields.advance(4);
    let (family, version, _flags) = (fields.get_u8(), fields.get_u8(), fields.get_u16_le());
    let (length, count, first) = (fields.get_u32_le(), fields.get_u32_le(), fields.get_u64_le());
    let (_reserved, crc) = (fields.get_u32_le(), fields.get_u32_le());
    if usize::try_from(length) != Ok(payload.len()) {
        return Err(FrameError::Header("its length is not that of its payload"));
    }
    if family == 0 || count == 0 || count > FRAME_EVENTS_MAX {
        return Err(FrameError::Header("it carries no events, or too many"));
    }
    if crc != crc_of(frame) {
        return Err(FrameError::Header("its checksum is wrong"));
    }
    Ok(Head {
        family,
        version,
        count,
        first,
    })
}

fn crc_of(frame: &[u8]) -> u32 {
    let head = frame.get(..28).unwrap_or_default();
    let payload = frame.get(HEADER_BYTES..).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c(head), payload)
}

/// The length of a frame as a number of bytes.
pub(crate) fn length(frame: &[u8]) -> u64 {
    u64::try_from(frame.len()).unwrap_or(u64::MAX)
}

/// Checks that a frame follows on.
pub(crate) fn expect_first(frame: &[u8], expected: u64, count: u32) -> Result<(), OutboxError> {
    let mut fields = frame.get(12..24).unwrap_or_default();
    let (counted, first) = match fields.len() {
        12 => (fields.get_u32_le(), fields.get_u64_le()),
        _ => (0, 0),
    };
    if counted != count || count == 0 || first != expected {
        return Err(OutboxError::OutOfOrder { first, expected });
    }
    Ok(())
}

/// The same events under other numbers.
///
/// # Errors
/// Returns [`FrameError`] when the bytes are not one whole frame of events.
pub fn renumbered(frame: &[u8], first: u64) -> Result<Bytes, FrameError> {
    head(frame)?;
    let mut moved = BytesMut::from(frame);
    if let Some(mut field) = moved.get_mut(16..24) {
        field.put_u64_le(first);
    }
    let crc = crc_of(&moved);
    if let Some(mut field) = moved.get_mut(28..32) {
        field.put_u32_le(crc);
    }
    Ok(moved.freeze())
}

/// The part of a stored frame that lies at or behind `from`, renumbered to start at `next`; `None` when nothing of it does.
pub(crate) fn moved(old: &Stored, from: u64, next: u64) -> Result<Option<Stored>, OutboxError> {
    if old.last() < from {
        return Ok(None);
    }
    let error = |source| OutboxError::Frame {
        seq: old.first,
        source,
    };
    let skip = u32::try_from(from.saturating_sub(old.first)).unwrap_or(u32::MAX);
    let whole = match skip {
        0 => old.bytes.clone(),
        _ => part(&old.bytes, skip, old.count - skip).map_err(error)?,
    };
    Ok(Some(Stored {
        first: next,
        count: old.count - skip,
        bytes: renumbered(&whole, next).map_err(error)?,
    }))
}

/// One event as a frame of its own; it starts at 1.
///
/// # Errors
/// Returns [`FrameError`] when the payload can't be read, or there is no such event.
pub fn single(frame: &Bytes, index: u32) -> Result<Bytes, FrameError> {
    part(frame, index, 1)
}

/// Events `skip` to `skip + take` of a frame as a frame of their own; it starts at 1.
///
/// # Errors
/// Returns [`FrameError`] when the payload can't be read, or there are no such events.
pub fn part(frame: &Bytes, skip: u32, take: u32) -> Result<Bytes, FrameError> {
    let head = head(frame)?;
    if take == 0 || skip.checked_add(take).is_none_or(|end| end > head.count) {
        return Err(FrameError::Index {
            count: head.count,
            index: skip,
        });
    }
    let payload = slice::part(&head, payload_of(frame), skip, take)?;
    Ok(assemble(head.family, head.version, take, 1, &payload))
}

/// The mark of an event: what device and engine compare to know that they mean the same one.
///
/// # Errors
/// Returns [`FrameError`] when the payload can't be read, or there is no such event.
pub fn mark(frame: &Bytes, index: u32) -> Result<u64, FrameError> {
    let head = head(frame)?;
    if index >= head.count {
        return Err(FrameError::Index {
            count: head.count,
            index,
        });
    }
    slice::mark(&head, payload_of(frame), index)
}

fn payload_of(frame: &[u8]) -> &[u8] {
    frame.get(HEADER_BYTES..).unwrap_or_default()
}

/// A frame from its parts.
pub(crate) fn assemble(family: u8, version: u8, count: u32, first: u64, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    frame.put_slice(b"TILL");
    frame.put_u8(family);
    frame.put_u8(version);
    frame.put_u16_le(0);
    frame.put_u32_le(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    frame.put_u32_le(count);
    frame.put_u64_le(first);
    frame.put_u32_le(0);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&frame), payload);
    frame.put_u32_le(crc);
    frame.put_slice(payload);
    frame.freeze()
}

#[cfg(test)]
mod tests;
