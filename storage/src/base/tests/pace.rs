//! What retention writes follows what it drops.

use std::time::Duration;

use super::{Kept, WORKLOAD};
use crate::base::{Old, Pace, old, retain};
use crate::facts::Facts;
use crate::journal::{Journal, Lsn, base_bytes};
use crate::memory::MemoryViews;
use crate::testing::world::Workload;

const LOOK: Duration = Duration::from_secs(600);

fn long() -> Kept {
    Kept::new(Workload {
        events: 1_000,
        ..WORKLOAD
    })
}

fn retained(journal: &Journal, facts: &Facts, before_us: i64) -> u64 {
    let dropped = retain(
        journal,
        facts,
        &MemoryViews::new(),
        before_us,
        Lsn::ZERO,
        &mut |_| {},
    );
    assert!(dropped.unwrap().is_some());
    base_bytes(journal.disk().as_ref(), journal.dir()).unwrap()
}

// The instants at which one segment after another is old enough.
fn instants(facts: &Facts) -> Vec<i64> {
    let segments = facts.received().unwrap();
    segments.iter().map(|(_, _, us)| us + 1).collect()
}

#[test]
fn what_retention_writes_follows_what_it_drops() {
    let kept = long();
    let (journal, facts) = kept.open();
    let (mut written, mut dropped, mut runs) = (0, 0, 0);
    let (mut pace, mut at) = (Pace::default(), Duration::ZERO);
    let instants = instants(&facts);
    let looks = instants.len();
    assert!((40..144).contains(&looks), "{looks} looks within a day");
    for before_us in instants {
        at += LOOK;
        let Some(gone) = old(&facts, before_us).unwrap() else {
            continue;
        };
        if pace.is_due(&journal, gone, at).unwrap() {
            written += retained(&journal, &facts, before_us);
            dropped += gone.bytes;
            runs += 1;
        }
    }
    assert!(runs > 2, "{runs} runs");
    assert!(
        written <= 4 * dropped,
        "{written} bytes written in {runs} of {looks} looks for {dropped} that were dropped"
    );
}

#[test]
fn what_is_old_enough_stays_for_no_more_than_a_day() {
    let kept = long();
    let (journal, facts) = kept.open();
    let instants = instants(&facts);
    let mut pace = Pace::default();
    // The first look drops what there is, and leaves a base that is larger than what is old enough next.
    let first = old(&facts, instants[30]).unwrap().unwrap();
    let started = Duration::from_secs(9);
    assert!(pace.is_due(&journal, first, started).unwrap());
    let base = retained(&journal, &facts, instants[30]);
    let next = old(&facts, instants[31]).unwrap().unwrap();
    assert!(next.bytes * 2 < base && next.bytes > 0);
    let day = Duration::from_hours(24);
    assert!(!pace.is_due(&journal, next, started + LOOK).unwrap());
    assert!(!pace.is_due(&journal, next, started + day - LOOK).unwrap());
    let many = Old {
        bytes: base,
        ..next
    };
    assert!(Pace::default().is_due(&journal, next, started).unwrap());
    assert!(pace.is_due(&journal, next, started + day).unwrap());
    assert!(pace.is_due(&journal, many, started + day + LOOK).unwrap());
}
