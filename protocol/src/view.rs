//! Reading a checked batch in place: events with their slices of the archive.
//!
//! Nothing here copies or checks again; a view is a pointer into the frame's bytes. The iterators walk all vectors of a
//! batch side by side, so that reading every event costs one pass.

mod events;
mod sale;

pub use self::events::{Event, Events, EventsView, TextView, Texts};
pub(crate) use self::events::{Sides, take};
pub use self::sale::{SaleEvent, SaleEvents, SaleView, named_tender_key};

use crate::family::{ArchivedReference, Family, device, sensor, stock};
use crate::id::EventId;

/// A batch of stock events.
pub type StockView<'a> = EventsView<'a, stock::v1::ArchivedMove>;
/// A batch of readings.
pub type SensorView<'a> = EventsView<'a, sensor::v1::ArchivedReading>;
/// A batch of heartbeats.
pub type DeviceView<'a> = EventsView<'a, device::v1::ArchivedSign>;
/// One stock event.
pub type StockEvent<'a> = Event<'a, stock::v1::ArchivedMove>;
/// One reading.
pub type SensorEvent<'a> = Event<'a, sensor::v1::ArchivedReading>;
/// One heartbeat.
pub type DeviceEvent<'a> = Event<'a, device::v1::ArchivedSign>;

/// A checked batch of some family.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// Completed transactions.
    Sale(SaleView<'a>),
    /// Movements, counts and reservations.
    Stock(StockView<'a>),
    /// Readings.
    Sensor(SensorView<'a>),
    /// Heartbeats.
    Device(DeviceView<'a>),
}

impl View<'_> {
    /// The family of the batch.
    pub const fn family(&self) -> Family {
        match self {
            Self::Sale(_) => Family::Sale,
            Self::Stock(_) => Family::Stock,
            Self::Sensor(_) => Family::Sensor,
            Self::Device(_) => Family::Device,
        }
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        match self {
            Self::Sale(view) => view.len(),
            Self::Stock(view) => view.len(),
            Self::Sensor(view) => view.len(),
            Self::Device(view) => view.len(),
        }
    }

    /// Whether there are no events; a frame always has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The source's own id among the references of an event, if it has one.
pub fn event_id(refs: &[ArchivedReference]) -> Option<EventId> {
    refs.iter()
        .find(|reference| reference.kind == crate::family::reference::EVENT_ID)
        .map(|reference| EventId::from_bytes(reference.value))
}
