//! A chain is rebuilt from its log, by a program that has not seen it before.

use std::sync::Arc;

use till_scylla::ScyllaStore;
use till_storage::cluster::{Change, Commit, Conditional, Decided, NodeId, SharedStore as _};
use till_storage::testing::suite::workload_of;

use crate::world::{applied, remake, rows_of};

/// Commits as an owner does, without their rows.
pub(crate) fn commit_all(store: &ScyllaStore, commits: &[Commit]) {
    let decide = |epoch, change| {
        let wanted = Conditional {
            slot: 0,
            epoch,
            change,
        };
        assert_eq!(store.decide(&wanted).unwrap(), Decided::Applied);
    };
    let (owner, address) = (NodeId::from_bytes([7; 16]), "a".to_owned());
    decide(0, Change::Acquire { owner, address });
    let mut before = None;
    for commit in commits {
        let commit = Commit {
            slot: 0,
            epoch: 1,
            ..commit.clone()
        };
        let log = commit.to_log().unwrap();
        let of = (0, commit.flush);
        store.write_log(of, &log, before.as_ref()).unwrap();
        let (after, applied, seal) = (commit.flush - 1, commit.flush - 1, log.seal);
        decide(
            1,
            Change::Commit {
                after,
                applied,
                seal,
            },
        );
        before = Some(seal);
    }
}

#[test]
fn stores_are_known_by_registrations_that_lie_far_before_their_events() {
    let world = applied("rebuilt", 1);
    // Registrations alone, then nothing for a long time, then events.
    let commits = workload_of(21, 120);
    let (first, rest) = commits.split_first().unwrap();
    let quiet = (2..40).map(|flush| Commit {
        flush,
        ..Commit::default()
    });
    let late = rest.iter().zip(40..).map(|(commit, flush)| Commit {
        flush,
        ..commit.clone()
    });
    let first = Commit {
        flush: 1,
        ..first.clone()
    };
    let spread: Vec<Commit> = [first].into_iter().chain(quiet).chain(late).collect();
    let writer = world.store();
    commit_all(&writer, &spread);
    for commit in &spread {
        writer.project(&[Arc::new(commit.clone())]).unwrap();
    }
    let before = rows_of(&writer);

    let store = world.store();
    remake(&store);
    assert_eq!(rows_of(&store), before);
    let row = store.slot(0).unwrap();
    assert_eq!((row.applied, row.owner), (row.flush, None));
}
