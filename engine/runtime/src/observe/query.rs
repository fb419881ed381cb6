//! Questions, answered from rows and facts.

use till_protocol::id::SkuId;
use till_storage::query::{
    FactReader, QuarantineQuery, QuarantineState, QueryAnswer, SalesQuery, SalesRow, Sources,
    StockQuery, StockRow, StoreState, StoresQuery, TerminalQuery, TerminalState, TransactionQuery,
    TransactionState, knows_sku, quarantine, sales, stock, stores, terminals, transactions,
};
use till_storage::views::{StoreError, Views};

/// A question about rows and facts.
#[derive(Clone, Debug)]
pub enum Query {
    /// Sums of sales.
    Sales(SalesQuery),
    /// Levels of stock.
    Stock(StockQuery),
    /// Transactions with a receipt.
    Transaction(TransactionQuery),
    /// How far terminals have come.
    Terminal(TerminalQuery),
    /// Stores that are registered.
    Stores(StoresQuery),
    /// What was quarantined.
    Quarantine(QuarantineQuery),
    /// Whether a SKU is known.
    Sku(SkuId),
}

/// The answer to a [`Query`] of the same name.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Sums of sales.
    Sales(QueryAnswer<SalesRow>),
    /// Levels of stock.
    Stock(QueryAnswer<StockRow>),
    /// Transactions with a receipt.
    Transaction(QueryAnswer<TransactionState>),
    /// How far terminals have come.
    Terminal(QueryAnswer<TerminalState>),
    /// Stores that are registered.
    Stores(QueryAnswer<StoreState>),
    /// What was quarantined.
    Quarantine(QueryAnswer<QuarantineState>),
    /// Whether a SKU is known.
    Sku(bool),
}

/// Answers a question from rows and facts as they are.
///
/// # Errors
/// [`StoreError`] when rows or facts cannot be read.
pub fn answer(
    views: &dyn Views,
    facts: &dyn FactReader,
    query: &Query,
) -> Result<Reply, StoreError> {
    let sources = Sources {
        views,
        facts,
        now_us: crate::clock::now().us(),
    };
    Ok(match query {
        Query::Sales(query) => Reply::Sales(sales(&sources, query)?),
        Query::Stock(query) => Reply::Stock(stock(&sources, query)?),
        Query::Transaction(query) => Reply::Transaction(transactions(&sources, query)?),
        Query::Terminal(query) => Reply::Terminal(terminals(&sources, query)?),
        Query::Stores(query) => Reply::Stores(stores(&sources, *query)?),
        Query::Quarantine(query) => Reply::Quarantine(quarantine(&sources, *query)?),
        Query::Sku(sku) => Reply::Sku(knows_sku(views, *sku)?),
    })
}
