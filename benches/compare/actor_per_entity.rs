//! One ractor actor for each SKU, or all SKUs in one shard's table?
//!
//! Both sides apply the same stock movements to 100,000 SKUs. The first sends each to the SKU's own actor; the second hands
//! frames of 256 to a hosted shard, which does all that it does in the engine (sequence, sums by hour, levels). Printed are
//! updates per second and memory per SKU for both, and the ratios.

#![expect(clippy::print_stdout, reason = "a comparison prints what it found")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use till_benches::{Dice, EVENTS, InMemory, NOW_US, movements, session, shard};
use till_protocol::id::Seq;
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;

/// SKUs on both sides.
const SKUS: u64 = 100_000;

/// Updates that are timed.
const UPDATES: u64 = 2_000_000;

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

struct Found {
    per_second: u64,
    bytes_each: u64,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    // Criterion's flags are not for this one; under `cargo test` it only has to build.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let hosted = hosted()?;
    println!(
        "hosted in one shard: {:>10} updates/s, {:>6} bytes per SKU",
        hosted.per_second, hosted.bytes_each
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let alone = runtime.block_on(alone())?;
    println!(
        "one actor each:      {:>10} updates/s, {:>6} bytes per SKU",
        alone.per_second, alone.bytes_each
    );
    println!(
        "ratio: {} times the updates, 1/{} of the memory",
        hosted.per_second.div_euclid(alone.per_second.max(1)),
        alone.bytes_each.div_euclid(hosted.bytes_each.max(1))
    );
    Ok(())
}

fn hosted() -> Outcome<Found> {
    let mut dice = Dice(7);
    let mut batches = Vec::new();
    let frames = (SKUS * 8 + UPDATES).div_ceil(EVENTS);
    for number in 0..frames {
        let frame = movements(&mut dice, SKUS, Seq::FIRST.plus(number * EVENTS))?;
        batches.push(Verified::from_journal(frame)?);
    }
    let (mut shard, session, now) = (shard()?, session()?, Timestamp::from_us(NOW_US));
    // Eight times as many movements as SKUs leave about one SKU in 3,000 untouched.
    let warm = usize::try_from((SKUS * 8).div_ceil(EVENTS))?;
    let before = resident_bytes()?;
    let mut batches = batches.iter();
    for batch in batches.by_ref().take(warm) {
        let _handled = shard.handle_batch(now, session, batch, &InMemory, &InMemory)?;
    }
    let _dirty = shard.take_dirty();
    let bytes_each = resident_bytes()?.saturating_sub(before).div_euclid(SKUS);
    let (began, mut updates) = (Instant::now(), 0);
    for batch in batches {
        let _handled = shard.handle_batch(now, session, batch, &InMemory, &InMemory)?;
        updates += EVENTS;
    }
    Ok(Found {
        per_second: per_second(updates, began.elapsed()),
        bytes_each,
    })
}

async fn alone() -> Outcome<Found> {
    let done = Arc::new(AtomicU64::new(0));
    let before = resident_bytes()?;
    let mut actors = Vec::new();
    for _ in 0..SKUS {
        let (actor, _task) = Actor::spawn(
            None,
            Sku {
                done: Arc::clone(&done),
            },
            (),
        )
        .await?;
        actors.push(actor);
    }
    let bytes_each = resident_bytes()?.saturating_sub(before).div_euclid(SKUS);
    let mut dice = Dice(7);
    let began = Instant::now();
    for _ in 0..UPDATES {
        let number = usize::try_from(dice.roll(SKUS))?;
        if let Some(actor) = actors.get(number) {
            actor.cast(100_000)?;
        }
    }
    while done.load(Ordering::Relaxed) < UPDATES {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(Found {
        per_second: per_second(UPDATES, began.elapsed()),
        bytes_each,
    })
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
