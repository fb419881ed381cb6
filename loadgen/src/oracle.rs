//! What the engine must answer, by arithmetic of its own.
//!
//! The oracle is told every event that was acknowledged and keeps sums of sales, levels of stock and counts of events.
//! Afterwards it compares them with the engine's answers and names every difference. It shares no code with the engine.

mod compare;
mod hours;
mod stock;

use std::fmt;

use hashbrown::HashMap;
use till_protocol::family::sale::v1::{adjustment, flag, kind, line_flag, line_kind};
use till_protocol::family::stock::v1 as stock_v1;

pub use self::compare::{Baseline, Expected, compare, sales_by_store};
pub use self::hours::{Hours, within_an_hour};
pub use self::stock::Level;
use crate::workload::{Event, SaleEvent};

/// How many differences are printed.
pub const DIFFERENCES_SHOWN: usize = 20;

/// Sums of sales.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sums {
    /// Completed transactions.
    pub transactions: i128,
    /// Lines that are not void.
    pub lines: i128,
    /// Their quantity in 1e-5 units.
    pub quantity: i128,
    /// Their amounts in minor units.
    pub net: i128,
    /// Discounts in minor units, positive.
    pub discount: i128,
    /// Taxes in minor units.
    pub tax: i128,
}

impl Sums {
    /// Adds `other` so many times.
    pub const fn add(&mut self, other: &Self, times: i128) {
        self.transactions += other.transactions * times;
        self.lines += other.lines * times;
        self.quantity += other.quantity * times;
        self.net += other.net * times;
        self.discount += other.discount * times;
        self.tax += other.tax * times;
    }

    /// What a transaction adds; nothing for voids and training.
    pub fn of(event: &SaleEvent) -> Self {
        let mut sums = Self::default();
        if event.sale.kind == kind::VOID || event.sale.flags & flag::TRAINING != 0 {
            return sums;
        }
        sums.transactions = 1;
        for line in event
            .lines
            .iter()
            .filter(|line| line.kind != line_kind::VOID)
        {
            sums.lines += 1;
            sums.quantity += i128::from(line.quantity);
            sums.net += i128::from(line.amount);
        }
        sums.tax = event.taxes.iter().map(|tax| i128::from(tax.amount)).sum();
        let discounts = event
            .adjustments
            .iter()
            .filter(|a| a.kind <= adjustment::DISCOUNT_MAX);
        sums.discount = -discounts.map(|a| i128::from(a.amount)).sum::<i128>();
        sums
    }
}

/// What was acknowledged for one store.
#[derive(Clone, Debug, Default)]
pub struct StoreBook {
    /// Sums of its sales.
    pub sums: Sums,
    /// The same sums by the hour of the sale; empty where nobody kept account of it.
    pub hours: Hours,
    /// Its stock by SKU id.
    pub stock: HashMap<u64, Level>,
}

impl StoreBook {
    /// Takes in an event that is acknowledged as applied, or surely will be.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Sale(sale) => self.sale(sale),
            Event::Move(movement, _) => self.movement(movement),
            Event::Reading(_) | Event::Sign(_) => {}
        }
    }

    /// Adds sales of one time.
    pub fn sold(&mut self, at_us: i64, sums: &Sums) {
        self.sums.add(sums, 1);
        self.hours.sold(at_us, sums);
    }

    fn sale(&mut self, event: &SaleEvent) {
        self.sold(event.sale.at, &Sums::of(event));
        if event.sale.kind == kind::VOID || event.sale.flags & flag::TRAINING != 0 {
            return;
        }
        for line in &event.lines {
            if line.kind != line_kind::VOID && line.flags & line_flag::NO_STOCK == 0 {
                let level = self.stock.entry(line.sku).or_default();
                level.moved(event.sale.at, -i128::from(line.quantity));
            }
        }
    }

    fn movement(&mut self, movement: &stock_v1::Move) {
        if movement.flags & stock_v1::flag::TRAINING != 0 {
            return;
        }
        let quantity = i128::from(movement.quantity);
        let level = self.stock.entry(movement.sku).or_default();
        match movement.kind {
            stock_v1::kind::RECEIVED | stock_v1::kind::ADJUSTED | stock_v1::kind::TRANSFER_IN => {
                level.moved(movement.at, quantity);
            }
            stock_v1::kind::TRANSFER_OUT | stock_v1::kind::WASTE => {
                level.moved(movement.at, -quantity);
            }
            stock_v1::kind::COUNTED => level.counted(movement.at, quantity),
            stock_v1::kind::RESERVED => level.reserved += quantity,
            _ => level.reserved -= quantity,
        }
    }
}

/// Something that the engine says otherwise than the oracle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// What it is about.
    pub what: String,
    /// What the oracle expected.
    pub expected: String,
    /// What the engine says.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected {}, found {}",
            self.what, self.expected, self.found
        )
    }
}

/// The first differences as lines of text, and how many more there are.
pub fn describe(differences: &[Difference]) -> String {
    let mut text: String = differences
        .iter()
        .take(DIFFERENCES_SHOWN)
        .map(|one| format!("  {one}\n"))
        .collect();
    if let Some(more) = differences
        .len()
        .checked_sub(DIFFERENCES_SHOWN)
        .filter(|more| *more > 0)
    {
        text.push_str(&format!("  and {more} more\n"));
    }
    text
}

#[cfg(test)]
mod tests;
