//! Trade from a seed: sales, returns, voids, training, split tenders, stock.

use till_core::Record;
use till_protocol::builder::{SaleParts, TextView, event_id};
use till_protocol::family::sale::v1::{
    Adjustment, Line, Sale, Tax, Tender, TenderExtra, adjustment, extra, flag, kind, line_kind,
    tender,
};
use till_protocol::family::stock::v1::{Move, kind as stock_kind};
use till_protocol::family::{WHOLE_EVENT, text};
use till_protocol::id::{EventId, SkuId};

use super::{MINUTE_US, World, line, named, till};

/// Numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn signed(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.below(high.abs_diff(low))).unwrap()
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

const CODES: [&str; 7] = ["milk", "bread", "eggs", "tea", "rice", "salt", "soap"];

/// How trade goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) seed: u64,
    pub(crate) events: u32,
    /// When it starts, in us since 1970-01-01 UTC.
    pub(crate) start_us: i64,
    /// Whether event times go back and forth over three days, or rise with every event.
    pub(crate) late: bool,
}

impl World {
    /// Three stores in three zones, and trade in them. Gives the records in order.
    pub(crate) fn workload(&mut self, workload: Workload) -> Vec<Record> {
        if !workload.late {
            self.now_us = workload.start_us;
        }
        self.register(1, 840, "America/New_York");
        self.register(2, 978, "Australia/Lord_Howe");
        self.register(3, 840, "UTC");
        let mut dice = Dice(workload.seed);
        for number in 0..workload.events {
            let at = if workload.late {
                workload.start_us
                    + dice.signed(0, 3 * 1_440) * MINUTE_US
                    + dice.signed(0, MINUTE_US)
            } else {
                workload.start_us + i64::from(number) * MINUTE_US * 3
            };
            // Each is received behind the one before.
            self.now_us = at.max(self.now_us + 1);
            let terminal = till(
                u32::try_from(1 + dice.below(3)).unwrap(),
                u32::try_from(1 + dice.below(3)).unwrap(),
            );
            if dice.one_in(3) {
                let (record, code) = movement(&mut dice, at);
                self.stock(terminal, &record, code);
            } else {
                self.random_sale(&mut dice, terminal, at, number);
            }
            if dice.one_in(16) {
                self.flush();
            }
        }
        self.flush();
        self.log.0.iter().map(|fact| fact.record.clone()).collect()
    }

    fn random_sale(
        &mut self,
        dice: &mut Dice,
        terminal: till_protocol::id::TerminalId,
        at: i64,
        number: u32,
    ) {
        let count = 1 + dice.below(12);
        let codes: Vec<&str> = (0..count)
            .map(|_| CODES[usize::try_from(dice.below(7)).unwrap()])
            .collect();
        let lines: Vec<Line> = codes.iter().map(|code| random_line(dice, code)).collect();
        let last = u16::try_from(lines.len()).unwrap();
        let of_line = |dice: &mut Dice| match dice.below(4) {
            0 => WHOLE_EVENT,
            _ => u16::try_from(dice.below(u64::from(last))).unwrap(),
        };
        let taxes: Vec<Tax> = (0..dice.below(3))
            .map(|_| Tax {
                amount: dice.signed(-20, 200),
                line: of_line(dice),
                inclusive: u8::from(dice.one_in(2)),
                ..Tax::default()
            })
            .collect();
        let adjustments: Vec<Adjustment> = (0..dice.below(3))
            .map(|_| Adjustment {
                amount: dice.signed(-200, 50),
                line: of_line(dice),
                kind: 1 + u8::try_from(dice.below(u64::from(adjustment::MAX))).unwrap(),
                ..Adjustment::default()
            })
            .collect();
        let kinds = [tender::CASH, tender::CARD, tender::NAMED, tender::GIFT_CARD];
        let tenders: Vec<Tender> = (0..dice.below(4))
            .map(|_| Tender {
                amount: dice.signed(-100, 3_000),
                kind: kinds[usize::try_from(dice.below(4)).unwrap()],
                ..Tender::default()
            })
            .collect();
        let (texts, extras) = sides(dice, &codes, &tenders);
        let id = EventId::from_bytes(u128::from(number).to_le_bytes());
        self.sell(
            terminal,
            &SaleParts {
                sale: random_header(dice, at),
                lines: &lines,
                tenders: &tenders,
                taxes: &taxes,
                adjustments: &adjustments,
                extras: &extras,
                refs: &[event_id(id)],
                texts: &texts,
                ..SaleParts::default()
            },
        );
    }
}

fn sides<'a>(
    dice: &mut Dice,
    codes: &[&'a str],
    tenders: &[Tender],
) -> (Vec<TextView<'a>>, Vec<TenderExtra>) {
    let mut texts: Vec<TextView<'a>> = (0_u16..)
        .zip(codes)
        .map(|(at, code)| named(at, code))
        .collect();
    let mut extras = Vec::new();
    for (at, one) in (0_u8..).zip(tenders) {
        if one.kind == tender::NAMED {
            texts.push(TextView {
                item: u16::from(at),
                kind: text::TENDER_NAME,
                text: if dice.one_in(2) { "Twint" } else { "cash" },
            });
        }
        if dice.one_in(3) {
            extras.push(TenderExtra {
                tender: at,
                kind: extra::CHANGE,
                amount: dice.signed(0, 50),
                ..TenderExtra::default()
            });
        }
    }
    (texts, extras)
}

fn random_header(dice: &mut Dice, at: i64) -> Sale {
    let today = u16::try_from(at / (1_440 * MINUTE_US)).unwrap();
    let stated = today - 1 + u16::try_from(dice.below(3)).unwrap();
    Sale {
        at,
        receipt: 1 + dice.below(50),
        operator: u32::try_from(dice.below(4)).unwrap(),
        business_day: if dice.one_in(3) { stated } else { 0 },
        kind: match dice.below(10) {
            0 => kind::VOID,
            1 => kind::RETURN,
            2 => kind::EXCHANGE,
            _ => kind::SALE,
        },
        flags: if dice.one_in(10) { flag::TRAINING } else { 0 },
        ..Sale::default()
    }
}

fn random_line(dice: &mut Dice, code: &str) -> Line {
    let mut made = line(
        code,
        dice.signed(-300_000, 900_000),
        dice.signed(-500, 2_000),
    );
    made.category = u32::try_from(dice.below(3)).unwrap();
    if dice.one_in(8) {
        made.kind = line_kind::VOID;
    }
    made
}

fn movement(dice: &mut Dice, at: i64) -> (Move, &'static str) {
    let code = CODES[usize::try_from(dice.below(7)).unwrap()];
    let record = Move {
        at,
        sku: SkuId::of_code(code).get(),
        quantity: dice.signed(0, 5_000_000),
        kind: 1 + u8::try_from(dice.below(u64::from(stock_kind::MAX))).unwrap(),
        unit: 1,
        ..Move::default()
    };
    (record, code)
}
