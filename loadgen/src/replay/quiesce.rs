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

/// The sums of a store now, and by how much they rose.
#[derive(Clone, Copy, Debug, Default)]
struct Store {
    now: Sums,
    rose: Sums,
}

/// Asks the engine what has become of it all.
pub(super) fn quiesce(
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
    let stores = sales_by_store(admin)?
        .into_iter()
        .map(|(store, now)| {
            let mut rose = now;
            rose.add(&baseline.sales(store), -1);
            (store, Store { now, rose })
        })
        .collect();
    let differences = differences(sent, &tills, &stores);
    let why = (!differences.is_empty())
        .then(|| reason(sent, &tills))
        .flatten();
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
        differences: why
            .into_iter()
            .chain(differences.iter().map(ToString::to_string))
            .collect(),
    })
}

impl Added {
    const fn answered(&self) -> i128 {
        self.applied + self.duplicates + self.quarantined
    }
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

// Why there may be differences, where that can be seen: the counters of a till are all that tells who sent what.
fn reason(sent: &Sent, tills: &BTreeMap<(u32, u32), Added>) -> Option<String> {
    let (store, till) = sent.tills.iter().find_map(|(till, sums)| {
        let added = tills.get(till)?;
        (added.answered() > sums.transactions).then_some(till)
    })?;
    Some(format!(
        "till {store}-{till} was answered more than this file holds: somebody else sends as the same tills, and what this \
         run added cannot be told from that; run it again alone, which changes nothing"
    ))
}

fn differences(
    sent: &Sent,
    tills: &BTreeMap<(u32, u32), Added>,
    stores: &BTreeMap<u32, Store>,
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
        let answered = added.answered();
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
        let Store { now, rose } = stores.get(store).copied().unwrap_or_default();
        let mut found = rose;
        let mut verb = "added to";
        let of_tills = |what: &str| format!("{what} added to store {store} by its tills");
        differ(of_tills("transactions"), added.applied, rose.transactions);
        differ(of_tills("net"), added.net, rose.net);
        let expected = match added.applied {
            0 => Sums::default(),
            all_new if all_new == all.transactions => *all,
            // Some receipts were known: which ones, the counters do not say. But where the store holds as many
            // transactions as the file, and all of the file's, they are the same.
            _ if added.quarantined == 0 && now.transactions == all.transactions => {
                (found, verb) = (now, "in");
                *all
            }
            _ => continue,
        };
        let name = |what: &str| format!("{what} {verb} store {store}");
        differ(name("lines"), expected.lines, found.lines);
        differ(name("quantity in 1e-5"), expected.quantity, found.quantity);
        differ(name("net"), expected.net, found.net);
        differ(name("discount"), expected.discount, found.discount);
        differ(name("tax"), expected.tax, found.tax);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(applied: i128, duplicates: i128, net: i128) -> Vec<Difference> {
        beside(applied, duplicates, net, Sums::default())
    }

    /// The same, where the store held something before.
    fn beside(applied: i128, duplicates: i128, net: i128, before: Sums) -> Vec<Difference> {
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
        let mut now = before;
        now.add(&rose, 1);
        differences(
            &sent,
            &BTreeMap::from([((1, 1), added)]),
            &BTreeMap::from([(1, Store { now, rose })]),
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

    #[test]
    fn somebody_else_who_sends_as_the_same_tills_is_told() {
        let sums = Sums {
            transactions: 2,
            ..Sums::default()
        };
        let sent = Sent {
            tills: BTreeMap::from([((1, 7), sums)]),
            ..Sent::default()
        };
        let told = |applied, duplicates| {
            let added = Added {
                applied,
                duplicates,
                ..Added::default()
            };
            reason(&sent, &BTreeMap::from([((1, 7), added)]))
        };
        assert!(told(2, 2).unwrap().contains("till 1-7"));
        assert_eq!(told(1, 1), None);
        assert_eq!(told(1, 0), None, "a receipt is missing; nobody else sent");
    }

    #[test]
    fn a_file_that_was_known_in_part_is_compared_where_the_store_holds_just_that_file() {
        let before = |net: i128, transactions| Sums {
            transactions,
            lines: 2,
            net,
            ..Sums::default()
        };
        assert_eq!(beside(1, 1, 20, before(30, 1)), []);
        let found = beside(1, 1, 20, before(29, 1));
        assert!(
            !found.is_empty(),
            "the known receipt came to something else"
        );
        let more = beside(1, 1, 20, before(900, 7));
        assert_eq!(more, [], "the store holds receipts of other files");
    }
}
