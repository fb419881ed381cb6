//! What the rows must say, added up from what happened; and rows compared with rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::ops::ControlFlow;

use till_core::{Dim, RollupKey, RollupRow, SkuRow, StoreRow, TerminalRow};
use till_protocol::id::{SkuId, StoreId, TerminalId};
use till_storage::views::{StoreError, Views};

use super::read::Fate;
use super::{Oracle, Violation};
use crate::trade::{Act, BULK, Truth, code, sku};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// Transactions, lines, quantity, net, net of returns, moved.
type Sums = [i128; 6];

/// What the oracle expects of the rows.
#[derive(Debug, Default)]
pub(crate) struct Model {
    sums: BTreeMap<RollupKey, Sums>,
    moves: BTreeMap<(u32, u64), Vec<(i64, i128)>>,
    counts: BTreeMap<(u32, u64), (i64, i128)>,
    terminals: BTreeMap<u64, Terminal>,
    /// SKUs of which nobody can say what their level is: they were counted at a time of which the facts are gone.
    unsure: BTreeSet<(u32, u64)>,
    /// Goods that a till has named to engines which share a store: a name is written before the commit that uses it, and
    /// may be all that is left of an event.
    spoken_of: BTreeMap<u64, String>,
}

#[derive(Debug, Default)]
struct Terminal {
    next: BTreeMap<u32, u64>,
    applied: u64,
    duplicates: u64,
    refused: u64,
    quarantined: u64,
    transactions: i128,
    net: i128,
}

impl Model {
    /// Adds up all that the journal ever held. `dropped_us`: of events that were received with a time before this, the facts
    /// may be gone.
    pub(crate) fn of(oracle: &Oracle, dropped_us: i64) -> Self {
        let mut model = Self::default();
        if oracle.is_clustered {
            let goods = oracle.truths.iter().flat_map(|truth| truth.act.goods());
            model.spoken_of = goods.map(|goods| (sku(goods), code(goods))).collect();
        }
        for entry in &oracle.log {
            let terminal = model.terminals.entry(entry.terminal).or_default();
            let end = entry.first + u64::from(entry.count);
            let next = terminal.next.entry(entry.epoch).or_insert(1);
            *next = end.max(*next);
            for (_, fate, truth) in &entry.events {
                let terminal = model.terminals.entry(entry.terminal).or_default();
                match fate {
                    Fate::Applied => terminal.applied += 1,
                    Fate::Duplicate => terminal.duplicates += 1,
                    Fate::Refused => terminal.refused += 1,
                    Fate::Quarantined => terminal.quarantined += 1,
                }
                if let (Fate::Applied, Some(truth)) = (fate, truth) {
                    model.apply(&oracle.truths[*truth], dropped_us);
                }
            }
        }
        model
    }

    /// Levels that may have left their range are not looked at.
    pub(crate) fn leave_out_bulk(&mut self) {
        let bulk = sku(BULK);
        let places = self.moves.keys().chain(self.counts.keys());
        let places = places.filter(|(_, sku)| *sku == bulk).copied();
        self.unsure.extend(places);
    }

    fn apply(&mut self, truth: &Truth, dropped_us: i64) {
        let store = u32::try_from(truth.terminal >> 32).unwrap_or(0);
        match &truth.act {
            Act::Sale(lines, operator) => self.sell(store, truth, lines, *operator),
            Act::Moved(goods, quantity) => {
                let moved = i128::from(*quantity);
                self.moves
                    .entry((store, sku(*goods)))
                    .or_default()
                    .push((truth.at, moved));
                let key = key(store, Dim::Sku, truth.at, sku(*goods));
                add(&mut self.sums, key, [0, 0, 0, 0, 0, moved]);
            }
            Act::Counted(goods, quantity) => {
                let place = (store, sku(*goods));
                if truth.at < dropped_us {
                    self.unsure.insert(place);
                }
                let counted = (truth.at, i128::from(*quantity));
                let newest = self.counts.entry(place).or_insert(counted);
                if newest.0 < counted.0 {
                    *newest = counted;
                }
            }
            Act::Garbage => {}
        }
    }

    fn sell(&mut self, store: u32, truth: &Truth, lines: &[(u64, i64, i64)], operator: u32) {
        let mut whole: Sums = [1, 0, 0, 0, 0, 0];
        let mut seen = BTreeSet::new();
        for (goods, quantity, amount) in lines {
            let (quantity, net) = (i128::from(*quantity), i128::from(*amount));
            let back = if quantity < 0 { net } else { 0 };
            let first = i128::from(seen.insert(*goods));
            let part = [first, 1, quantity, net, back, -quantity];
            let sku = sku(*goods);
            add(&mut self.sums, key(store, Dim::Sku, truth.at, sku), part);
            self.moves
                .entry((store, sku))
                .or_default()
                .push((truth.at, -quantity));
            for (sum, part) in whole.iter_mut().zip([0, 1, quantity, net, back, 0]) {
                *sum += part;
            }
        }
        add(&mut self.sums, key(store, Dim::Store, truth.at, 0), whole);
        let by = key(store, Dim::Operator, truth.at, u64::from(operator));
        add(&mut self.sums, by, whole);
        let terminal = self.terminals.entry(truth.terminal).or_default();
        terminal.transactions += 1;
        terminal.net += whole[3];
    }

    fn level(&self, place: (u32, u64)) -> (Option<i64>, i128) {
        let counted = self.counts.get(&place);
        let since = counted.map_or(i64::MIN, |(at, _)| *at);
        let moves = self.moves.get(&place).into_iter().flatten();
        let moved: i128 = moves.filter(|(at, _)| *at > since).map(|(_, q)| *q).sum();
        let from = counted.map_or(0, |(_, quantity)| *quantity);
        (counted.map(|(at, _)| *at), from + moved)
    }

    // Whether a row has room for the level, and for what has moved since the count.
    fn fits(&self, place: (u32, u64)) -> bool {
        let (_, level) = self.level(place);
        let counted = self.counts.get(&place).map_or(0, |(_, quantity)| *quantity);
        [level, level - counted]
            .map(i64::try_from)
            .iter()
            .all(Result::is_ok)
    }
}

fn key(store: u32, dim: Dim, at: i64, key: u64) -> RollupKey {
    RollupKey {
        store,
        dim,
        day: u16::try_from(at.div_euclid(DAY_US)).unwrap_or(0),
        hour_us: at.div_euclid(HOUR_US) * HOUR_US,
        key,
    }
}

fn add(sums: &mut BTreeMap<RollupKey, Sums>, key: RollupKey, part: Sums) {
    let row = sums.entry(key).or_default();
    for (sum, part) in row.iter_mut().zip(part) {
        *sum += part;
    }
}

/// All rows of an engine, in order.
#[derive(Debug, Default)]
struct Dump {
    stores: BTreeMap<StoreId, StoreRow>,
    terminals: BTreeMap<u64, TerminalRow>,
    skus: BTreeMap<(u32, u64), SkuRow>,
    sums: BTreeMap<RollupKey, RollupRow>,
    ids: BTreeMap<[u8; 16], String>,
    quarantine: BTreeMap<String, String>,
    names: BTreeMap<(u8, u64), String>,
}

impl Dump {
    fn of(views: &dyn Views) -> Result<Self, StoreError> {
        let mut dump = Self::default();
        views.stores(&mut |store, row| {
            // How far a store's rows are differs with who wrote them last; the records do not.
            dump.stores.insert(store, StoreRow { applied: 0, ..row });
            ControlFlow::Continue(())
        })?;
        let stores: Vec<StoreId> = dump.stores.keys().copied().collect();
        for store in stores {
            views.terminals(store, &mut |terminal: TerminalId, row| {
                dump.terminals.insert(terminal.to_u64(), row);
                ControlFlow::Continue(())
            })?;
            views.skus(store, SkuId::from_u64(0), &mut |sku, row| {
                dump.skus.insert((store.get(), sku.get()), row);
                ControlFlow::Continue(())
            })?;
            for dim in [
                Dim::Store,
                Dim::Sku,
                Dim::Category,
                Dim::Tender,
                Dim::Operator,
            ] {
                views.rollups(store, dim, 0..=u16::MAX, &mut |key, row| {
                    dump.sums.insert(key, row);
                    ControlFlow::Continue(())
                })?;
            }
        }
        views.event_ids(&mut |id, row| {
            dump.ids.insert(id.to_bytes(), format!("{row:?}"));
            ControlFlow::Continue(())
        })?;
        views.quarantine(&mut |key, row| {
            dump.quarantine
                .insert(format!("{key:?}"), format!("{row:?}"));
            ControlFlow::Continue(())
        })?;
        views.names(&mut |(space, id), name| {
            dump.names
                .insert((u8::from(space == till_core::Space::Tender), id), name);
            ControlFlow::Continue(())
        })?;
        Ok(dump)
    }
}

fn broken(id: &'static str, what: String) -> Violation {
    Violation { id, what }
}

/// Compares the rows with what happened.
pub(crate) fn compare(model: &Model, views: &dyn Views) -> Result<(), Violation> {
    let dump = Dump::of(views).map_err(|error| broken("STO-1", error.to_string()))?;
    sums(model, &dump)?;
    stock(model, &dump)?;
    terminals(model, &dump)?;
    for dim in [Dim::Tender, Dim::Category, Dim::Operator] {
        parts(&dump, dim)?;
    }
    Ok(())
}

fn sums(model: &Model, dump: &Dump) -> Result<(), Violation> {
    let told = dump
        .sums
        .iter()
        .filter(|(key, _)| matches!(key.dim, Dim::Store | Dim::Sku | Dim::Operator));
    let told: BTreeMap<RollupKey, Sums> = told
        .map(|(key, row)| {
            let totals = &row.totals;
            let (transactions, lines) = (totals.transactions, totals.lines);
            let sums = [
                i128::from(transactions),
                i128::from(lines),
                totals.quantity,
                totals.net,
                row.returns_net,
                row.moved,
            ];
            (*key, sums)
        })
        .collect();
    equal("STO-1", "sums", &model.sums, &told)
}

fn stock(model: &Model, dump: &Dump) -> Result<(), Violation> {
    let places: BTreeSet<_> = model.moves.keys().chain(model.counts.keys()).collect();
    for place in &places {
        if model.unsure.contains(place) {
            continue;
        }
        let (counted, level) = model.level(**place);
        // What does not fit waits, and the level is what it was.
        if !model.fits(**place) {
            continue;
        }
        let row = dump.skus.get(place).copied().unwrap_or_default();
        let base = row.counted.map_or(0, |(_, quantity)| i128::from(quantity));
        let told = (
            row.counted.map(|(key, _)| key.at_us),
            base + i128::from(row.moved),
        );
        if told != (counted, level) {
            let what = format!(
                "level of {place:?} is {told:?}, and should be {:?}",
                (counted, level)
            );
            return Err(broken("STK-1", what));
        }
    }
    match dump.skus.keys().find(|place| !places.contains(place)) {
        Some(place) => Err(broken("STK-1", format!("nobody ever moved {place:?}"))),
        None => Ok(()),
    }
}

fn terminals(model: &Model, dump: &Dump) -> Result<(), Violation> {
    for (terminal, expected) in &model.terminals {
        let row = dump.terminals.get(terminal).cloned().unwrap_or_default();
        let next = row.epochs.iter().map(|mark| (mark.epoch, mark.next_seq));
        let next: BTreeMap<u32, u64> = next.collect();
        if next != expected.next {
            let what = format!(
                "terminal {terminal} is at {next:?}, and should be at {:?}",
                expected.next
            );
            return Err(broken("SEQ-1", what));
        }
        let counted = [row.applied, row.duplicates, row.refused, row.quarantined];
        let should = [
            expected.applied,
            expected.duplicates,
            expected.refused,
            expected.quarantined,
        ];
        if counted != should {
            let what =
                format!("terminal {terminal} counts {counted:?}, and should count {should:?}");
            return Err(broken("CNT-1", what));
        }
        let told = (i128::from(row.totals.transactions), row.totals.net);
        if told != (expected.transactions, expected.net) {
            let what = format!(
                "terminal {terminal} sold {told:?}, not {:?}",
                (expected.transactions, expected.net)
            );
            return Err(broken("LED-2", what));
        }
    }
    Ok(())
}

// The rows of one dimension add up to those by store.
fn parts(dump: &Dump, dim: Dim) -> Result<(), Violation> {
    let mut left: BTreeMap<(u32, u16, i64), i128> = BTreeMap::new();
    for (key, row) in &dump.sums {
        let hour = left.entry((key.store, key.day, key.hour_us)).or_default();
        match key.dim {
            Dim::Store => *hour += row.totals.net,
            other if other == dim => *hour -= row.totals.net,
            _ => {}
        }
    }
    match left.iter().find(|(_, net)| **net != 0) {
        Some((hour, net)) => Err(broken(
            "LED-1",
            format!("{dim:?} of {hour:?} is off by {net}"),
        )),
        None => Ok(()),
    }
}

fn equal<K: Ord + Debug, V: PartialEq + Debug>(
    id: &'static str,
    table: &str,
    expected: &BTreeMap<K, V>,
    told: &BTreeMap<K, V>,
) -> Result<(), Violation> {
    for (key, row) in expected {
        let found = told.get(key);
        if found != Some(row) {
            let what = format!("{table}: {key:?} is {found:?}, and should be {row:?}");
            return Err(broken(id, what));
        }
    }
    match told.iter().find(|(key, _)| !expected.contains_key(key)) {
        Some((key, row)) => Err(broken(
            id,
            format!("{table}: {key:?} is {row:?}, and should not be"),
        )),
        None => Ok(()),
    }
}

/// Compares two sets of rows: those of the live run and those of a replay. SKUs of the model that were counted at a time of which
/// the facts are gone are left out: the live run may remember what a replay does not find.
pub(crate) fn same_rows(
    model: &Model,
    live: &dyn Views,
    replayed: &dyn Views,
) -> Result<(), Violation> {
    let dumps = Dump::of(live).and_then(|live| Ok((live, Dump::of(replayed)?)));
    let (mut live, mut replayed) = dumps.map_err(|error| broken("REP-1", error.to_string()))?;
    for dump in [&mut live, &mut replayed] {
        dump.skus.retain(|place, _| !model.unsure.contains(place));
    }
    live.names.retain(|key, name| {
        replayed.names.contains_key(key) || model.spoken_of.get(&key.1) != Some(name)
    });
    equal("REP-1", "stores", &replayed.stores, &live.stores)?;
    equal("REP-1", "terminals", &replayed.terminals, &live.terminals)?;
    equal("REP-1", "skus", &replayed.skus, &live.skus)?;
    equal("REP-1", "sums", &replayed.sums, &live.sums)?;
    equal("REP-1", "event ids", &replayed.ids, &live.ids)?;
    equal(
        "REP-1",
        "quarantine",
        &replayed.quarantine,
        &live.quarantine,
    )?;
    equal("REP-1", "names", &replayed.names, &live.names)
}
