use std::sync::atomic::{AtomicI64, Ordering};

use till_core::{Dim, RollupKey, RollupRow, StoreRow, Totals};
use till_protocol::time::Timestamp;
use till_storage::cluster::{Answer, Commit, NodeId, SharedStore as _, SlotRow, SlotWriter};
use till_storage::journal::Lsn;
use till_storage::testing::MemoryCluster;
use till_storage::views::FlushBatch;

use super::*;
use crate::cluster::cursors::Cursors;
use crate::cluster::node::ClusterStanding;

/// 2026-11-21, as a business day.
const DAY: u16 = 20_778;
const HOUR_US: i64 = 3_600_000_000;
const ME: NodeId = NodeId::from_bytes([1; 16]);

/// An engine that serves the one slot of a store in memory, and the time, in us since 1970.
struct Bench {
    store: Arc<MemoryCluster>,
    sums: DaySums,
    now_us: Arc<AtomicI64>,
}

impl Bench {
    /// Nothing was flushed. It is noon of the day after `DAY`, UTC.
    fn new() -> Self {
        let now_us = Arc::new(AtomicI64::new((i64::from(DAY) * 24 + 36) * HOUR_US));
        let (of_day, steady) = (Arc::clone(&now_us), Arc::clone(&now_us));
        let store = Arc::new(MemoryCluster::new(1));
        let standing = ClusterStanding {
            me: ME,
            former: None,
            address: "here".to_owned(),
            lease: Duration::from_secs(5),
            started_us: 0,
            clock: Arc::new(move || {
                let us = steady.load(Ordering::SeqCst);
                Duration::from_micros(us.cast_unsigned())
            }),
        };
        let shared = Arc::<MemoryCluster>::clone(&store);
        let (cluster, _inboxes) = Cluster::new(shared, standing, (1, Lsn::ZERO));
        let cluster = Arc::new(cluster);
        let clock: Clock = Arc::new(move || Timestamp::from_us(of_day.load(Ordering::SeqCst)));
        Self {
            sums: DaySums::new(clock, &cluster),
            store,
            now_us,
        }
    }

    /// A flush that changes hours of days, whose rows are known to be written.
    fn flush(&self, flush: u64, days: &[u16]) {
        self.write(flush, days);
        serve(&self.sums.cluster, flush);
    }

    fn write(&self, flush: u64, days: &[u16]) {
        let store_row = StoreRow {
            currency: 978,
            zone: "America/New_York".to_owned(),
            registered_at_us: 0,
            applied: flush,
            training: Totals::default(),
        };
        let key = |day: &u16| RollupKey {
            store: 1,
            dim: Dim::Store,
            day: *day,
            hour_us: i64::from(*day) * 24 * HOUR_US,
            key: 0,
        };
        let hours = days.iter().map(|day| (key(day), RollupRow::default()));
        let rows = FlushBatch {
            stores: vec![(StoreId::new(1).unwrap(), store_row)],
            rollups: hours.collect(),
            ..FlushBatch::default()
        };
        let commit = Commit {
            flush,
            rows,
            ..Commit::default()
        };
        self.store.project(&[Arc::new(commit)]).unwrap();
    }

    /// Time goes on by that of one look, and all that it finds is done.
    fn look(&mut self) {
        let look = i64::try_from(LOOK.as_micros()).unwrap();
        self.now_us.fetch_add(look, Ordering::SeqCst);
        self.sums.turn();
        while self.sums.pause().is_zero() {
            self.sums.turn();
        }
    }

    fn due(&self) -> Vec<(u16, u64)> {
        let due = self.store.days_due(0).unwrap();
        due.iter().map(|one| (one.day, one.flush)).collect()
    }
}

// Makes the slot one that is served here.
fn serve(cluster: &Cluster, applied: u64) {
    let row = SlotRow {
        epoch: 4,
        flush: applied,
        applied,
        ..SlotRow::default()
    };
    let writer = SlotWriter::take_over(&row, ME, "here");
    let asked = cluster.owners.begin(writer, Cursors::new(1, Lsn::ZERO));
    let tenure = asked.tenure;
    let mine = SlotRow {
        epoch: 5,
        owner: Some(ME),
        ..row
    };
    let mut request = asked.commands[0].request;
    for answer in [Answer::Applied, Answer::Row(mine)] {
        let changed = cluster
            .owners
            .change(tenure, |owner| owner.writer.answer(request, answer));
        let commands = changed.unwrap().commands;
        request = commands.first().map_or(0, |command| command.request);
    }
    let opened = cluster.owners.change(tenure, |owner| owner.open(1));
    assert!(opened.is_some());
    assert_eq!(cluster.applied(0), Some(applied), "the slot is served");
}

#[test]
fn a_day_is_added_up_once_it_is_over_and_stands_still() {
    let mut bench = Bench::new();
    bench.flush(1, &[DAY, DAY + 1]);
    bench.look();
    assert_eq!(bench.due(), [(DAY, 1), (DAY + 1, 1)], "seen once");
    bench.flush(2, &[DAY]);
    bench.look();
    assert_eq!(bench.due(), [(DAY, 2), (DAY + 1, 1)], "it has changed");
    bench.look();
    assert_eq!(bench.due(), [(DAY + 1, 1)], "that day is not over");
    bench.flush(3, &[DAY]);
    bench.look();
    assert_eq!(bench.due(), [(DAY, 3), (DAY + 1, 1)], "it came late");
    bench.look();
    assert_eq!(bench.due(), [(DAY + 1, 1)]);
}

#[test]
fn a_day_is_over_by_the_clock_of_its_store() {
    let mut bench = Bench::new();
    bench.flush(1, &[DAY]);
    // Four in the morning of the next day, UTC: in New York it is eleven at night.
    let four = (i64::from(DAY) * 24 + 28) * HOUR_US;
    bench.now_us.store(four, Ordering::SeqCst);
    bench.sums.next = Duration::ZERO;
    bench.look();
    bench.look();
    assert_eq!(bench.due(), [(DAY, 1)]);
    bench.now_us.store(four + HOUR_US, Ordering::SeqCst);
    bench.look();
    assert_eq!(bench.due(), []);
}

#[test]
fn what_is_not_surely_written_waits() {
    let mut bench = Bench::new();
    bench.flush(6, &[]);
    bench.write(7, &[DAY]);
    bench.look();
    bench.look();
    bench.look();
    assert_eq!(bench.due(), [(DAY, 7)]);
    serve(&bench.sums.cluster, 7);
    bench.look();
    assert_eq!(bench.due(), []);
}

#[test]
fn a_look_takes_so_many_days_and_the_next_one_the_others() {
    let mut bench = Bench::new();
    let many = u16::try_from(DAYS_A_LOOK).unwrap() + 3;
    let days: Vec<u16> = (DAY - many + 1..=DAY).collect();
    bench.flush(1, &days);
    bench.look();
    bench.look();
    assert_eq!(bench.due().len(), 3);
    bench.look();
    assert_eq!(bench.due(), []);
}

#[test]
fn a_store_that_does_not_answer_is_asked_again_with_the_next_look() {
    let mut bench = Bench::new();
    bench.flush(1, &[DAY]);
    bench.look();
    bench.store.set_away(true);
    bench.look();
    bench.store.set_away(false);
    bench.look();
    assert_eq!(bench.due(), []);
}
