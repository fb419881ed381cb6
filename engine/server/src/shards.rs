//! `tillstream shards`: which engine serves which slots of a shared store, and which one shall.

pub(crate) mod fleet;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use serde_json::{Value, json};
use till_storage::cluster::{Constraint, Constraints, NodeId, NodeRow, SharedStore, SlotRow};

use crate::args::{DrainArgs, MoveArgs, ShardsCommand, ShardsListArgs, UntilArgs};
use crate::shared::Keyspace;
use crate::{Found, Usage, output, table};
use fleet::Fleet;

/// Time between two looks at whether a placement constraint has come to pass.
const LOOK: Duration = Duration::from_millis(100);

/// Shows who serves what, or says who shall.
///
/// # Errors
/// [`Usage`] for a slot that there is not; [`Found`] when a placement constraint has not come to pass in time; others say what is
/// wrong with the engine that is named, or keeps the store from answering.
pub(crate) fn run(command: &ShardsCommand) -> anyhow::Result<()> {
    match command {
        ShardsCommand::List(args) => list(args),
        ShardsCommand::Move(args) => move_slot(args),
        ShardsCommand::Drain(args) => drain(args),
    }
}

fn list(args: &ShardsListArgs) -> anyhow::Result<()> {
    let store = Keyspace::open(&args.cluster)?.into_store();
    let (nodes, constraints, slots) = (store.nodes()?, store.constraints()?, store.all_slots()?);
    if args.json {
        let by_id: BTreeMap<NodeId, &NodeRow> = nodes.iter().map(|one| (one.node, one)).collect();
        let rows: Vec<_> = slots
            .iter()
            .map(|slot| row(slot, &by_id, &constraints))
            .collect();
        return output::json(&json!({ "rows": rows }));
    }
    let silent = fleet::silent(store.as_ref(), &nodes)?;
    let engines = engines(&slots, &nodes, &constraints, &silent);
    table::lines(&engines).iter().try_for_each(output::line)?;
    for (slot, address) in &constraints.slots {
        output::note(format!("slot {slot} shall be served by {address}"));
    }
    let waiting = store.waiting()?.len();
    let nobodys = slots.iter().filter(|slot| slot.owner.is_none()).count();
    output::note(format!(
        "{}, {nobodys} of them nobody's; {} of dead engines wait to be taken in",
        output::counted(counted(slots.len()), "slot"),
        output::counted(counted(waiting), "chunk"),
    ));
    Ok(())
}

fn row(slot: &SlotRow, nodes: &BTreeMap<NodeId, &NodeRow>, constraints: &Constraints) -> Value {
    let node = slot.owner.map(|owner| owner.to_string());
    let lag = slot.owner.and_then(|owner| nodes.get(&owner));
    json!({
        "slot": slot.slot,
        "node": node,
        "address": slot.address,
        "epoch": slot.epoch,
        "lag_s": lag.map(|node| node.lag.as_secs_f64()),
        "constraint": constraints.slots.get(&slot.slot),
    })
}

/// A row for each engine that has slots, or is there to take some.
fn engines(
    slots: &[SlotRow],
    nodes: &[NodeRow],
    constraints: &Constraints,
    silent: &BTreeSet<NodeId>,
) -> Vec<Value> {
    let mut serves: BTreeMap<NodeId, (&str, Vec<u32>)> = BTreeMap::new();
    for node in nodes.iter().filter(|node| !node.is_leaving) {
        serves.insert(node.node, (&node.address, Vec::new()));
    }
    for slot in slots {
        if let Some(owner) = slot.owner {
            let one = serves.entry(owner).or_insert((&slot.address, Vec::new()));
            one.1.push(slot.slot);
        }
    }
    // Lives that are over and have nothing any more are of no interest.
    let newest = |node: &NodeId, address: &str| {
        let started = |one: &NodeRow| one.started_us;
        let of = nodes.iter().filter(|one| one.address == address);
        let last = of.max_by_key(|one| started(one));
        last.is_none_or(|last| last.node == *node)
    };
    serves.retain(|node, (address, slots)| !slots.is_empty() || newest(node, address));
    let mut rows: Vec<_> = serves.into_iter().collect();
    rows.sort_by_key(|(node, (address, _))| (*address, *node));
    let rows = rows.into_iter().map(|(id, (address, serves))| {
        let row = nodes.iter().find(|row| row.node == id);
        let state = match row {
            _ if silent.contains(&id) => "silent",
            _ if constraints.cordoned.contains(address) => "cordoned",
            Some(row) if row.is_leaving => "leaving",
            Some(_) => "serving",
            None => "gone",
        };
        json!({
            "address": address,
            "node": id.to_string(),
            "state": state,
            "lag_s": row.map(|row| row.lag.as_secs_f64()),
            "slots": serves.len(),
            "serves": ranges(&serves),
        })
    });
    rows.collect()
}

/// `0-3`, `7`, `9-12`.
fn ranges(slots: &[u32]) -> Vec<String> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*slot) => *last = *slot,
            _ => ranges.push((*slot, *slot)),
        }
    }
    let shown = ranges.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    shown.collect()
}

fn move_slot(args: &MoveArgs) -> anyhow::Result<()> {
    let store = Keyspace::open(&args.cluster)?.into_store();
    let (slot, slots) = (args.slot, store.slots());
    if slot >= slots {
        return Err(Usage(format!(
            "there is no slot {slot}: this keyspace has {slots}, numbered from 0"
        ))
        .into());
    }
    let Some(to) = &args.to else {
        let was = store.constraints()?.slots.remove(&slot);
        store.constraint(&Constraint::Place {
            slot,
            address: None,
        })?;
        let was = was.map_or_else(
            || format!("no engine in particular was to serve slot {slot}"),
            |was| format!("slot {slot} is like any other again; it was to be served by {was}"),
        );
        return notes(&args.until, &json!({ "slot": slot, "done": true }), &was);
    };
    let mut fleet = Fleet::of(store.as_ref())?;
    let address = fleet.address_of(to)?;
    if fleet.is_cordoned(&address) {
        bail!(
            "the engine at {address} is cordoned: it takes no slot before `tillstream shards drain {address} --undo`"
        );
    }
    fleet.must_live(&address)?;
    store.constraint(&Constraint::Place {
        slot,
        address: Some(address.clone()),
    })?;
    let began = Instant::now();
    let (row, is_so) = until(args.until.wait, || {
        let row = store.slot(slot)?;
        let is_so = row.owner.is_some() && row.address == address;
        Ok((row, is_so))
    })?;
    let answer = json!({
        "slot": slot,
        "node": row.owner.map(|owner| owner.to_string()),
        "address": row.address,
        "constraint": address,
        "done": is_so,
        "took_s": began.elapsed().as_secs_f64(),
    });
    let words = match is_so {
        true => format!("slot {slot} is served by {address}"),
        false => format!("slot {slot} shall be served by {address}"),
    };
    notes(&args.until, &answer, &words)?;
    met(
        &args.until,
        is_so,
        &format!("{address} has not taken slot {slot} yet"),
    )
}

fn drain(args: &DrainArgs) -> anyhow::Result<()> {
    let store = Keyspace::open(&args.cluster)?.into_store();
    let mut fleet = Fleet::of(store.as_ref())?;
    if args.undo {
        let address = fleet
            .cordoned(&args.node)
            .map_or_else(|| fleet.address_of(&args.node), Ok)?;
        store.constraint(&Constraint::Drain {
            address: address.clone(),
            is_cordoned: false,
        })?;
        let words = match fleet.is_cordoned(&address) {
            true => format!("the engine at {address} takes its share again"),
            false => format!("the engine at {address} was not drained"),
        };
        let answer = json!({ "address": address, "cordoned": false, "done": true });
        return notes(&args.until, &answer, &words);
    }
    let address = fleet.address_of(&args.node)?;
    fleet.must_live(&address)?;
    if !fleet.is_another_alive(&address)? {
        bail!(
            "no other engine is alive that could take the slots of {address}: start one, or undo the drain of another"
        );
    }
    store.constraint(&Constraint::Drain {
        address: address.clone(),
        is_cordoned: true,
    })?;
    let began = Instant::now();
    let (left, is_so) = until(args.until.wait, || {
        let slots = store.all_slots()?;
        let left = slots
            .iter()
            .filter(|slot| slot.owner.is_some() && slot.address == address);
        let left = left.count();
        Ok((left, left == 0))
    })?;
    let answer = json!({
        "address": address,
        "cordoned": true,
        "slots_left": left,
        "done": is_so,
        "took_s": began.elapsed().as_secs_f64(),
    });
    let words = match is_so {
        true => format!("the engine at {address} has no slot any more and takes none"),
        false => format!("the engine at {address} gives its slots up"),
    };
    notes(&args.until, &answer, &words)?;
    met(
        &args.until,
        is_so,
        &format!(
            "{address} still has {}",
            output::counted(counted(left), "slot")
        ),
    )
}

/// Looks until something is so, or the time is over.
fn until<T>(
    patience: Duration,
    mut look: impl FnMut() -> anyhow::Result<(T, bool)>,
) -> anyhow::Result<(T, bool)> {
    let began = Instant::now();
    loop {
        let (seen, is_so) = look()?;
        if is_so || began.elapsed() >= patience {
            return Ok((seen, is_so));
        }
        std::thread::sleep(LOOK);
    }
}

fn notes(args: &UntilArgs, answer: &Value, words: &str) -> anyhow::Result<()> {
    if args.json {
        return output::json(answer);
    }
    output::line(words)
}

/// What is not so when the time is over is no success, but for those who would not wait.
fn met(args: &UntilArgs, is_so: bool, lack: &str) -> anyhow::Result<()> {
    if is_so || args.wait.is_zero() {
        return Ok(());
    }
    output::note(format!("after {:?} {lack}; the wish stands", args.wait));
    Err(Found.into())
}

fn counted(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// An engine that nobody knows.
fn unknown(name: &str) -> anyhow::Error {
    anyhow!("no engine `{name}` is known; `tillstream shards list` names them by node and address")
}

#[cfg(test)]
mod tests;
