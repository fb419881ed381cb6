//! What one frame of 256 events costs at each stage: cutting it out of the stream, checking it, deciding and applying it,
//! preparing its journal entry, making it durable, and writing the rows that it changed. Divide by 256 for an event.

#![expect(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::channel::{Sender, bounded};
use till_benches::{EVENTS, InMemory, NOW_US, mix, session, shard, shard_with};
use till_core::{Handled, Origin, Record, ShardConfig};
use till_embedded::{EmbeddedConfig, EmbeddedViews};
use till_protocol::codec::{Frame, FrameDecoder};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use till_storage::disk::StdDisk;
use till_storage::journal::{
    Durability, Durable, Journal, JournalConfig, Lsn, Prepared, Sink, SyncConfig, SyncError, Syncer,
};
use till_storage::views::{FlushBatch, WriteViews as _};

/// Bytes of a chunk as QUIC hands them over on loopback.
const CHUNK_BYTES: usize = 1_420;

fn frames(skus: u64, count: u64) -> Vec<Frame> {
    mix(skus, count).expect("numbers in range")
}

fn batches(skus: u64, count: u64) -> Vec<Verified> {
    let checked = frames(skus, count).into_iter().map(Verified::from_journal);
    checked
        .collect::<Result<_, _>>()
        .expect("frames that the builder made")
}

fn wire(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Elements(EVENTS));
    for (name, frame) in ["sales", "movements"]
        .into_iter()
        .zip(frames(50_000, 5).into_iter().skip(1))
    {
        let bytes = frame.encode();
        group.bench_function(format!("decode {name}"), |b| {
            b.iter(|| {
                let mut decoder = FrameDecoder::new();
                for start in (0..bytes.len()).step_by(CHUNK_BYTES) {
                    decoder.push(bytes.slice(start..bytes.len().min(start + CHUNK_BYTES)));
                }
                decoder.next().expect("a frame").expect("a whole frame")
            });
        });
        group.bench_function(format!("verify {name}"), |b| {
            b.iter_batched(
                || frame.clone(),
                |frame| Verified::from_journal(black_box(frame)).expect("a good frame"),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn decide_and_apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide and apply");
    group.throughput(Throughput::Elements(EVENTS));
    let recent = ShardConfig::default().recent_bytes;
    for (skus, recent_bytes) in [(1_000, recent), (50_000, recent), (50_000, 0)] {
        let kept = if recent_bytes == 0 {
            "nothing"
        } else {
            "movements"
        };
        group.bench_function(format!("{skus} SKUs, {kept} kept for late counts"), |b| {
            let config = ShardConfig {
                recent_bytes,
                ..ShardConfig::default()
            };
            let mut shard = shard_with(1, config).expect("a shard");
            let session = session(1).expect("a session");
            let templates = frames(skus, 64);
            let mut sent = 0_u64;
            b.iter_batched(
                || {
                    let template = templates.get(usize::try_from(sent % 64).unwrap_or(0));
                    let batch = renumbered(template.expect("64 of them"), sent * EVENTS + 1);
                    sent += 1;
                    batch
                },
                |batch| {
                    let now = Timestamp::from_us(NOW_US);
                    black_box(shard.handle(
                        Origin::batch(now, session, &batch),
                        &InMemory,
                        &InMemory,
                    ))
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// The same events under the next sequence numbers, so that the shard takes them for new ones.
fn renumbered(template: &Frame, first_seq: u64) -> Verified {
    let Frame { header, payload } = template.clone();
    let frame = Frame::new(
        header.family,
        header.version,
        header.count,
        first_seq,
        payload,
    );
    Verified::from_journal(frame.expect("numbers in range")).expect("a good frame")
}

fn record() -> Record {
    let mut shard = shard(1).expect("a shard");
    let batch = batches(50_000, 1).remove(0);
    let now = Timestamp::from_us(NOW_US);
    let origin = Origin::batch(now, session(1).expect("a session"), &batch);
    match shard.handle(origin, &InMemory, &InMemory) {
        Ok(Handled::Journal { record, .. }) => record,
        other => unreachable!("a first frame is journalled, not {other:?}"),
    }
}

/// Tells the bench that its record is durable.
struct Tell(Sender<()>);

impl Sink<()> for Tell {
    fn durable(&mut self, _durable: &Durable, group: &mut Vec<(Lsn, ())>) {
        for _ in group.drain(..) {
            let _bench_is_over = self.0.send(());
        }
    }

    fn poisoned(&mut self, error: &SyncError) {
        unreachable!("the bench's journal failed: {error}");
    }
}

fn journal(c: &mut Criterion) {
    let record = record();
    let mut group = c.benchmark_group("journal");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("prepare", |b| {
        b.iter(|| Prepared::new(black_box(&record)).expect("an entry"));
    });
    for durability in [Durability::Os, Durability::Disk] {
        let dir = tempfile::tempdir().expect("a folder");
        let config = JournalConfig {
            durability,
            ..JournalConfig::default()
        };
        let opened = Journal::open(Arc::new(StdDisk), dir.path(), config).expect("a journal");
        let (tell, told) = bounded(1);
        let syncer =
            Syncer::start(opened.writer, SyncConfig::default(), Tell(tell)).expect("a syncer");
        let appender = syncer.appender();
        group.bench_function(format!("append and wait, {}", durability.name()), |b| {
            b.iter(|| {
                let entry = Prepared::new(&record).expect("an entry");
                appender.append(entry, ()).expect("an open journal");
                told.recv().expect("an answer");
            });
        });
        drop(appender);
        syncer.close().expect("a sound journal");
    }
    group.finish();
}

fn flush(c: &mut Criterion) {
    let mut shard = shard(1).expect("a shard");
    let session = session(1).expect("a session");
    for batch in batches(50_000, 200) {
        let now = Timestamp::from_us(NOW_US);
        let _handled = shard.handle(Origin::batch(now, session, &batch), &InMemory, &InMemory);
    }
    let flush = FlushBatch::from(shard.take_dirty());
    let dir = tempfile::tempdir().expect("a folder");
    let views = EmbeddedViews::open(EmbeddedConfig::new(dir.path())).expect("rows");
    let mut group = c.benchmark_group("flush");
    group.sample_size(10);
    group.throughput(Throughput::Elements(
        u64::try_from(flush.rows()).unwrap_or(0),
    ));
    group.bench_function("rows of 51,200 events", |b| {
        b.iter(|| views.write(&flush).expect("room"))
    });
    group.finish();
}

criterion_group!(benches, wire, decide_and_apply, journal, flush);
criterion_main!(benches);
