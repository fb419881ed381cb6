//! Any runs of a journal, one after another, beside a list of what was appended.

use std::sync::Arc;

use proptest::prelude::*;
use till_core::Record;

use super::super::Lsn;
use super::super::testing::all;
use super::journal_run::{Ended, JournalRun};
use super::stopping::StoppingDisk;
use super::stops::Kept;
use crate::disk::SimDisk;

#[derive(Clone, Debug)]
enum Deed {
    Commit(Vec<usize>),
    Retain(usize),
    /// Reads between two places, in thousandths of the journal.
    Read(u64, u64),
    Restart,
}

/// What is done, after how many operations it ends at the latest, and what that leaves.
#[derive(Clone, Debug)]
struct Run {
    deeds: Vec<Deed>,
    stop: u64,
    kept: Kept,
}

fn a_deed() -> impl Strategy<Value = Deed> {
    let sizes = prop::collection::vec(prop_oneof![4 => 0_usize..800, 1 => 800_usize..6_000], 1..6);
    prop_oneof![
        6 => sizes.prop_map(Deed::Commit),
        1 => (1_usize..4).prop_map(Deed::Retain),
        2 => (0_u64..1_001, 0_u64..1_001).prop_map(|(from, to)| Deed::Read(from, to)),
        1 => Just(Deed::Restart),
    ]
}

fn a_run() -> impl Strategy<Value = Run> {
    let kept = prop_oneof![Just(Kept::Names), Just(Kept::Everything), Just(Kept::Some),];
    let stop = prop_oneof![2 => 0_u64..60, 1 => Just(u64::MAX - 1)];
    let deeds = prop::collection::vec(a_deed(), 0..10);
    (deeds, stop, kept).prop_map(|(deeds, stop, kept)| Run { deeds, stop, kept })
}

fn live(journal_run: &mut JournalRun, deeds: &[Deed]) -> Result<(), Ended> {
    journal_run.open()?;
    for deed in deeds {
        match deed {
            Deed::Commit(sizes) => journal_run.commit(sizes)?,
            Deed::Retain(kept) => journal_run.retain(*kept)?,
            Deed::Read(from, to) => read(journal_run, *from, *to),
            Deed::Restart => {
                journal_run.close()?;
                journal_run.open()?;
            }
        }
    }
    journal_run.close()
}

// What lies between two places is what all records between them are.
fn read(journal_run: &JournalRun, from: u64, to: u64) {
    let journal = journal_run.journal();
    let (start, length) = (journal.start(), journal.end().since(journal.start()));
    let at_lsn = |share: u64| start.plus(length * share / 1_000);
    let (from, to) = (at_lsn(from.min(to)), at_lsn(from.max(to)));
    let known = all(journal);
    let first = known.first().map(|(_, record)| record.head.first_seq);
    let first = match first {
        Some(seq) => usize::try_from(seq).unwrap() - 1,
        None => journal_run.sent().len(),
    };
    // What is not there is in a base.
    assert!(first == 0 || journal.base().is_some());
    let listed: Vec<&Record> = known.iter().map(|(_, record)| record).collect();
    let sent: Vec<&Record> = journal_run.sent()[first..].iter().collect();
    assert_eq!(listed, sent);
    let between = journal.records_between(from, to);
    let between: Vec<(Lsn, Record)> = between.map(|item| item.unwrap()).collect();
    let wanted: Vec<(Lsn, Record)> = known
        .into_iter()
        .filter(|(lsn, _)| (from..to).contains(lsn))
        .collect();
    assert_eq!(between, wanted);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_is_the_list_of_what_was_appended_whatever_ends_it(
        seed in prop_oneof![1 => Just(0_u64), 4 => 1_u64..1_000],
        runs in prop::collection::vec(a_run(), 1..6),
    ) {
        let mut disk = SimDisk::new(seed);
        let mut found = Vec::new();
        for (number, run) in runs.iter().enumerate() {
            let stopping = StoppingDisk::after(&disk, run.stop);
            let mut journal_run = JournalRun::resumed(Arc::new(stopping), found);
            let _ended = live(&mut journal_run, &run.deeds);
            journal_run.fall();
            disk = run.kept.crash(&disk);
            // Looked at on a copy, so that the next run meets what the crash has left.
            found = journal_run.check(&disk.copy(), &format!("run {number}"));
        }
    }
}
