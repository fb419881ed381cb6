//! Trades.

use till_core::{Outcome, Space};
use till_protocol::builder::{SaleBuilder, SaleParts};
use till_protocol::id::{Seq, SkuId};

use crate::cluster::Commit;
use crate::names::NameBook;
use crate::testing::world::{
    MIDNIGHT_US, MINUTE_US, Workload, World, cash, line, named, sale_at, till,
};

/// When trade starts: in the days when New York goes back by an hour.
pub(super) const START_US: i64 = MIDNIGHT_US - 20 * 1_440 * MINUTE_US;

/// All trades, each with the model of it.
pub(super) fn all() -> Vec<(&'static str, World)> {
    vec![
        ("trade that comes late", workload(11, 150, true)),
        ("transactions as they happen", workload(12, 150, false)),
        ("an event that is decided again", retried()),
    ]
}

fn workload(seed: u64, events: u32, late: bool) -> World {
    let mut world = World::new();
    world.workload(Workload {
        seed,
        events,
        start_us: START_US,
        late,
    });
    world
}

/// Trade in three stores as the commits of one slot: sales of every kind, training, stock.
pub fn workload_of(seed: u64, events: u32) -> Vec<Commit> {
    workload(seed, events, true).commits
}

/// As [`workload_of`], with every event in its time: no count comes late.
pub fn timely_workload_of(seed: u64, events: u32) -> Vec<Commit> {
    workload(seed, events, false).commits
}

/// A sale that is quarantined, and applied by the last of three commits.
pub fn retry_of() -> Vec<Commit> {
    retried().commits
}

// The second of two sales names an id that has another name at first.
fn retried() -> World {
    let mut world = World::new();
    world.register(1, 840, "UTC");
    world.flush();
    let sku = SkuId::of_code("soap").get();
    world
        .names
        .hold(&[(Space::Sku, sku, "another name".to_owned())]);
    let mut builder = SaleBuilder::new();
    for (code, receipt) in [("milk", 1), ("soap", 2)] {
        let mut sale = sale_at(START_US + 600 * MINUTE_US);
        sale.receipt = receipt;
        let parts = SaleParts {
            sale,
            lines: &[line(code, 200_000, 500)],
            tenders: &[cash(500)],
            texts: &[named(0, code)],
            ..SaleParts::default()
        };
        builder.push(&parts).unwrap();
    }
    let frame = builder.finish_frame(Seq::FIRST).unwrap();
    let record = world.send(till(1, 1), frame).unwrap();
    assert_eq!(record.outcome(1).unwrap().0, Outcome::Quarantined);
    world.flush();
    world.names = NameBook::new(std::sync::Arc::<crate::memory::MemoryViews>::clone(
        &world.views,
    ));
    world.now_us += MINUTE_US;
    world.retry(&record, 2);
    world.flush();
    world
}
