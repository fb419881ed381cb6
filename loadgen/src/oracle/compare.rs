//! The comparison itself: the oracle's books beside the engine's answers.

use std::collections::BTreeMap;

use anyhow::Result;
use hashbrown::HashMap;
use till_protocol::id::SkuId;

use super::{Difference, Hours, StoreBook, Sums};
use crate::admin::{self, Admin, SalesRow, StockRow, TerminalRow};

/// What the engine held before a run: everything is compared as what the run added.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    sales: BTreeMap<u32, Sums>,
    hours: BTreeMap<u32, Hours>,
    stock: HashMap<u32, HashMap<u64, (i128, i128)>>,
    terminals: HashMap<(u32, u32), TerminalRow>,
}

/// What one terminal must have reached.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Expected {
    /// The terminal's epoch in this run.
    pub epoch: u32,
    /// The sequence number that comes next in it.
    pub next_seq: u64,
    /// Events that took effect.
    pub applied: u64,
    /// Events whose event id was known.
    pub duplicates: u64,
    /// Events that were refused.
    pub refused: u64,
    /// Events that are quarantined.
    pub quarantined: u64,
}

impl Baseline {
    /// Asks for everything that concerns these stores.
    ///
    /// # Errors
    /// Fails when the engine cannot be asked.
    pub fn read(admin: &Admin, stores: &[u32], with_stock: bool) -> Result<Self> {
        admin.flush()?;
        let sales = sales_by_store(admin)?;
        let known = admin.terminals(None)?;
        let mut baseline = Self {
            sales,
            ..Self::default()
        };
        for store in stores.iter().filter(|_| with_stock) {
            if known.iter().any(|row| row.store == *store) {
                baseline.stock.insert(*store, levels(admin.stock(*store)?));
                let hours = Hours::read(admin, *store)?.unwrap_or_default();
                baseline.hours.insert(*store, hours);
            }
        }
        baseline.terminals = known
            .into_iter()
            .map(|row| ((row.store, row.terminal), row))
            .collect();
        Ok(baseline)
    }

    /// How a terminal stood.
    pub fn terminal(&self, store: u32, terminal: u32) -> TerminalRow {
        self.terminals
            .get(&(store, terminal))
            .cloned()
            .unwrap_or_default()
    }

    /// What was sold in a store.
    pub fn sales(&self, store: u32) -> Sums {
        self.sales.get(&store).copied().unwrap_or_default()
    }
}

/// Compares the books of stores and terminals with what the engine added since the baseline.
///
/// # Errors
/// Fails when the engine cannot be asked.
pub fn compare(
    admin: &Admin,
    baseline: &Baseline,
    books: &BTreeMap<u32, StoreBook>,
    terminals: &BTreeMap<(u32, u32), Expected>,
) -> Result<Vec<Difference>> {
    admin.flush()?;
    let mut out = Vec::new();
    let sales = sales_by_store(admin)?;
    for (store, book) in books {
        let mut found = sales.get(store).copied().unwrap_or_default();
        found.add(&baseline.sales(*store), -1);
        sums(
            &format!("sales of store {store}"),
            &book.sums,
            &found,
            &mut out,
        );
        breakdowns(admin, *store, &mut out)?;
        if !book.hours.is_empty()
            && let Some(hours) = Hours::read(admin, *store)?
        {
            let hours = match baseline.hours.get(store) {
                Some(before) => hours.since(before),
                None => hours,
            };
            for (start, expected, found) in book.hours.beside(&hours) {
                let what = format!("sales of store {store} in the hour from {start}");
                sums(&what, &expected, &found, &mut out);
            }
        }
        if book.stock.is_empty() {
            continue;
        }
        let before = baseline.stock.get(store);
        stock(
            *store,
            book,
            before,
            &levels(admin.stock(*store)?),
            &mut out,
        );
    }
    for row in admin.terminals(None)? {
        if let Some(expected) = terminals.get(&(row.store, row.terminal)) {
            let before = baseline.terminal(row.store, row.terminal);
            terminal(&row, &before, expected, &mut out);
        }
    }
    let known = admin.terminals(None)?;
    for ((store, till), expected) in terminals {
        let is_known = known
            .iter()
            .any(|row| (row.store, row.terminal) == (*store, *till));
        if !is_known && expected.next_seq > 1 {
            out.push(Difference {
                what: format!("terminal {store}-{till}"),
                expected: format!("{} events", expected.next_seq - 1),
                found: "no such terminal".to_owned(),
            });
        }
    }
    Ok(out)
}

/// Whatever a store's sales are split by, the parts must add up to the whole.
fn breakdowns(admin: &Admin, store: u32, out: &mut Vec<Difference>) -> Result<()> {
    // A receipt may have a part in several rows; everything else is split without a rest.
    let added = |by: &str| -> Result<Sums> {
        let rows = admin.sales(by, Some(store))?;
        rows.iter().try_fold(Sums::default(), |mut all, row| {
            all.add(&row.sums()?, 1);
            Ok(all)
        })
    };
    let whole = added("total")?;
    for by in ["day", "hour", "sku", "tender"] {
        let mut parts = added(by)?;
        parts.transactions = whole.transactions;
        let what = format!("sales by {by} of store {store}");
        sums(&what, &whole, &parts, out);
    }
    Ok(())
}

/// Sums of all stores, whatever their currency: a store has one.
///
/// # Errors
/// Fails when the engine cannot be asked.
pub fn sales_by_store(admin: &Admin) -> Result<BTreeMap<u32, Sums>> {
    let mut out: BTreeMap<u32, Sums> = BTreeMap::new();
    for row in admin.sales("store", None)? {
        let store = out.entry(row.store.unwrap_or(0)).or_default();
        store.add(&row.sums()?, 1);
    }
    Ok(out)
}

impl SalesRow {
    /// Its sums, to the last unit.
    pub(super) fn sums(&self) -> Result<Sums> {
        Ok(Sums {
            transactions: self.transactions.into(),
            lines: self.lines.into(),
            quantity: admin::quantity(&self.quantity)?,
            net: self.net_minor,
            discount: self.discount_minor,
            tax: self.tax_minor,
        })
    }
}

fn levels(rows: Vec<StockRow>) -> HashMap<u64, (i128, i128)> {
    rows.into_iter()
        .map(|row| (sku_id(&row.sku), (row.quantity, row.reserved)))
        .collect()
}

/// The id of a SKU as queries show it: its code, or `#` and 16 hexadecimal digits where it has none.
fn sku_id(shown: &str) -> u64 {
    shown
        .strip_prefix('#')
        .filter(|digits| digits.len() == 16)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .unwrap_or_else(|| SkuId::of_code(shown).get())
}

fn sums(what: &str, expected: &Sums, found: &Sums, out: &mut Vec<Difference>) {
    let pairs = [
        ("transactions", expected.transactions, found.transactions),
        ("lines", expected.lines, found.lines),
        ("quantity in 1e-5", expected.quantity, found.quantity),
        ("net", expected.net, found.net),
        ("discount", expected.discount, found.discount),
        ("tax", expected.tax, found.tax),
    ];
    for (name, expected, found) in pairs {
        differ(|| format!("{name} of {what}"), expected, found, out);
    }
}

fn stock(
    store: u32,
    book: &StoreBook,
    before: Option<&HashMap<u64, (i128, i128)>>,
    found: &HashMap<u64, (i128, i128)>,
    out: &mut Vec<Difference>,
) {
    for (sku, now) in found
        .iter()
        .filter(|(sku, _)| !book.stock.contains_key(*sku))
    {
        let was = before.and_then(|rows| rows.get(sku)).copied();
        let name = SkuId::from_u64(*sku);
        let what = |part: &str| format!("{part} of {name} in store {store}, which nobody moved");
        let was = was.unwrap_or_default();
        differ(|| what("stock"), was.0, now.0, out);
        differ(|| what("reserved"), was.1, now.1, out);
    }
    for (sku, level) in &book.stock {
        let before = before
            .and_then(|rows| rows.get(sku))
            .copied()
            .unwrap_or_default();
        let (quantity, reserved) = found.get(sku).copied().unwrap_or_default();
        let name = SkuId::from_u64(*sku);
        differ(
            || format!("stock of {name} in store {store}"),
            level.quantity(before.0),
            quantity,
            out,
        );
        let quarantined = before.1 + level.reserved;
        differ(
            || format!("reserved of {name} in store {store}"),
            quarantined,
            reserved,
            out,
        );
    }
}

fn terminal(
    row: &TerminalRow,
    before: &TerminalRow,
    expected: &Expected,
    out: &mut Vec<Difference>,
) {
    let name = format!("terminal {}-{}", row.store, row.terminal);
    let epoch = row
        .epochs
        .iter()
        .find(|(epoch, _)| *epoch == expected.epoch);
    let next = epoch.map_or(1, |(_, next)| *next);
    let wanted = expected.next_seq.max(1);
    differ(
        || format!("next_seq of epoch {} of {name}", expected.epoch),
        wanted,
        next,
        out,
    );
    let counts = [
        ("applied", expected.applied, row.applied, before.applied),
        (
            "duplicates",
            expected.duplicates,
            row.duplicates,
            before.duplicates,
        ),
        ("refused", expected.refused, row.refused, before.refused),
        (
            "quarantined",
            expected.quarantined,
            row.quarantined,
            before.quarantined,
        ),
    ];
    for (what, expected, found, before) in counts {
        differ(
            || format!("{what} events of {name}"),
            i128::from(expected),
            // A counter that fell is a difference, not a zero.
            i128::from(found) - i128::from(before),
            out,
        );
    }
}

fn differ<T: Copy + PartialEq + ToString>(
    what: impl FnOnce() -> String,
    expected: T,
    found: T,
    out: &mut Vec<Difference>,
) {
    if expected != found {
        out.push(Difference {
            what: what(),
            expected: expected.to_string(),
            found: found.to_string(),
        });
    }
}
