//! Hostile bytes on any stream: each is told why it ends, nobody else notices, memory keeps its bound, and the counters add
//! up to exactly what was acknowledged.

use anyhow::{Context as _, Result, bail, ensure};
use quinn::Connection;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use till_loadgen::wire;
use till_protocol::code::Reason;
use till_protocol::id::TerminalId;
use till_protocol::limits::FRAME_BYTES_MAX;
use till_tests::Engine;
use till_tests::hostile::{Damage, Line, Said, damaged, header, terminal};

use crate::number;

/// Connections that send damaged streams, each one after another.
const CONNECTIONS: u32 = 10;
/// Damaged streams of each: with more, it would have to wait.
const STREAMS: u32 = 48;
/// Connections on which frames of 1 MiB are announced that never arrive.
const PROMISERS: u32 = 16;
/// Such frames of each.
const PROMISES: u32 = 8;
/// Streams that open and say nothing sensible: more than a connection may have.
const SILENT: u32 = 600;
/// As many of them are ended while others wait for a place: what a connection may do to no effect at once is less than all.
const SILENT_HEARD: u32 = 24;
/// What all of this may add to the memory of the engine: the common room for unfinished frames (4 MiB), what each stream
/// has for nothing, what the journal, the shards and the allocator of a busy engine take. The frames that never arrive have
/// 128 MiB.
const GROWTH_MIB: u64 = 112;

/// A small engine: its bounds can be reached, and its patience is short.
const CONFIG: &str = r#"
[network]
connections_max = 64
wide_connections = 2
hello_timeout_s = 1
frame_timeout_s = 1
[engine]
memory_bytes = "384MiB"
permits_bytes = "16MiB"
gather_bytes = "4MiB"
[flush]
dirty_rows_max = 100000
"#;

/// What all streams were told, added up.
#[derive(Debug, Default)]
struct Told {
    received: i64,
    refused: i64,
    byes: u32,
}

impl Told {
    fn add(&mut self, line: &Line) -> Result<()> {
        self.received += i64::try_from(line.acked)?;
        self.refused += i64::try_from(line.refused)?;
        Ok(())
    }
}

#[test]
fn hostile_bytes_hurt_nobody_and_the_counters_add_up() -> Result<()> {
    let seed = std::env::var("TILL_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(11);
    println!("seed {seed} (TILL_SEED replays it)");
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("small.toml");
    std::fs::write(&config, CONFIG)?;
    let config = config.to_str().context("path is not UTF-8")?;
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let arguments = [&["--config", config][..], &ports[..]].concat();
    let engine = Engine::start_with(&folder.path().join("data"), &arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let before = engine.kib("VmRSS:")?;
    let told = runtime.block_on(attack(&engine, seed))?;
    drop(runtime);

    reconciled(&engine, &told)?;
    let peak = engine.kib("VmHWM:")?;
    println!("{told:?}; {before} KiB of memory before, {peak} KiB at most");
    ensure!(
        peak < before + (GROWTH_MIB << 10),
        "{peak} KiB of memory at most, {before} KiB before; {GROWTH_MIB} MiB more are allowed"
    );
    let log = engine.log();
    ensure!(!log.contains("panicked"), "the engine panicked:\n{log}");
    engine.stop()
}

async fn attack(engine: &Engine, seed: u64) -> Result<Told> {
    let connect = || wire::connect(engine.quic, &engine.identity);
    let mut told = Told::default();
    let (_endpoint, quiet) = connect().await?;
    let mut bystander = Line::accepted(&quiet, terminal(1, 1)?).await?;
    bystander.round_trip().await?;

    let mut attackers = tokio::task::JoinSet::new();
    for number in 0..CONNECTIONS {
        let (endpoint, connection) = connect().await?;
        drop(attackers.spawn(async move {
            let told = damaged_streams(&connection, seed, number).await;
            drop(endpoint);
            told
        }));
    }
    while let Some(joined) = attackers.join_next().await {
        let each = joined??;
        told.received += each.received;
        told.refused += each.refused;
        told.byes += each.byes;
        bystander.round_trip().await?;
    }
    ensure!(told.byes > CONNECTIONS * STREAMS / 2, "{told:?}");

    let (_endpoint, forbidden) = connect().await?;
    told.add(
        &forbidden_ways(&forbidden)
            .await
            .context("ways that are closed")?,
    )?;
    let (_endpoint, crowded) = connect().await?;
    told.add(&silent_streams(&crowded).await.context("silent streams")?)?;
    told.add(&promises(engine).await.context("frames that never arrive")?)?;
    bystander.round_trip().await?;
    told.add(&bystander)?;
    Ok(told)
}

/// One connection: damaged streams one after another beside a terminal that behaves.
async fn damaged_streams(connection: &Connection, seed: u64, number: u32) -> Result<Told> {
    let mut told = Told::default();
    let mut companion = Line::accepted(connection, terminal(10 + number, 1)?).await?;
    for stream in 0..STREAMS {
        let of = seed
            .wrapping_mul(1_000_003)
            .wrapping_add(u64::from(number * STREAMS + stream));
        let mut chance = SmallRng::seed_from_u64(of);
        let kinds = Damage::ALL;
        let kind = kinds
            .get(usize::try_from(stream)? % kinds.len())
            .copied()
            .context("no damage")?;
        let till = terminal(100 + number, 1 + stream)?;
        one_stream(connection, till, (kind, &mut chance), &mut told)
            .await
            .with_context(|| {
                format!("seed {seed}: {kind:?} in stream {stream} of connection {number}")
            })?;
        if stream % 8 == 0 {
            companion.round_trip().await.with_context(|| {
                format!("seed {seed}: the companion of connection {number} after {kind:?}")
            })?;
        }
    }
    companion.round_trip().await?;
    told.add(&companion)?;
    Ok(told)
}

/// One damaged stream; what is said to it must be an answer that a device can act upon.
async fn one_stream(
    connection: &Connection,
    terminal: TerminalId,
    (kind, chance): (Damage, &mut SmallRng),
    told: &mut Told,
) -> Result<()> {
    let mut line = if kind.is_before_hello() {
        Line::open(connection).await?
    } else {
        let mut line = Line::accepted(connection, terminal).await?;
        line.round_trip().await?;
        line
    };
    let before = line.acked;
    let bytes = damaged(kind, line.next_seq, terminal, chance)?;
    line.pour(&bytes).await?;
    // Also a frame whose rest never comes is complete then.
    line.send.finish()?;
    let said = line.until_the_end().await?;
    let reason = said.iter().find_map(|said| match said {
        Said::Bye(reason) => Some(*reason),
        Said::Nack | Said::Ack => None,
    });
    match kind.reasons() {
        [] => ensure!(
            reason.is_some() || said.contains(&Said::Nack) || line.acked > before,
            "ended without an answer: {said:?}"
        ),
        wanted => {
            let reason = reason.with_context(|| format!("no Bye: {said:?}"))?;
            ensure!(
                wanted.contains(&reason),
                "{reason:?}, not one of {wanted:?}"
            );
        }
    }
    told.byes += u32::from(reason.is_some());
    told.add(&line)?;
    Ok(())
}

/// Streams of one direction and datagrams: QUIC itself turns them away, and the connection goes on.
async fn forbidden_ways(connection: &Connection) -> Result<Line> {
    let mut line = Line::accepted(connection, terminal(20, 1)?).await?;
    ensure!(
        connection
            .send_datagram(bytes::Bytes::from_static(b"TILL"))
            .is_err(),
        "the engine offers to take datagrams"
    );
    tokio::select! {
        biased;
        opened = connection.open_uni() => bail!("a stream of one direction: {opened:?}"),
        done = line.round_trip() => done?,
    }
    Ok(line)
}

/// More streams than a connection may have, each with a byte that begins no Hello in time.
async fn silent_streams(connection: &Connection) -> Result<Line> {
    let mut companion = Line::accepted(connection, terminal(21, 1)?).await?;
    let mut silent = tokio::task::JoinSet::new();
    for _ in 0..SILENT {
        let connection = connection.clone();
        drop(silent.spawn(async move {
            let mut line = Line::open(&connection).await?;
            line.send.write_all(b"T").await?;
            line.until_the_end().await
        }));
    }
    companion.round_trip().await?;
    for _ in 0..SILENT_HEARD {
        let said = silent.join_next().await.context("no stream is left")???;
        ensure!(said == [Said::Bye(Reason::Idle)], "{said:?}");
    }
    companion.round_trip().await?;
    Ok(companion)
}

/// Frames of the largest size are begun on many streams, and their last byte never comes.
async fn promises(engine: &Engine) -> Result<Line> {
    let (_endpoint, connection) = wire::connect(engine.quic, &engine.identity).await?;
    let mut companion = Line::accepted(&connection, terminal(22, 1)?).await?;
    let mut promised = tokio::task::JoinSet::new();
    let mut others = Vec::new();
    for number in 0..PROMISERS {
        let (endpoint, connection) = wire::connect(engine.quic, &engine.identity).await?;
        others.push(endpoint);
        for till in 0..PROMISES {
            let (connection, terminal) = (connection.clone(), terminal(30 + number, 1 + till)?);
            drop(promised.spawn(async move {
                let said = promise(&connection, terminal).await;
                said.with_context(|| format!("terminal {terminal}"))
            }));
        }
    }
    companion.round_trip().await?;
    while let Some(said) = promised.join_next().await {
        let said = said??;
        ensure!(
            matches!(said[..], [Said::Bye(Reason::Idle | Reason::Busy)]),
            "{said:?}"
        );
    }
    companion.round_trip().await?;
    Ok(companion)
}

async fn promise(connection: &Connection, terminal: TerminalId) -> Result<Vec<Said>> {
    let mut line = Line::accepted(connection, terminal).await?;
    let length = usize::try_from(FRAME_BYTES_MAX)?;
    let mut bytes = header(FRAME_BYTES_MAX, 1, line.next_seq, &[]).to_vec();
    bytes.resize(bytes.len() + length - 1, 0x5a);
    line.pour(&bytes).await?;
    line.until_the_end().await
}

/// P6, against what the streams themselves were told. Shards tell what they counted with each flush.
fn reconciled(engine: &Engine, told: &Told) -> Result<()> {
    let mut last = String::new();
    let counted = till_tests::wait_until("the engine counts what it told", || {
        let status = engine.get("/api/v1/status")?;
        let events = status
            .pointer("/figures/events")
            .with_context(|| format!("no events in {status}"))?;
        last = events.to_string();
        let sum = number(events, "applied")?
            + number(events, "refused")?
            + number(events, "duplicates")?
            + number(events, "quarantined")?
            + number(events, "in_flight")?;
        ensure!(
            number(events, "received")? == sum,
            "the counters do not add up: {events}"
        );
        let counted = (number(events, "received")?, number(events, "refused")?);
        Ok(number(events, "in_flight")? == 0 && counted == (told.received, told.refused))
    });
    counted.with_context(|| format!("the streams were told {told:?}, the engine counts {last}"))
}
