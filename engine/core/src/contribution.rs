//! What one event adds to the sums, and which stock it moves.
//!
//! The live run, recovery, rebuild and queries over part of an hour all come here, so that they can never differ. Sums by
//! tender, category and operator add up to the sum by store; sums by SKU hold discounts and taxes of the line alone.

use till_protocol::family::WHOLE_EVENT;
use till_protocol::family::sale::v1::{ArchivedLine, line_flag, line_kind};
use till_protocol::family::stock::v1 as stock;
use till_protocol::id::StoreId;
use till_protocol::money::share;
use till_protocol::view::{SaleEvent, StockEvent};

use crate::ledger::{counts, discount_of, tax_of};
use crate::rollup::add_totals;
use crate::row::{Dim, RollupKey, RollupRow, Totals};
use crate::zone::LocalHour;

/// The business day of a sale: what it states, else the local date.
pub fn day_of(sale: &SaleEvent<'_>, local: LocalHour) -> u16 {
    match sale.sale.business_day.to_native() {
        0 => local.day,
        stated => stated,
    }
}

/// The net movement that a stock event makes, in 1e-5 units; `None` for counts, reservations and training.
pub fn movement_of(event: &StockEvent<'_>) -> Option<i128> {
    let record = event.record;
    if record.flags.to_native() & stock::flag::TRAINING != 0 {
        return None;
    }
    let quantity = i128::from(record.quantity.to_native());
    match record.kind {
        stock::kind::RECEIVED | stock::kind::ADJUSTED | stock::kind::TRANSFER_IN => Some(quantity),
        stock::kind::TRANSFER_OUT | stock::kind::WASTE => Some(-quantity),
        _ => None,
    }
}

/// The net movement that a line of a sale makes, in 1e-5 units: goods out are negative. `None` where it moves nothing.
pub fn movement_of_line(line: &ArchivedLine) -> Option<i128> {
    let still = line.kind == line_kind::VOID || line.flags.to_native() & line_flag::NO_STOCK != 0;
    (!still).then(|| -i128::from(line.quantity.to_native()))
}

/// Gives each line of a sale that moves stock to `each`, as line number, SKU and quantity in 1e-5 units.
pub fn movements_of_sale(sale: &SaleEvent<'_>, mut each: impl FnMut(u16, u64, i128)) {
    if !counts(sale) {
        return;
    }
    for (number, line) in (0_u16..).zip(sale.lines) {
        if let Some(quantity) = movement_of_line(line) {
            each(number, line.sku.to_native(), quantity);
        }
    }
}

/// Works out what a sale adds to the sums. Keeps its buffers, so that a sale costs no allocation.
#[derive(Debug, Default)]
pub struct Contributor {
    /// Discount and tax by line.
    by_line: Vec<(i128, i128)>,
    /// SKUs with their lines, sorted: the first of a SKU counts the transaction.
    by_sku: Vec<(u64, u16)>,
    /// Keys with their place in `groups`, sorted.
    by_key: Vec<(u64, usize)>,
    groups: Vec<(u64, RollupRow)>,
    weights: Vec<i128>,
}

/// Sales of up to this many lines look for a line with the same SKU by going through the lines.
const FEW_LINES: usize = 8;

impl Contributor {
    /// Gives `emit` each row that a sale adds to, with the part that it adds. Void and training sales add nothing.
    ///
    /// Rows of [`Dim::Sku`] come once for each line, in order, with the line's number; `moved` in them is the stock that
    /// the line moves. All others come once for each key, without a line. `local` is the hour of the sale's own time in
    /// its store's zone.
    pub fn of_sale(
        &mut self,
        store: StoreId,
        local: LocalHour,
        sale: &SaleEvent<'_>,
        emit: &mut impl FnMut(&RollupKey, &RollupRow, Option<u16>),
    ) {
        if !counts(sale) {
            return;
        }
        let key = RollupKey {
            store: store.get(),
            dim: Dim::Sku,
            day: day_of(sale, local),
            hour_us: local.hour_us,
            key: 0,
        };
        let whole = self.lines(key, sale, emit);
        let mut sum = whole;
        for (_, group) in &self.groups {
            sum.totals.lines += group.totals.lines;
            sum.totals.quantity += group.totals.quantity;
            sum.totals.net += group.totals.net;
            sum.totals.discount += group.totals.discount;
            sum.totals.tax += group.totals.tax;
            sum.returns_net += group.returns_net;
        }
        emit(
            &RollupKey {
                dim: Dim::Store,
                ..key
            },
            &sum,
            None,
        );
        let operator = u64::from(sale.sale.operator.to_native());
        emit(
            &RollupKey {
                dim: Dim::Operator,
                key: operator,
                ..key
            },
            &sum,
            None,
        );
        self.categories(key, &whole, emit);
        self.tenders(key, sale, &sum, emit);
    }

    /// The sums of a sale by itself, whatever its kind: lines, quantity, money.
    pub fn totals_of(&mut self, sale: &SaleEvent<'_>) -> Totals {
        let mut totals = whole_of(sale).totals;
        self.read_line_amounts(sale);
        for (number, line) in sale.lines.iter().enumerate() {
            if line.kind != line_kind::VOID {
                add_totals(&mut totals, &self.line_part(number, line).totals);
            }
        }
        totals
    }

    // Emits the SKU rows, and leaves the sums by category in `groups`. Returns what belongs to the sale as a whole.
    fn lines(
        &mut self,
        key: RollupKey,
        sale: &SaleEvent<'_>,
        emit: &mut impl FnMut(&RollupKey, &RollupRow, Option<u16>),
    ) -> RollupRow {
        self.read_line_amounts(sale);
        self.by_sku.clear();
        self.by_key.clear();
        self.groups.clear();
        if sale.lines.len() > FEW_LINES {
            let standing = (0_u16..)
                .zip(sale.lines)
                .filter(|(_, l)| l.kind != line_kind::VOID);
            self.by_sku
                .extend(standing.map(|(number, line)| (line.sku.to_native(), number)));
            self.by_sku.sort_unstable();
        }
        for (number, line) in (0_u16..).zip(sale.lines) {
            if line.kind == line_kind::VOID {
                continue;
            }
            let mut part = self.line_part(usize::from(number), line);
            self.add_to_category(line.category.to_native(), &part);
            let sku = line.sku.to_native();
            part.totals.transactions = u64::from(self.is_first(sale, number, sku));
            part.moved = movement_of_line(line).unwrap_or(0);
            emit(&RollupKey { key: sku, ..key }, &part, Some(number));
        }
        whole_of(sale)
    }

    fn line_part(&self, number: usize, line: &ArchivedLine) -> RollupRow {
        let net = i128::from(line.amount.to_native());
        let (discount, tax) = self.by_line.get(number).copied().unwrap_or((0, 0));
        RollupRow {
            totals: Totals {
                transactions: 0,
                lines: 1,
                quantity: i128::from(line.quantity.to_native()),
                net,
                discount,
                tax,
            },
            returns_net: if line.kind == line_kind::RETURN {
                net
            } else {
                0
            },
            moved: 0,
        }
    }

    fn read_line_amounts(&mut self, sale: &SaleEvent<'_>) {
        self.by_line.clear();
        if sale.adjustments.is_empty() && sale.taxes.is_empty() {
            return;
        }
        self.by_line.resize(sale.lines.len(), (0, 0));
        for adjustment in sale.adjustments {
            if let Some(line) = self
                .by_line
                .get_mut(usize::from(adjustment.line.to_native()))
            {
                line.0 += discount_of(sale, adjustment);
            }
        }
        for tax in sale.taxes {
            if let Some(line) = self.by_line.get_mut(usize::from(tax.line.to_native())) {
                line.1 += tax_of(sale, tax);
            }
        }
    }

    fn add_to_category(&mut self, category: u32, part: &RollupRow) {
        let key = u64::from(category);
        // The last one is mostly the right one.
        if let Some((last, row)) = self.groups.last_mut()
            && *last == key
        {
            return row.add(part);
        }
        let group = match self
            .by_key
            .binary_search_by_key(&key, |(category, _)| *category)
        {
            Ok(at) => self.by_key.get(at).map_or(0, |(_, group)| *group),
            Err(at) => {
                self.by_key.insert(at, (key, self.groups.len()));
                self.groups.push((key, RollupRow::default()));
                self.groups.len() - 1
            }
        };
        if let Some((_, row)) = self.groups.get_mut(group) {
            row.add(part);
        }
    }

    fn is_first(&self, sale: &SaleEvent<'_>, number: u16, sku: u64) -> bool {
        if self.by_sku.is_empty() {
            let before = sale.lines.iter().take(usize::from(number));
            return !before
                .into_iter()
                .any(|line| line.kind != line_kind::VOID && line.sku.to_native() == sku);
        }
        let at = self.by_sku.partition_point(|&entry| entry < (sku, 0));
        self.by_sku
            .get(at)
            .is_some_and(|&(_, first)| first == number)
    }

    fn categories(
        &mut self,
        key: RollupKey,
        whole: &RollupRow,
        emit: &mut impl FnMut(&RollupKey, &RollupRow, Option<u16>),
    ) {
        let (discount, tax) = (whole.totals.discount, whole.totals.tax);
        if discount != 0 || tax != 0 {
            if self.groups.is_empty() {
                self.groups.push((0, RollupRow::default()));
            }
            self.weights.clear();
            self.weights
                .extend(self.groups.iter().map(|(_, row)| row.totals.net));
            split(discount, &self.weights, &mut self.groups, |row| {
                &mut row.totals.discount
            });
            split(tax, &self.weights, &mut self.groups, |row| {
                &mut row.totals.tax
            });
        }
        for (category, row) in &mut self.groups {
            row.totals.transactions = 1;
            emit(
                &RollupKey {
                    dim: Dim::Category,
                    key: *category,
                    ..key
                },
                row,
                None,
            );
        }
    }

    fn tenders(
        &mut self,
        key: RollupKey,
        sale: &SaleEvent<'_>,
        sum: &RollupRow,
        emit: &mut impl FnMut(&RollupKey, &RollupRow, Option<u16>),
    ) {
        let key = RollupKey {
            dim: Dim::Tender,
            ..key
        };
        if sale.tenders.len() < 2 {
            let tender = sale.tender_key(0);
            return emit(&RollupKey { key: tender, ..key }, sum, None);
        }
        self.weights.clear();
        self.groups.clear();
        for (number, _) in (0_u16..).zip(sale.tenders) {
            self.weights.push(sale.tender_net(number).abs());
            self.groups
                .push((sale.tender_key(number), RollupRow::default()));
        }
        let (totals, weights) = (&sum.totals, &self.weights);
        split(totals.net, weights, &mut self.groups, |row| {
            &mut row.totals.net
        });
        split(totals.discount, weights, &mut self.groups, |row| {
            &mut row.totals.discount
        });
        split(totals.tax, weights, &mut self.groups, |row| {
            &mut row.totals.tax
        });
        split(sum.returns_net, weights, &mut self.groups, |row| {
            &mut row.returns_net
        });
        let largest = weights.iter().max().copied().unwrap_or(0);
        let largest = weights
            .iter()
            .position(|&weight| weight == largest)
            .unwrap_or(0);
        if let Some((_, row)) = self.groups.get_mut(largest) {
            row.totals.lines = totals.lines;
            row.totals.quantity = totals.quantity;
        }
        // Two cards of one sale are one row and one transaction.
        self.groups.sort_by_key(|(tender, _)| *tender);
        for same in self.groups.chunk_by(|a, b| a.0 == b.0) {
            let mut row = RollupRow::default();
            for (_, part) in same {
                row.add(part);
            }
            row.totals.transactions = 1;
            let tender = same.first().map_or(0, |(tender, _)| *tender);
            emit(&RollupKey { key: tender, ..key }, &row, None);
        }
    }
}

// Transaction, discount and tax of the sale as a whole.
fn whole_of(sale: &SaleEvent<'_>) -> RollupRow {
    let is_whole = |line: u16| line == WHOLE_EVENT || usize::from(line) >= sale.lines.len();
    let mut whole = RollupRow::default();
    whole.totals.transactions = 1;
    for adjustment in sale.adjustments {
        if is_whole(adjustment.line.to_native()) {
            whole.totals.discount += discount_of(sale, adjustment);
        }
    }
    for tax in sale.taxes {
        if is_whole(tax.line.to_native()) {
            whole.totals.tax += tax_of(sale, tax);
        }
    }
    whole
}

// Adds to each group its share of `total`.
fn split(
    total: i128,
    weights: &[i128],
    groups: &mut [(u64, RollupRow)],
    field: impl Fn(&mut RollupRow) -> &mut i128,
) {
    match groups {
        _ if total == 0 => {}
        [(_, only)] => *field(only) += total,
        _ => {
            for ((_, row), part) in groups.iter_mut().zip(share(total, weights)) {
                *field(row) += part;
            }
        }
    }
}

#[cfg(test)]
mod tests;
