//! What the rows must say, added up from what happened; and rows compared with rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use till_core::{Dim, RollupKey, Totals};
use till_storage::views::Views;

use super::dump::Dump;
use super::read::Fate;
use super::{Oracle, Violation};
use crate::workload::{Act, BULK, Receipt, Truth, code, sku};

/// Transactions, lines, quantity, net, net of returns, moved, discount, tax.
type Sums = [i128; 8];
const NOTHING: Sums = [0; 8];

/// What the oracle expects of the rows.
#[derive(Debug, Default)]
pub(crate) struct Model {
    sums: BTreeMap<RollupKey, Sums>,
    moves: BTreeMap<(u32, u64), Vec<(i64, i128)>>,
    counts: BTreeMap<(u32, u64), (i64, i128)>,
    reserved: BTreeMap<(u32, u64), i128>,
    /// What was rung up in training, by store.
    training: BTreeMap<u32, Sums>,
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
    sold: Sums,
    /// The same by business day.
    days: BTreeMap<u16, Sums>,
}

impl Model {
    /// Adds up all that the journal ever held. `dropped_us`: of events that were received with a time before this, the facts
    /// may be gone.
    pub(crate) fn of(oracle: &Oracle, dropped_us: i64) -> Self {
        let mut model = Self::default();
        if oracle.is_clustered {
            let all_skus = oracle.truths.iter().flat_map(|truth| truth.act.all_skus());
            model.spoken_of = all_skus
                .map(|all_skus| (sku(all_skus), code(all_skus)))
                .collect();
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
        let positions = self.moves.keys().chain(self.counts.keys());
        let positions = positions.filter(|(_, sku)| *sku == bulk).copied();
        self.unsure.extend(positions);
    }

    fn apply(&mut self, truth: &Truth, dropped_us: i64) {
        let store = u32::try_from(truth.terminal >> 32).unwrap_or(0);
        match &truth.act {
            Act::Sale(receipt) => self.sell(store, truth, receipt),
            Act::Moved(all_skus, quantity) => {
                let moved = i128::from(*quantity);
                self.moves
                    .entry((store, sku(*all_skus)))
                    .or_default()
                    .push((truth.at, moved));
                let key = key(truth, Dim::Sku, sku(*all_skus));
                add(&mut self.sums, key, [0, 0, 0, 0, 0, moved, 0, 0]);
            }
            Act::Counted(all_skus, quantity) => {
                let position = (store, sku(*all_skus));
                if truth.at < dropped_us {
                    self.unsure.insert(position);
                }
                let counted = (truth.at, i128::from(*quantity));
                let newest = self.counts.entry(position).or_insert(counted);
                if newest.0 < counted.0 {
                    *newest = counted;
                }
            }
            Act::Reserved(all_skus, quantity) => {
                let position = (store, sku(*all_skus));
                self.moves.entry(position).or_default();
                *self.reserved.entry(position).or_default() += i128::from(*quantity);
            }
            Act::Practised(..) | Act::Read(_) | Act::Told(_) | Act::Garbage => {}
        }
    }

    fn sell(&mut self, store: u32, truth: &Truth, receipt: &Receipt) {
        // Whatever a line is about may have a row, if only as goods without a name.
        for line in &receipt.lines {
            self.moves.entry((store, sku(line.all_skus))).or_default();
        }
        let whole = whole_of(receipt);
        if receipt.is_training {
            return add_to(self.training.entry(store).or_default(), whole);
        }
        if receipt.is_cancelled {
            return;
        }
        let (mut seen, mut categories) = (BTreeSet::new(), BTreeSet::new());
        for line in receipt.lines.iter().filter(|line| !line.is_struck) {
            let (quantity, net) = (i128::from(line.quantity), i128::from(line.amount));
            let (discount, tax) = (i128::from(line.discount), i128::from(line.tax));
            let back = if quantity < 0 { net } else { 0 };
            let first = i128::from(seen.insert(line.all_skus));
            let sku = sku(line.all_skus);
            let moved = if line.is_unfit { 0 } else { -quantity };
            let part = [first, 1, quantity, net, back, moved, discount, tax];
            add(&mut self.sums, key(truth, Dim::Sku, sku), part);
            let moves = self.moves.entry((store, sku)).or_default();
            moves.push((truth.at, moved));
            let first = i128::from(categories.insert(line.category));
            // How what concerns the whole is shared out among categories is another check's business.
            let part = [first, 1, quantity, net, back, 0, 0, 0];
            let category = u64::from(line.category);
            add(&mut self.sums, key(truth, Dim::Category, category), part);
        }
        add(&mut self.sums, key(truth, Dim::Store, 0), whole);
        let by = key(truth, Dim::Operator, u64::from(receipt.operator));
        add(&mut self.sums, by, whole);
        for tender in receipt.paid_by() {
            let key = key(truth, Dim::Tender, tender);
            add(&mut self.sums, key, [1, 0, 0, 0, 0, 0, 0, 0]);
        }
        let day = key(truth, Dim::Store, 0).day;
        let terminal = self.terminals.entry(truth.terminal).or_default();
        add_to(&mut terminal.sold, whole);
        add_to(terminal.days.entry(day).or_default(), whole);
    }

    fn level(&self, position: (u32, u64)) -> (Option<i64>, i128) {
        let counted = self.counts.get(&position);
        let since = counted.map_or(i64::MIN, |(at, _)| *at);
        let moves = self.moves.get(&position).into_iter().flatten();
        let moved: i128 = moves.filter(|(at, _)| *at > since).map(|(_, q)| *q).sum();
        let from = counted.map_or(0, |(_, quantity)| *quantity);
        (counted.map(|(at, _)| *at), from + moved)
    }

    // Whether a row has room for the level, and for what has moved since the count.
    fn fits(&self, position: (u32, u64)) -> bool {
        let (_, level) = self.level(position);
        let counted = self
            .counts
            .get(&position)
            .map_or(0, |(_, quantity)| *quantity);
        [level, level - counted]
            .map(i64::try_from)
            .iter()
            .all(Result::is_ok)
    }
}

// What a sale comes to; stock is another's business.
fn whole_of(receipt: &Receipt) -> Sums {
    let (discount, tax) = (i128::from(receipt.discount), i128::from(receipt.tax));
    let mut whole: Sums = [1, 0, 0, 0, 0, 0, discount, tax];
    for line in receipt.lines.iter().filter(|line| !line.is_struck) {
        let (quantity, net) = (i128::from(line.quantity), i128::from(line.amount));
        let (discount, tax) = (i128::from(line.discount), i128::from(line.tax));
        let back = if quantity < 0 { net } else { 0 };
        add_to(&mut whole, [0, 1, quantity, net, back, 0, discount, tax]);
    }
    whole
}

// The row of an event's local day and hour.
fn key(truth: &Truth, dim: Dim, key: u64) -> RollupKey {
    let (day, hour_us) = truth.zone.hour(truth.at);
    RollupKey {
        store: u32::try_from(truth.terminal >> 32).unwrap_or(0),
        dim,
        day,
        hour_us,
        key,
    }
}

fn add(sums: &mut BTreeMap<RollupKey, Sums>, key: RollupKey, part: Sums) {
    add_to(sums.entry(key).or_default(), part);
}

fn add_to(sums: &mut Sums, part: Sums) {
    for (sum, part) in sums.iter_mut().zip(part) {
        *sum += part;
    }
}

fn broken(id: &'static str, what: String) -> Violation {
    Violation { id, what }
}

/// Compares the rows with what happened.
pub(crate) fn compare(model: &Model, views: &dyn Views) -> Result<(), Violation> {
    let dump = Dump::of(views).map_err(|error| broken("STO-1", error.to_string()))?;
    sums(model, &dump)?;
    training(model, &dump)?;
    stock(model, &dump)?;
    terminals(model, &dump)?;
    for dim in [Dim::Tender, Dim::Category, Dim::Operator] {
        parts(&dump, dim)?;
    }
    Ok(())
}

fn sums(model: &Model, dump: &Dump) -> Result<(), Violation> {
    let reported = dump.sums.iter().map(|(key, row)| {
        let [count, lines, quantity, net, discount, tax] = of_totals(&row.totals);
        let (back, moved) = (row.returns_net, row.moved);
        let sums = match key.dim {
            Dim::Store | Dim::Sku | Dim::Operator => {
                [count, lines, quantity, net, back, moved, discount, tax]
            }
            Dim::Category => [count, lines, quantity, net, back, moved, 0, 0],
            Dim::Tender => [count, 0, 0, 0, 0, 0, 0, 0],
        };
        (*key, sums)
    });
    let reported: BTreeMap<RollupKey, Sums> = reported.collect();
    equal("STO-1", "sums", &model.sums, &reported)
}

fn training(model: &Model, dump: &Dump) -> Result<(), Violation> {
    for (store, row) in &dump.stores {
        let should = model.training.get(&store.get()).unwrap_or(&NOTHING);
        let (reported, should) = (of_totals(&row.training), of_sums(should));
        if reported != should {
            let what = format!("training of store {store} is {reported:?}, not {should:?}");
            return Err(broken("LED-2", what));
        }
    }
    Ok(())
}

fn stock(model: &Model, dump: &Dump) -> Result<(), Violation> {
    let positions: BTreeSet<_> = model.moves.keys().chain(model.counts.keys()).collect();
    for position in &positions {
        if model.unsure.contains(position) {
            continue;
        }
        let (counted, level) = model.level(**position);
        // What does not fit waits, and the level is what it was.
        if !model.fits(**position) {
            continue;
        }
        let row = dump.skus.get(position).copied().unwrap_or_default();
        let base = row.counted.map_or(0, |(_, quantity)| i128::from(quantity));
        let reported = (
            row.counted.map(|(key, _)| key.at_us),
            base + i128::from(row.moved),
        );
        if reported != (counted, level) {
            let what = format!(
                "level of {position:?} is {reported:?}, and should be {:?}",
                (counted, level)
            );
            return Err(broken("STK-1", what));
        }
    }
    for (position, reserved) in &model.reserved {
        let reported = dump.skus.get(position).map_or(0, |row| row.reserved);
        if i128::from(reported) != *reserved {
            let what = format!("{reported} of {position:?} are reserved, and should be {reserved}");
            return Err(broken("STK-1", what));
        }
    }
    match dump
        .skus
        .keys()
        .find(|position| !positions.contains(position))
    {
        Some(position) => Err(broken("STK-1", format!("nobody ever moved {position:?}"))),
        None => Ok(()),
    }
}

fn terminals(model: &Model, dump: &Dump) -> Result<(), Violation> {
    for (terminal, expected) in &model.terminals {
        let row = dump.terminals.get(terminal).cloned().unwrap_or_default();
        let next = row
            .epochs
            .iter()
            .map(|progress| (progress.epoch, progress.next_seq));
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
        let shift = expected.days.last_key_value().unwrap_or((&0, &NOTHING));
        let reported = (of_totals(&row.totals), row.shift_day, of_totals(&row.shift));
        let should = (of_sums(&expected.sold), *shift.0, of_sums(shift.1));
        if reported != should {
            let what = format!("terminal {terminal} sold {reported:?}, not {should:?}");
            return Err(broken("LED-2", what));
        }
    }
    Ok(())
}

// Transactions, lines, quantity, net, discount, tax.
fn of_totals(totals: &Totals) -> [i128; 6] {
    let (transactions, lines) = (i128::from(totals.transactions), i128::from(totals.lines));
    let (discount, tax) = (totals.discount, totals.tax);
    [
        transactions,
        lines,
        totals.quantity,
        totals.net,
        discount,
        tax,
    ]
}

const fn of_sums(sums: &Sums) -> [i128; 6] {
    let [transactions, lines, quantity, net, _, _, discount, tax] = *sums;
    [transactions, lines, quantity, net, discount, tax]
}

// The rows of one dimension add up to those by store.
fn parts(dump: &Dump, dim: Dim) -> Result<(), Violation> {
    let mut left: BTreeMap<(u32, u16, i64), [i128; 6]> = BTreeMap::new();
    for (key, row) in &dump.sums {
        let hour = left.entry((key.store, key.day, key.hour_us)).or_default();
        let sign = match key.dim {
            Dim::Store => 1,
            other if other == dim => -1,
            _ => continue,
        };
        let [_, lines, quantity, net, discount, tax] = of_totals(&row.totals);
        let part = [lines, quantity, net, row.returns_net, discount, tax];
        for (left, part) in hour.iter_mut().zip(part) {
            *left += sign * part;
        }
    }
    match left.iter().find(|(_, left)| **left != [0; 6]) {
        Some((hour, left)) => Err(broken(
            "LED-1",
            format!("{dim:?} of {hour:?} is off by {left:?}"),
        )),
        None => Ok(()),
    }
}

fn equal<K: Ord + Debug, V: PartialEq + Debug>(
    id: &'static str,
    table: &str,
    expected: &BTreeMap<K, V>,
    reported: &BTreeMap<K, V>,
) -> Result<(), Violation> {
    for (key, row) in expected {
        let found = reported.get(key);
        if found != Some(row) {
            let what = format!("{table}: {key:?} is {found:?}, and should be {row:?}");
            return Err(broken(id, what));
        }
    }
    match reported.iter().find(|(key, _)| !expected.contains_key(key)) {
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
        dump.skus
            .retain(|position, _| !model.unsure.contains(position));
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
