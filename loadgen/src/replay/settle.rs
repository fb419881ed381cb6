//! The end of a replay: the engine's sums must have risen by exactly what is new.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;

use super::report::ReplayReport;
use super::send::Sent;
use crate::admin::{Admin, TerminalRow};
use crate::oracle::{Baseline, Difference, Sums, describe, sales_by_store};

/// What a till of the file added, by the engine's counters.
#[derive(Clone, Copy, Debug, Default)]
struct Added {
    applied: i128,
    duplicates: i128,
    quarantined: i128,
    net: i128,
}

/// Asks the engine what has become of it all.
pub(super) fn settle(
    admin: &Admin,
    baseline: &Baseline,
    sent: &Sent,
    started: Instant,
) -> Result<ReplayReport> {
    admin.flush()?;
    let mut tills: BTreeMap<(u32, u32), Added> = BTreeMap::new();
    for row in admin.terminals(None)? {
        let before = baseline.terminal(row.store, row.terminal);
        tills.insert((row.store, row.terminal), added(&row, &before));
    }
    let mut stores = sales_by_store(admin)?;
    for (store, sums) in &mut stores {
        sums.add(&baseline.sales(*store), -1);
    }
    let differences = differences(sent, &tills, &stores);
    let sum = |part: fn(&Added) -> i128| -> u64 {
        let ours = sent.tills.keys().filter_map(|till| tills.get(till));
        u64::try_from(ours.map(part).sum::<i128>()).unwrap_or(0)
    };
    if !differences.is_empty() {
        tracing::error!(
            "the engine differs from the file:\n{}",
            describe(&differences)
        );
    }
    Ok(ReplayReport {
        rows_read: sent.counts.rows_read,
        rows_skipped: sent.counts.rows_skipped,
        receipts: sent.counts.receipts,
        events_acked: sent.acked,
        duplicates: sum(|added| added.duplicates),
        conflicts: sum(|added| added.quarantined),
        refused: sent.refused,
        net_minor: sent.counts.net_minor,
        elapsed_s: started.elapsed().as_secs_f64(),
        reconciled: differences.is_empty() && sent.refused == 0,
        currency: sent.currency.clone(),
        decimals: sent.decimals,
        differences: differences.iter().map(ToString::to_string).collect(),
    })
}

fn added(row: &TerminalRow, before: &TerminalRow) -> Added {
    let rise = |now: u64, before: u64| i128::from(now) - i128::from(before);
    Added {
        applied: rise(row.applied, before.applied),
        duplicates: rise(row.duplicates, before.duplicates),
        quarantined: rise(row.quarantined, before.quarantined),
        net: row.net_minor - before.net_minor,
    }
}

fn differences(
    sent: &Sent,
    tills: &BTreeMap<(u32, u32), Added>,
    stores: &BTreeMap<u32, Sums>,
) -> Vec<Difference> {
    let mut out = Vec::new();
    let mut differ = |what: String, expected: i128, found: i128| {
        if expected != found {
            out.push(Difference {
                what,
                expected: expected.to_string(),
                found: found.to_string(),
            });
        }
    };
    // Of each store: what its tills sent, what of it is new, and whether all or nothing of it was.
    let mut books: BTreeMap<u32, (Sums, Added)> = BTreeMap::new();
    for (till, sums) in &sent.tills {
        let added = tills.get(till).copied().unwrap_or_default();
        let name = format!("till {}-{}", till.0, till.1);
        let answered = added.applied + added.duplicates + added.quarantined;
        differ(format!("receipts of {name}"), sums.transactions, answered);
        if added.applied == sums.transactions {
            differ(format!("net of {name}"), sums.net, added.net);
        } else if added.applied == 0 {
            differ(format!("net of {name}, nothing being new"), 0, added.net);
        }
        let (all, sum) = books.entry(till.0).or_default();
        all.add(sums, 1);
        sum.applied += added.applied;
        sum.duplicates += added.duplicates;
        sum.quarantined += added.quarantined;
        sum.net += added.net;
    }
    for (store, (all, added)) in &books {
        let rose = stores.get(store).copied().unwrap_or_default();
        let name = |what: &str| format!("{what} added to store {store}");
        differ(name("transactions"), added.applied, rose.transactions);
        differ(name("net of its tills"), added.net, rose.net);
        let expected = match added.applied {
            0 => Sums::default(),
            all_new if all_new == all.transactions => *all,
            // Some receipts were known: which ones, the counters do not say.
            _ => continue,
        };
        differ(name("lines"), expected.lines, rose.lines);
        differ(name("quantity in 1e-5"), expected.quantity, rose.quantity);
        differ(name("net"), expected.net, rose.net);
        differ(name("discount"), expected.discount, rose.discount);
        differ(name("tax"), expected.tax, rose.tax);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(applied: i128, duplicates: i128, net: i128) -> Vec<Difference> {
        let sums = Sums {
            transactions: 2,
            lines: 3,
            net: 50,
            ..Sums::default()
        };
        let sent = Sent {
            tills: BTreeMap::from([((1, 1), sums)]),
            ..Sent::default()
        };
        let added = Added {
            applied,
            duplicates,
            quarantined: 0,
            net,
        };
        let lines = if applied == 2 { 3 } else { applied };
        let rose = Sums {
            transactions: applied,
            lines,
            net,
            ..Sums::default()
        };
        differences(
            &sent,
            &BTreeMap::from([((1, 1), added)]),
            &BTreeMap::from([(1, rose)]),
        )
    }

    #[test]
    fn all_new_and_all_known_are_compared_to_the_last_unit() {
        assert_eq!(case(2, 0, 50), []);
        assert_eq!(case(0, 2, 0), []);
        assert!(!case(2, 0, 49).is_empty(), "a unit is missing");
        assert!(!case(0, 2, 1).is_empty(), "a duplicate had an effect");
        assert!(!case(1, 0, 20).is_empty(), "a receipt is missing");
    }
}
