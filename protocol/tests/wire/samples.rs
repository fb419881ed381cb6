//! Batches that the tests share: fixed ones with every field in use, and arbitrary ones.

mod arbitrary;
mod rebuild;

pub(crate) use self::arbitrary::{any_frame, any_plain_sales};
pub(crate) use self::rebuild::rebuild;

use till_protocol::builder::{
    DeviceBuilder, SaleBuilder, SaleParts, SensorBuilder, StockBuilder, TextView, event_id,
    sku_code, whole_text,
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

/// 2026-11-21 09:49:54 UTC.
pub(crate) const AT: i64 = 1_795_254_594_000_000;
pub(crate) const KEY: ScreenKey = ScreenKey::new([7; 32]);

pub(crate) fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn sku(code: &str) -> u64 {
    SkuId::of_code(code).get()
}

const fn refer(kind: u8, byte: u8) -> Reference {
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

fn full_lines() -> [Line; 4] {
    let line = |code, quantity, amount, kind| Line {
        sku: sku(code),
        quantity,
        amount,
        category: 17,
        kind,
        unit: unit::EACH,
        flags: 0,
    };
    [
        line("4006381333931", 200_000, 598, line_kind::SALE),
        Line {
            unit: unit::LITRE,
            flags: line_flag::NO_STOCK,
            ..line("FUEL-95", 3_142_000, 4_584, line_kind::SALE)
        },
        line("MILK", -100_000, -119, line_kind::RETURN),
        Line {
            unit: unit::UNSTATED,
            ..line("VOIDED", 100_000, 100, line_kind::VOID)
        },
    ]
}

const FULL_TAXES: [Tax; 2] = [
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
];
const FULL_ADJUSTMENTS: [Adjustment; 2] = [
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
];
const FULL_TENDERS: [Tender; 2] = [
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
const FULL_EXTRAS: [TenderExtra; 2] = [
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
];
const FULL_PRICES: [UnitPrice; 1] = [UnitPrice {
    event: 0,
    line: 1,
    price: 1_459,
    scale: 3,
    reserved: 0,
}];
const FULL_REFS: [Reference; 3] = [
    event_id(EventId::from_bytes([0xee; 16])),
    refer(reference::CUSTOMER, 0xcc),
    refer(reference::APPROVER, 0xaa),
];
const FULL_TEXTS: [TextView<'_>; 6] = [
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
];

/// Every field of every record is in use; the second event is the small sale.
pub(crate) fn sale_full() -> Frame {
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
        lines: &full_lines(),
        tenders: &FULL_TENDERS,
        taxes: &FULL_TAXES,
        adjustments: &FULL_ADJUSTMENTS,
        extras: &FULL_EXTRAS,
        prices: &FULL_PRICES,
        refs: &FULL_REFS,
        texts: &FULL_TEXTS,
    };
    let mut builder = SaleBuilder::new();
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
