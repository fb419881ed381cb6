//! Batches that the tests share: fixed ones with every field in use, and arbitrary ones.

use proptest::prelude::*;
use till_protocol::builder::{
    BuildError, DeviceBuilder, SaleBuilder, SaleParts, SensorBuilder, StockBuilder, TextView,
    event_id, sku_code, whole_text,
};
use till_protocol::card::ScreenKey;
use till_protocol::codec::Frame;
use till_protocol::family::sale::v1::{
    Adjustment, Line, Sale, Tax, Tender, TenderExtra, UnitPrice, adjustment, extra, flag, kind,
    line_flag, line_kind, tender,
};
use till_protocol::family::{Reference, WHOLE_EVENT, device, reference, sensor, stock, text};
use till_protocol::id::{EventId, Seq, SkuId};
use till_protocol::quantity::unit;
use till_protocol::view::View;
use till_protocol::{safe, view};

/// 2026-11-21 09:49:54 UTC.
pub(crate) const AT: i64 = 1_795_254_594_000_000;
pub(crate) const KEY: ScreenKey = ScreenKey::new([7; 32]);

pub(crate) fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn sku(code: &str) -> u64 {
    SkuId::of_code(code).get()
}

fn refer(kind: u8, byte: u8) -> Reference {
    Reference {
        event: 0,
        kind,
        reserved: 0,
        value: [byte; 16],
    }
}

/// One coffee for 2.50, paid in cash.
pub(crate) fn small_sale() -> SaleParts<'static> {
    const LINES: &[Line] = &[Line {
        sku: 0x0102_0304_0506_0708,
        quantity: 100_000,
        amount: 250,
        category: 0,
        kind: line_kind::SALE,
        unit: unit::EACH,
        flags: 0,
    }];
    SaleParts {
        sale: Sale {
            at: AT,
            receipt: 42,
            offset_min: 60,
            kind: kind::SALE,
            ..Sale::default()
        },
        lines: LINES,
        tenders: &[Tender {
            amount: 250,
            kind: tender::CASH,
            flags: 0,
        }],
        ..SaleParts::default()
    }
}

pub(crate) fn sale_small() -> Frame {
    let mut builder = SaleBuilder::new();
    builder.push(&small_sale()).unwrap();
    builder.finish_frame(seq(7)).unwrap()
}

/// Every field of every record is in use; the second event is the small sale.
pub(crate) fn sale_full() -> Frame {
    let line = |code, quantity, amount, kind, unit, flags| Line {
        sku: sku(code),
        quantity,
        amount,
        category: 17,
        kind,
        unit,
        flags,
    };
    let lines = [
        line(
            "4006381333931",
            200_000,
            598,
            line_kind::SALE,
            unit::EACH,
            0,
        ),
        line(
            "FUEL-95",
            3_142_000,
            4_584,
            line_kind::SALE,
            unit::LITRE,
            line_flag::NO_STOCK,
        ),
        line("MILK", -100_000, -119, line_kind::RETURN, unit::EACH, 0),
        line("VOIDED", 100_000, 100, line_kind::VOID, unit::UNSTATED, 0),
    ];
    let tenders = [
        Tender {
            amount: 6_000,
            kind: tender::CARD,
            flags: 0,
        },
        Tender {
            amount: 500,
            kind: tender::NAMED,
            flags: 0,
        },
    ];
    let mut builder = SaleBuilder::new();
    let parts = SaleParts {
        sale: Sale {
            at: AT,
            receipt: 999_999_999_999,
            operator: 0xa1b2_c3d4,
            offset_min: -300,
            business_day: 20_778,
            kind: kind::EXCHANGE,
            flags: flag::ALL,
            ..Sale::default()
        },
        lines: &lines,
        tenders: &tenders,
        taxes: &[
            Tax {
                amount: 95,
                rate: 1_900_000,
                line: 0,
                code: 3,
                inclusive: 1,
                reserved: 0,
            },
            Tax {
                amount: 12,
                rate: 700_000,
                line: WHOLE_EVENT,
                code: 4,
                inclusive: 0,
                reserved: 0,
            },
        ],
        adjustments: &[
            Adjustment {
                amount: -60,
                line: 0,
                group: 9,
                kind: adjustment::PROMOTION,
                reserved: 0,
            },
            Adjustment {
                amount: 3,
                line: WHOLE_EVENT,
                group: 0,
                kind: adjustment::ROUNDING,
                reserved: 0,
            },
        ],
        extras: &[
            TenderExtra {
                event: 0,
                tender: 0,
                kind: extra::TIP,
                amount: 422,
            },
            TenderExtra {
                event: 0,
                tender: 0,
                kind: extra::CASHBACK,
                amount: 1_000,
            },
        ],
        prices: &[UnitPrice {
            event: 0,
            line: 1,
            price: 1_459,
            scale: 3,
            reserved: 0,
        }],
        refs: &[
            event_id(EventId::from_bytes([0xee; 16])),
            refer(reference::CUSTOMER, 0xcc),
            refer(reference::APPROVER, 0xaa),
        ],
        texts: &[
            whole_text(text::RECEIPT, "R-2026/0001"),
            sku_code(0, "4006381333931"),
            sku_code(1, "FUEL-95"),
            TextView {
                item: 1,
                kind: text::TENDER_NAME,
                text: "Ticket Café",
            },
            TextView {
                item: 0,
                kind: text::TENDER_REFERENCE,
                text: "auth 0931",
            },
            whole_text(text::NOTE, "нет чека"),
        ],
    };
    builder.push(&parts).unwrap();
    builder.push(&small_sale()).unwrap();
    builder.finish_frame(seq(1_000)).unwrap()
}

pub(crate) fn count_of_milk() -> stock::v1::Move {
    stock::v1::Move {
        at: AT,
        sku: 0x0102_0304_0506_0708,
        quantity: 1_200_000,
        offset_min: 60,
        kind: stock::v1::kind::COUNTED,
        unit: unit::EACH,
        reason: 0,
        flags: 0,
    }
}

pub(crate) fn stock_small() -> Frame {
    let mut builder = StockBuilder::new();
    builder.push(&count_of_milk(), &[], &[]).unwrap();
    builder.finish_frame(seq(7)).unwrap()
}

pub(crate) fn stock_full() -> Frame {
    let mut builder = StockBuilder::new();
    let record = stock::v1::Move {
        sku: sku("MILK"),
        kind: stock::v1::kind::ADJUSTED,
        quantity: -50_000,
        unit: unit::KILOGRAM,
        reason: 12,
        flags: stock::v1::flag::TRAINING,
        offset_min: -300,
        ..count_of_milk()
    };
    let refs = [
        event_id(EventId::from_bytes([0xee; 16])),
        refer(reference::RESERVATION, 0x55),
    ];
    let texts = [
        whole_text(text::SKU_CODE, "MILK"),
        whole_text(text::DOCUMENT, "DN-2026-17"),
        whole_text(text::NOTE, "tropft"),
    ];
    builder.push(&record, &refs, &texts).unwrap();
    builder.push(&count_of_milk(), &[], &[]).unwrap();
    builder.finish_frame(seq(1_000)).unwrap()
}

pub(crate) fn reading() -> sensor::v1::Reading {
    sensor::v1::Reading {
        at: AT,
        sku: 0,
        value: 4_200,
        sensor: 3,
        offset_min: 60,
        kind: sensor::v1::kind::TEMPERATURE,
        unit: unit::CELSIUS,
        flags: 0,
    }
}

pub(crate) fn sensor_small() -> Frame {
    let mut builder = SensorBuilder::new();
    builder.push(&reading(), &[], &[]).unwrap();
    builder.finish_frame(seq(7)).unwrap()
}

pub(crate) fn sensor_full() -> Frame {
    let mut builder = SensorBuilder::new();
    let record = sensor::v1::Reading {
        sku: sku("MILK"),
        value: -1_250,
        kind: sensor::v1::kind::MASS,
        unit: unit::GRAM,
        offset_min: -300,
        ..reading()
    };
    let texts = [
        whole_text(text::SKU_CODE, "MILK"),
        whole_text(text::NOTE, "shelf 4"),
    ];
    builder
        .push(
            &record,
            &[event_id(EventId::from_bytes([0xee; 16]))],
            &texts,
        )
        .unwrap();
    builder.push(&reading(), &[], &[]).unwrap();
    builder.finish_frame(seq(1_000)).unwrap()
}

pub(crate) fn sign() -> device::v1::Sign {
    device::v1::Sign {
        at: AT,
        backlog: 12,
        uptime_ms: 86_400_000,
        code: 0,
        offset_min: 60,
        kind: device::v1::kind::HEARTBEAT,
        flags: 0,
    }
}

pub(crate) fn device_small() -> Frame {
    let mut builder = DeviceBuilder::new();
    builder.push(&sign(), &[], &[]).unwrap();
    builder.finish_frame(seq(7)).unwrap()
}

pub(crate) fn device_full() -> Frame {
    let mut builder = DeviceBuilder::new();
    let record = device::v1::Sign {
        code: 77,
        kind: device::v1::kind::FAULT,
        offset_min: -300,
        ..sign()
    };
    let texts = [whole_text(text::NOTE, "paper out")];
    builder
        .push(
            &record,
            &[event_id(EventId::from_bytes([0xee; 16]))],
            &texts,
        )
        .unwrap();
    builder.push(&sign(), &[], &[]).unwrap();
    builder.finish_frame(seq(1_000)).unwrap()
}

/// Name of the golden file and frame of each sample.
pub(crate) fn all() -> Vec<(&'static str, Frame)> {
    vec![
        ("sale.v1.small", sale_small()),
        ("sale.v1.full", sale_full()),
        ("stock.v1.small", stock_small()),
        ("stock.v1.full", stock_full()),
        ("sensor.v1.small", sensor_small()),
        ("sensor.v1.full", sensor_full()),
        ("device.v1.small", device_small()),
        ("device.v1.full", device_full()),
    ]
}

/// Puts a batch together again from its events, so that nothing an iterator drops goes unnoticed.
pub(crate) fn rebuild(view: &View<'_>) -> safe::Batch {
    match view {
        View::Sale(sales) => safe::Batch::Sale(rebuild_sales(sales)),
        View::Stock(view) => {
            let (moves, refs, texts, text) = rebuild_flat(view);
            safe::Batch::Stock(stock::v1::Batch {
                moves,
                refs,
                texts,
                text,
            })
        }
        View::Sensor(view) => {
            let (readings, refs, texts, text) = rebuild_flat(view);
            safe::Batch::Sensor(sensor::v1::Batch {
                readings,
                refs,
                texts,
                text,
            })
        }
        View::Device(view) => {
            let (signs, refs, texts, text) = rebuild_flat(view);
            safe::Batch::Device(device::v1::Batch {
                signs,
                refs,
                texts,
                text,
            })
        }
    }
}

use till_protocol::family::{Text, sale};
use till_protocol::layout::Native;

type Flat<R> = (Vec<R>, Vec<Reference>, Vec<Text>, Vec<u8>);

fn rebuild_flat<R: Native>(view: &view::EventsView<'_, R>) -> Flat<R::Record> {
    let (mut records, mut refs, mut texts, mut bytes) = (vec![], vec![], vec![], vec![]);
    for event in view.events() {
        records.push(event.record.native());
        refs.extend(event.refs.iter().map(Native::native));
        texts.extend(event.texts.entries().iter().map(Native::native));
        bytes.extend_from_slice(event.texts.bytes());
    }
    (records, refs, texts, bytes)
}

fn rebuild_sales(sales: &view::SaleView<'_>) -> sale::v1::Batch {
    let mut batch = sale::v1::Batch::default();
    for (index, event) in (0..).zip(sales.events()) {
        assert_eq!(event.index, index);
        batch.sales.push(event.sale.native());
        batch.lines.extend(event.lines.iter().map(Native::native));
        batch
            .tenders
            .extend(event.tenders.iter().map(Native::native));
        batch.taxes.extend(event.taxes.iter().map(Native::native));
        batch
            .adjustments
            .extend(event.adjustments.iter().map(Native::native));
        batch.extras.extend(event.extras.iter().map(Native::native));
        batch.prices.extend(event.prices.iter().map(Native::native));
        batch.refs.extend(event.refs.iter().map(Native::native));
        batch
            .texts
            .extend(event.texts.entries().iter().map(Native::native));
        batch.text.extend_from_slice(event.texts.bytes());
    }
    batch
}

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
