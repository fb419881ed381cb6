//! Makes frames: for devices, connectors, load generators and tests.
//!
//! A builder appends each event to buffers that it keeps, so that in the long run an event costs no allocation. It holds
//! the rules and limits of the wire: what it takes, a server does not refuse.

mod events;
mod sale;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

pub use self::events::{DeviceBuilder, EventsBuilder, SensorBuilder, StockBuilder};
pub use self::sale::{SaleBuilder, SaleParts};
pub use crate::verified::rules::Record;
pub use crate::view::TextView;

use crate::code::Reason;
use crate::codec::Frame;
use crate::family::{Family, Reference, Text, WHOLE_EVENT, reference, text};
use crate::header::{FrameHeader, HEADER_BYTES};
use crate::id::{EventId, Seq};
use crate::layout::{Layout, VECTOR_BYTES};
use crate::limits::{FRAME_BYTES_MAX, FRAME_EVENTS_MAX, TEXT_BYTES_MAX, TEXTS_PER_EVENT_MAX};
use crate::verified::rules;

/// Why an event was not taken. The builder is as it was before.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BuildError {
    /// The frame is full: finish it, then push this event again.
    #[error("frame is full")]
    Full,
    /// The event alone is larger than a frame may be.
    #[error("event of {bytes} bytes is larger than a frame may be ({FRAME_BYTES_MAX})")]
    TooLarge {
        /// Bytes of a frame's payload with this event alone.
        bytes: usize,
    },
    /// A server would refuse the event.
    #[error("event would be refused: {0}")]
    Refused(Reason),
    /// There is nothing to finish.
    #[error("frame has no events")]
    Empty,
    /// The sequence numbers of the frame would be out of range.
    #[error("sequence numbers from {0} on are out of range")]
    SeqRange(Seq),
}

/// The reference that carries a source's own id of an event.
pub const fn event_id(id: EventId) -> Reference {
    Reference {
        event: 0,
        kind: reference::EVENT_ID,
        reserved: 0,
        value: id.to_bytes(),
    }
}

/// The text that names the SKU of a line.
pub const fn sku_code(line: u16, code: &str) -> TextView<'_> {
    TextView {
        item: line,
        kind: text::SKU_CODE,
        text: code,
    }
}

/// A text that belongs to a whole event.
pub const fn whole_text(kind: u8, text: &str) -> TextView<'_> {
    TextView {
        item: WHOLE_EVENT,
        kind,
        text,
    }
}

// References and texts, as every family has them.
#[derive(Clone, Debug, Default)]
struct TailBuilder {
    refs: Vec<u8>,
    texts: Vec<u8>,
    text: Vec<u8>,
}

impl TailBuilder {
    fn bytes(&self) -> usize {
        self.refs.len() + self.texts.len() + self.text.len()
    }

    fn clear(&mut self) {
        self.refs.clear();
        self.texts.clear();
        self.text.clear();
    }

    fn put(&mut self, event: u16, refs: &[Reference], texts: &[TextView<'_>]) {
        for entry in refs {
            Reference { event, ..*entry }.put(&mut self.refs);
        }
        for entry in texts {
            // The length was checked against a limit below 256.
            let len = u8::try_from(entry.text.len()).unwrap_or(0);
            Text {
                event,
                item: entry.item,
                kind: entry.kind,
                len,
            }
            .put(&mut self.texts);
            self.text.extend_from_slice(entry.text.as_bytes());
        }
    }
}

fn tail_bytes(refs: &[Reference], texts: &[TextView<'_>]) -> usize {
    let text: usize = texts.iter().map(|entry| entry.text.len()).sum();
    refs.len() * Reference::BYTES + texts.len() * Text::BYTES + text
}

fn check_tail(
    refs: &[Reference],
    texts: &[TextView<'_>],
    lines: u16,
    tenders: u8,
) -> Result<(), Reason> {
    rules::references(refs.iter().copied())?;
    if u32::try_from(texts.len()).map_or(true, |count| count > TEXTS_PER_EVENT_MAX) {
        return Err(Reason::TooMany);
    }
    texts.iter().try_for_each(|entry| {
        let len = u8::try_from(entry.text.len())
            .ok()
            .filter(|&len| len <= TEXT_BYTES_MAX);
        let len = len.ok_or(Reason::BadText)?;
        rules::text_rule(
            &Text {
                event: 0,
                item: entry.item,
                kind: entry.kind,
                len,
            },
            lines,
            tenders,
        )
    })
}

// Whether one more event fits: by number, and by bytes beside what is there.
fn check_room(events: u32, held: usize, event: usize, vectors: usize) -> Result<(), BuildError> {
    let max = usize::try_from(FRAME_BYTES_MAX).unwrap_or(usize::MAX);
    let alone = event + vectors * VECTOR_BYTES;
    if alone > max {
        return Err(BuildError::TooLarge { bytes: alone });
    }
    if events >= FRAME_EVENTS_MAX || held + alone > max {
        return Err(BuildError::Full);
    }
    Ok(())
}

// Header, vectors in order, root: the whole frame in one buffer of the right size.
fn assemble(
    family: Family,
    count: u32,
    first_seq: Seq,
    vectors: &[(&[u8], usize)],
) -> Result<Bytes, BuildError> {
    if count == 0 {
        return Err(BuildError::Empty);
    }
    if first_seq.plus(u64::from(count) - 1) > Seq::MAX {
        return Err(BuildError::SeqRange(first_seq));
    }
    let records: usize = vectors.iter().map(|(bytes, _)| bytes.len()).sum();
    let length = records + vectors.len() * VECTOR_BYTES;
    let mut out = BytesMut::with_capacity(HEADER_BYTES + length);
    out.resize(HEADER_BYTES, 0);
    for (bytes, _) in vectors {
        out.extend_from_slice(bytes);
    }
    let mut start = 0_i32;
    for (bytes, record_bytes) in vectors {
        // All below FRAME_BYTES_MAX, which check_room holds: the conversions can't fail.
        let entry = i32::try_from(out.len() - HEADER_BYTES).unwrap_or(0);
        let size = i32::try_from(bytes.len()).unwrap_or(0);
        let length = u32::try_from(bytes.len() / record_bytes).unwrap_or(0);
        out.extend_from_slice(&(start - entry).to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        start += size;
    }
    let mut header = FrameHeader {
        family: family.number(),
        version: 1,
        length: u32::try_from(length).unwrap_or(u32::MAX),
        count,
        first_seq: first_seq.get(),
        crc: 0,
    };
    header.crc = header.crc_of(&out[HEADER_BYTES..]);
    out[..HEADER_BYTES].copy_from_slice(&header.encode());
    Ok(out.freeze())
}

fn frame_of(bytes: Bytes) -> Result<Frame, BuildError> {
    // What was just assembled has a right header.
    Frame::decode(bytes).map_err(|_| BuildError::Empty)
}
