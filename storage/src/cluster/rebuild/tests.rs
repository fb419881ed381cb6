use super::*;
use crate::cluster::fold::reached;
use crate::cluster::{Conditional, Decided, NodeId};
use crate::memory::MemoryViews;
use crate::testing::MemoryCluster;
use crate::testing::suite::{retry_of, workload_of};
use crate::views::Views;

/// A chain of one slot in which these were committed, and whose rows are written.
pub(in crate::cluster) fn chain_of(commits: Vec<Commit>) -> MemoryCluster {
    let store = MemoryCluster::new(1);
    let owner = NodeId::from_bytes([7; 16]);
    let decide = |epoch, change| {
        let wanted = Conditional {
            slot: 0,
            epoch,
            change,
        };
        assert_eq!(store.decide(&wanted).unwrap(), Decided::Applied);
    };
    let address = "a".to_owned();
    decide(0, Change::Acquire { owner, address });
    let mut before = None;
    for commit in commits {
        let mut commit = Commit {
            slot: 0,
            epoch: 1,
            ..commit
        }
        .settled();
        let last = reached(&commit).map(|(_, last)| last).next();
        for (_, row) in &mut commit.rows.stores {
            row.applied = last.unwrap_or(row.applied);
        }
        let log = commit.to_log().unwrap();
        store
            .write_log((0, commit.flush), &log, before.as_ref())
            .unwrap();
        let (after, seal) = (commit.flush - 1, log.seal);
        let applied = after;
        decide(
            1,
            Change::Commit {
                after,
                applied,
                seal,
            },
        );
        store.project(&[Arc::new(commit)]).unwrap();
        before = Some(seal);
    }
    store
}

pub(in crate::cluster) fn all(views: &dyn Views) -> String {
    let mut out = String::new();
    each_batch(views, 1_000, &mut |batch| {
        out.push_str(&format!("{batch:#?}"));
        Ok(())
    })
    .unwrap();
    out
}

pub(in crate::cluster) fn rebuild_of(store: &MemoryCluster) -> Result<Rebuilt, RebuildError> {
    let mut scratch =
        |_| -> Result<Box<dyn WriteViews>, StoreError> { Ok(Box::new(MemoryViews::new())) };
    rebuild(store, &mut scratch, &mut |_| {})
}

#[test]
fn a_rebuild_gives_the_rows_that_were_written() {
    for commits in [workload_of(5, 400), workload_of(6, 30), retry_of()] {
        let (flush, records) = (
            commits.len(),
            commits.iter().map(|one| one.records.len()).sum::<usize>(),
        );
        let store = chain_of(commits);
        let before = all(store.views().as_ref());
        // Rows that no record makes, as a hand may have left them.
        let mut stray = workload_of(99, 20).pop().unwrap();
        stray.rows.names.clear();
        let rows = Commit {
            flush: 9_000,
            records: Vec::new(),
            ..stray
        };
        store.project(&[Arc::new(rows)]).unwrap();
        assert_ne!(all(store.views().as_ref()), before);

        let rebuilt = rebuild_of(&store).unwrap();
        let after = all(store.views().as_ref());
        let differs = before
            .lines()
            .zip(after.lines())
            .position(|(one, other)| one != other);
        let shown = |text: &str| {
            let lines = text.lines().skip(differs.unwrap_or(0).saturating_sub(20));
            lines.take(40).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(shown(&before), shown(&after));
        assert_eq!(before.len(), after.len());
        let made = (
            rebuilt.slots,
            usize::try_from(rebuilt.records).unwrap(),
            rebuilt.unapplied.len(),
        );
        assert_eq!(made, (1, records, 0));
        let row = store.slot(0).unwrap();
        let flush = u64::try_from(flush).unwrap();
        assert_eq!((row.flush, row.applied, row.owner), (flush, flush, None));
    }
}

#[test]
fn a_log_that_is_not_whole_changes_nothing() {
    let store = chain_of(workload_of(5, 100));
    let before = (all(store.views().as_ref()), store.slot(0).unwrap());
    // Flush 2 was written by somebody else than its seal says.
    let row = store.slot(0).unwrap();
    let mut seal = store.logs(&row, (2, 2)).unwrap()[0].seal;
    seal.epoch += 5;
    let third = &store.logs(&row, (3, 3)).unwrap()[0];
    let log = crate::cluster::Log {
        records: third
            .log
            .records
            .iter()
            .map(|(_, body)| body.clone())
            .collect(),
        rows: Vec::new(),
        seal: third.seal,
    };
    store.write_log((0, 3), &log, Some(&seal)).unwrap();

    let error = rebuild_of(&store).unwrap_err().to_string();
    assert!(
        error.contains("slot 0") && error.contains("flush 2"),
        "{error}"
    );
    assert_eq!(
        (all(store.views().as_ref()), store.slot(0).unwrap()),
        before
    );
}

#[test]
fn an_engine_that_takes_a_slot_meanwhile_ends_the_rebuild() {
    let store = chain_of(workload_of(5, 100));
    let mut scratch = |slot| -> Result<Box<dyn WriteViews>, StoreError> {
        let epoch = store.slot(slot)?.epoch;
        let (owner, address) = (NodeId::from_bytes([8; 16]), "b".to_owned());
        let change = Change::Acquire { owner, address };
        store.decide(&Conditional {
            slot,
            epoch,
            change,
        })?;
        Ok(Box::new(MemoryViews::new()))
    };
    let error = rebuild(&store, &mut scratch, &mut |_| {}).unwrap_err();
    assert!(matches!(error, RebuildError::Taken { slot: 0 }), "{error}");
    assert_eq!(
        store.slot(0).unwrap().applied,
        SlotRow::UNMADE,
        "who has it serves it not"
    );
    rebuild_of(&store).unwrap();
}

#[test]
fn an_engine_that_shows_a_heartbeat_meanwhile_keeps_every_row() {
    let store = chain_of(workload_of(5, 100));
    let before = all(store.views().as_ref());
    let mut scratch = |_| -> Result<Box<dyn WriteViews>, StoreError> {
        panic!("nothing is made beside an engine")
    };
    let error = rebuild(&store, &mut scratch, &mut |_| {
        let heartbeat = NodeRow {
            node: NodeId::from_bytes([3; 16]),
            address: "10.0.0.3:7880".to_owned(),
            heartbeat: 1,
            lease: std::time::Duration::from_secs(5),
            started_us: 0,
            is_leaving: false,
            lag: std::time::Duration::ZERO,
            moves: 0,
        };
        store.heartbeat(&heartbeat).unwrap();
    });
    let error = error.unwrap_err();
    assert!(matches!(error, RebuildError::Runs { .. }), "{error}");
    assert_eq!(all(store.views().as_ref()), before);
}

#[test]
fn slots_without_a_log_are_fenced_too_and_free_at_the_end() {
    let store = MemoryCluster::new(3);
    let rebuilt = rebuild_of(&store).unwrap();
    assert_eq!((rebuilt.slots, rebuilt.records), (0, 0));
    for row in store.all_slots().unwrap() {
        // Whoever had it, or wanted it, is two epochs behind.
        assert_eq!((row.epoch, row.applied, row.owner), (2, 0, None));
    }
}
