//! What one customer buys or brings back, and how it is paid.

use till_protocol::family::WHOLE_EVENT;
use till_protocol::family::sale::v1::{
    Adjustment, Line, Sale, Tax, Tender, adjustment, extra, kind, line_kind, tender,
};
use till_protocol::quantity::{Quantity, unit};

use super::catalogue::{Catalogue, Item};
use super::dice::Dice;
use super::event::SaleEvent;

/// Means of payment that have no kind of their own.
const NAMED: [&str; 3] = ["Lunch Pass", "Staff Card", "Bon d'achat"];

/// A transaction at a time, with a receipt number.
pub(super) fn basket(dice: &mut Dice, catalogue: &Catalogue, at: i64, receipt: u64) -> SaleEvent {
    let is_return = dice.in_1000(30);
    let mut event = SaleEvent {
        sale: Sale {
            at,
            receipt,
            operator: u32::try_from(dice.below(12)).unwrap_or(0) + 1,
            kind: if is_return { kind::RETURN } else { kind::SALE },
            ..Sale::default()
        },
        ..SaleEvent::default()
    };
    let lines = if is_return {
        1
    } else {
        1 + dice.below(3) + dice.below(4)
    };
    for _ in 0..lines {
        let item = catalogue.pick(dice);
        line(dice, item, is_return, &mut event);
    }
    if !is_return && dice.in_1000(10) {
        strike_out(&mut event);
    }
    if dice.in_1000(200) {
        event.customer = Some(person(dice));
    }
    pay(dice, &mut event);
    match dice.below(1_000) {
        0..5 => event.sale.kind = kind::VOID,
        5..10 => event.sale.flags |= till_protocol::family::sale::v1::flag::TRAINING,
        _ => {}
    }
    event
}

fn line(dice: &mut Dice, item: &Item, is_return: bool, event: &mut SaleEvent) {
    let quantity = match item.unit {
        unit::KILOGRAM => dice.between(50, 2_500) * (Quantity::ONE.raw() / 1_000),
        _ => {
            Quantity::ONE.raw()
                * if dice.in_1000(150) {
                    dice.between(2, 6)
                } else {
                    1
                }
        }
    };
    let place = u16::try_from(event.lines.len()).unwrap_or(WHOLE_EVENT);
    let full = item.price * quantity / Quantity::ONE.raw();
    let promotion = if dice.in_1000(120) { full / 5 } else { 0 };
    if promotion > 0 && !is_return {
        event.adjustments.push(Adjustment {
            amount: -promotion,
            line: place,
            group: 0,
            kind: adjustment::PROMOTION,
            reserved: 0,
        });
    }
    let sign = if is_return { -1 } else { 1 };
    let amount = sign * (full - if is_return { 0 } else { promotion });
    if item.rate > 0 {
        event.taxes.push(Tax {
            amount: amount * item.rate / 10_000_000,
            rate: item.rate,
            line: place,
            code: 1,
            inclusive: 0,
            reserved: 0,
        });
    }
    event.lines.push(Line {
        sku: item.id,
        quantity: sign * quantity,
        amount,
        category: item.category,
        kind: if is_return {
            line_kind::RETURN
        } else {
            line_kind::SALE
        },
        unit: item.unit,
        flags: 0,
    });
}

/// The last line is struck out again, where others remain.
fn strike_out(event: &mut SaleEvent) {
    let place = u16::try_from(event.lines.len().saturating_sub(1)).unwrap_or(0);
    if place == 0 {
        return;
    }
    if let Some(line) = event.lines.last_mut() {
        line.kind = line_kind::VOID;
        line.amount = 0;
    }
    event.taxes.retain(|tax| tax.line != place);
    event
        .adjustments
        .retain(|adjustment| adjustment.line != place);
}

fn due(event: &SaleEvent) -> i64 {
    let lines: i64 = event.lines.iter().map(|line| line.amount).sum();
    let taxes: i64 = event
        .taxes
        .iter()
        .filter(|tax| tax.inclusive == 0)
        .map(|tax| tax.amount)
        .sum();
    let whole = event
        .adjustments
        .iter()
        .filter(|adjustment| adjustment.line == WHOLE_EVENT);
    lines + taxes + whole.map(|adjustment| adjustment.amount).sum::<i64>()
}

fn pay(dice: &mut Dice, event: &mut SaleEvent) {
    let due_now = due(event);
    let one = |amount, kind| Tender {
        amount,
        kind,
        flags: 0,
    };
    match dice.below(100) {
        // Cash: rounded to 5, paid with a note, change given.
        0..35 if due_now > 0 => {
            let rounded = (due_now + 2) / 5 * 5;
            if rounded != due_now {
                event.adjustments.push(Adjustment {
                    amount: rounded - due_now,
                    line: WHOLE_EVENT,
                    group: 0,
                    kind: adjustment::ROUNDING,
                    reserved: 0,
                });
            }
            let note = [500, 1_000, 2_000, 5_000]
                .into_iter()
                .find(|note| *note >= rounded);
            let given = note.unwrap_or(rounded);
            event.tenders.push(one(given, tender::CASH));
            if given > rounded {
                event.extras.push((0, extra::CHANGE, given - rounded));
            }
        }
        35..42 if due_now > 100 => {
            let voucher = dice.between(50, due_now / 2);
            event.tenders.push(one(voucher, tender::GIFT_CARD));
            event.tenders.push(one(due_now - voucher, tender::CARD));
        }
        42..47 => {
            event.tenders.push(one(due_now, tender::NAMED));
            let name = NAMED
                .get(dice.index(NAMED.len()))
                .copied()
                .unwrap_or("Voucher");
            event.tender_names.push((0, name.to_owned()));
        }
        47..52 if due_now > 0 => {
            let tip = due_now / 10;
            event.tenders.push(one(due_now + tip, tender::CARD));
            event.extras.push((0, extra::TIP, tip));
        }
        52..62 => event.tenders.push(one(due_now, tender::MOBILE)),
        _ => event.tenders.push(one(due_now, tender::CARD)),
    }
}

fn person(dice: &mut Dice) -> [u8; 16] {
    let regular = dice.below(100_000).to_le_bytes();
    let mut value = [0x11; 16];
    for (to, from) in value.iter_mut().zip(regular) {
        *to = from;
    }
    value
}
