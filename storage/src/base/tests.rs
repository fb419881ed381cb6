use std::collections::BTreeMap;

use serde_json::to_string;
use till_core::{Record, ShardConfig};
use till_protocol::id::StoreId;

use super::{fold, load_newest, retain};
use crate::disk::SimDisk;
use crate::facts::{Facts, FactsConfig};
use crate::journal::testing::{append_each, open};
use crate::journal::{Journal, Lsn};
use crate::memory::MemoryViews;
use crate::query::{
    By, FactReader, QuarantineQuery, SalesQuery, Sources, StockQuery, StoresQuery, TerminalQuery,
    quarantine, sales, stock, stores, terminals,
};
use crate::rebuild::{Fold, Registrations, rebuild, replay};
use crate::testing::world::{MIDNIGHT_US, Workload, World};
use crate::views::{Fit, FlushBatch, Views, WriteViews as _, check_base};

const WORKLOAD: Workload = Workload {
    seed: 7,
    events: 400,
    start_us: MIDNIGHT_US,
    late: false,
};

/// The rows of every query, as their JSON text.
pub(crate) fn everything(views: &dyn Views, facts: &dyn FactReader) -> BTreeMap<String, String> {
    let sources = Sources {
        views,
        facts,
        now_us: 0,
    };
    let mut out = BTreeMap::new();
    for by in By::ALL {
        let query = SalesQuery {
            by,
            ..SalesQuery::default()
        };
        let rows = sales(&sources, &query).unwrap().rows;
        out.insert(by.name().to_owned(), to_string(&rows).unwrap());
    }
    for number in 1..=3 {
        let store = StoreId::new(number).unwrap();
        let query = StockQuery { store, sku: None };
        let rows = stock(&sources, &query).unwrap().rows;
        out.insert(format!("stock {store}"), to_string(&rows).unwrap());
        let query = TerminalQuery {
            store,
            terminal: None,
        };
        let rows = terminals(&sources, &query).unwrap().rows;
        out.insert(format!("terminals {store}"), to_string(&rows).unwrap());
    }
    let rows = stores(&sources, StoresQuery::default()).unwrap().rows;
    out.insert("stores".to_owned(), to_string(&rows).unwrap());
    let rows = quarantine(&sources, QuarantineQuery::default())
        .unwrap()
        .rows;
    out.insert("quarantine".to_owned(), to_string(&rows).unwrap());
    out.insert(
        "event ids".to_owned(),
        views.event_id_count().unwrap().to_string(),
    );
    out
}

/// Event times go back and forth: counts arrive late, and movements before them.
const LATE: Workload = Workload {
    late: true,
    ..WORKLOAD
};

struct Kept {
    world: World,
    records: Vec<Record>,
    disk: SimDisk,
}

impl Kept {
    fn new(workload: Workload) -> Self {
        let mut world = World::new();
        let records = world.workload(workload);
        let disk = SimDisk::new(1);
        let (_, closed) = append_each(open(&disk).unwrap(), &records);
        closed.unwrap();
        Self {
            world,
            records,
            disk,
        }
    }

    fn open(&self) -> (Journal, Facts) {
        let journal = open(&self.disk).unwrap().journal;
        let facts = Facts::new(journal.clone(), FactsConfig::default());
        (journal, facts)
    }

    fn live(&self) -> BTreeMap<String, String> {
        everything(self.world.views.as_ref(), &self.world.log)
    }
}

fn rebuilt(journal: &Journal, facts: &Facts) -> MemoryViews {
    let views = MemoryViews::new();
    let mut last = Lsn::ZERO;
    let none = Registrations::new(journal.clone(), []);
    let caught = rebuild(journal, facts, &views, (&none, replay), &mut |lsn| {
        last = lsn
    })
    .unwrap();
    assert!(caught.left_out.is_empty() && none.restated().is_empty());
    let end = journal.end();
    assert_eq!(views.checkpoint().unwrap(), end.get());
    assert!(last < end, "progress was told");
    views
}

#[test]
fn late_counts_come_out_the_same_in_a_rebuild() {
    for seed in 0..6 {
        let kept = Kept::new(Workload { seed, ..LATE });
        let (journal, facts) = kept.open();
        assert_eq!(
            everything(&rebuilt(&journal, &facts), &facts),
            kept.live(),
            "seed {seed}"
        );
    }
}

#[test]
fn rebuilt_rows_are_those_of_the_live_run() {
    let kept = Kept::new(WORKLOAD);
    let (journal, facts) = kept.open();
    let views = rebuilt(&journal, &facts);
    assert_eq!(everything(&views, &facts), kept.live());
    let end = journal.end().get();
    assert_eq!(check_base(&views, 0, end).unwrap(), Fit::Good);
    assert_eq!(
        check_base(&views, end + 1, end).unwrap(),
        Fit::OlderThanBase
    );
    assert_eq!(check_base(&views, 0, 10).unwrap(), Fit::NewerThanJournal);
}

#[test]
fn dropping_segments_changes_no_row_before_or_after_a_rebuild() {
    let kept = Kept::new(WORKLOAD);
    let (journal, facts) = kept.open();
    let sealed = facts.received().unwrap();
    assert!(sealed.len() > 8, "{} segments", sealed.len());
    // Twice, so that the second base is folded from the first.
    for part in [2, 3] {
        let (_, upto, newest_us) = sealed[sealed.len() - sealed.len() / part];
        let dropped = retain(
            &journal,
            &facts,
            &MemoryViews::new(),
            newest_us + 1,
            if part == 2 { upto } else { journal.end() },
            &mut |_| {},
        );
        assert!(dropped.unwrap() >= Some(upto));
        assert!(journal.start() >= upto);
        let views = rebuilt(&journal, &facts);
        assert_eq!(everything(&views, &facts), kept.live());
    }
    // What a later start finds on the disk says the same.
    let (journal, facts) = kept.open();
    assert!(journal.base().is_some());
    assert_eq!(everything(&rebuilt(&journal, &facts), &facts), kept.live());
}

#[test]
fn nothing_is_dropped_that_is_young() {
    let kept = Kept::new(WORKLOAD);
    let (journal, facts) = kept.open();
    let start = journal.start();
    let dropped = retain(
        &journal,
        &facts,
        &MemoryViews::new(),
        MIDNIGHT_US,
        journal.end(),
        &mut |_| {},
    );
    assert_eq!(dropped.unwrap(), None);
    assert_eq!((journal.start(), journal.base()), (start, None));
}

#[test]
fn everything_sent_again_after_dropping_and_rebuilding_changes_nothing() {
    let kept = Kept::new(WORKLOAD);
    let (journal, facts) = kept.open();
    let upto = journal.end();
    let scratch = MemoryViews::new();
    retain(&journal, &facts, &scratch, i64::MAX, upto, &mut |_| {}).unwrap();
    let views = rebuilt(&journal, &facts);
    let before = everything(&views, &facts);
    let mut again = World::over(views);
    for record in &kept.records {
        assert_eq!(again.resend(record), None, "a record was journalled again");
    }
    again.flush();
    assert_eq!(everything(again.views.as_ref(), &facts), before);
}

#[test]
fn recovery_applies_what_the_rows_do_not_hold() {
    let kept = Kept::new(WORKLOAD);
    let (journal, facts) = kept.open();
    let lsns: Vec<Lsn> = journal
        .records(Lsn::ZERO)
        .map(|item| item.unwrap().0)
        .collect();
    for part in [0, 1, lsns.len() / 2, lsns.len() - 1] {
        // With room for all changed rows in memory, and with none.
        for dirty_rows in [usize::MAX, 0] {
            let views = MemoryViews::new();
            fold(&journal, &facts, &views, lsns[part], &mut |_| {}).unwrap();
            assert_eq!(views.checkpoint().unwrap(), lsns[part].get());
            let folds = [0, 1, 2].map(|_| {
                Fold::new(&views, &facts, ShardConfig::default()).with_dirty_rows(dirty_rows)
            });
            let fold_of = |store: StoreId| usize::try_from(store.get() % 3).unwrap();
            let range = (lsns[part], journal.end());
            let mut told = 0;
            let replayed = replay(&journal, range, folds.into(), &fold_of, &mut |_| told += 1);
            let replayed = replayed.unwrap();
            assert_eq!(replayed.records, u64::try_from(lsns.len() - part).unwrap());
            assert_eq!(told, replayed.records);
            for fold in replayed.folds {
                assert!(fold.left_out().is_empty());
                let mut shard = fold.into_shard();
                views.write(&FlushBatch::from(shard.take_dirty())).unwrap();
            }
            assert_eq!(
                everything(&views, &facts),
                kept.live(),
                "from record {part}"
            );
        }
    }
}

#[test]
fn a_base_of_no_rows_loads_as_nothing() {
    let kept = Kept::new(WORKLOAD);
    let (journal, facts) = kept.open();
    let views = MemoryViews::new();
    super::write(&journal, &views, Lsn::new(64)).unwrap();
    let loaded = MemoryViews::new();
    let lsn = load_newest(journal.disk().as_ref(), journal.dir(), &loaded).unwrap();
    assert_eq!(lsn, Lsn::new(64));
    assert_eq!(loaded.checkpoint().unwrap(), 64);
    assert_eq!(loaded.event_id_count().unwrap(), 0);
    drop(facts);
}

#[test]
fn a_base_is_not_made_from_segments_that_left_meanwhile() {
    let kept = Kept::new(WORKLOAD);
    let (journal, facts) = kept.open();
    let border = journal.segments()[2].start;
    let before = MemoryViews::new();
    fold(&journal, &facts, &before, border, &mut |_| {}).unwrap();
    let mut dropped = 0;
    let failed = fold(
        &journal,
        &facts,
        &MemoryViews::new(),
        journal.end(),
        &mut |_| {
            if dropped == 0 {
                super::write(&journal, &before, border).unwrap();
                dropped = journal.drop_before(border).unwrap().len();
            }
        },
    );
    let failed = failed.unwrap_err().to_string();
    assert!(failed.contains("no durable record begins"), "{failed}");
    assert_eq!(dropped, 2);
    // Whoever begins now has the base.
    let views = MemoryViews::new();
    fold(&journal, &facts, &views, journal.end(), &mut |_| {}).unwrap();
    assert_eq!(
        views.event_id_count().unwrap(),
        kept.world.views.event_id_count().unwrap()
    );
}

mod pace;
mod unregistered;
