//! Questions answered from rows and facts, with or without a running engine.

use serde::Serialize;
use till_ops::{Answer, By, EngineError, Question, When};
use till_protocol::id::{StoreId, TillId};
use till_protocol::time::Day;
use till_runtime::{Query, Reply};
use till_storage::query::{
    self, Bound, QuarantineQuery, SalesQuery, StockQuery, StoresQuery, TerminalQuery,
    TransactionQuery, sku_id,
};

/// Who knows rows and facts: a running engine, or an open folder.
pub(crate) trait Knows {
    /// Answers a query.
    ///
    /// # Errors
    /// Says in words what could not be read.
    fn ask(&self, query: &Query) -> Result<Reply, String>;

    /// Answers a further part of a question, which need not be any fresher.
    ///
    /// # Errors
    /// See [`ask`](Self::ask).
    fn ask_again(&self, query: &Query) -> Result<Reply, String> {
        self.ask(query)
    }
}

/// Answers a question.
///
/// # Errors
/// Returns [`EngineError::Failed`] when rows or facts cannot be read, and [`EngineError::Unknown`] for a SKU that nobody has told
/// of.
pub(crate) fn answer(knows: &impl Knows, question: &Question) -> Result<Answer, EngineError> {
    let query = match question {
        Question::Sales {
            by,
            from,
            to,
            store: one,
            sku,
        } => {
            let query = SalesQuery {
                by: grouping(*by),
                from: from.map(bound),
                to: to.map(bound),
                store: one.map(store).transpose()?,
                sku: sku.as_deref().map(sku_id),
            };
            return sales(knows, query, sku.as_deref());
        }
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
        Reply::Sku(_) => Err(another()),
    }
}

/// Sales, and where there are none of a SKU, whether there is such a SKU.
fn sales(knows: &impl Knows, query: SalesQuery, code: Option<&str>) -> Result<Answer, EngineError> {
    let reply = knows.ask(&Query::Sales(query));
    let Reply::Sales(answer) = reply.map_err(EngineError::Failed)? else {
        return Err(another());
    };
    if let (Some(sku), Some(code), []) = (query.sku, code, answer.rows.as_slice()) {
        // As fresh as the sales.
        let reply = knows.ask_again(&Query::Sku(sku));
        if let Reply::Sku(false) = reply.map_err(EngineError::Failed)? {
            let code: String = code.chars().take(80).collect();
            return Err(EngineError::Unknown(format!(
                "SKU {code:?} is unknown: nothing with that code was ever sold, moved or counted"
            )));
        }
    }
    shown(&answer)
}

fn another() -> EngineError {
    EngineError::Failed("another question was answered".to_owned())
}

/// Terminals of one store, or of every store.
fn terminals(
    knows: &impl Knows,
    of: Option<u32>,
    terminal: Option<u32>,
) -> Result<Answer, EngineError> {
    let terminal = terminal.map(till).transpose()?;
    let one = |store| Query::Terminal(TerminalQuery { store, terminal });
    let answered = |reply| match reply {
        Ok(Reply::Terminal(answer)) => Ok(answer),
        Ok(_) => Err(another()),
        Err(error) => Err(EngineError::Failed(error)),
    };
    if let Some(of) = of {
        return shown(&answered(knows.ask(&one(store(of)?)))?);
    }
    let Ok(Reply::Stores(stores)) = knows.ask(&Query::Stores(StoresQuery::default())) else {
        return Err(EngineError::Failed("stores could not be read".to_owned()));
    };
    let mut rows = Vec::new();
    for row in stores.rows {
        // As fresh as the stores: a wait for each of them would be a wait for thousands.
        rows.extend(answered(knows.ask_again(&one(store(row.store)?)))?.rows);
    }
    Answer::new(&rows, &stores.freshness).map_err(failed)
}

fn shown<R: Serialize>(answer: &query::QueryAnswer<R>) -> Result<Answer, EngineError> {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use till_storage::query::{Freshness, QueryAnswer as Rows, StoreState, Sums};

    use super::*;

    /// A chain of many stores, which counts the questions that would wait for the rows.
    #[derive(Default)]
    struct Chain {
        waits: Cell<u32>,
        parts: Cell<u32>,
    }

    fn fresh() -> Freshness {
        Freshness {
            applied_lsn: 1,
            journal_lsn: 1,
            as_of: String::new(),
            facts_from_lsn: 0,
            incomplete_hours: Vec::new(),
        }
    }

    impl Knows for Chain {
        fn ask(&self, query: &Query) -> Result<Reply, String> {
            self.waits.set(self.waits.get() + 1);
            let store = |store| StoreState {
                store,
                currency: "USD".to_owned(),
                time_zone: "UTC".to_owned(),
                registered_at: String::new(),
                training: Sums::from(&till_core::Totals::default()),
            };
            match query {
                Query::Stores(_) => Ok(Reply::Stores(Rows {
                    rows: (1..=300).map(store).collect(),
                    freshness: fresh(),
                })),
                other => self.ask_again(other),
            }
        }

        fn ask_again(&self, _: &Query) -> Result<Reply, String> {
            self.parts.set(self.parts.get() + 1);
            Ok(Reply::Terminal(Rows {
                rows: Vec::new(),
                freshness: fresh(),
            }))
        }
    }

    /// A wait of a quarter of a second for each of 300 stores was an answer too late.
    #[test]
    fn the_terminals_of_all_stores_wait_once() {
        let chain = Chain::default();
        let question = Question::Terminals {
            store: None,
            terminal: None,
        };
        answer(&chain, &question).unwrap();
        assert_eq!((chain.waits.get(), chain.parts.get()), (1, 300));
    }
}
