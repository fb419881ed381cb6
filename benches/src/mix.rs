//! The reference mix: frames of three-line sales and of stock movements.

use till_protocol::builder::{BuildError, SaleBuilder, SaleParts, StockBuilder};
use till_protocol::codec::Frame;
use till_protocol::family::sale::v1::{Line, Sale, Tender};
use till_protocol::family::stock::v1::Move;
use till_protocol::id::Seq;

use crate::{EVENTS, NOW_US};

/// A small generator: the same numbers in every run.
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub const fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A frame of [`EVENTS`] three-line sales.
///
/// # Errors
/// [`BuildError`], for sequence numbers out of range.
pub fn sales(dice: &mut Dice, skus: u64, first: Seq) -> Result<Frame, BuildError> {
    let mut sales = SaleBuilder::new();
    for number in 0..EVENTS {
        let mut line = || Line {
            sku: dice.roll(skus),
            quantity: 100_000,
            amount: 250,
            kind: 1,
            unit: 1,
            category: 7,
            flags: 0,
        };
        let lines = [line(), line(), line()];
        let at = NOW_US + i64::try_from(number).unwrap_or(0);
        let sale = Sale {
            at,
            kind: 1,
            operator: 3,
            ..Sale::default()
        };
        let tenders = [Tender {
            amount: 750,
            kind: 1,
            flags: 0,
        }];
        let parts = SaleParts {
            sale,
            lines: &lines,
            tenders: &tenders,
            ..SaleParts::default()
        };
        sales.push(&parts)?;
    }
    sales.finish_frame(first)
}

/// A frame of [`EVENTS`] stock movements.
///
/// # Errors
/// As [`sales`].
pub fn movements(dice: &mut Dice, skus: u64, first: Seq) -> Result<Frame, BuildError> {
    let mut moves = StockBuilder::new();
    for number in 0..EVENTS {
        let record = Move {
            at: NOW_US + i64::try_from(number).unwrap_or(0),
            sku: dice.roll(skus),
            quantity: 100_000,
            kind: 1,
            unit: 1,
            ..Move::default()
        };
        moves.push(&record, &[], &[])?;
    }
    moves.finish_frame(first)
}

/// `count` frames of the mix, one after another from sequence number 1.
///
/// # Errors
/// As [`sales`].
pub fn mix(skus: u64, count: u64) -> Result<Vec<Frame>, BuildError> {
    let mut dice = Dice(7);
    (0..count)
        .map(|number| {
            let first = Seq::FIRST.plus(number * EVENTS);
            if number % 5 < 2 {
                sales(&mut dice, skus, first)
            } else {
                movements(&mut dice, skus, first)
            }
        })
        .collect()
}
