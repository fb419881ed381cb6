//! What a flush of a cluster costs over what the driver and the server cost.
//!
//! Commits of the reference mix are flushed as owners of slots do it, some slots side by side: the log is encoded and written,
//! the slot's row decided, and facts and derived rows are worked out, put into batches and written. The same rows, those that
//! several flushes write as often, are written by a bare loop over the driver into a second keyspace: they are encoded and
//! dealt to partitions before its time starts, in batches as large but of one partition each, with as many under way. Printed
//! are rows per second of both and the ratio.
//!
//! Needs a server at TILL_CQL=HOST:PORT, and makes and drops the keyspaces `bench_rows` and `bench_bare` there.
//!
//! With TILL_CQL_KEYSPACE=NAME the rows are those that engines have left in that keyspace, and the bare loop alone is timed:
//! `tillload replay` says what the engines took for them.
//!
//! With TILL_CQL_YEAR=NAME questions about a year of a chain are timed instead, on a keyspace that is kept: it is made and
//! filled where it is not there.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints what it found, and stops where it cannot go on"
)]

mod bare;
mod year;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use till_benches::{EVENTS, InMemory, NOW_US, mix, session, shard};
use till_core::{Handled, Origin};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use till_scylla::schema::{SchemaRequest, apply};
use till_scylla::{Cql, ScyllaConfig, ScyllaStore};
use till_storage::cluster::{Change, Commit, Conditional, Decided, NodeId, SharedStore as _};
use till_storage::views::{FlushBatch, StoreError};

/// SKUs of a store.
const SKUS: u64 = 5_000;
/// Slots that are flushed side by side, each with a store.
const SLOTS: u32 = 4;
/// Frames of one commit: 2,560 events, about what a slot has in a quarter of a second at 10,000 events/s.
const FRAMES: usize = 10;
/// Commits of a slot.
const COMMITS: usize = 6;
/// Times that either side is timed, after one that is not.
const ROUNDS: usize = 4;
/// Times that a server which is too busy is asked again, as an engine does; that time counts.
const TRIES: usize = 5;
/// The epoch of the slots' only owner.
const EPOCH: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let Ok(address) = std::env::var("TILL_CQL") else {
        println!("TILL_CQL=HOST:PORT names no server: nothing was measured");
        return Ok(());
    };
    if let Ok(keyspace) = std::env::var("TILL_CQL_KEYSPACE") {
        return write_again(&address, &keyspace);
    }
    if let Ok(keyspace) = std::env::var("TILL_CQL_YEAR") {
        return year::ask(&address, &keyspace);
    }
    let slots: Vec<Vec<Commit>> = (0..SLOTS).map(commits).collect::<Result<_, _>>()?;
    let events = u64::try_from(FRAMES)? * EVENTS;
    println!(
        "{SLOTS} slots, {COMMITS} commits each of {events} events: 40 % sales of three lines, 60 % stock movements"
    );
    let rows = captured(&address, &slots)?;
    let mut best = (0.0_f64, 0.0_f64);
    for round in 0..=ROUNDS {
        let store = ScyllaStore::open(Arc::new(fresh(&address, "bench_rows")?))?;
        let (took, steps) = flush_all(&store, &slots)?;
        let ours = rate(rows.len(), took);
        let target = Arc::new(fresh(&address, "bench_bare")?);
        let bare = rate(rows.len(), rows.write(&target)?);
        let name = match round {
            0 => "warm-up".to_owned(),
            _ => format!("round {round}"),
        };
        println!(
            "{name}: flush {ours:.0} rows/s, bare loop {bare:.0} rows/s, ratio {:.2} (a slot: {steps})",
            ours / bare
        );
        if round > 0 {
            best = (best.0.max(ours), best.1.max(bare));
        }
    }
    println!(
        "best: flush {:.0} rows/s, bare loop {:.0} rows/s, ratio {:.2} (target 0.80)",
        best.0,
        best.1,
        best.0 / best.1
    );
    for keyspace in ["bench_rows", "bench_bare"] {
        let cql = connect(&address, keyspace)?;
        bare::run(&cql, &format!("DROP KEYSPACE IF EXISTS {keyspace}"))?;
    }
    Ok(())
}

// What engines have left in a keyspace, written by the bare loop.
fn write_again(address: &str, keyspace: &str) -> Result<(), Box<dyn Error>> {
    let mut rows = bare::Rows::default();
    rows.add_all(&connect(address, keyspace)?)?;
    for round in 1..=ROUNDS {
        let target = Arc::new(fresh(address, "bench_bare")?);
        let took = rows.write(&target)?;
        let (rate, count) = (rate(rows.len(), took), rows.len());
        println!(
            "round {round}: {count} rows in {:.1} s, {rate:.0} rows/s",
            took.as_secs_f64()
        );
        bare::run(&target, "DROP KEYSPACE bench_bare")?;
    }
    Ok(())
}

fn rate(rows: u64, took: Duration) -> f64 {
    let rows = u32::try_from(rows).expect("fewer rows");
    f64::from(rows) / took.as_secs_f64()
}

fn connect(address: &str, keyspace: &str) -> Result<Cql, Box<dyn Error>> {
    Ok(Cql::connect(&ScyllaConfig::new([address], keyspace)?)?)
}

// A keyspace with empty tables.
fn fresh(address: &str, keyspace: &str) -> Result<Cql, Box<dyn Error>> {
    let cql = connect(address, keyspace)?;
    bare::run(&cql, &format!("DROP KEYSPACE IF EXISTS {keyspace}"))?;
    let request = SchemaRequest {
        replication: Some(1),
        slots: Some(SLOTS),
    };
    apply(&cql, request)?;
    connect(address, keyspace)
}

// What flushes write, flush by flush: rows that two of them write count twice.
fn captured(address: &str, slots: &[Vec<Commit>]) -> Result<bare::Rows, Box<dyn Error>> {
    let source = Arc::new(fresh(address, "bench_rows")?);
    let store = ScyllaStore::open(Arc::clone(&source))?;
    let mut rows = bare::Rows::default();
    for number in 0..COMMITS {
        for commit in slots.iter().filter_map(|commits| commits.get(number)) {
            let commits = [Arc::new(commit.clone())];
            again(|| store.project(&commits))?;
        }
        rows.add_derived(&source, i64::try_from(number)? + 1)?;
    }
    rows.add_facts(&source)?;
    Ok(rows)
}

/// Where the time of flushes goes.
#[derive(Clone, Copy, Debug, Default)]
struct Steps([Duration; 4]);

impl std::fmt::Display for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, took) in ["encode", "log", "decide", "rows"].iter().zip(self.0) {
            write!(f, "{name} {} ms ", took.as_millis())?;
        }
        Ok(())
    }
}

// Flushes all slots side by side. Gives how long that took, and what of it a slot spent on which step.
fn flush_all(
    store: &ScyllaStore,
    slots: &[Vec<Commit>],
) -> Result<(Duration, Steps), Box<dyn Error>> {
    for slot in 0..SLOTS {
        let owner = NodeId::from_bytes([1; 16]);
        let address = String::new();
        decide(store, slot, EPOCH - 1, Change::Acquire { owner, address })?;
    }
    let slots = slots.to_vec();
    let started = Instant::now();
    let done = std::thread::scope(|scope| {
        let flushing = slots
            .into_iter()
            .map(|commits| scope.spawn(|| flush_slot(store, commits)));
        let flushing: Vec<_> = flushing.collect();
        let done = flushing
            .into_iter()
            .map(|one| one.join().expect("a slot's thread"));
        done.collect::<Result<Vec<Steps>, StoreError>>()
    })?;
    Ok((started.elapsed(), done.first().copied().unwrap_or_default()))
}

fn flush_slot(store: &ScyllaStore, commits: Vec<Commit>) -> Result<Steps, StoreError> {
    let mut steps = Steps::default();
    let mut before = None;
    for commit in commits {
        let (slot, flush) = (commit.slot, commit.flush);
        let begun = Instant::now();
        let commit = Arc::new(commit.settled());
        let log = commit.to_log().expect("a commit of a usual size");
        let encoded = Instant::now();
        again(|| store.write_log((slot, flush), &log, before.as_ref()))?;
        let logged = Instant::now();
        let change = Change::Commit {
            after: flush - 1,
            applied: flush - 1,
            seal: log.seal,
        };
        decide(store, slot, EPOCH, change)?;
        let decided = Instant::now();
        again(|| store.project(&[Arc::clone(&commit)]))?;
        let written = Instant::now();
        before = Some(log.seal);
        if flush > 1 {
            store.forget_rows(slot, (flush - 1, flush - 1))?;
        }
        let times = [begun, encoded, logged, decided, written];
        for (step, pair) in steps.0.iter_mut().zip(times.windows(2)) {
            *step += pair[1] - pair[0];
        }
    }
    Ok(steps)
}

fn again(mut write: impl FnMut() -> Result<(), StoreError>) -> Result<(), StoreError> {
    let mut done = write();
    for _ in 1..TRIES {
        if done.is_ok() {
            break;
        }
        done = write();
    }
    done
}

fn decide(store: &ScyllaStore, slot: u32, epoch: u64, change: Change) -> Result<(), StoreError> {
    let request = Conditional {
        slot,
        epoch,
        change,
    };
    assert_eq!(
        store.decide(&request)?,
        Decided::Applied,
        "nobody else is there"
    );
    Ok(())
}

// What a slot's owner commits: frames of the mix, and the rows that they change.
fn commits(slot: u32) -> Result<Vec<Commit>, Box<dyn Error>> {
    let store = slot + 1;
    let mut shard = shard(store)?;
    let session = session(store)?;
    let now = Timestamp::from_us(NOW_US);
    let frames = mix(SKUS, u64::try_from(FRAMES * COMMITS)?)?;
    let mut commits = Vec::new();
    for (flush, frames) in (1..).zip(frames.chunks(FRAMES)) {
        let mut records = Vec::with_capacity(FRAMES);
        for frame in frames {
            let batch = Verified::from_journal(frame.clone()).expect("frames of our own");
            let handled =
                shard.handle(Origin::batch(now, session, &batch), &InMemory, &InMemory)?;
            let Handled::Journal { record, .. } = handled else {
                return Err("a frame of the mix was not taken".into());
            };
            records.push(record);
        }
        let mut dirty = shard.take_dirty();
        let last = u32::try_from(records.len())? - 1;
        dirty.set_applied(Commit::position(flush, last));
        let generation = dirty.generation;
        commits.push(Commit {
            slot,
            flush,
            epoch: EPOCH,
            records,
            rows: FlushBatch::from(dirty),
        });
        shard.flushed(generation);
    }
    Ok(commits)
}
