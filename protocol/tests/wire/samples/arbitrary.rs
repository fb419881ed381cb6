//! Arbitrary right batches.

use proptest::prelude::*;
use till_protocol::builder::{
    BuildError, DeviceBuilder, SaleBuilder, SaleParts, SensorBuilder, StockBuilder, TextView,
    whole_text,
};
use till_protocol::codec::Frame;
use till_protocol::family::sale::v1::{
    Adjustment, Line, Sale, Tax, Tender, TenderExtra, UnitPrice, extra,
};
use till_protocol::family::{Reference, WHOLE_EVENT, device, reference, sensor, stock, text};

use super::{count_of_milk, reading, seq, sign};

/// An arbitrary sale that no rule refuses, as seeds for its parts.
#[derive(Clone, Debug)]
pub(crate) struct AnySale {
    sale: Sale,
    lines: Vec<Line>,
    tenders: Vec<Tender>,
    taxes: Vec<Tax>,
    adjustments: Vec<Adjustment>,
    refs: Vec<Reference>,
    notes: Vec<String>,
}

prop_compose! {
    fn any_line()(sku: u64, quantity: i64, amount: i64, category: u32, kind in 1..=3_u8, unit in 0..=7_u8, flags in 0..=1_u16) -> Line {
        Line { sku, quantity, amount, category, kind, unit, flags }
    }
}
prop_compose! {
    fn any_tender()(amount: i64, kind in 0..=8_u8) -> Tender {
        Tender { amount, kind, flags: 0 }
    }
}
prop_compose! {
    fn any_refs()(values in prop::collection::vec(any::<[u8; 16]>(), 0..4)) -> Vec<Reference> {
        reference::ALL.iter().zip(values).map(|(&kind, value)| Reference { event: 0, kind, reserved: 0, value }).collect()
    }
}
prop_compose! {
    pub(crate) fn any_sale()(
        at in 0..=till_protocol::limits::TIME_US_MAX,
        receipt in 0..=999_999_999_999_u64,
        offset_min in -1080..=1080_i16,
        kind in 1..=4_u8,
        flags in 0..=3_u16,
        (operator, business_day, amount, rate) in any::<(u32, u16, i64, i64)>(),
        lines in prop::collection::vec(any_line(), 0..6),
        tenders in prop::collection::vec(any_tender(), 0..4),
        (taxes, adjustments) in (0..3_u16, 0..3_u16),
        refs in any_refs(),
        notes in prop::collection::vec("\\PC{0,12}", 0..4),
    ) -> AnySale {
        let line = |n: u16| if usize::from(n) < lines.len() { n } else { WHOLE_EVENT };
        AnySale {
            sale: Sale { at, receipt, offset_min, kind, flags, operator, business_day, ..Sale::default() },
            taxes: (0..taxes).map(|n| Tax { amount, rate, line: line(n), code: n, inclusive: 1, reserved: 0 }).collect(),
            adjustments: (0..adjustments).map(|n| Adjustment { amount, line: line(n), group: n, kind: 2, reserved: 0 }).collect(),
            lines,
            tenders,
            refs,
            notes,
        }
    }
}

impl AnySale {
    pub(crate) fn push(&self, builder: &mut SaleBuilder) -> Result<u32, BuildError> {
        let texts: Vec<TextView<'_>> = self
            .notes
            .iter()
            .map(|note| whole_text(text::NOTE, note))
            .collect();
        let extras: Vec<TenderExtra> = (0..u8::try_from(self.tenders.len()).unwrap())
            .map(|tender| TenderExtra {
                event: 0,
                tender,
                kind: extra::TIP,
                amount: 1,
            })
            .collect();
        let prices: Vec<UnitPrice> = (0..u16::try_from(self.lines.len()).unwrap())
            .map(|line| UnitPrice {
                event: 0,
                line,
                price: 1_459,
                scale: 3,
                reserved: 0,
            })
            .collect();
        builder.push(&SaleParts {
            sale: self.sale,
            lines: &self.lines,
            tenders: &self.tenders,
            taxes: &self.taxes,
            adjustments: &self.adjustments,
            extras: &extras,
            prices: &prices,
            refs: &self.refs,
            texts: &texts,
        })
    }
}

/// Arbitrary sales without extras, prices, references and texts.
pub(crate) fn any_plain_sales() -> impl Strategy<Value = Frame> {
    prop::collection::vec(any_sale(), 1..5).prop_map(|sales| {
        let mut builder = SaleBuilder::new();
        for any in &sales {
            let parts = SaleParts {
                sale: any.sale,
                lines: &any.lines,
                tenders: &any.tenders,
                taxes: &any.taxes,
                adjustments: &any.adjustments,
                ..SaleParts::default()
            };
            builder.push(&parts).unwrap();
        }
        builder.finish_frame(seq(5)).unwrap()
    })
}

/// An arbitrary right frame of any family.
pub(crate) fn any_frame() -> impl Strategy<Value = Frame> {
    let sales = prop::collection::vec(any_sale(), 1..5).prop_map(|sales| {
        let mut builder = SaleBuilder::new();
        sales
            .iter()
            .for_each(|sale| assert!(sale.push(&mut builder).is_ok()));
        builder.finish_frame(seq(5)).unwrap()
    });
    let others = prop::collection::vec((any::<(u64, i64, u32)>(), any_refs(), "\\PC{0,12}"), 1..5);
    let others = (0..3_u8, others).prop_map(|(family, seeds)| others_frame(family, &seeds));
    prop_oneof![sales, others]
}

type Seed = ((u64, i64, u32), Vec<Reference>, String);

fn others_frame(family: u8, seeds: &[Seed]) -> Frame {
    let (mut stocks, mut readings, mut signs) = (
        StockBuilder::new(),
        SensorBuilder::new(),
        DeviceBuilder::new(),
    );
    for ((sku, amount, number), refs, note) in seeds {
        let texts = [whole_text(text::NOTE, note)];
        match family {
            0 => stocks.push(
                &stock::v1::Move {
                    sku: *sku,
                    quantity: *amount,
                    ..count_of_milk()
                },
                refs,
                &texts,
            ),
            1 => readings.push(
                &sensor::v1::Reading {
                    sku: *sku,
                    value: *amount,
                    sensor: *number,
                    ..reading()
                },
                refs,
                &texts,
            ),
            _ => signs.push(
                &device::v1::Sign {
                    backlog: *sku,
                    code: *number,
                    ..sign()
                },
                refs,
                &texts,
            ),
        }
        .unwrap();
    }
    match family {
        0 => stocks.finish_frame(seq(5)),
        1 => readings.finish_frame(seq(5)),
        _ => signs.finish_frame(seq(5)),
    }
    .unwrap()
}
