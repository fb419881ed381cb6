//! A store whose registration salvage has lost.

use till_core::RecordKind;

use super::{Kept, WORKLOAD, everything};
use crate::base::{FoldError, retain};
use crate::disk::SimDisk;
use crate::facts::{Facts, FactsConfig};
use crate::journal::Journal;
use crate::journal::testing::{append_each, open};
use crate::memory::MemoryViews;
use crate::rebuild::{Registrations, rebuild, replay, store_of};
use crate::testing::world::store;
use crate::views::Views as _;

// The journal of the trade without the registration of store 2; at its end once more when `again`.
fn without_registration(kept: &Kept, again: bool) -> (Journal, Facts, u64) {
    let is_it = |record: &till_core::Record| {
        record.head.kind == RecordKind::StoreRegistered && store_of(&record.head) == Some(store(2))
    };
    let mut records = kept.records.clone();
    let at = records.iter().position(is_it).unwrap();
    let registration = records.remove(at);
    let of_it = records
        .iter()
        .filter(|one| store_of(&one.head) == Some(store(2)));
    let waiting = u64::try_from(of_it.count()).unwrap();
    assert!(waiting > 10 && !records.iter().any(is_it));
    if again {
        records.push(registration);
    }
    let disk = SimDisk::new(1);
    append_each(open(&disk).unwrap(), &records).1.unwrap();
    let journal = open(&disk).unwrap().journal;
    let facts = Facts::new(journal.clone(), FactsConfig::default());
    (journal, facts, waiting)
}

#[test]
fn a_rebuild_goes_on_without_a_store_whose_registration_is_lost() {
    let kept = Kept::new(WORKLOAD);
    let (journal, facts, waiting) = without_registration(&kept, false);
    let views = MemoryViews::new();
    let none = Registrations::new(journal.clone(), []);
    let caught = rebuild(&journal, &facts, &views, (&none, replay), &mut |_| {}).unwrap();
    assert_eq!(
        caught.left_out.into_iter().collect::<Vec<_>>(),
        [(store(2), waiting)]
    );
    let (found, live) = (everything(&views, &facts), kept.live());
    for same in ["stock 1", "stock 3", "terminals 1", "terminals 3"] {
        assert_eq!(found[same], live[same], "{same}");
    }
    assert_eq!(found["stock 2"], "[]");
    // What waits does not leave with its segments.
    let scratch = MemoryViews::new();
    let dropped = retain(
        &journal,
        &facts,
        &scratch,
        i64::MAX,
        journal.end(),
        &mut |_| {},
    );
    assert!(
        matches!(dropped, Err(FoldError::Unregistered { .. })),
        "{dropped:?}"
    );
    assert_eq!(journal.base(), None);
}

#[test]
fn a_registration_that_is_stated_again_later_counts_for_the_records_before_it() {
    let kept = Kept::new(WORKLOAD);
    let (journal, facts, _) = without_registration(&kept, true);
    let views = MemoryViews::new();
    let none = Registrations::new(journal.clone(), []);
    let caught = rebuild(&journal, &facts, &views, (&none, replay), &mut |_| {}).unwrap();
    assert!(caught.left_out.is_empty() && none.restated().is_empty());
    assert_eq!(everything(&views, &facts), kept.live());
}

#[test]
fn a_registration_that_old_rows_know_is_used_and_stated_again() {
    let kept = Kept::new(WORKLOAD);
    let (journal, facts, _) = without_registration(&kept, false);
    let mut known = Vec::new();
    let old = kept.world.views.as_ref();
    old.stores(&mut |store, row| {
        known.push((store, row));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let views = MemoryViews::new();
    let given = Registrations::new(journal.clone(), known);
    rebuild(&journal, &facts, &views, (&given, replay), &mut |_| {}).unwrap();
    assert_eq!(everything(&views, &facts), kept.live());
    let restated = given.restated();
    assert_eq!(restated.len(), 1, "the others are in the journal");
    let first = kept.records.iter().find(|one| {
        one.head.kind == RecordKind::StoreRegistered && store_of(&one.head) == Some(store(2))
    });
    assert_eq!(first, restated.first());
}
