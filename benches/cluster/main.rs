//! What the tables of a cluster cost over what the driver and the server cost.
//!
//! Commits of the reference mix are written with `materialise`: facts and derived rows are worked out, encoded, put into
//! batches and written. Then the same rows are read back and written once more, into a second keyspace, by a bare loop over
//! the driver: they are encoded and dealt to partitions before its time starts, in batches as large, with as many under way.
//! Printed are rows per second of both and the ratio.
//!
//! Needs a server at TILL_CQL=HOST:PORT, and makes and drops the keyspaces `bench_rows` and `bench_bare` there.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints what it found, and stops where it cannot go on"
)]

mod bare;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use till_benches::{EVENTS, InMemory, NOW_US, mix, session, shard};
use till_core::Handled;
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use till_scylla::schema::{Wish, apply};
use till_scylla::{Cql, ScyllaConfig, Tables};
use till_storage::cluster::Commit;
use till_storage::views::FlushBatch;

/// SKUs of the store.
const SKUS: u64 = 5_000;
/// Frames of one commit: 2,560 events, about what a slot has in a quarter of a second at 10,000 events/s.
const FRAMES: usize = 10;
/// Commits that are timed, after one that is not.
const COMMITS: usize = 12;
/// Times that either side is timed.
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let Ok(address) = std::env::var("TILL_CQL") else {
        println!("TILL_CQL=HOST:PORT names no server: nothing was measured");
        return Ok(());
    };
    let commits = commits()?;
    let mut best = (0.0_f64, 0.0_f64);
    for round in 1..=ROUNDS {
        let tables = Tables::open(Arc::new(fresh(&address, "bench_rows")?))?;
        let mut rows = 0;
        let mut took = Duration::ZERO;
        for (number, commit) in commits.iter().enumerate() {
            let started = Instant::now();
            let written = tables.materialise(commit)?;
            if number > 0 {
                took += started.elapsed();
                rows += written.rows;
            }
        }
        let ours = rate(rows, took);
        let target = Arc::new(fresh(&address, "bench_bare")?);
        let bare = bare::Rows::of(tables.cql(), &target)?;
        let (rows, took) = bare.write()?;
        let bare = rate(rows, took);
        println!(
            "round {round}: materialise {ours:.0} rows/s, bare loop {bare:.0} rows/s, ratio {:.2}",
            ours / bare
        );
        best = (best.0.max(ours), best.1.max(bare));
    }
    println!(
        "best: materialise {:.0} rows/s, bare loop {:.0} rows/s, ratio {:.2} (target 0.80)",
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
    let wish = Wish {
        replication: Some(1),
        slots: Some(1),
    };
    apply(&cql, wish)?;
    connect(address, keyspace)
}

// What a slot's owner commits: frames of the mix, and the rows that they change.
fn commits() -> Result<Vec<Commit>, Box<dyn Error>> {
    let mut shard = shard(1)?;
    let session = session(1)?;
    let now = Timestamp::from_us(NOW_US);
    let frames = mix(SKUS, u64::try_from(FRAMES * (COMMITS + 1))?)?;
    let mut commits = Vec::new();
    for (flush, frames) in (1..).zip(frames.chunks(FRAMES)) {
        let mut records = Vec::with_capacity(FRAMES);
        for frame in frames {
            let batch = Verified::from_journal(frame.clone()).expect("frames of our own");
            let handled = shard.handle_batch(now, session, &batch, &InMemory, &InMemory)?;
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
            slot: 0,
            flush,
            records,
            rows: FlushBatch::from(dirty),
        });
        shard.flushed(generation);
    }
    let events = u64::try_from(FRAMES)? * EVENTS;
    println!(
        "{COMMITS} commits of {events} events: 40 % sales of three lines, 60 % stock movements"
    );
    Ok(commits)
}
