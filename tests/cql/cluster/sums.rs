//! Derived rows beside the facts that they are derived from, both read by plain CQL.
//!
//! The arithmetic is its own: it knows SCHEMA.md and no code of the engine. Stores are in UTC here.

mod facts;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use scylla::DeserializeRow;
use scylla::value::{CqlDate, CqlVarint};
use till_tests::wait_until;

pub(crate) use self::facts::Event;
use self::facts::{CATEGORY, Facts, Key, OPERATOR, SKU, STORE, Sum, whole};
use crate::world::World;

/// Differences that are named.
const SHOWN: usize = 12;

#[derive(DeserializeRow)]
struct Rollup {
    store: i32,
    dim: i8,
    day: CqlDate,
    hour_us: i64,
    key: i64,
    transactions: i64,
    lines: i64,
    quantity_e5: CqlVarint,
    net_minor: CqlVarint,
    discount_minor: CqlVarint,
    tax_minor: CqlVarint,
    returns_net_minor: CqlVarint,
    moved_e5: CqlVarint,
}

#[derive(DeserializeRow)]
struct Level {
    store: i32,
    bucket: i32,
    sku: i64,
    quantity_e5: i64,
    is_counted: bool,
    counted_e5: i64,
    moved_e5: i64,
    reserved_e5: i64,
}

#[derive(DeserializeRow)]
struct Terminal {
    terminal: i64,
    epochs: Option<Vec<(i32, i64, i64)>>,
    applied: i64,
    duplicates: i64,
    refused: i64,
    quarantined: i64,
    transactions: i64,
    lines: i64,
    quantity_e5: CqlVarint,
    net_minor: CqlVarint,
    discount_minor: CqlVarint,
    tax_minor: CqlVarint,
}

type Comparison = fn(&World, &Facts, &mut Vec<String>) -> Result<()>;

/// Every event that is in a fact table.
pub(crate) fn events(world: &World) -> Result<BTreeSet<Event>> {
    Ok(Facts::read(world)?.events())
}

/// Compares all derived rows with a recomputation from the facts, until they are equal: rows follow their commits. Devices must
/// be honest ones: all that they sent took effect.
pub(crate) fn equal_the_facts(world: &World) -> Result<()> {
    come_to_equal(world, &[rollups, levels, terminals])
}

/// As [`equal_the_facts`], where devices sent again under new numbers what had taken effect before.
pub(crate) fn equal_the_facts_but_for_repeats(world: &World) -> Result<()> {
    come_to_equal(world, &[rollups, levels])
}

fn come_to_equal(world: &World, all: &[Comparison]) -> Result<()> {
    let mut last = Ok(());
    let is_equal = wait_until("rows equal the facts", || {
        last = compare(world, all);
        Ok(last.is_ok())
    });
    last.and(is_equal)
}

fn compare(world: &World, all: &[Comparison]) -> Result<()> {
    let facts = Facts::read(world)?;
    let mut wrong = Vec::new();
    for one in all {
        one(world, &facts, &mut wrong)?;
    }
    let (events, sales) = (facts.events().len(), facts.sales().count());
    println!(
        "{events} events, {sales} sales among them, are compared with the rows derived from them"
    );
    ensure!(sales > 0, "there are no facts");
    if !wrong.is_empty() {
        let count = wrong.len();
        wrong.truncate(SHOWN);
        let shown = wrong.join("\n");
        bail!("{count} rows are not what the facts add up to:\n{shown}");
    }
    Ok(())
}

impl Rollup {
    fn sum(&self) -> Sum {
        Sum {
            transactions: self.transactions.into(),
            lines: self.lines.into(),
            quantity: whole(&self.quantity_e5),
            net: whole(&self.net_minor),
            discount: whole(&self.discount_minor),
            tax: whole(&self.tax_minor),
            returns: whole(&self.returns_net_minor),
            moved: whole(&self.moved_e5),
        }
    }

    /// What of it the facts decide alone; `None` by tender, for which that the parts add up is looked at.
    fn decided(&self) -> Option<Sum> {
        let sum = self.sum();
        let skus = Sum {
            discount: 0,
            tax: 0,
            ..sum
        };
        match self.dim {
            STORE | OPERATOR => Some(sum),
            SKU => Some(skus),
            CATEGORY => Some(Sum {
                transactions: 0,
                ..skus
            }),
            _ => None,
        }
    }
}

fn rollups(world: &World, facts: &Facts, wrong: &mut Vec<String>) -> Result<()> {
    let k = &world.keyspace;
    let rows = world.cql.rows::<Rollup>(&format!(
        "SELECT store, dim, day, hour_us, blobAsBigint(key) AS key, transactions, lines, quantity_e5, net_minor, discount_minor, tax_minor, \
         returns_net_minor, moved_e5 FROM {k}.rollups"
    ))?;
    let mut expected = facts.sums();
    for one in &rows {
        let cell = (one.store, one.dim, one.day.0, one.hour_us, one.key);
        let Some(found) = one.decided() else { continue };
        let wanted = expected.remove(&cell).unwrap_or_default();
        if found != wanted {
            wrong.push(format!("rollup {cell:?}: {found:?}, facts say {wanted:?}"));
        }
    }
    expected.retain(|_, sum| *sum != Sum::default());
    for (cell, sum) in expected {
        wrong.push(format!("rollup {cell:?} is missing: {sum:?}"));
    }
    parts_add_up(&rows, wrong);
    Ok(())
}

// Whatever an hour of a store is split by, the parts are the whole.
fn parts_add_up(rows: &[Rollup], wrong: &mut Vec<String>) {
    let mut wholes: BTreeMap<Key, Sum> = BTreeMap::new();
    for one in rows {
        let cell = (one.store, one.dim, one.day.0, one.hour_us, 0);
        wholes.entry(cell).or_default().add(&one.sum());
    }
    for ((store, dim, day, hour, _), parts) in &wholes {
        let whole = wholes.get(&(*store, STORE, *day, *hour, 0));
        let whole = whole.copied().unwrap_or_default();
        let sales = |sum: &Sum| (sum.lines, sum.quantity, sum.net, sum.returns);
        if sales(parts) != sales(&whole) {
            wrong.push(format!(
                "store {store}, hour {hour}: the parts by {dim} are {parts:?}, the whole {whole:?}"
            ));
        }
    }
}

fn levels(world: &World, facts: &Facts, wrong: &mut Vec<String>) -> Result<()> {
    let rows = world.cql.rows::<Level>(&format!(
        "SELECT store, bucket, blobAsBigint(sku) AS sku, quantity_e5, is_counted, counted_e5, moved_e5, reserved_e5 FROM {}.levels",
        world.keyspace
    ))?;
    let mut expected = facts.levels();
    for one in rows {
        let wanted = expected.remove(&(one.store, one.sku)).unwrap_or_default();
        let found = facts::Level {
            counted: one.is_counted.then_some(one.counted_e5),
            moved: one.moved_e5.into(),
            reserved: one.reserved_e5.into(),
        };
        let is_right = one.quantity_e5 == one.counted_e5 + one.moved_e5
            && i64::from(one.bucket) == one.sku.rem_euclid(4);
        if found != wanted || !is_right {
            let (sku, store) = (one.sku, one.store);
            wrong.push(format!(
                "level of {sku} in store {store}: {found:?}, facts say {wanted:?}"
            ));
        }
    }
    // What was quarantined and set free again before anybody looked leaves no row.
    expected.retain(|_, level| *level != facts::Level::default());
    for ((store, sku), level) in expected {
        wrong.push(format!(
            "level of {sku} in store {store} is missing: {level:?}"
        ));
    }
    Ok(())
}

// Each terminal has every event of its lives once, without a gap, and its sums are theirs.
fn terminals(world: &World, facts: &Facts, wrong: &mut Vec<String>) -> Result<()> {
    let rows = world.cql.rows::<Terminal>(&format!(
        "SELECT terminal, epochs, applied, duplicates, refused, quarantined, transactions, lines, quantity_e5, net_minor, \
         discount_minor, tax_minor FROM {}.terminals",
        world.keyspace
    ))?;
    let mut events: BTreeMap<i64, BTreeSet<(i32, i64)>> = BTreeMap::new();
    for (terminal, epoch, seq) in facts.events() {
        events.entry(terminal).or_default().insert((epoch, seq));
    }
    let mut sums: BTreeMap<i64, Sum> = BTreeMap::new();
    for one in facts.sales() {
        sums.entry(one.terminal).or_default().add(&one.sum());
    }
    for one in rows {
        let terminal = one.terminal;
        let has = events.remove(&terminal).unwrap_or_default();
        let count = has.len();
        let epochs = one.epochs.unwrap_or_default();
        let told = epochs
            .iter()
            .flat_map(|(epoch, next, _)| (1..*next).map(move |seq| (*epoch, seq)));
        if has != told.collect() {
            wrong.push(format!(
                "terminal {terminal} has {count} facts, and lives {epochs:?}"
            ));
        }
        let others = one.duplicates + one.refused + one.quarantined;
        if i64::try_from(count) != Ok(one.applied) || others != 0 {
            let applied = one.applied;
            wrong.push(format!(
                "terminal {terminal} has {count} facts, {applied} applied and {others} other events"
            ));
        }
        let found = Sum {
            transactions: one.transactions.into(),
            lines: one.lines.into(),
            quantity: whole(&one.quantity_e5),
            net: whole(&one.net_minor),
            discount: whole(&one.discount_minor),
            tax: whole(&one.tax_minor),
            ..Sum::default()
        };
        let wanted = sums.remove(&terminal).unwrap_or_default();
        if found != wanted {
            wrong.push(format!(
                "terminal {terminal} sold {found:?}, facts say {wanted:?}"
            ));
        }
    }
    wrong.extend(
        events
            .keys()
            .map(|terminal| format!("terminal {terminal} is missing")),
    );
    Ok(())
}
