//! Events of every family, one after another, with what they have in common; and which of them a record made effective.

use std::convert::Infallible;

use till_protocol::code::Reason;
use till_protocol::digest;
use till_protocol::family::{Family, sale, stock};
use till_protocol::id::EventId;
use till_protocol::view::{DeviceEvent, SaleEvent, SensorEvent, StockEvent, Texts, View};

use crate::flag;
use crate::ledger;
use crate::record::{Outcome, Record, RecordKind, Verdict};

/// One event of a frame.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A completed transaction.
    Sale(SaleEvent<'a>),
    /// A stock movement, count or reservation.
    Stock(StockEvent<'a>),
    /// A reading of a sensor.
    Sensor(SensorEvent<'a>),
    /// A heartbeat.
    Device(DeviceEvent<'a>),
}

impl<'a> Event<'a> {
    /// When it happened by the device's clock, in us since 1970-01-01 UTC.
    pub fn at_us(&self) -> i64 {
        match self {
            Self::Sale(event) => event.sale.at.to_native(),
            Self::Stock(event) => event.record.at.to_native(),
            Self::Sensor(event) => event.record.at.to_native(),
            Self::Device(event) => event.record.at.to_native(),
        }
    }

    /// The source's own id of it, where it gave one.
    pub fn event_id(&self) -> Option<EventId> {
        match self {
            Self::Sale(event) => event.event_id(),
            Self::Stock(event) => event.event_id(),
            Self::Sensor(event) => event.event_id(),
            Self::Device(event) => event.event_id(),
        }
    }

    /// Hash of all that it says (SPEC.md): two events with one event id are the same when this is equal.
    pub fn content(&self) -> u64 {
        match self {
            Self::Sale(event) => digest::sale_content(event),
            Self::Stock(event) => digest::event_content(Family::Stock, event),
            Self::Sensor(event) => digest::event_content(Family::Sensor, event),
            Self::Device(event) => digest::event_content(Family::Device, event),
        }
    }

    /// Its texts.
    pub const fn texts(&self) -> Texts<'a> {
        match self {
            Self::Sale(event) => event.texts,
            Self::Stock(event) => event.texts,
            Self::Sensor(event) => event.texts,
            Self::Device(event) => event.texts,
        }
    }

    /// Whether it was rung up in training mode.
    pub fn is_training(&self) -> bool {
        match self {
            Self::Sale(event) => ledger::is_training(event),
            Self::Stock(event) => event.record.flags.to_native() & stock::v1::flag::TRAINING != 0,
            Self::Sensor(_) | Self::Device(_) => false,
        }
    }

    /// The SKU of one of its lines.
    pub fn sku_of_item(&self, item: u16) -> Option<u64> {
        match self {
            Self::Sale(event) => event
                .lines
                .get(usize::from(item))
                .map(|line| line.sku.to_native()),
            Self::Stock(event) => Some(event.record.sku.to_native()),
            Self::Sensor(event) => Some(event.record.sku.to_native()),
            Self::Device(_) => None,
        }
    }

    /// Whether it is about this SKU.
    pub fn uses_sku(&self, sku: u64) -> bool {
        match self {
            Self::Sale(event) => event.lines.iter().any(|line| line.sku.to_native() == sku),
            Self::Stock(_) | Self::Sensor(_) => self.sku_of_item(0) == Some(sku),
            Self::Device(_) => false,
        }
    }

    /// Whether one of its tenders goes by a name.
    pub fn has_named_tender(&self) -> bool {
        match self {
            Self::Sale(event) => event
                .tenders
                .iter()
                .any(|tender| tender.kind == sale::v1::tender::NAMED),
            Self::Stock(_) | Self::Sensor(_) | Self::Device(_) => false,
        }
    }
}

/// What rare things the events of a frame have, so that passes over them can be left out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sides {
    pub(crate) texts: bool,
    pub(crate) refs: bool,
}

impl Sides {
    pub(crate) fn of(view: &View<'_>) -> Self {
        fn of_all<'a, R: 'a>(
            events: impl Iterator<Item = till_protocol::view::Event<'a, R>>,
        ) -> Sides {
            let mut sides = Sides::default();
            for event in events {
                sides.texts |= !event.texts.is_empty();
                sides.refs |= !event.refs.is_empty();
            }
            sides
        }
        match view {
            View::Sale(sales) => Self {
                texts: !sales.batch().texts.is_empty(),
                refs: !sales.batch().refs.is_empty(),
            },
            View::Stock(batch) => of_all(batch.events()),
            View::Sensor(batch) => of_all(batch.events()),
            View::Device(batch) => of_all(batch.events()),
        }
    }
}

/// Gives each event of a frame to `each`, in order, with its index.
///
/// # Errors
/// Passes on what `each` returns, at once.
pub fn for_each<'a, E>(
    view: &View<'a>,
    mut each: impl FnMut(u32, Event<'a>) -> Result<(), E>,
) -> Result<(), E> {
    match view {
        View::Sale(batch) => (0_u32..)
            .zip(batch.events())
            .try_for_each(|(i, event)| each(i, Event::Sale(event))),
        View::Stock(batch) => (0_u32..)
            .zip(batch.events())
            .try_for_each(|(i, event)| each(i, Event::Stock(event))),
        View::Sensor(batch) => (0_u32..)
            .zip(batch.events())
            .try_for_each(|(i, event)| each(i, Event::Sensor(event))),
        View::Device(batch) => (0_u32..)
            .zip(batch.events())
            .try_for_each(|(i, event)| each(i, Event::Device(event))),
    }
}

/// Gives each event of a frame to `each`, in order, with its index.
pub fn visit<'a>(view: &View<'a>, mut each: impl FnMut(u32, Event<'a>)) {
    let Ok(()) = for_each(view, |index, event| {
        each(index, event);
        Ok::<(), Infallible>(())
    });
}

impl Record {
    /// The verdict on the event with this index: its own, or the one on all events of the record.
    pub fn verdict(&self, index: u32) -> Option<&Verdict> {
        let own = self
            .verdicts
            .binary_search_by_key(&index, |verdict| verdict.index);
        match own {
            Ok(at) => self.verdicts.get(at),
            Err(_) => self
                .verdicts
                .last()
                .filter(|last| last.index == Verdict::ALL),
        }
    }

    /// What became of the event with this index in the frame, and its flags. `None` where this record says nothing of it:
    /// it had its verdict in another record.
    ///
    /// An event whose outcome is [`Outcome::Applied`] took effect with this record; its sequence number is
    /// `head.first_seq + index`, in retries too.
    pub fn outcome(&self, index: u32) -> Option<(Outcome, u32)> {
        if index >= self.head.count || index < self.head.skip {
            return None;
        }
        let found = self.verdict(index);
        match (self.head.kind, found) {
            (RecordKind::Retry, Some(verdict)) if verdict.waiting_line().is_some() => None,
            (RecordKind::Retry, None) => None,
            (RecordKind::Batch | RecordKind::Retry, Some(v)) => Some((v.outcome, v.flags)),
            (RecordKind::Batch, None) => Some((Outcome::Applied, 0)),
            (RecordKind::Tombstones, _) => Some((Outcome::Refused, 0)),
            (RecordKind::Duplicates, _) => Some((Outcome::Duplicate, 0)),
            (RecordKind::StoreRegistered | RecordKind::SkuAlias | RecordKind::BaseRow, _) => None,
        }
    }
}

impl Verdict {
    /// In a [`RecordKind::Retry`]: the line whose waiting movement was taken into its SKU's level. The event itself had
    /// been applied before.
    pub fn waiting_line(&self) -> Option<u16> {
        let waits = self.reason == Reason::Parked.code() || self.reason == Reason::Overflow.code();
        (waits && self.outcome == Outcome::Applied)
            .then(|| u16::try_from(self.flags).unwrap_or(u16::MAX))
    }
}

/// Times of an event against the engine's clock.
pub(crate) const fn time_flags(at_us: i64, received_at_us: i64) -> u32 {
    let ahead = at_us.saturating_sub(received_at_us);
    if ahead > FUTURE_AFTER_US {
        flag::FUTURE
    } else if ahead < -LATE_AFTER_US {
        flag::LATE
    } else {
        0
    }
}

/// An event this far ahead of its receipt is flagged: clocks of honest devices differ by less.
pub const FUTURE_AFTER_US: i64 = 5 * 60 * 1_000_000;
/// An event this far behind its receipt is flagged.
pub const LATE_AFTER_US: i64 = 24 * 3_600 * 1_000_000;
/// A device's clock this far from ours is flagged at Hello, in each of its events.
pub const CLOCK_SUSPECT_AFTER_US: i64 = 24 * 3_600 * 1_000_000;
