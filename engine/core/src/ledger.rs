//! The money of a sale: what is due, what is paid, and whether the two are equal.

use till_protocol::family::WHOLE_EVENT;
use till_protocol::family::sale::v1::{ArchivedAdjustment, ArchivedTax, flag, kind, line_kind};
use till_protocol::view::SaleEvent;

/// Whether a sale counts in sums and moves stock: it is neither void nor training.
pub fn counts(sale: &SaleEvent<'_>) -> bool {
    sale.sale.kind != kind::VOID && !is_training(sale)
}

/// Whether a sale was rung up in training mode.
pub fn is_training(sale: &SaleEvent<'_>) -> bool {
    sale.sale.flags.to_native() & flag::TRAINING != 0
}

/// What is due and what was paid, in minor units.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Balance {
    /// Lines, adjustments of the whole sale, and taxes that come on top.
    pub due: i128,
    /// Tenders without their change, cashback and tips.
    pub paid: i128,
}

impl Balance {
    /// The balance of a sale. Struck-out lines, and the taxes and adjustments that name them, are left out.
    pub fn of(sale: &SaleEvent<'_>) -> Self {
        let lines: i128 = sale
            .lines
            .iter()
            .filter(|line| line.kind != line_kind::VOID)
            .map(|line| i128::from(line.amount.to_native()))
            .sum();
        let adjustments: i128 = sale
            .adjustments
            .iter()
            .filter(|adjustment| adjustment.line.to_native() == WHOLE_EVENT)
            .map(|adjustment| i128::from(adjustment.amount.to_native()))
            .sum();
        let taxes: i128 = sale
            .taxes
            .iter()
            .filter(|tax| tax.inclusive == 0 && stands(sale, tax.line.to_native()))
            .map(|tax| i128::from(tax.amount.to_native()))
            .sum();
        let tenders: i128 = sale
            .tenders
            .iter()
            .map(|tender| i128::from(tender.amount.to_native()))
            .sum();
        let extras: i128 = sale
            .extras
            .iter()
            .map(|extra| i128::from(extra.amount.to_native()))
            .sum();
        Self {
            due: lines + adjustments + taxes,
            paid: tenders - extras,
        }
    }

    /// Whether the tenders pay exactly what is due.
    pub const fn is_even(&self) -> bool {
        self.due == self.paid
    }
}

/// Whether what names `line` counts: the line is not struck out, or it is about the whole sale.
pub(crate) fn stands(sale: &SaleEvent<'_>, line: u16) -> bool {
    line == WHOLE_EVENT
        || sale
            .lines
            .get(usize::from(line))
            .is_none_or(|line| line.kind != line_kind::VOID)
}

/// The discount of an adjustment in minor units, positive; 0 where it is none or names a struck-out line.
pub(crate) fn discount_of(sale: &SaleEvent<'_>, adjustment: &ArchivedAdjustment) -> i128 {
    use till_protocol::family::sale::v1::adjustment::DISCOUNT_MAX;
    if adjustment.kind > DISCOUNT_MAX || !stands(sale, adjustment.line.to_native()) {
        return 0;
    }
    -i128::from(adjustment.amount.to_native())
}

/// The amount of a tax in minor units; 0 where it names a struck-out line.
pub(crate) fn tax_of(sale: &SaleEvent<'_>, tax: &ArchivedTax) -> i128 {
    if stands(sale, tax.line.to_native()) {
        i128::from(tax.amount.to_native())
    } else {
        0
    }
}
