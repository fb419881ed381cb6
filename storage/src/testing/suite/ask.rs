//! Every question, and its answer as JSON.

use serde::Serialize;
use till_protocol::id::{SkuId, StoreId, TillId};
use till_protocol::time::Day;

use super::plays::START_US;
use crate::query::{
    Bound, By, QuarantineQuery, QueryAnswer, SalesQuery, Sources, StockQuery, StoresQuery,
    TerminalQuery, TransactionQuery, quarantine, sales, stock, stores, terminals, transactions,
};
use crate::testing::world::MINUTE_US;
use crate::views::StoreError;

type Answers = Vec<(String, String)>;

/// The rows of every query: sales by every grouping, of all SKUs and of one, over several spans, some of which begin and end within
/// an hour; stock,
/// transactions by receipt, terminals, quarantine, stores.
///
/// # Errors
/// What the sources say.
pub fn answers(sources: &Sources<'_>) -> Result<Answers, StoreError> {
    let mut out = Answers::new();
    let numbers = [None, Some(1), Some(2), Some(3)];
    let of = |number: Option<u32>| number.map(|number| StoreId::new(number).unwrap());
    for (from, to) in spans() {
        for by in By::ALL {
            for store in numbers.map(of) {
                for sku in [None, Some("milk"), Some("no such code")] {
                    let query = SalesQuery {
                        from,
                        to,
                        by,
                        store,
                        sku: sku.map(SkuId::of_code),
                    };
                    put(&mut out, &query, sales(sources, &query)?);
                }
            }
        }
    }
    for store in numbers.into_iter().filter_map(of) {
        for sku in [None, Some("milk"), Some("no such code")] {
            let sku = sku.map(str::to_owned);
            let query = StockQuery { store, sku };
            put(&mut out, &query, stock(sources, &query)?);
        }
        for terminal in [None, Some(TillId::new(2).unwrap())] {
            let query = TerminalQuery { store, terminal };
            put(&mut out, &query, terminals(sources, &query)?);
        }
        let query = QuarantineQuery { store: Some(store) };
        put(&mut out, &query, quarantine(sources, query)?);
    }
    let query = QuarantineQuery::default();
    put(&mut out, &query, quarantine(sources, query)?);
    let query = StoresQuery::default();
    put(&mut out, &query, stores(sources, query)?);
    ask_for_receipts(&mut out, sources)?;
    Ok(out)
}

fn ask_for_receipts(out: &mut Answers, sources: &Sources<'_>) -> Result<(), StoreError> {
    for number in 1..=50 {
        let query = TransactionQuery {
            receipt: number.to_string(),
            store: None,
            terminal: None,
            day: None,
        };
        put(out, &query, transactions(sources, &query)?);
    }
    let query = TransactionQuery {
        receipt: "2".to_owned(),
        store: StoreId::new(1).ok(),
        terminal: TillId::new(1).ok(),
        day: Some(Day::new(20_758)),
    };
    put(out, &query, transactions(sources, &query)?);
    Ok(())
}

fn spans() -> [(Option<Bound>, Option<Bound>); 5] {
    let minute = |minute| Some(Bound::Instant(START_US + minute * MINUTE_US + 1));
    let day = |day: u16| Some(Bound::Day(Day::new(20_758 + day)));
    [
        (None, None),
        (minute(130), minute(1_600)),
        (minute(605), minute(640)),
        (day(1), minute(2_900)),
        (None, day(2)),
    ]
}

fn put<R: Serialize>(out: &mut Answers, question: &impl std::fmt::Debug, answer: QueryAnswer<R>) {
    let rows = serde_json::to_string(&answer.rows).unwrap();
    let incomplete = answer.freshness.incomplete_hours;
    out.push((format!("{question:?}"), format!("{rows} {incomplete:?}")));
}
