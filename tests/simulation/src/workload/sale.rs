//! A sale, as its till rings it up: its prices, what was taken off and what comes on top, and how it was paid.

use till_protocol::builder::{SaleBuilder, SaleParts, event_id};
use till_protocol::family::WHOLE_EVENT;
use till_protocol::family::sale::v1::{
    Adjustment, Line, Sale, Tax, Tender, adjustment, flag, kind, line_flag, line_kind, tender,
};
use till_protocol::view::TextView;

use super::{Act, Truth, code, named, own_id, sku};
use crate::coverage::Sight;
use crate::rng::Rng;

/// One line of a receipt.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Bought {
    pub(crate) all_skus: u64,
    pub(crate) quantity: i64,
    pub(crate) amount: i64,
    pub(crate) category: u32,
    /// What was taken off; the amount has it off already.
    pub(crate) discount: i64,
    pub(crate) tax: i64,
    /// The tax comes on top of the amount.
    pub(super) is_on_top: bool,
    /// It was struck out before the sale was paid.
    pub(crate) is_struck: bool,
    /// It came back, and cannot be sold again: no stock moves.
    pub(crate) is_unfit: bool,
}

/// A receipt.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Receipt {
    pub(crate) lines: Vec<Bought>,
    pub(crate) operator: u32,
    /// Taken off the whole of it, and in no line.
    pub(crate) discount: i64,
    /// On the whole of it, and on top.
    pub(crate) tax: i64,
    /// It was paid in part by card.
    pub(super) by_card: i64,
    /// It was cancelled: nothing was sold.
    pub(crate) is_cancelled: bool,
    /// Somebody learned it: it is summed up apart, and moves nothing.
    pub(crate) is_training: bool,
    /// It says what it is: a sale, goods that come back, or an exchange. Else all are sales.
    pub(super) says_kind: bool,
}

impl Receipt {
    fn due(&self) -> i64 {
        let standing = self.lines.iter().filter(|line| !line.is_struck);
        let lines = standing.map(|line| line.amount + if line.is_on_top { line.tax } else { 0 });
        lines.sum::<i64>() + self.tax - self.discount
    }

    pub(super) fn sights(&self) -> Vec<Sight> {
        let lines = &self.lines;
        let has_whole = self.discount != 0 && self.tax != 0;
        let has_parts =
            lines.iter().any(|line| line.discount != 0) && lines.iter().any(|line| line.tax != 0);
        let is_struck = lines.iter().any(|line| line.is_struck);
        let all = [
            (has_whole && has_parts, Sight::PricesMade),
            (is_struck, Sight::LineStruck),
            (self.by_card != 0, Sight::PaidInParts),
            (self.is_cancelled, Sight::Cancelled),
            (self.is_training, Sight::Trained),
            (self.kind() == kind::RETURN, Sight::CameBack),
            (self.kind() == kind::EXCHANGE, Sight::Exchanged),
            (lines.iter().any(|line| line.is_unfit), Sight::Unfit),
        ];
        let seen = all.into_iter().filter(|(is_so, _)| *is_so);
        seen.map(|(_, sight)| sight).collect()
    }

    /// The kinds of tender that pay it.
    pub(crate) fn paid_by(&self) -> Vec<u64> {
        let tenders = self.tenders();
        tenders.iter().map(|one| u64::from(one.kind)).collect()
    }

    fn tenders(&self) -> Vec<Tender> {
        let one = |amount, kind| Tender {
            amount,
            kind,
            ..Tender::default()
        };
        let cash = one(self.due() - self.by_card, tender::CASH);
        match self.by_card {
            0 => vec![cash],
            amount => vec![cash, one(amount, tender::CARD)],
        }
    }

    /// Adds what a plain sale lacks.
    pub(super) fn dress(&mut self, dice: &mut Rng) {
        for (number, line) in self.lines.iter_mut().enumerate() {
            let sign = line.amount.signum();
            line.category = u32::try_from(line.all_skus % 3).unwrap_or(0);
            line.is_struck = number > 0 && dice.one_in(6);
            if dice.one_in(3) {
                line.discount = sign * dice.signed(1, 50);
            }
            if dice.one_in(2) {
                line.tax = sign * dice.signed(1, 90);
                line.is_on_top = dice.one_in(2);
            }
        }
        if dice.one_in(4) {
            self.discount = dice.signed(1, 70);
        }
        if dice.one_in(4) {
            self.tax = dice.signed(1, 70);
        }
        if dice.one_in(3) {
            self.by_card = self.due() / 3;
        }
        self.is_cancelled = dice.one_in(12);
    }

    /// Adds what a full world has: goods that come back, alone or for others, and people who learn it.
    pub(super) fn fill(&mut self, dice: &mut Rng) {
        self.says_kind = true;
        let back = match dice.below(6) {
            0 => self.lines.len(),
            1 => 1,
            _ => 0,
        };
        for line in self.lines.iter_mut().take(back) {
            line.quantity = -line.quantity.abs();
            line.amount = -line.amount.abs();
            line.discount = -line.discount.abs();
            line.tax = -line.tax.abs();
        }
        for line in self.lines.iter_mut().filter(|line| line.quantity < 0) {
            line.is_unfit = dice.one_in(3);
        }
        if self.by_card != 0 {
            self.by_card = self.due() / 3;
        }
        self.is_training = dice.one_in(8);
    }

    /// What it says that it is.
    pub(crate) fn kind(&self) -> u8 {
        let back = self.lines.iter().filter(|line| line.quantity < 0).count();
        match (self.is_cancelled, self.says_kind) {
            (true, _) => kind::VOID,
            (_, true) if back == self.lines.len() => kind::RETURN,
            (_, true) if back > 0 => kind::EXCHANGE,
            _ => kind::SALE,
        }
    }

    fn taxes(&self) -> Vec<Tax> {
        let one = |line, amount, is_on_top: bool| Tax {
            amount,
            line,
            inclusive: u8::from(!is_on_top),
            ..Tax::default()
        };
        let lines = (0..).zip(&self.lines);
        let lines = lines.map(|(at, line)| one(at, line.tax, line.is_on_top));
        let whole = one(WHOLE_EVENT, self.tax, true);
        let all = lines.chain([whole]);
        all.filter(|tax| tax.amount != 0).collect()
    }

    fn adjustments(&self) -> Vec<Adjustment> {
        let one = |line, discount: i64| Adjustment {
            amount: -discount,
            line,
            kind: adjustment::PROMOTION,
            ..Adjustment::default()
        };
        let lines = (0..).zip(&self.lines);
        let lines = lines.map(|(at, line)| one(at, line.discount));
        let all = lines.chain([one(WHOLE_EVENT, self.discount)]);
        all.filter(|one| one.amount != 0).collect()
    }
}

fn line(bought: &Bought) -> Line {
    Line {
        sku: sku(bought.all_skus),
        quantity: bought.quantity,
        amount: bought.amount,
        category: bought.category,
        kind: match (bought.is_struck, bought.quantity < 0) {
            (true, _) => line_kind::VOID,
            (_, true) => line_kind::RETURN,
            _ => line_kind::SALE,
        },
        flags: match bought.is_unfit {
            true => line_flag::NO_STOCK,
            false => 0,
        },
        ..Line::default()
    }
}

pub(super) fn put_sale(builder: &mut SaleBuilder, event: &Truth, names: bool) -> Option<()> {
    let Act::Sale(receipt) = &event.act else {
        return None;
    };
    let lines: Vec<Line> = receipt.lines.iter().map(line).collect();
    let codes: Vec<String> = receipt
        .lines
        .iter()
        .map(|line| code(line.all_skus))
        .collect();
    let texts: Vec<TextView<'_>> = (0..)
        .zip(&codes)
        .map(|(at, code)| named(at, code))
        .collect();
    let refs: Vec<_> = event.id.map(own_id).map(event_id).into_iter().collect();
    let parts = SaleParts {
        sale: Sale {
            at: event.at,
            receipt: event.at.unsigned_abs() % 1_000_000_000_000,
            operator: receipt.operator,
            kind: receipt.kind(),
            flags: match receipt.is_training {
                true => flag::TRAINING,
                false => 0,
            },
            ..Sale::default()
        },
        lines: &lines,
        tenders: &receipt.tenders(),
        taxes: &receipt.taxes(),
        adjustments: &receipt.adjustments(),
        refs: &refs,
        texts: if names { &texts } else { &[] },
        ..SaleParts::default()
    };
    builder.push(&parts).ok().map(|_| ())
}
