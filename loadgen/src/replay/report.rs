//! What a replay came to.

use std::fmt;

use serde::Serialize;
use till_protocol::money::format_decimal_wide;

/// The figures of a replay.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReplayReport {
    /// Rows behind the header.
    pub rows_read: u64,
    /// Rows left out: bad ones, and the others of their receipts.
    pub rows_skipped: u64,
    /// Receipts that were read and are good.
    pub receipts: u64,
    /// Receipts that the engine acknowledged, each once.
    pub events_acked: u64,
    /// Receipts that the engine had before this run.
    pub duplicates: u64,
    /// Receipts that the engine had before with other content; they are quarantined.
    pub conflicts: u64,
    /// Receipts that the engine refused.
    pub refused: u64,
    /// Sum of the amounts of all good receipts, in minor units.
    pub net_minor: i128,
    /// From the start to the last answer, in seconds.
    pub elapsed_s: f64,
    /// The engine's sums rose by exactly what is new.
    pub reconciled: bool,
    /// ISO 4217 code of the amounts.
    pub currency: String,
    /// Decimals of the currency.
    #[serde(skip)]
    pub decimals: u8,
    /// What differs.
    #[serde(skip)]
    pub differences: Vec<String>,
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let net = format_decimal_wide(self.net_minor, self.decimals);
        writeln!(
            f,
            "{} rows read, {} skipped, {} receipts over {net} {} in {:.1} s",
            self.rows_read, self.rows_skipped, self.receipts, self.currency, self.elapsed_s
        )?;
        let new = self
            .events_acked
            .saturating_sub(self.duplicates + self.conflicts);
        writeln!(
            f,
            "  {} acknowledged: {new} new, {} known before, {} in conflict with what is known",
            self.events_acked, self.duplicates, self.conflicts
        )?;
        if self.refused > 0 {
            writeln!(f, "  {} refused", self.refused)?;
        }
        let verdict = if self.reconciled {
            "exactly by what is new"
        } else {
            "OTHERWISE THAN EXPECTED"
        };
        write!(f, "  the engine's sums changed {verdict}")
    }
}
