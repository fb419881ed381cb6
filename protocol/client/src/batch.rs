//! Events wait here until they travel together.

use std::collections::HashSet;

use bytes::Bytes;
use rkyv::rancor;
use thiserror::Error;
use till_protocol::codec::encode_frame;
use till_protocol::family::{Family, Reference, Text, device, sale, sensor, stock, text};
use till_protocol::id::SkuId;
use till_protocol::limits::{FRAME_BYTES_MAX, FRAME_EVENTS_MAX};

/// Most SKU names that are remembered as told; then all are told again. Bounds the memory at a few MiB.
const NAMES_MAX: usize = 100_000;
/// Payload above which no further event is put into a frame. An estimate from the records, as the archive is made later.
const FRAME_BYTES_GOOD: usize = 256 << 10;

/// An event that waits for its frame: a batch that holds it alone.
///
/// It carries the code of each SKU that it uses, as a text of kind `SKU_CODE`. Codes that this session has told already are
/// left out of the frame.
#[derive(Clone, Debug)]
pub enum Queued {
    /// A completed transaction.
    Sale(Box<sale::v1::Batch>),
    /// A movement, count or reservation.
    Stock(Box<stock::v1::Batch>),
    /// A reading.
    Sensor(Box<sensor::v1::Batch>),
    /// A sign of life.
    Device(Box<device::v1::Batch>),
}

/// Why an event can't be sent.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum EventError {
    /// Not exactly one event.
    #[error("an event is sent alone; this batch holds {0}")]
    NotOne(usize),
    /// The event is larger than a frame.
    #[error("the event needs {bytes} bytes, a frame holds {max}")]
    TooLarge {
        /// What it needs.
        bytes: usize,
        /// What there is.
        max: u32,
    },
    /// The archive can't be made.
    #[error("the event can't be archived: {0}")]
    Archive(String),
}

macro_rules! queued {
    ($($batch:ty => $variant:ident),*) => {$(
        impl From<$batch> for Queued {
            fn from(batch: $batch) -> Self {
                Self::$variant(Box::new(batch))
            }
        }
    )*};
}

queued! {
    sale::v1::Batch => Sale,
    stock::v1::Batch => Stock,
    sensor::v1::Batch => Sensor,
    device::v1::Batch => Device
}

impl Queued {
    fn family(&self) -> Family {
        match self {
            Self::Sale(_) => Family::Sale,
            Self::Stock(_) => Family::Stock,
            Self::Sensor(_) => Family::Sensor,
            Self::Device(_) => Family::Device,
        }
    }

    fn events(&self) -> usize {
        match self {
            Self::Sale(batch) => batch.sales.len(),
            Self::Stock(batch) => batch.moves.len(),
            Self::Sensor(batch) => batch.readings.len(),
            Self::Device(batch) => batch.signs.len(),
        }
    }

    /// About the bytes that it takes in an archive.
    fn bytes(&self) -> usize {
        let sides = |refs: &[Reference], texts: &[Text], text: &[u8]| {
            refs.len() * 20 + texts.len() * 6 + text.len()
        };
        match self {
            Self::Sale(batch) => {
                batch.sales.len() * 34
                    + batch.lines.len() * 32
                    + batch.tenders.len() * 10
                    + batch.taxes.len() * 22
                    + batch.adjustments.len() * 14
                    + batch.extras.len() * 12
                    + batch.prices.len() * 14
                    + sides(&batch.refs, &batch.texts, &batch.text)
            }
            Self::Stock(batch) => 32 + sides(&batch.refs, &batch.texts, &batch.text),
            Self::Sensor(batch) => 34 + sides(&batch.refs, &batch.texts, &batch.text),
            Self::Device(batch) => 32 + sides(&batch.refs, &batch.texts, &batch.text),
        }
    }

    fn sides(&mut self) -> Sides<'_> {
        match self {
            Self::Sale(batch) => Sides {
                refs: &mut batch.refs,
                texts: &mut batch.texts,
                text: &mut batch.text,
            },
            Self::Stock(batch) => Sides {
                refs: &mut batch.refs,
                texts: &mut batch.texts,
                text: &mut batch.text,
            },
            Self::Sensor(batch) => Sides {
                refs: &mut batch.refs,
                texts: &mut batch.texts,
                text: &mut batch.text,
            },
            Self::Device(batch) => Sides {
                refs: &mut batch.refs,
                texts: &mut batch.texts,
                text: &mut batch.text,
            },
        }
    }

    /// Gives the event its place in a batch.
    fn place(&mut self, index: u16) {
        let sides = self.sides();
        sides.refs.iter_mut().for_each(|entry| entry.event = index);
        sides.texts.iter_mut().for_each(|entry| entry.event = index);
        if let Self::Sale(batch) = self {
            batch.extras.iter_mut().for_each(|entry| entry.event = index);
            batch.prices.iter_mut().for_each(|entry| entry.event = index);
        }
    }

    /// Puts another event of the same family behind those that are here.
    fn join(&mut self, mut other: Self) {
        match (&mut *self, &mut other) {
            (Self::Sale(batch), Self::Sale(more)) => {
                batch.sales.append(&mut more.sales);
                batch.lines.append(&mut more.lines);
                batch.tenders.append(&mut more.tenders);
                batch.taxes.append(&mut more.taxes);
                batch.adjustments.append(&mut more.adjustments);
                batch.extras.append(&mut more.extras);
                batch.prices.append(&mut more.prices);
            }
            (Self::Stock(batch), Self::Stock(more)) => batch.moves.append(&mut more.moves),
            (Self::Sensor(batch), Self::Sensor(more)) => batch.readings.append(&mut more.readings),
            (Self::Device(batch), Self::Device(more)) => batch.signs.append(&mut more.signs),
            // The caller begins a new batch where the family changes.
            _ => return,
        }
        let (to, from) = (self.sides(), other.sides());
        to.refs.append(from.refs);
        to.texts.append(from.texts);
        to.text.append(from.text);
    }

    fn archive(&self) -> Result<Vec<u8>, EventError> {
        match self {
            Self::Sale(batch) => rkyv::to_bytes::<rancor::Error>(batch.as_ref()),
            Self::Stock(batch) => rkyv::to_bytes(batch.as_ref()),
            Self::Sensor(batch) => rkyv::to_bytes(batch.as_ref()),
            Self::Device(batch) => rkyv::to_bytes(batch.as_ref()),
        }
        .map(rkyv::util::AlignedVec::into_vec)
        .map_err(|error| EventError::Archive(error.to_string()))
    }
}

struct Sides<'a> {
    refs: &'a mut Vec<Reference>,
    texts: &'a mut Vec<Text>,
    text: &'a mut Vec<u8>,
}

impl Sides<'_> {
    /// Leaves out the codes of SKUs that are known.
    fn leave_out_names(&mut self, told: &mut HashSet<SkuId>) {
        let (mut kept, mut bytes, mut at) = (Vec::new(), Vec::new(), 0);
        for entry in self.texts.drain(..) {
            let end = at + usize::from(entry.len);
            let words = self.text.get(at..end).unwrap_or_default();
            at = end;
            let code = std::str::from_utf8(words).ok();
            let known = entry.kind == text::SKU_CODE
                && code.is_some_and(|code| !told.insert(SkuId::of_code(code)));
            if !known {
                bytes.extend_from_slice(words);
                kept.push(entry);
            }
        }
        *self.texts = kept;
        *self.text = bytes;
    }
}

/// Groups events into frames, in order, one family at a time.
#[derive(Debug)]
pub(crate) struct Batcher {
    frame_events: usize,
    open: Option<Queued>,
    count: usize,
    bytes: usize,
    told: HashSet<SkuId>,
}

impl Batcher {
    pub(crate) fn new(frame_events: u32) -> Self {
        let frame_events = frame_events.clamp(1, FRAME_EVENTS_MAX);
        Self {
            frame_events: usize::try_from(frame_events).unwrap_or(1),
            open: None,
            count: 0,
            bytes: 0,
            told: HashSet::new(),
        }
    }

    /// Takes an event. Returns the frame that had to be closed before it, which starts at `first`.
    pub(crate) fn push(
        &mut self,
        mut event: Queued,
        first: u64,
    ) -> Result<Option<Bytes>, EventError> {
        let (events, bytes) = (event.events(), event.bytes());
        if events != 1 {
            return Err(EventError::NotOne(events));
        }
        // 1 KiB for the archive's root and alignment.
        if bytes + 1_024 > usize::try_from(FRAME_BYTES_MAX).unwrap_or(usize::MAX) {
            return Err(EventError::TooLarge {
                bytes,
                max: FRAME_BYTES_MAX,
            });
        }
        let other = |open: &Queued| open.family() != event.family();
        let full = self.open.as_ref().is_some_and(other)
            || self.count >= self.frame_events
            || self.bytes + bytes > FRAME_BYTES_GOOD;
        let closed = if full { self.seal(first)? } else { None };
        if self.told.len() >= NAMES_MAX {
            self.told.clear();
        }
        event.sides().leave_out_names(&mut self.told);
        event.place(u16::try_from(self.count).unwrap_or(u16::MAX));
        match &mut self.open {
            Some(open) => open.join(event),
            None => self.open = Some(event),
        }
        self.count += 1;
        self.bytes += bytes;
        Ok(closed)
    }

    /// Closes the frame that is being filled; it starts at `first`.
    pub(crate) fn seal(&mut self, first: u64) -> Result<Option<Bytes>, EventError> {
        let Some(open) = &self.open else {
            return Ok(None);
        };
        let payload = open.archive()?;
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        let frame = encode_frame(open.family().number(), 1, count, first, &payload);
        self.open = None;
        self.count = 0;
        self.bytes = 0;
        Ok(Some(frame))
    }

    /// Whether a frame's worth of events waits.
    pub(crate) fn is_full(&self) -> bool {
        self.count >= self.frame_events
    }

    /// Events that wait.
    pub(crate) fn events(&self) -> u64 {
        u64::try_from(self.count).unwrap_or(u64::MAX)
    }

    /// Tells all names again.
    pub(crate) fn forget_names(&mut self) {
        self.told.clear();
    }
}

#[cfg(test)]
mod tests;
