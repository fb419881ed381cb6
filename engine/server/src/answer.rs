//! Questions answered from rows and facts, with or without a running engine.

use serde::Serialize;
use till_ops::{Answer, By, EngineError, Question, When};
use till_protocol::id::{StoreId, TillId};
use till_protocol::time::Day;
use till_runtime::{Query, Reply};
use till_storage::query::{
    self, Bound, QuarantineQuery, SalesQuery, StockQuery, StoresQuery, TerminalQuery,
    TransactionQuery,
};

/// Who knows rows and facts: a running engine, or an open folder.
pub(crate) trait Knows {
    /// Answers a query.
    ///
    /// # Errors
    /// Says in words what could not be read.
    fn ask(&self, query: &Query) -> Result<Reply, String>;
}

/// Answers a question.
///
/// # Errors
/// Returns [`EngineError::Failed`] when rows or facts cannot be read.
pub(crate) fn answer(knows: &impl Knows, question: &Question) -> Result<Answer, EngineError> {
    let query = match question {
        Question::Sales {
            by,
            from,
            to,
            store: one,
        } => Query::Sales(SalesQuery {
            by: grouping(*by),
            from: from.map(bound),
            to: to.map(bound),
            store: one.map(store).transpose()?,
        }),
        Question::Stock { store: of, sku } => Query::Stock(StockQuery {
            store: store(*of)?,
            sku: sku.clone(),
        }),
        Question::Transactions {
            receipt,
            store: of,
            terminal,
            day: on,
        } => Query::Transaction(TransactionQuery {
            receipt: receipt.clone(),
            store: of.map(store).transpose()?,
            terminal: terminal.map(till).transpose()?,
            day: on.map(day),
        }),
        Question::Terminals {
            store: of,
            terminal,
        } => return terminals(knows, *of, *terminal),
        Question::Stores => Query::Stores(StoresQuery::default()),
        Question::Quarantine => Query::Quarantine(QuarantineQuery::default()),
    };
    match knows.ask(&query).map_err(EngineError::Failed)? {
        Reply::Sales(answer) => shown(&answer),
        Reply::Stock(answer) => shown(&answer),
        Reply::Transaction(answer) => shown(&answer),
        Reply::Terminal(answer) => shown(&answer),
        Reply::Stores(answer) => shown(&answer),
        Reply::Quarantine(answer) => shown(&answer),
    }
}

/// Terminals of one store, or of every store.
fn terminals(
    knows: &impl Knows,
    of: Option<u32>,
    terminal: Option<u32>,
) -> Result<Answer, EngineError> {
    let terminal = terminal.map(till).transpose()?;
    let of_store = |store| match knows.ask(&Query::Terminal(TerminalQuery { store, terminal })) {
        Ok(Reply::Terminal(answer)) => Ok(answer),
        Ok(_) => Err(EngineError::Failed(
            "another question was answered".to_owned(),
        )),
        Err(error) => Err(EngineError::Failed(error)),
    };
    if let Some(of) = of {
        return shown(&of_store(store(of)?)?);
    }
    let Ok(Reply::Stores(stores)) = knows.ask(&Query::Stores(StoresQuery::default())) else {
        return Err(EngineError::Failed("stores could not be read".to_owned()));
    };
    let mut rows = Vec::new();
    for one in stores.rows {
        rows.extend(of_store(store(one.store)?)?.rows);
    }
    Answer::new(&rows, &stores.freshness).map_err(failed)
}

fn shown<R: Serialize>(answer: &query::Answer<R>) -> Result<Answer, EngineError> {
    Answer::new(&answer.rows, &answer.freshness).map_err(failed)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err takes"
)]
fn failed(error: impl ToString) -> EngineError {
    EngineError::Failed(error.to_string())
}

fn store(number: u32) -> Result<StoreId, EngineError> {
    StoreId::new(number).map_err(failed)
}

fn till(number: u32) -> Result<TillId, EngineError> {
    TillId::new(number).map_err(failed)
}

const fn grouping(by: By) -> query::By {
    match by {
        By::Total => query::By::Total,
        By::Store => query::By::Store,
        By::Day => query::By::Day,
        By::Hour => query::By::Hour,
        By::Sku => query::By::Sku,
        By::Tender => query::By::Tender,
        By::Category => query::By::Category,
        By::Operator => query::By::Operator,
    }
}

fn bound(when: When) -> Bound {
    match when {
        When::Instant(at) => Bound::Instant(at.as_microsecond()),
        When::Date(date) => Bound::Day(day(date)),
    }
}

/// A date as a business day; dates that no event can have come out as the nearest that one can.
fn day(date: jiff::civil::Date) -> Day {
    let midnight = date.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC);
    Day::of_us(midnight.map_or(0, |time| time.timestamp().as_microsecond()))
}
