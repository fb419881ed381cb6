//! What happens at the tills: events from a seed, and what each of them means in the plainest of words.

use bytes::Bytes;
use till_protocol::builder::{DeviceBuilder, SaleBuilder, SensorBuilder, StockBuilder, event_id};
use till_protocol::codec::encode_frame;
use till_protocol::family::stock::v1::{Move, flag as stock_flag, kind as stock_kind};
use till_protocol::family::{Family, WHOLE_EVENT, text};
use till_protocol::id::{EventId, Seq, SkuId};
use till_protocol::view::TextView;

use crate::coverage::Sight;
use crate::rng::Rng;

mod sale;
mod telemetry;
mod zone;

use sale::put_sale;
pub(crate) use sale::{Bought, Receipt};
pub(crate) use telemetry::{Reading, Telling};
use telemetry::{put_reading, put_telling};
pub(crate) use zone::{CHANGED, Zone};

/// One unit of goods.
const ONE: i64 = 100_000;
/// SKUs of the chain.
pub(crate) const SKUS: u64 = 6;
/// Goods that come and go in quantities which no level can hold twice.
pub(crate) const BULK: u64 = SKUS;
/// Goods that lie on shelves with sensors, and that nobody moves: behind all others.
const SHELVES: u64 = 1_000_000;
const HUGE: i64 = i64::MAX - 1_000 * ONE;

/// What happened, for whoever knows no engine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    /// Goods for money.
    Sale(Receipt),
    /// The stock of a SKU rose or fell.
    Moved(u64, i64),
    /// The stock of a SKU was counted.
    Counted(u64, i64),
    /// So much of a SKU was reserved for customers, or set free again.
    Reserved(u64, i64),
    /// The stock of a SKU would have risen or fallen, had it not been training.
    Practised(u64, i64),
    /// A sensor read something.
    Read(Reading),
    /// A device told how it is.
    Told(Telling),
    /// Bytes that are no event.
    Garbage,
}

impl Act {
    /// What of it does not happen every day.
    pub(crate) fn sights(&self) -> Vec<Sight> {
        match self {
            Self::Sale(receipt) => receipt.sights(),
            Self::Reserved(_, quantity) if *quantity < 0 => vec![Sight::SetFree],
            Self::Practised(..) => vec![Sight::Practised],
            Self::Read(_) => vec![Sight::SensorRead],
            Self::Told(_) => vec![Sight::DeviceTold],
            _ => Vec::new(),
        }
    }

    /// The SKUs that it is about.
    pub(crate) fn all_skus(&self) -> Vec<u64> {
        match self {
            Self::Sale(receipt) => receipt.lines.iter().map(|line| line.all_skus).collect(),
            Self::Moved(all_skus, _)
            | Self::Counted(all_skus, _)
            | Self::Reserved(all_skus, _)
            | Self::Practised(all_skus, _) => vec![*all_skus],
            Self::Read(reading) => vec![reading.sku],
            Self::Told(_) | Self::Garbage => Vec::new(),
        }
    }
}

/// An event, as its till knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Truth {
    pub(crate) terminal: u64,
    /// Its own time; no two events of the world have the same.
    pub(crate) at: i64,
    pub(crate) act: Act,
    /// The source's own id of it.
    pub(crate) id: Option<u64>,
    /// Where its store is.
    pub(crate) zone: Zone,
}

/// The id of a SKU.
pub(crate) fn sku(number: u64) -> u64 {
    SkuId::of_code(&code(number)).get()
}

/// Its code.
pub(crate) fn code(number: u64) -> String {
    format!("goods-{number}")
}

/// What kinds of events a till makes, in a thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) counts: u64,
    pub(crate) garbage: u64,
    pub(crate) ids: u64,
    /// A movement of [`BULK`] that leaves the range of a level with the next one.
    pub(crate) huge: u64,
    /// How long before now an event may have happened, in us.
    pub(crate) late_us: i64,
    /// Goods beyond the usual ones; where there are some, sales have discounts, taxes and several tenders, and goods are
    /// reserved.
    pub(crate) range: u64,
    /// Sensors and devices tell something, goods come back, and people are trained. Only with a range.
    pub(crate) is_full: bool,
}

/// What happens next at a till: a frame's worth of one family.
pub(crate) fn happen(rng: &mut Rng, mix: &Mix, skus: &[u64]) -> Vec<Act> {
    if rng.below(1_000) < mix.garbage {
        return vec![Act::Garbage];
    }
    if mix.huge > 0 && rng.below(1_000) < mix.huge {
        let sign = if rng.one_in(2) { -1 } else { 1 };
        return vec![Act::Moved(BULK, sign * HUGE)];
    }
    let count = rng.within(1, 4);
    let is_sale = rng.one_in(2);
    let one = |rng: &mut Rng| {
        let all_skus = skus[rng.index(skus.len())];
        if is_sale {
            return sale(rng, skus);
        }
        let quantity = rng.signed(1, 40) * ONE;
        if rng.below(1_000) < mix.counts {
            return Act::Counted(all_skus, quantity);
        }
        let sign = if rng.one_in(3) { -1 } else { 1 };
        Act::Moved(all_skus, sign * quantity)
    };
    let mut acts: Vec<Act> = (0..count).map(|_| one(rng)).collect();
    if mix.range > 0 {
        // Dice of its own: all else in the world stays what it was.
        let mut dice = rng.clone().fork();
        acts.iter_mut()
            .for_each(|act| dress(act, mix.range, &mut dice));
        if mix.is_full {
            let tells = dice.below(5);
            acts.iter_mut()
                .for_each(|act| fill(act, tells, skus, &mut dice));
        }
    }
    acts
}

// What more there is in a full world. A frame is of one family: `tells` says what becomes of all its acts.
fn fill(act: &mut Act, tells: u64, skus: &[u64], dice: &mut Rng) {
    match (tells, &mut *act) {
        (0, _) => *act = Act::Read(Reading::draw(skus, dice)),
        (1, _) => *act = Act::Told(Telling::draw(dice)),
        (_, Act::Sale(receipt)) => receipt.fill(dice),
        (_, Act::Moved(all_skus, quantity)) if *all_skus != BULK && dice.one_in(6) => {
            *act = Act::Practised(*all_skus, *quantity);
        }
        _ => {}
    }
}

// Makes more of a plain act.
fn dress(act: &mut Act, range: u64, dice: &mut Rng) {
    let other = |all_skus: &mut u64, dice: &mut Rng| {
        if *all_skus != BULK && dice.one_in(2) {
            *all_skus = BULK + 1 + dice.below(range);
        }
    };
    match act {
        Act::Sale(receipt) => {
            for line in &mut receipt.lines {
                other(&mut line.all_skus, dice);
            }
            receipt.dress(dice);
        }
        Act::Moved(all_skus, quantity) => {
            other(all_skus, dice);
            if *all_skus != BULK && dice.one_in(4) {
                *act = Act::Reserved(*all_skus, *quantity);
            }
        }
        Act::Counted(all_skus, _) => other(all_skus, dice),
        Act::Reserved(..) | Act::Practised(..) | Act::Read(_) | Act::Told(_) | Act::Garbage => {}
    }
}

fn sale(rng: &mut Rng, skus: &[u64]) -> Act {
    let lines = (0..rng.within(1, 3)).map(|_| {
        let all_skus = skus[rng.index(skus.len())];
        let quantity = rng.signed(1, 5);
        let back = if rng.one_in(12) { -1 } else { 1 };
        Bought {
            all_skus,
            quantity: back * quantity * ONE,
            amount: back * quantity * rng.signed(99, 999),
            ..Bought::default()
        }
    });
    let lines = lines.collect();
    Act::Sale(Receipt {
        lines,
        operator: u32::try_from(rng.within(1, 3)).unwrap_or(1),
        ..Receipt::default()
    })
}

fn own_id(id: u64) -> EventId {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    EventId::from_bytes(bytes)
}

/// The frame of some events; they are of one family.
pub(crate) fn frame(events: &[Truth], first: u64, names: bool) -> Option<Bytes> {
    let first = Seq::new(first).ok()?;
    match events.first()?.act {
        Act::Garbage => Some(encode_frame(
            Family::Stock.number(),
            1,
            1,
            first.get(),
            b"no archive at all, and not even close to one",
        )),
        Act::Sale(..) => {
            let mut builder = SaleBuilder::new();
            for event in events {
                put_sale(&mut builder, event, names)?;
            }
            builder.finish(first).ok()
        }
        Act::Read(_) => {
            let mut builder = SensorBuilder::new();
            for event in events {
                put_reading(&mut builder, event, names)?;
            }
            builder.finish(first).ok()
        }
        Act::Told(_) => {
            let mut builder = DeviceBuilder::new();
            for event in events {
                put_telling(&mut builder, event)?;
            }
            builder.finish(first).ok()
        }
        Act::Moved(..) | Act::Counted(..) | Act::Reserved(..) | Act::Practised(..) => {
            let mut builder = StockBuilder::new();
            for event in events {
                put_stock(&mut builder, event, names)?;
            }
            builder.finish(first).ok()
        }
    }
}

fn put_stock(builder: &mut StockBuilder, event: &Truth, names: bool) -> Option<()> {
    let (all_skus, quantity, kind) = match event.act {
        Act::Moved(all_skus, quantity) | Act::Practised(all_skus, quantity) if quantity < 0 => {
            (all_skus, -quantity, stock_kind::WASTE)
        }
        Act::Moved(all_skus, quantity) | Act::Practised(all_skus, quantity) => {
            (all_skus, quantity, stock_kind::RECEIVED)
        }
        Act::Counted(all_skus, quantity) => (all_skus, quantity, stock_kind::COUNTED),
        Act::Reserved(all_skus, quantity) if quantity < 0 => {
            (all_skus, -quantity, stock_kind::RELEASED)
        }
        Act::Reserved(all_skus, quantity) => (all_skus, quantity, stock_kind::RESERVED),
        Act::Sale(..) | Act::Read(_) | Act::Told(_) | Act::Garbage => return None,
    };
    let is_training = matches!(event.act, Act::Practised(..));
    let record = Move {
        at: event.at,
        sku: sku(all_skus),
        quantity,
        kind,
        flags: if is_training { stock_flag::TRAINING } else { 0 },
        ..Move::default()
    };
    let code = code(all_skus);
    let texts = [named(WHOLE_EVENT, &code)];
    let refs: Vec<_> = event.id.map(own_id).map(event_id).into_iter().collect();
    let texts = if names { &texts[..] } else { &[] };
    builder.push(&record, &refs, texts).ok().map(|_| ())
}

const fn named(item: u16, code: &str) -> TextView<'_> {
    TextView {
        item,
        kind: text::SKU_CODE,
        text: code,
    }
}
