//! One ractor actor for each SKU, or all SKUs hosted by a few shard actors?
//!
//! Both sides apply stock movements to 100,000 SKUs, drawn by the same dice, and both are driven through ractor. The first
//! casts each movement to the SKU's own actor, which adds it to a level and does nothing else. The second casts frames of
//! 256, as tills send them, to shard actors, which do all that they do in the engine: sequence, duplicates, flags, sums by
//! hour, levels, the record for the journal. So the comparison leans towards the first side.
//!
//! Each side runs on one core (one thread that sends and handles) and on all; the shards are varied besides. Printed are
//! updates per second, memory per SKU, and the ratios.

#![expect(clippy::print_stdout, reason = "a comparison prints what it found")]

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use till_benches::{Dice, EVENTS, InMemory, NOW_US, movements, session, shard};
use till_core::{Origin, SessionKey, Shard};
use till_protocol::id::Seq;
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use tokio::runtime::{Builder, Runtime};

/// SKUs on both sides.
const SKUS: u64 = 100_000;

/// Updates that bring the SKUs of a shard in before any is timed: about one SKU in 3,000 stays untouched.
const WARM_UPDATES: u64 = SKUS * 8;

/// Updates that are timed, of hosted SKUs.
const HOSTED_UPDATES: u64 = 4_000_000;

/// Updates that are timed, of SKUs that are actors.
const ALONE_UPDATES: u64 = 2_000_000;

/// Arguments with which this program prints a figure of memory alone.
const MEMORY_HOSTED: &str = "memory-hosted";
const MEMORY_ALONE: &str = "memory-alone";

/// A SKU as an actor of its own.
struct Sku {
    done: Arc<AtomicU64>,
}

impl Actor for Sku {
    type Msg = i64;
    type State = i64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<i64>, (): ()) -> Result<i64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<i64>,
        quantity: i64,
        level: &mut i64,
    ) -> Result<(), ActorProcessingErr> {
        *level += quantity;
        self.done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A shard that hosts SKUs.
struct Host {
    done: Arc<AtomicU64>,
}

impl Actor for Host {
    type Msg = Box<Verified>;
    type State = (Shard, SessionKey);
    type Arguments = (Shard, SessionKey);

    async fn pre_start(
        &self,
        _: ActorRef<Box<Verified>>,
        arguments: (Shard, SessionKey),
    ) -> Result<(Shard, SessionKey), ActorProcessingErr> {
        Ok(arguments)
    }

    async fn handle(
        &self,
        _: ActorRef<Box<Verified>>,
        batch: Box<Verified>,
        (shard, session): &mut (Shard, SessionKey),
    ) -> Result<(), ActorProcessingErr> {
        let now = Timestamp::from_us(NOW_US);
        let _handled = shard.handle(Origin::batch(now, *session, &batch), &InMemory, &InMemory)?;
        self.done
            .fetch_add(u64::from(batch.count()), Ordering::Relaxed);
        Ok(())
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    // Criterion's flags are not for this one; under `cargo test` it only has to build.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    match std::env::args().nth(1).as_deref() {
        Some(MEMORY_HOSTED) => return hosted_bytes().map(|bytes| println!("{bytes}")),
        Some(MEMORY_ALONE) => return alone_bytes().map(|bytes| println!("{bytes}")),
        _ => {}
    }
    let (bytes_hosted, bytes_alone) = (
        in_own_process(MEMORY_HOSTED)?,
        in_own_process(MEMORY_ALONE)?,
    );
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let all = u32::try_from(cores)?;
    println!("{SKUS} SKUs, {cores} cores");
    let hosted_on_one = runtime(1)?.block_on(hosted(1))?;
    let mut hosted_on_all = 0;
    println!(
        "hosted, 1 core,  1 shard:  {hosted_on_one:>10} updates/s, {bytes_hosted:>6} bytes per SKU"
    );
    for shards in [1, 2, 4] {
        let found = runtime(cores)?.block_on(hosted(shards))?;
        println!("hosted, {cores} cores, {shards} shards: {found:>10} updates/s");
        if shards <= all {
            hosted_on_all = found;
        }
    }
    let alone_on_one = runtime(1)?.block_on(alone())?;
    println!(
        "one actor each, 1 core:    {alone_on_one:>10} updates/s, {bytes_alone:>6} bytes per SKU"
    );
    let alone_on_all = runtime(cores)?.block_on(alone())?;
    println!("one actor each, {cores} cores:   {alone_on_all:>10} updates/s");
    println!(
        "ratio: {} times the updates on 1 core, {} times on {cores}; 1/{} of the memory",
        tenths(hosted_on_one, alone_on_one),
        tenths(hosted_on_all, alone_on_all),
        bytes_alone.div_euclid(bytes_hosted.max(1))
    );
    Ok(())
}

fn tenths(a: u64, b: u64) -> String {
    let tenths = (a * 10).div_euclid(b.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// What this program prints with an argument. Memory is measured in fresh processes: what one side has given back to the
/// allocator, the other would not have to ask the system for.
fn in_own_process(argument: &str) -> Outcome<u64> {
    let program = std::env::current_exe()?;
    let output = std::process::Command::new(program).arg(argument).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// A runtime on so many cores. On one, the thread that sends handles as well.
fn runtime(cores: usize) -> Outcome<Runtime> {
    let mut builder = if cores == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    Ok(builder.worker_threads(cores).enable_all().build()?)
}

/// Frames of movements, checked as the gateway checks them.
fn batches(
    dice: &mut Dice,
    skus: u64,
    first: u64,
    updates: u64,
) -> Outcome<VecDeque<Box<Verified>>> {
    let frame = |number| {
        let frame = movements(dice, skus, Seq::FIRST.plus(first + number * EVENTS))?;
        Ok(Box::new(Verified::from_journal(frame)?))
    };
    (0..updates.div_ceil(EVENTS)).map(frame).collect()
}

/// What a hosted SKU takes. The newest movements are a fixed share of memory and do not grow with the SKUs: left out.
fn hosted_bytes() -> Outcome<u64> {
    let batches = batches(&mut Dice(7), SKUS, 0, WARM_UPDATES)?;
    let (mut shard, session) = (shard(1)?, session(1)?);
    let before = resident_bytes()?;
    for batch in &batches {
        let now = Timestamp::from_us(NOW_US);
        let _handled = shard.handle(Origin::batch(now, session, batch), &InMemory, &InMemory)?;
    }
    let taken = resident_bytes()?.saturating_sub(before);
    let recent = u64::try_from(shard.recent_bytes())?;
    Ok(taken.saturating_sub(recent).div_euclid(SKUS))
}

/// Updates per second of shard actors that share the SKUs.
async fn hosted(shards: u32) -> Outcome<u64> {
    let done = Arc::new(AtomicU64::new(0));
    let each = u64::from(shards);
    let mut work = Vec::new();
    for number in 1..=shards {
        let mut dice = Dice(u64::from(number));
        let skus = SKUS.div_euclid(each);
        let warm = batches(&mut dice, skus, 0, WARM_UPDATES.div_euclid(each))?;
        let first = u64::try_from(warm.len())? * EVENTS;
        let timed = batches(&mut dice, skus, first, HOSTED_UPDATES.div_euclid(each))?;
        let host = Host {
            done: Arc::clone(&done),
        };
        let arguments = (shard(number)?, session(number)?);
        let (actor, _task) = Actor::spawn(None, host, arguments).await?;
        for batch in warm {
            actor.cast(batch)?;
        }
        until(&done, first * u64::from(number)).await;
        work.push((actor, timed));
    }
    let warmed = done.load(Ordering::Relaxed);
    let mut updates = 0;
    let began = Instant::now();
    let mut left = true;
    while left {
        left = false;
        for (actor, timed) in &mut work {
            if let Some(batch) = timed.pop_front() {
                actor.cast(batch)?;
                updates += EVENTS;
                left = true;
            }
        }
    }
    until(&done, warmed + updates).await;
    let found = per_second(updates, began.elapsed());
    for (actor, _) in work {
        actor.stop(None);
    }
    Ok(found)
}

/// What a SKU takes that is an actor.
fn alone_bytes() -> Outcome<u64> {
    let runtime = runtime(1)?;
    let before = resident_bytes()?;
    let actors = runtime.block_on(spawn_alone(&Arc::new(AtomicU64::new(0))))?;
    let taken = resident_bytes()?.saturating_sub(before);
    Ok(taken.div_euclid(u64::try_from(actors.len())?))
}

async fn spawn_alone(done: &Arc<AtomicU64>) -> Outcome<Vec<ActorRef<i64>>> {
    let mut actors = Vec::new();
    for _ in 0..SKUS {
        let done = Arc::clone(done);
        let (actor, _task) = Actor::spawn(None, Sku { done }, ()).await?;
        actors.push(actor);
    }
    Ok(actors)
}

/// Updates per second of SKUs that are actors.
async fn alone() -> Outcome<u64> {
    let done = Arc::new(AtomicU64::new(0));
    let actors = spawn_alone(&done).await?;
    let mut dice = Dice(7);
    let began = Instant::now();
    for _ in 0..ALONE_UPDATES {
        let number = usize::try_from(dice.roll(SKUS))?;
        if let Some(actor) = actors.get(number) {
            actor.cast(100_000)?;
        }
    }
    until(&done, ALONE_UPDATES).await;
    let found = per_second(ALONE_UPDATES, began.elapsed());
    for actor in actors {
        actor.stop(None);
    }
    Ok(found)
}

/// Lets the others work until so many updates are done.
async fn until(done: &AtomicU64, updates: u64) {
    while done.load(Ordering::Relaxed) < updates {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn per_second(updates: u64, took: Duration) -> u64 {
    let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
    u64::try_from(u128::from(updates) * 1_000_000_000 / u128::from(ns)).unwrap_or(u64::MAX)
}

/// Memory of this process that is in use, from /proc.
fn resident_bytes() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text
        .split_whitespace()
        .nth(1)
        .ok_or("no second field in statm")?
        .parse()?;
    Ok(pages * 4_096)
}
