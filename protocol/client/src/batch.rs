//! Events wait here until they travel together.

use std::collections::HashSet;

use bytes::Bytes;
use till_protocol::builder::{
    BuildError, DeviceBuilder, SaleBuilder, SaleParts, SensorBuilder, StockBuilder,
};
use till_protocol::card::is_card_code;
use till_protocol::family::device::v1::Sign;
use till_protocol::family::sensor::v1::Reading;
use till_protocol::family::stock::v1::Move;
use till_protocol::family::{Family, Reference, text};
use till_protocol::id::{Seq, SkuId};
use till_protocol::limits::FRAME_EVENTS_MAX;
use till_protocol::view::TextView;

/// Most SKU names that are remembered as told; then all are told again. Bounds the memory at a few MiB.
const NAMES_MAX: usize = 100_000;
/// Payload above which no further event is put into a frame: syncs and answers then stay short.
const FRAME_BYTES_GOOD: usize = 256 << 10;

/// An event to be sent, borrowed from who made it.
///
/// It carries the code of each SKU that it uses, as a text of kind `SKU_CODE`. Codes that were told already are left out of
/// the frame, but for those that look like a card number: the server replaces them where it finds them named.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A completed transaction.
    Sale(SaleParts<'a>),
    /// A movement, count or reservation, with its references and texts.
    Stock(Move, &'a [Reference], &'a [TextView<'a>]),
    /// A reading, with its references and texts.
    Sensor(Reading, &'a [Reference], &'a [TextView<'a>]),
    /// A heartbeat, with its references and texts.
    Device(Sign, &'a [Reference], &'a [TextView<'a>]),
}

impl<'a> Event<'a> {
    const fn family(&self) -> Family {
        match self {
            Self::Sale(_) => Family::Sale,
            Self::Stock(..) => Family::Stock,
            Self::Sensor(..) => Family::Sensor,
            Self::Device(..) => Family::Device,
        }
    }

    const fn texts(&self) -> &'a [TextView<'a>] {
        match self {
            Self::Sale(parts) => parts.texts,
            Self::Stock(_, _, texts) | Self::Sensor(_, _, texts) | Self::Device(_, _, texts) => {
                texts
            }
        }
    }

    const fn with_texts<'b>(self, texts: &'b [TextView<'b>]) -> Event<'b>
    where
        'a: 'b,
    {
        match self {
            Self::Sale(parts) => Event::Sale(SaleParts { texts, ..parts }),
            Self::Stock(record, refs, _) => Event::Stock(record, refs, texts),
            Self::Sensor(record, refs, _) => Event::Sensor(record, refs, texts),
            Self::Device(record, refs, _) => Event::Device(record, refs, texts),
        }
    }
}

/// The buffers of each family; only one of them holds events at a time.
#[derive(Debug, Default)]
struct Builders {
    sale: SaleBuilder,
    stock: StockBuilder,
    sensor: SensorBuilder,
    device: DeviceBuilder,
}

impl Builders {
    fn push(&mut self, event: &Event<'_>) -> Result<u32, BuildError> {
        match event {
            Event::Sale(parts) => self.sale.push(parts),
            Event::Stock(record, refs, texts) => self.stock.push(record, refs, texts),
            Event::Sensor(record, refs, texts) => self.sensor.push(record, refs, texts),
            Event::Device(record, refs, texts) => self.device.push(record, refs, texts),
        }
    }

    fn finish(&mut self, family: Family, first: Seq) -> Result<Bytes, BuildError> {
        match family {
            Family::Sale => self.sale.finish(first),
            Family::Stock => self.stock.finish(first),
            Family::Sensor => self.sensor.finish(first),
            Family::Device => self.device.finish(first),
        }
    }

    fn held(&self, family: Family) -> (u32, usize) {
        match family {
            Family::Sale => (self.sale.len(), self.sale.payload_bytes()),
            Family::Stock => (self.stock.len(), self.stock.payload_bytes()),
            Family::Sensor => (self.sensor.len(), self.sensor.payload_bytes()),
            Family::Device => (self.device.len(), self.device.payload_bytes()),
        }
    }
}

/// Groups events into frames, in order, one family at a time.
#[derive(Debug)]
pub(crate) struct Batcher {
    frame_events: u32,
    builders: Builders,
    open: Option<Family>,
    told: HashSet<SkuId>,
}

impl Batcher {
    pub(crate) fn new(frame_events: u32) -> Self {
        Self {
            frame_events: frame_events.clamp(1, FRAME_EVENTS_MAX),
            builders: Builders::default(),
            open: None,
            told: HashSet::new(),
        }
    }

    /// Whether this event has to wait until the frame before it is closed with [`Batcher::seal`].
    pub(crate) fn must_seal_for(&self, event: &Event<'_>) -> bool {
        self.open.is_some_and(|open| open != event.family()) || self.is_full()
    }

    /// Takes an event; on an error nothing has changed, and after [`BuildError::Full`] it fits the next frame.
    pub(crate) fn push(&mut self, event: &Event<'_>) -> Result<(), BuildError> {
        if self.told.len() >= NAMES_MAX {
            self.told.clear();
        }
        let mut telling = Vec::new();
        let mut texts = Vec::new();
        for entry in event.texts() {
            let id = (entry.kind == text::SKU_CODE).then(|| SkuId::of_code(entry.text));
            if id.is_none_or(|id| !self.told.contains(&id)) {
                texts.push(*entry);
                telling.extend(id.filter(|_| !is_card_code(entry.text)));
            }
        }
        self.builders.push(&event.with_texts(&texts))?;
        self.open = Some(event.family());
        self.told.extend(telling);
        Ok(())
    }

    /// Closes the frame that is being filled; it starts at `first`.
    pub(crate) fn seal(&mut self, first: u64) -> Result<Option<Bytes>, BuildError> {
        let Some(family) = self.open else {
            return Ok(None);
        };
        let first = Seq::new(first).map_err(|_| BuildError::SeqRange(Seq::MAX))?;
        let frame = self.builders.finish(family, first)?;
        self.open = None;
        Ok(Some(frame))
    }

    /// Whether a frame's worth of events waits.
    pub(crate) fn is_full(&self) -> bool {
        self.open.is_some_and(|open| {
            let (events, bytes) = self.builders.held(open);
            events >= self.frame_events || bytes >= FRAME_BYTES_GOOD
        })
    }

    /// Events that wait.
    pub(crate) fn events(&self) -> u64 {
        let waiting = self.open.map_or(0, |open| self.builders.held(open).0);
        u64::from(waiting)
    }

    /// Tells all names again.
    pub(crate) fn forget_names(&mut self) {
        self.told.clear();
    }
}

#[cfg(test)]
mod tests;
