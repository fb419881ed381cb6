//! What devices tell of shelves and of themselves: it is kept, and changes no sum and no level.

use till_protocol::builder::{DeviceBuilder, SensorBuilder, event_id};
use till_protocol::family::WHOLE_EVENT;
use till_protocol::family::device::v1::{Sign, kind as sign_kind};
use till_protocol::family::sensor::v1::{self, kind as reading_kind};

use super::{Act, ONE, SHELVES, Truth, code, named, own_id, sku};
use crate::rng::Rng;

/// What a sensor read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Reading {
    pub(crate) sku: u64,
    pub(crate) value: i64,
    pub(crate) sensor: u32,
    pub(crate) kind: u8,
}

/// What a device says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Telling {
    pub(crate) backlog: u64,
    pub(crate) code: u32,
    pub(crate) kind: u8,
}

impl Reading {
    /// Of goods that are sold, or of those that nobody ever moves.
    pub(super) fn draw(skus: &[u64], dice: &mut Rng) -> Self {
        let sku = match dice.one_in(2) {
            true => skus[dice.index(skus.len())],
            false => SHELVES + dice.below(3),
        };
        Self {
            sku,
            value: dice.signed(-20, 9_000) * ONE,
            sensor: u32::try_from(dice.within(1, 40)).unwrap_or(1),
            kind: u8::try_from(dice.within(1, reading_kind::MAX.into())).unwrap_or(1),
        }
    }
}

impl Telling {
    pub(super) fn draw(dice: &mut Rng) -> Self {
        Self {
            backlog: dice.below(500),
            code: u32::try_from(dice.below(9)).unwrap_or(0),
            kind: u8::try_from(dice.within(1, sign_kind::MAX.into())).unwrap_or(1),
        }
    }
}

pub(super) fn put_reading(builder: &mut SensorBuilder, event: &Truth, names: bool) -> Option<()> {
    let Act::Read(reading) = event.act else {
        return None;
    };
    let record = v1::Reading {
        at: event.at,
        sku: sku(reading.sku),
        value: reading.value,
        sensor: reading.sensor,
        kind: reading.kind,
        ..v1::Reading::default()
    };
    let code = code(reading.sku);
    let texts = [named(WHOLE_EVENT, &code)];
    let refs: Vec<_> = event.id.map(own_id).map(event_id).into_iter().collect();
    let texts = if names { &texts[..] } else { &[] };
    builder.push(&record, &refs, texts).ok().map(|_| ())
}

pub(super) fn put_telling(builder: &mut DeviceBuilder, event: &Truth) -> Option<()> {
    let Act::Told(telling) = event.act else {
        return None;
    };
    let record = Sign {
        at: event.at,
        backlog: telling.backlog,
        code: telling.code,
        kind: telling.kind,
        ..Sign::default()
    };
    let refs: Vec<_> = event.id.map(own_id).map(event_id).into_iter().collect();
    builder.push(&record, &refs, &[]).ok().map(|_| ())
}
