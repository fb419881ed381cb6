//! Rows become receipts: each whole and once, or not at all.

use std::borrow::Cow;

use hashbrown::HashSet;
use sha2::{Digest as _, Sha256};
use till_protocol::card::{is_gs1, mask_text};
use till_protocol::limits::{LINES_PER_SALE_MAX, TENDERS_PER_SALE_MAX};

use super::row::{Bad, Good, Key, Line, Partial};

/// A receipt whose rows were all good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// Which one it is.
    pub key: Key,
    /// Its lasting name, from [`event_id`].
    pub id: [u8; 16],
    /// Line of the file on which it begins.
    pub first_line: u64,
    /// Time of its latest row, in us since 1970-01-01 UTC.
    pub at_us: i64,
    /// Offset of that row, in minutes.
    pub offset_min: i16,
    /// Its lines, in an order that the order of the rows does not change.
    pub lines: Vec<Line>,
    /// The customer as written; empty when no row states one.
    pub customer: String,
}

/// What became of rows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A receipt is complete.
    Receipt(Receipt),
    /// Rows are left out.
    Skipped {
        /// The line to look at.
        line: u64,
        /// How many rows this is about.
        rows: u64,
        /// Why.
        reason: String,
    },
}

#[derive(Debug)]
enum OpenReceipts {
    Good {
        receipt: Receipt,
        rows: u64,
        stray: Option<u64>,
    },
    Bad {
        partial: Partial,
        line: u64,
    },
}

/// Gathers rows. It keeps the 16-byte names of all receipts seen, and the rows of one.
#[derive(Debug, Default)]
pub struct Grouper {
    open: Option<OpenReceipts>,
    seen: HashSet<[u8; 16]>,
}

impl Grouper {
    /// Takes a good row.
    pub fn good(&mut self, line: u64, row: Good, out: &mut Vec<Outcome>) {
        if let Some(OpenReceipts::Good { receipt, .. }) = &self.open
            && receipt.is_of_another_customer(&row)
        {
            let reason = "customer_id is another than in the rows of the receipt before it";
            let bad = Bad {
                reason: reason.to_owned(),
                partial: Partial::from(&row.key),
            };
            return self.bad(line, bad, out);
        }
        match self.open.take() {
            Some(OpenReceipts::Good {
                receipt,
                rows,
                stray: Some(bad),
            }) if receipt.key == row.key => {
                out.push(whole(&receipt, rows, bad));
                out.push(sibling(line, bad));
                let partial = Partial::from(&receipt.key);
                self.open = Some(OpenReceipts::Bad { partial, line: bad });
            }
            Some(OpenReceipts::Good {
                mut receipt,
                rows,
                stray: None,
            }) if receipt.key == row.key => {
                receipt.take(row);
                self.open = Some(OpenReceipts::Good {
                    receipt,
                    rows: rows + 1,
                    stray: None,
                });
            }
            Some(OpenReceipts::Bad { partial, line: bad }) if partial.may_be(&row.key) => {
                self.seen.insert(event_id(&row.key));
                out.push(sibling(line, bad));
                let partial = Partial::from(&row.key);
                self.open = Some(OpenReceipts::Bad { partial, line: bad });
            }
            other => {
                close(other, out);
                self.begin(line, row, out);
            }
        }
    }

    /// Takes a bad row.
    pub fn bad(&mut self, line: u64, row: Bad, out: &mut Vec<Outcome>) {
        let Bad { reason, partial } = row;
        out.push(Outcome::Skipped {
            line,
            rows: 1,
            reason,
        });
        let is_stray = partial.receipt.is_none();
        match self.open.take() {
            Some(OpenReceipts::Good { receipt, rows, .. }) if partial.may_be(&receipt.key) => {
                out.push(whole(&receipt, rows, line));
                let partial = Partial::from(&receipt.key);
                self.open = Some(OpenReceipts::Bad { partial, line });
            }
            // Nobody can say which receipt it belongs to: the one around it, if it goes on behind it.
            Some(OpenReceipts::Good {
                receipt,
                rows,
                stray,
            }) if is_stray => {
                let stray = stray.or(Some(line));
                self.open = Some(OpenReceipts::Good {
                    receipt,
                    rows,
                    stray,
                });
            }
            Some(open @ OpenReceipts::Bad { .. }) if is_stray => self.open = Some(open),
            Some(OpenReceipts::Bad {
                partial: first,
                line: bad,
            }) if first.may_be_with(&partial) => {
                self.open = Some(OpenReceipts::Bad {
                    partial: first,
                    line: bad,
                });
            }
            other => {
                close(other, out);
                self.open = (!is_stray).then_some(OpenReceipts::Bad { partial, line });
            }
        }
    }

    /// The file has ended.
    pub fn finish(&mut self, out: &mut Vec<Outcome>) {
        close(self.open.take(), out);
    }

    fn begin(&mut self, line: u64, row: Good, out: &mut Vec<Outcome>) {
        let id = event_id(&row.key);
        if !self.seen.insert(id) {
            let Key {
                store,
                terminal,
                date,
                receipt,
            } = &row.key;
            out.push(Outcome::Skipped {
                line,
                rows: 1,
                reason: format!(
                    "receipt {receipt} of {store}-{terminal} on {date} came before, apart from this row; \
                     rows of one receipt must stand together"
                ),
            });
            return;
        }
        let receipt = Receipt {
            key: row.key,
            id,
            first_line: line,
            at_us: row.at_us,
            offset_min: row.offset_min,
            lines: vec![row.line],
            customer: row.customer,
        };
        self.open = Some(OpenReceipts::Good {
            receipt,
            rows: 1,
            stray: None,
        });
    }
}

impl Receipt {
    fn is_of_another_customer(&self, row: &Good) -> bool {
        let both = !self.customer.is_empty() && !row.customer.is_empty();
        self.key == row.key && both && self.customer != row.customer
    }

    fn take(&mut self, row: Good) {
        // The latest row completes the sale; among equal times the smaller offset, whatever the order of the rows.
        if (row.at_us, -i32::from(row.offset_min)) > (self.at_us, -i32::from(self.offset_min)) {
            (self.at_us, self.offset_min) = (row.at_us, row.offset_min);
        }
        if self.customer.is_empty() {
            self.customer = row.customer;
        }
        self.lines.push(row.line);
    }

    /// What each tender pays: amounts and taxes of its lines, by name in order.
    ///
    /// `None` when a sum leaves 64 bits.
    pub fn tenders(&self) -> Option<Vec<(&str, i64)>> {
        let mut parts: Vec<(&str, i64)> = Vec::new();
        for line in &self.lines {
            let paid = line.amount.checked_add(line.tax)?;
            match parts.iter_mut().find(|(name, _)| *name == line.tender) {
                Some((_, sum)) => *sum = sum.checked_add(paid)?,
                None => parts.push((&line.tender, paid)),
            }
        }
        parts.sort_unstable();
        Some(parts)
    }

    /// What the receipt adds to net sales, in minor units.
    pub fn net(&self) -> i128 {
        self.lines.iter().map(|line| i128::from(line.amount)).sum()
    }

    fn flaw(&self) -> Option<String> {
        let lines = self.lines.len();
        if lines > usize::from(LINES_PER_SALE_MAX) {
            return Some(format!("{lines} lines of at most {LINES_PER_SALE_MAX}"));
        }
        match self.tenders() {
            None => Some("its tenders add up to more than 64 bits hold".to_owned()),
            Some(tenders) if tenders.len() > usize::from(TENDERS_PER_SALE_MAX) => Some(format!(
                "{} tenders of at most {TENDERS_PER_SALE_MAX}",
                tenders.len()
            )),
            Some(_) => None,
        }
    }
}

fn close(open: Option<OpenReceipts>, out: &mut Vec<Outcome>) {
    let Some(OpenReceipts::Good {
        mut receipt, rows, ..
    }) = open
    else {
        return;
    };
    if let Some(reason) = receipt.flaw() {
        let reason = format!("receipt {} skipped: {reason}", receipt.key.receipt);
        out.push(Outcome::Skipped {
            line: receipt.first_line,
            rows,
            reason,
        });
        return;
    }
    receipt.lines.sort_unstable();
    out.push(Outcome::Receipt(receipt));
}

fn whole(receipt: &Receipt, rows: u64, bad: u64) -> Outcome {
    let reason = format!(
        "receipt {} skipped whole, as line {bad} of it is bad",
        receipt.key.receipt
    );
    Outcome::Skipped {
        line: receipt.first_line,
        rows,
        reason,
    }
}

fn sibling(line: u64, bad: u64) -> Outcome {
    let reason = format!("skipped with its receipt, as line {bad} is bad");
    Outcome::Skipped {
        line,
        rows: 1,
        reason,
    }
}

/// The lasting name of a receipt: the first 16 bytes of SHA-256 over store, terminal, date as written and receipt, each
/// as text behind its length in bytes (u16, little-endian).
///
/// A receipt that may be a card number is masked before: from a hash of it the number could be found by trying. Two such
/// receipts of one till and day that differ in masked digits alone pass for one that comes again, which is reported.
pub fn event_id(key: &Key) -> [u8; 16] {
    let mut hash = Sha256::new();
    let (store, terminal) = (key.store.to_string(), key.terminal.to_string());
    let receipt = screened(&key.receipt);
    for part in [store.as_str(), &terminal, &key.date, &receipt] {
        hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}

/// A code without card data; barcodes stay as they are.
fn screened(code: &str) -> Cow<'_, str> {
    let masked = (!is_gs1(code)).then(|| mask_text(code)).flatten();
    masked.map_or(Cow::Borrowed(code), Cow::Owned)
}

/// An opaque reference for a person: what it stands for never leaves this machine. Card numbers are masked before.
pub(super) fn person(text: &str) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(b"customer\0");
    hash.update(screened(text).as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
