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
        let hours: BTreeSet<_> = facts.records.iter().map(|(_, row)| row.hour).collect();
        assert_eq!(facts.hours.is_empty(), hours.is_empty());
        for (_, row) in &facts.transactions {
            assert!(
                hours.contains(&row.hour),
                "a record is in its events' hours"
            );
        }
        let printed = format!("{facts:?}");
        assert_eq!(printed, format!("{:?}", self::facts(&commit)), "pure");
    }
    assert!(transactions > 40, "{transactions}");
}

#[test]
fn a_retry_is_stamped_with_its_receipt_and_takes_the_reason_away() {
    let rows: Vec<_> = retry_of()
        .iter()
        .flat_map(|commit| facts(commit).transactions)
        .filter(|(_, row)| row.seq == 2)
        .collect();
    let [(first, quarantined), (second, applied)] = rows.as_slice() else {
        panic!("{} rows", rows.len());
    };
    assert!(first < second, "the retry is the later one");
    assert!(!quarantined.counts && applied.counts);
    assert!(matches!(quarantined.reason, MaybeUnset::Set(Some(_))));
    assert!(matches!(applied.reason, MaybeUnset::Set(None)));
    assert_eq!(applied.received_at_us, *second);
}
