use super::*;
use crate::cluster::rebuild::tests::{all, chain_of, rebuild_of};
use crate::cluster::{LogStart, RebuildError, SharedStore as _};
use crate::memory::MemoryViews;
use crate::testing::suite::{timely_workload_of, workload_of};
use crate::testing::{MemoryCluster, Trouble};

/// Retention of what was received before the first record of a flush.
fn retain_before(store: &MemoryCluster, before_us: i64, run: u8) -> Result<Retained, RetainError> {
    let mut scratch =
        |_| -> Result<Box<dyn WriteViews>, StoreError> { Ok(Box::new(MemoryViews::new())) };
    let request = RetainRequest {
        before_us,
        run: [run; 16],
    };
    retain(store, request, &mut scratch, &mut |_| {})
}

/// When the records of each flush were received, the earliest of them.
fn times(store: &MemoryCluster) -> Vec<i64> {
    let row = store.slot(0).unwrap();
    let mut times = Vec::new();
    let read = each_window(store, &row, (1, row.flush), &mut |commits| {
        for commit in commits {
            let received = commit.records.iter().map(|one| one.head.received_at_us);
            // One without records is as old as the one before.
            let before = times.last().copied();
            times.push(received.min().or(before).unwrap());
        }
        Ok(true)
    });
    assert!(read.is_ok());
    times
}

fn start(store: &MemoryCluster) -> LogStart {
    store.log_start(0).unwrap()
}

fn flushes_left(store: &MemoryCluster) -> Vec<u64> {
    let row = store.slot(0).unwrap();
    let logs = store.logs(&row, (1, row.flush)).unwrap();
    let logs = logs.iter().filter(|one| !one.log.records.is_empty());
    logs.map(|one| one.flush).collect()
}

#[test]
fn rows_stay_and_are_made_again_from_what_is_left() {
    let store = chain_of(timely_workload_of(5, 400));
    let (times, before) = (times(&store), all(store.views().as_ref()));
    let flushes = u64::try_from(times.len()).unwrap();
    let mut bases = Vec::new();
    for (run, part) in (1..).zip([1, 2, 3]) {
        let cut = times[times.len() * part / 4];
        let applied = store.slot(0).unwrap().applied;
        let retained = retain_before(&store, cut, run).unwrap();
        assert!(retained.records > 0, "{retained:?}");
        assert_eq!(retained.slots, 1);
        let start = start(&store);
        assert!(0 < start.dropped && start.dropped < flushes, "{start:?}");
        assert_eq!((start.cleared, start.before_us), (start.dropped, cut));
        assert_eq!(
            flushes_left(&store),
            (start.dropped + 1..=flushes).collect::<Vec<_>>()
        );
        assert!(all(store.views().as_ref()) == before, "rows stay");
        let base = start.base.unwrap();
        assert_eq!(base.flush, applied);
        assert_eq!(
            base.id == [run; 16],
            retained.base_bytes > 0,
            "made where it has more"
        );
        bases.push(base);
        rebuild_of(&store).unwrap();
        assert!(all(store.views().as_ref()) == before, "made again");
    }
    let last = bases.pop().unwrap();
    bases.retain(|base| *base != last);
    assert_eq!(bases.len(), 1);
    for base in bases {
        assert_eq!(
            store.base_records(&base, 0, 1).unwrap(),
            Vec::<Bytes>::new()
        );
    }
    assert_eq!(start(&store).base, Some(last));
}

#[test]
fn nothing_goes_where_nothing_is_old_enough() {
    let store = chain_of(workload_of(6, 60));
    let times = times(&store);
    let retained = retain_before(&store, times[0], 1).unwrap();
    assert_eq!(retained, Retained::default());
    assert_eq!(start(&store), LogStart::default());
    // One record that is younger keeps all flushes from its own on.
    let retained = retain_before(&store, times[0] + 1, 2).unwrap();
    assert!(start(&store).dropped <= 1, "{retained:?}");
}

/// Whatever fails, and wherever: it is run until it succeeds.
#[test]
fn what_is_cut_short_is_gone_on_with() {
    for seed in 0..60 {
        let store = chain_of(timely_workload_of(seed, 150));
        let (times, before) = (times(&store), all(store.views().as_ref()));
        let cut = times[times.len() * 3 / 4];
        let trouble = Trouble {
            fails: 20,
            answers_lost: 20,
            ..Trouble::default()
        };
        store.set_trouble(trouble, seed);
        let done = (0..100).find(|run| retain_before(&store, cut, *run).is_ok());
        store.set_trouble(Trouble::default(), 0);
        assert!(done.is_some(), "seed {seed}");
        let start = start(&store);
        assert_eq!(start.cleared, start.dropped, "seed {seed}");
        assert_eq!(flushes_left(&store).first(), Some(&(start.dropped + 1)));
        rebuild_of(&store).unwrap();
        assert!(all(store.views().as_ref()) == before, "seed {seed}");
    }
}

#[test]
fn a_base_that_is_not_whole_changes_nothing() {
    let store = chain_of(workload_of(7, 200));
    let times = times(&store);
    retain_before(&store, times[times.len() / 2], 1).unwrap();
    let base = start(&store).base.unwrap();
    let before = (all(store.views().as_ref()), store.slot(0).unwrap());
    let first = store.base_records(&base, 0, 1).unwrap();
    let mut bytes = first[0].to_vec();
    bytes[100] ^= 1;
    store.put_base(&base, 0, &[bytes.into()]).unwrap();
    let error = rebuild_of(&store).unwrap_err();
    assert!(matches!(error, RebuildError::Base(_)), "{error}");
    store.forget_base(&base).unwrap();
    let error = rebuild_of(&store).unwrap_err().to_string();
    assert!(
        error.contains("gone") && error.contains("nothing was changed"),
        "{error}"
    );
    assert!((all(store.views().as_ref()), store.slot(0).unwrap()) == before);
}

#[test]
fn a_slot_that_is_being_rebuilt_keeps_its_log() {
    let store = chain_of(workload_of(8, 100));
    let row = store.slot(0).unwrap();
    let change = crate::cluster::Change::Release {
        applied: SlotRow::UNMADE,
    };
    crate::cluster::change_slot(&store, &row, change).unwrap();
    let error = retain_before(&store, i64::MAX, 1).unwrap_err();
    assert!(matches!(error, RetainError::Unmade { slot: 0 }), "{error}");
}

#[test]
fn counts_are_made_of_sums_where_records_after_them_may_be_gone() {
    let store = chain_of(workload_of(9, 200));
    let times = times(&store);
    let cut = times[times.len() / 2];
    retain_before(&store, cut, 1).unwrap();
    let of = StoreId::new(1).unwrap();
    let facts = store.facts();
    assert!(facts.is_whole(of, cut).unwrap());
    assert!(!facts.is_whole(of, cut - 1).unwrap());
}
