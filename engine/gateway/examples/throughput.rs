//! How many events a second one process takes in from itself over QUIC: `throughput [events] [frame] [connections] [dir] [rate]`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::as_conversions,
    reason = "a measurement that ends when something is wrong"
)]

use std::sync::Arc;
use std::time::Instant;

use till_client::{Identity, SERVER_NAME, Tuning};
use till_protocol::builder::{SaleBuilder, SaleParts, StockBuilder};
use till_protocol::codec::FrameDecoder;
use till_protocol::family::sale::v1::{Line, Sale, Tender, kind, line_kind};
use till_protocol::family::stock::v1::{Move, kind as stock_kind};
use till_protocol::id::{Seq, TerminalId};
use till_protocol::quantity::unit;
use till_protocol::reply::{Hello, Message};
use till_protocol::time::DeviceTime;
use till_runtime::Config;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(Box::pin(run()));
}

fn argument(at: usize, default: u64) -> u64 {
    let text = std::env::args().nth(at);
    text.map_or(default, |text| text.parse().unwrap())
}

async fn run() {
    let (events, frame, connections) = (argument(1, 4_000_000), argument(2, 256), argument(3, 4));
    let rate = argument(5, 0);
    let dir = std::env::args()
        .nth(4)
        .unwrap_or_else(|| "throughput-data".to_owned());
    let engine = Arc::new(
        till_gateway::start(Config::dev(dir.as_ref()))
            .await
            .unwrap(),
    );
    let identity = Identity::read(engine.identity().unwrap()).unwrap();
    let each = events / connections / frame;
    let started = Instant::now();
    let mut devices = Vec::new();
    for number in 0..connections {
        let identity = identity.clone();
        let address = engine.quic_addr();
        devices.push(tokio::spawn(async move {
            let pace = rate.checked_div(connections * frame).filter(|_| rate > 0);
            Box::pin(device(identity, address, number + 1, (each, frame), pace)).await;
        }));
    }
    for device in devices {
        device.await.unwrap();
    }
    let took = started.elapsed();
    let metrics = engine.metrics();
    let rate = u128::from(each * connections * frame) * 1_000_000 / took.as_micros();
    println!(
        "{rate} events/s, ack p50 {} us p99 {} us, groups {}, sync avg {} us, {} bytes/event, rss {} MiB, waits {}, backlog {}",
        metrics.ack.p50_us,
        metrics.ack.p99_us,
        metrics.commit.groups,
        metrics.commit.sync_us / metrics.commit.syncs.max(1),
        metrics.commit.bytes / metrics.acked.max(1),
        metrics.rss_bytes.unwrap_or(0) >> 20,
        metrics.shards.iter().map(|s| s.permits_waited).sum::<u64>(),
        metrics.flush.backlog_bytes,
    );
    let cordoned = Instant::now();
    engine.drain().await.unwrap();
    println!("drained in {} ms", cordoned.elapsed().as_millis());
}

async fn device(
    identity: Identity,
    address: std::net::SocketAddr,
    store: u64,
    (frames, size): (u64, u64),
    pace: Option<u64>,
) {
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = identity.client_config(&Tuning::default()).unwrap();
    let connection = endpoint
        .connect_with(config, address, SERVER_NAME)
        .unwrap()
        .await
        .unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let hello = Hello {
        versions: vec![(1, 1), (4, 1)],
        terminal: TerminalId::from_u64(store << 32 | 1).unwrap(),
        epoch: None,
        clock: DeviceTime::from_us(1_772_452_800_000_000),
        currency: None,
        zone: String::new(),
    };
    send.write_all(&hello.encode()).await.unwrap();
    let last = frames * size;
    let reader = tokio::spawn(async move {
        let mut decoder = FrameDecoder::new();
        loop {
            while let Some(frame) = decoder.next().unwrap() {
                match Message::decode(&frame).unwrap() {
                    Message::Ack(ack) if ack.committed.is_some_and(|s| s.get() >= last) => return,
                    Message::Bye(bye) => panic!("{bye:?}"),
                    _ => {}
                }
            }
            let chunk = recv.read_chunk(1 << 16, true).await.unwrap().unwrap();
            decoder.push(chunk.bytes);
        }
    });
    let mut chance = store;
    let began = Instant::now();
    for frame in 0..frames {
        let bytes = frame_of(frame, size, &mut chance);
        if let Some(pace) = pace {
            let due = std::time::Duration::from_secs_f64(frame as f64 / pace as f64);
            tokio::time::sleep_until((began + due).into()).await;
        }
        send.write_chunk(bytes).await.unwrap();
    }
    reader.await.unwrap();
}

fn next(chance: &mut u64) -> u64 {
    *chance = chance
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *chance >> 33
}

// Two of five frames are sales of three lines, so that the bytes are those of the mix.
fn frame_of(frame: u64, size: u64, chance: &mut u64) -> bytes::Bytes {
    let first = Seq::new(frame * size + 1).unwrap();
    let at = 1_772_452_800_000_000 + i64::try_from(frame).unwrap() * 1_000;
    if frame % 5 < 2 {
        let mut builder = SaleBuilder::new();
        for _ in 0..size {
            let line = |sku| Line {
                sku,
                quantity: 100_000,
                amount: 199,
                category: 3,
                kind: line_kind::SALE,
                unit: unit::EACH,
                flags: 0,
            };
            let lines = [0; 3].map(|_: u64| line(next(chance) % 50_000));
            let sale = Sale {
                at,
                receipt: frame,
                operator: 7,
                kind: kind::SALE,
                ..Sale::default()
            };
            let tender = Tender {
                amount: 597,
                ..Tender::default()
            };
            let parts = SaleParts {
                sale,
                lines: &lines,
                tenders: &[tender],
                ..SaleParts::default()
            };
            builder.push(&parts).unwrap();
        }
        return builder.finish(first).unwrap();
    }
    let mut builder = StockBuilder::new();
    for _ in 0..size {
        let one = Move {
            at,
            sku: next(chance) % 50_000,
            quantity: 100_000,
            kind: stock_kind::RECEIVED,
            unit: unit::EACH,
            ..Move::default()
        };
        builder.push(&one, &[], &[]).unwrap();
    }
    builder.finish(first).unwrap()
}
