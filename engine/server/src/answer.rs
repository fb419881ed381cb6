//! Questions answered from rows and facts, with or without a running engine.

use serde::Serialize;
use till_ops::{Answer, By, EngineError, Question, When};
use till_protocol::id::{StoreId, TillId};
use till_protocol::time::Day;
use till_storage::query::{
    self, Bound, QuarantineQuery, SalesQuery, Sources, StockQuery, StoresQuery, TerminalQuery,
    TransactionQuery,
};

/// Answers a question.
///
/// # Errors
/// Returns [`EngineError::Failed`] when rows or facts cannot be read.
pub(crate) fn answer(sources: &Sources<'_>, question: &Question) -> Result<Answer, EngineError> {
    match question {
        Question::Sales {
            by,
            from,
            to,
            store: one,
        } => {
            let query = SalesQuery {
                by: grouping(*by),
                from: from.map(bound),
                to: to.map(bound),
                store: one.map(store).transpose()?,
            };
            shown(query::sales(sources, &query))
        }
        Question::Stock { store: of, sku } => {
            let query = StockQuery {
                store: store(*of)?,
                sku: sku.clone(),
            };
            shown(query::stock(sources, &query))
        }
        Question::Transactions {
            receipt,
            store: of,
            terminal,
            day: on,
        } => {
            let query = TransactionQuery {
                receipt: receipt.clone(),
                store: of.map(store).transpose()?,
                terminal: terminal.map(till).transpose()?,
                day: on.map(day),
            };
            shown(query::transactions(sources, &query))
        }
        Question::Terminals {
            store: of,
            terminal,
        } => terminals(sources, *of, *terminal),
        Question::Stores => shown(query::stores(sources, StoresQuery::default())),
        Question::Quarantine => shown(query::quarantine(sources, QuarantineQuery::default())),
    }
}

/// Terminals of one store, or of every store.
fn terminals(
    sources: &Sources<'_>,
    of: Option<u32>,
    terminal: Option<u32>,
) -> Result<Answer, EngineError> {
    let terminal = terminal.map(till).transpose()?;
    if let Some(of) = of {
        let query = TerminalQuery {
            store: store(of)?,
            terminal,
        };
        return shown(query::terminals(sources, &query));
    }
    let stores = query::stores(sources, StoresQuery::default()).map_err(failed)?;
    let mut rows = Vec::new();
    for one in stores.rows {
        let query = TerminalQuery {
            store: store(one.store)?,
            terminal,
        };
        rows.extend(query::terminals(sources, &query).map_err(failed)?.rows);
    }
    Answer::new(&rows, &stores.freshness).map_err(failed)
}

fn shown<R: Serialize>(
    answer: Result<query::Answer<R>, impl ToString>,
) -> Result<Answer, EngineError> {
    let answer = answer.map_err(failed)?;
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
