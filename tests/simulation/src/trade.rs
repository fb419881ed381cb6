//! What happens at the tills: events from a seed, and what each of them means in the plainest of words.

use bytes::Bytes;
use till_protocol::builder::{SaleBuilder, SaleParts, StockBuilder, event_id};
use till_protocol::codec::encode_frame;
use till_protocol::family::sale::v1::{Line, Sale, Tender, kind, line_kind, tender};
use till_protocol::family::stock::v1::{Move, kind as stock_kind};
use till_protocol::family::{Family, WHOLE_EVENT, text};
use till_protocol::id::{EventId, Seq, SkuId};
use till_protocol::view::TextView;

use crate::rng::Rng;

/// One unit of goods.
const ONE: i64 = 100_000;
/// SKUs of the chain.
pub(crate) const SKUS: u64 = 6;
/// Goods that come and go in quantities which no level can hold twice.
pub(crate) const BULK: u64 = SKUS;
const HUGE: i64 = i64::MAX - 1_000 * ONE;

/// What happened, for whoever knows no engine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    /// Goods for money, by an operator: SKU, quantity and amount of each line.
    Sale(Vec<(u64, i64, i64)>, u32),
    /// The stock of a SKU rose or fell.
    Moved(u64, i64),
    /// The stock of a SKU was counted.
    Counted(u64, i64),
    /// Bytes that are no event.
    Garbage,
}

impl Act {
    /// The goods that it is about.
    pub(crate) fn goods(&self) -> Vec<u64> {
        match self {
            Self::Sale(lines, _) => lines.iter().map(|(goods, ..)| *goods).collect(),
            Self::Moved(goods, _) | Self::Counted(goods, _) => vec![*goods],
            Self::Garbage => Vec::new(),
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
        let goods = skus[rng.index(skus.len())];
        if is_sale {
            return sale(rng, skus);
        }
        let quantity = rng.signed(1, 40) * ONE;
        if rng.below(1_000) < mix.counts {
            return Act::Counted(goods, quantity);
        }
        let sign = if rng.one_in(3) { -1 } else { 1 };
        Act::Moved(goods, sign * quantity)
    };
    (0..count).map(|_| one(rng)).collect()
}

fn sale(rng: &mut Rng, skus: &[u64]) -> Act {
    let lines = (0..rng.within(1, 3)).map(|_| {
        let goods = skus[rng.index(skus.len())];
        let quantity = rng.signed(1, 5);
        let back = if rng.one_in(12) { -1 } else { 1 };
        (
            goods,
            back * quantity * ONE,
            back * quantity * rng.signed(99, 999),
        )
    });
    let lines = lines.collect();
    Act::Sale(lines, u32::try_from(rng.within(1, 3)).unwrap_or(1))
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
        Act::Moved(..) | Act::Counted(..) => {
            let mut builder = StockBuilder::new();
            for event in events {
                put_stock(&mut builder, event, names)?;
            }
            builder.finish(first).ok()
        }
    }
}

fn put_sale(builder: &mut SaleBuilder, event: &Truth, names: bool) -> Option<()> {
    let Act::Sale(goods, operator) = &event.act else {
        return None;
    };
    let line = |(goods, quantity, amount): &(u64, i64, i64)| Line {
        sku: sku(*goods),
        quantity: *quantity,
        amount: *amount,
        kind: match *quantity < 0 {
            true => line_kind::RETURN,
            false => line_kind::SALE,
        },
        ..Line::default()
    };
    let lines: Vec<Line> = goods.iter().map(line).collect();
    let total = goods.iter().map(|(_, _, amount)| amount).sum();
    let codes: Vec<String> = goods.iter().map(|(goods, ..)| code(*goods)).collect();
    let texts: Vec<TextView<'_>> = (0..)
        .zip(&codes)
        .map(|(at, code)| named(at, code))
        .collect();
    let refs: Vec<_> = event.id.map(own_id).map(event_id).into_iter().collect();
    let parts = SaleParts {
        sale: Sale {
            at: event.at,
            receipt: event.at.unsigned_abs() % 1_000_000_000_000,
            operator: *operator,
            kind: kind::SALE,
            ..Sale::default()
        },
        lines: &lines,
        tenders: &[Tender {
            amount: total,
            kind: tender::CASH,
            ..Tender::default()
        }],
        refs: &refs,
        texts: if names { &texts } else { &[] },
        ..SaleParts::default()
    };
    builder.push(&parts).ok().map(|_| ())
}

fn put_stock(builder: &mut StockBuilder, event: &Truth, names: bool) -> Option<()> {
    let (goods, quantity, kind) = match event.act {
        Act::Moved(goods, quantity) if quantity < 0 => (goods, -quantity, stock_kind::WASTE),
        Act::Moved(goods, quantity) => (goods, quantity, stock_kind::RECEIVED),
        Act::Counted(goods, quantity) => (goods, quantity, stock_kind::COUNTED),
        Act::Sale(..) | Act::Garbage => return None,
    };
    let record = Move {
        at: event.at,
        sku: sku(goods),
        quantity,
        kind,
        ..Move::default()
    };
    let code = code(goods);
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
