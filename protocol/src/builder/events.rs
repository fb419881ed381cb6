//! Frames of events that are one record each.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;

use super::{BuildError, TailBuilder, assemble, check_room, check_tail, frame_of, tail_bytes};
use crate::codec::Frame;
use crate::family::{Reference, Text, device, sensor, stock};
use crate::id::Seq;
use crate::layout::{Layout, VECTOR_BYTES};
use crate::verified::rules::Record;
use crate::view::TextView;

/// Makes frames of stock events.
pub type StockBuilder = EventsBuilder<stock::v1::Move>;
/// Makes frames of readings.
pub type SensorBuilder = EventsBuilder<sensor::v1::Reading>;
/// Makes frames of heartbeats.
pub type DeviceBuilder = EventsBuilder<device::v1::Sign>;

/// Makes frames of events that are one record each.
#[derive(Clone)]
pub struct EventsBuilder<R> {
    count: u32,
    records: Vec<u8>,
    tail: TailBuilder,
    of: PhantomData<R>,
}

impl<R> Default for EventsBuilder<R> {
    fn default() -> Self {
        Self {
            count: 0,
            records: Vec::new(),
            tail: TailBuilder::default(),
            of: PhantomData,
        }
    }
}

impl<R> fmt::Debug for EventsBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventsBuilder")
            .field("events", &self.count)
            .finish_non_exhaustive()
    }
}

impl<R: Record> EventsBuilder<R> {
    /// An empty frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an event and gives its index. The `event` field of references is filled in.
    ///
    /// # Errors
    /// [`BuildError`]; the builder is as it was before.
    pub fn push(
        &mut self,
        record: &R,
        refs: &[Reference],
        texts: &[TextView<'_>],
    ) -> Result<u32, BuildError> {
        record.check().map_err(BuildError::Refused)?;
        check_tail(refs, texts, 0, 0).map_err(BuildError::Refused)?;
        let held = self.records.len() + self.tail.bytes();
        check_room(self.count, held, R::BYTES + tail_bytes(refs, texts), 4)?;
        let index = self.count;
        record.put(&mut self.records);
        self.tail
            .put(u16::try_from(index).unwrap_or(u16::MAX), refs, texts);
        self.count += 1;
        Ok(index)
    }

    /// Number of events.
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether there are no events.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the payload so far.
    pub fn payload_bytes(&self) -> usize {
        self.records.len() + self.tail.bytes() + 4 * VECTOR_BYTES
    }

    /// Drops all events and keeps the buffers.
    pub fn clear(&mut self) {
        self.count = 0;
        self.records.clear();
        self.tail.clear();
    }

    /// The frame as bytes, ready to be sent; the builder is empty afterwards.
    ///
    /// # Errors
    /// [`BuildError::Empty`] and [`BuildError::SeqRange`]; the builder is as it was before.
    pub fn finish(&mut self, first_seq: Seq) -> Result<Bytes, BuildError> {
        let vectors = [
            (&self.records[..], R::BYTES),
            (&self.tail.refs[..], Reference::BYTES),
            (&self.tail.texts[..], Text::BYTES),
            (&self.tail.text[..], 1),
        ];
        let frame = assemble(R::FAMILY, self.count, first_seq, &vectors)?;
        self.clear();
        Ok(frame)
    }

    /// The frame in its parts; the builder is empty afterwards.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn finish_frame(&mut self, first_seq: Seq) -> Result<Frame, BuildError> {
        self.finish(first_seq).and_then(frame_of)
    }
}
