//! What can be asked of the rows and the facts, and the answers as they stand in JSON.
//!
//! An answer is computed from rows that hold every record up to a position which it names. It never mixes currencies and
//! never guesses: where facts that it needed were dropped by retention, it says so.

mod bound;
mod quarantine;
mod reader;
mod sales;
mod state;
mod text;
mod transaction;

use serde::Serialize;

use crate::views::{StoreError, Views};

pub use bound::{Bound, By, ParseError};
pub use quarantine::{QuarantineQuery, QuarantineState, quarantine};
pub use reader::{FactReader, VisitFact, each_event, run_since};
pub use sales::{SalesQuery, SalesRow, sales};
pub use state::{
    EpochState, StockQuery, StockRow, StoreState, StoresQuery, Sums, TerminalQuery, TerminalState,
    knows_sku, stock, stores, terminals,
};
pub use text::{currency as currency_code, sku_id};
pub use transaction::{
    AdjustmentState, LineState, TaxState, TenderState, TransactionQuery, TransactionState,
    customer_of, extra_of, kind_name, line_kind_name, outcome_name, receipt_of, stated_tender,
    transactions,
};

/// What queries are answered from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The rows.
    pub views: &'a dyn Views,
    /// The facts.
    pub facts: &'a dyn FactReader,
    /// When the question is answered, in us since 1970-01-01 UTC.
    pub now_us: i64,
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("now_us", &self.now_us)
            .finish_non_exhaustive()
    }
}

/// Rows and how fresh they are.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct QueryAnswer<R> {
    /// The rows, sorted by key.
    pub rows: Vec<R>,
    /// How fresh they are.
    pub freshness: Freshness,
}

/// How fresh an answer is.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Freshness {
    /// Journal position up to which the rows hold every record.
    pub applied_lsn: u64,
    /// Journal position up to which records are durable.
    pub journal_lsn: u64,
    /// When the question was answered, RFC 3339 in UTC.
    pub as_of: String,
    /// Journal position where the facts start; 0 when none were ever dropped.
    pub facts_from_lsn: u64,
    /// Hours that lie across a bound of the question, and whose facts are no longer complete: only what is left of them
    /// is in the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incomplete_hours: Vec<IncompleteHour>,
}

/// An hour of a store whose facts retention has dropped, in part or whole.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct IncompleteHour {
    /// The store.
    pub store: u32,
    /// Start of the hour, RFC 3339 in the store's offset.
    pub hour: String,
}

impl Sources<'_> {
    fn freshness(&self) -> Result<Freshness, StoreError> {
        Ok(Freshness {
            applied_lsn: self.views.checkpoint()?,
            journal_lsn: self.facts.end(),
            as_of: text::utc(self.now_us),
            facts_from_lsn: self.facts.start(),
            incomplete_hours: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests;
