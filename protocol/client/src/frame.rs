//! Frames of events as a device handles them: where they start, how they are moved, cut and compared.

mod slice;

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;
use till_protocol::codec::{Frame, encode_frame};
use till_protocol::family::Family;
use till_protocol::header::{FrameHeader, HEADER_BYTES};
use till_protocol::verified::Verified;
use till_protocol::view::View;

use crate::outbox::{OutboxError, Stored};

/// Why bytes are not a frame of events.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum FrameError {
    /// The header is not that of a frame of events.
    #[error("not a frame of events: {0}")]
    Header(String),
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
    Ok((head.first_seq, head.count))
}

fn head(frame: &[u8]) -> Result<FrameHeader, FrameError> {
    let Some((head, payload)) = frame.split_first_chunk::<HEADER_BYTES>() else {
        return Err(FrameError::Header("it is shorter than a header".into()));
    };
    let head = FrameHeader::decode(head).map_err(|error| FrameError::Header(error.to_string()))?;
    if head.is_session() {
        return Err(FrameError::Header("it is a session message".into()));
    }
    if usize::try_from(head.length) != Ok(payload.len()) {
        return Err(FrameError::Header(
            "its length is not that of its payload".into(),
        ));
    }
    if head.crc != head.crc_of(payload) {
        return Err(FrameError::Header("its checksum is wrong".into()));
    }
    Ok(head)
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
    let mut head = head(frame)?;
    let payload = payload_of(frame);
    head.first_seq = first;
    head.crc = head.crc_of(payload);
    let mut moved = BytesMut::with_capacity(frame.len());
    moved.extend_from_slice(&head.encode());
    moved.extend_from_slice(payload);
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
    Ok(encode_frame(head.family, head.version, take, 1, &payload))
}

/// The digest of an event: what device and engine compare to know that they mean the same one. 0 when it has none, because
/// it breaks a rule of the wire.
///
/// # Errors
/// Returns [`FrameError`] when the payload can't be read, or there is no such event.
pub fn digest(frame: &Bytes, index: u32) -> Result<u64, FrameError> {
    let frame =
        Frame::decode(frame.clone()).map_err(|error| FrameError::Header(error.to_string()))?;
    let count = frame.header.count;
    if index >= count {
        return Err(FrameError::Index { count, index });
    }
    let family = frame.header.family().map_or("unknown", Family::name);
    match Verified::from_journal(frame) {
        Ok(verified) => Ok(verified.digest(index)),
        Err(unreadable) => Err(FrameError::Payload {
            family,
            what: unreadable.error.to_string(),
        }),
    }
}

/// Whether an event that stands at the same place at the engine shows that those before it do, too. One with an event id does
/// not: its source may have sent it again, to a device with another history. Nor does one that has no digest.
pub(crate) fn speaks_for_others(frame: &Bytes, index: u32) -> bool {
    let Ok(frame) = Frame::decode(frame.clone()) else {
        return false;
    };
    let Ok(verified) = Verified::from_journal(frame) else {
        return false;
    };
    let Ok(at) = usize::try_from(index) else {
        return false;
    };
    let has_id = match verified.view() {
        View::Sale(sales) => sales.events().nth(at).map(|one| one.event_id().is_some()),
        View::Stock(moves) => moves.events().nth(at).map(|one| one.event_id().is_some()),
        View::Sensor(readings) => readings
            .events()
            .nth(at)
            .map(|one| one.event_id().is_some()),
        View::Device(signs) => signs.events().nth(at).map(|one| one.event_id().is_some()),
    };
    has_id == Some(false)
}

fn payload_of(frame: &[u8]) -> &[u8] {
    frame.get(HEADER_BYTES..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
