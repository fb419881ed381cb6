use std::collections::BTreeSet;

use scylla::value::MaybeUnset;
use till_storage::testing::suite::{retry_of, workload_of};

use super::*;

fn facts(commit: &Commit) -> Facts {
    facts_of(commit, |_| {
        Ok(Traits {
            currency: 840,
            zone: "UTC".to_owned(),
        })
    })
    .unwrap()
}

#[test]
fn facts_are_stamped_with_their_own_time_and_never_with_one_after_their_receipt() {
    let mut transactions = 0;
    for commit in workload_of(3, 100) {
        let facts = facts(&commit);
        for (stamp, row) in &facts.transactions {
            assert_eq!(*stamp, row.at_us.min(row.received_at_us));
            transactions += 1;
        }
        let rows = facts.hour_index.iter();
        let hours: BTreeSet<_> = rows.map(|(_, row)| (row.store, row.hour)).collect();
        assert_eq!(facts.hours.len(), hours.len());
        for (_, row) in &facts.transactions {
            assert!(
                hours.contains(&(row.store, row.hour)),
                "a record is in its events' hours"
            );
        }
        let printed = format!("{facts:?}");
        assert_eq!(printed, format!("{:?}", self::facts(&commit)), "pure");
    }
    assert!(transactions > 40, "{transactions}");
}

// The rows of the event that is quarantined and then retried.
fn retried(commits: &[Commit]) -> Vec<Stamped<TransactionRow>> {
    let rows = commits.iter().flat_map(|commit| facts(commit).transactions);
    rows.filter(|(_, row)| row.seq == 2).collect()
}

#[test]
fn a_retry_is_stamped_after_its_receipt_and_takes_the_reason_away() {
    let rows = retried(&retry_of());
    let [(first, quarantined), (second, applied)] = rows.as_slice() else {
        panic!("{} rows", rows.len());
    };
    assert!(first < second, "the retry is the later one");
    assert!(!quarantined.counts && applied.counts);
    assert!(matches!(quarantined.reason, MaybeUnset::Set(Some(_))));
    assert!(matches!(applied.reason, MaybeUnset::Set(None)));
    assert_eq!(applied.received_at_us + 1, *second);
}

/// The clock of the engine that decides again may stand where the first one's stood, or before: the core takes the later of the two.
#[test]
fn a_retry_of_the_very_instant_of_the_first_record_is_the_later_one() {
    let mut commits = retry_of();
    let records = || commits.iter().flat_map(|commit| &commit.records);
    let first = records().find(|record| record.head.kind == RecordKind::Batch);
    // Stamped with its receipt, as its event's own clock is ahead.
    let received = first.unwrap().head.received_at_us.min(0);
    for record in commits.iter_mut().flat_map(|commit| &mut commit.records) {
        record.head.received_at_us = received;
    }
    let rows = retried(&commits);
    let [(first, _), (second, applied)] = rows.as_slice() else {
        panic!("{} rows", rows.len());
    };
    assert!(applied.counts && first < second, "{first} {second}");
}
