//! What an event id costs: `event_ids [ids] [cache KiB] [dir]` writes ids as a flush does, opens the rows again, and asks for
//! ids that are there and for ids that are not. A table of 1/20 of the ids with 1/20 of the cache behaves as the whole does.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a measurement that ends when something is wrong"
)]

use std::fs::read_to_string;
use std::path::PathBuf;
use std::time::Instant;

use till_core::{EventIdRow, Rows};
use till_embedded::{EmbeddedConfig, EmbeddedViews};
use till_protocol::id::EventId;
use till_storage::views::{FlushBatch, WriteViews as _};

/// Ids of one flush.
const FLUSH: u64 = 20_000;
/// Questions of each kind.
const ASKED: u64 = 200_000;

fn argument(at: usize, default: u64) -> u64 {
    let text = std::env::args().nth(at);
    text.map_or(default, |text| text.parse().unwrap())
}

/// Ids are hashes: they have no order (SplitMix64, twice).
fn id(number: u64) -> EventId {
    let mix = |seed: u64| {
        let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let wide = u128::from(mix(number)) << 64 | u128::from(mix(!number));
    EventId::from_bytes(wide.to_le_bytes())
}

/// A number of a file of `/proc/self`: KiB of memory, or bytes that were read.
fn own(file: &str, key: &str) -> u64 {
    let text = read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    let number = line.split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

fn ask(views: &EmbeddedViews, what: &str, numbers: impl Iterator<Item = u64>) {
    let (read, began) = (own("io", "rchar"), Instant::now());
    let (mut asked, mut found) = (0_u64, 0_u64);
    for number in numbers {
        asked += 1;
        found += u64::from(views.event_id(&id(number)).unwrap().is_some());
    }
    let us = began.elapsed().as_secs_f64() * 1e6 / asked as f64;
    let bytes = (own("io", "rchar") - read) as f64 / asked as f64;
    println!("{what}: {us:.2} us and {bytes:.0} bytes read each ({found} of {asked} found)");
}

fn main() {
    let (ids, cache_kib) = (argument(1, 1_000_000), argument(2, 64 << 10));
    let dir = std::env::args().nth(3);
    let dir = dir.map_or_else(|| std::env::temp_dir().join("event-ids"), PathBuf::from);
    let config = || EmbeddedConfig {
        cache_bytes: cache_kib << 10,
        ..EmbeddedConfig::new(&dir)
    };
    let views = EmbeddedViews::open(config()).unwrap();
    let began = Instant::now();
    for first in (0..ids).step_by(usize::try_from(FLUSH).unwrap()) {
        let row = |number| EventIdRow {
            terminal: 1 << 32 | (number % 300 + 1),
            epoch: 1,
            seq: number,
            content: !number,
        };
        let numbers = first..(first + FLUSH).min(ids);
        let mut event_ids: Vec<_> = numbers.map(|number| (id(number), row(number))).collect();
        event_ids.sort_unstable_by_key(|(id, _)| id.to_bytes());
        let flush = FlushBatch {
            event_ids,
            ..FlushBatch::default()
        };
        views.write(&flush).unwrap();
    }
    views.sync().unwrap();
    let us = began.elapsed().as_secs_f64() * 1e6 / ids as f64;
    println!("written: {us:.2} us each, {ids} ids");
    drop(views);
    let views = EmbeddedViews::open(config()).unwrap();
    let before = own("status", "VmRSS");
    let step = (ids / ASKED).max(1);
    ask(
        &views,
        "there",
        (0..ids).step_by(usize::try_from(step).unwrap()),
    );
    ask(&views, "not there", ids..ids + ASKED);
    ask(&views, "not there, again", ids + ASKED..ids + 2 * ASKED);
    println!(
        "memory: {} KiB, of which {} KiB since the questions began; disk: {} bytes an id",
        own("status", "VmRSS"),
        own("status", "VmRSS").saturating_sub(before),
        views.disk_bytes().unwrap() / ids
    );
    drop(views);
    std::fs::remove_dir_all(dir).unwrap();
}
