//! The runtime's figures in the words of the admin port.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use till_ops::{
    AckFigures, DiskFigures, EventFigures, Figures, FlushFigures, HotKey, JournalFigures, Problem,
    SalesFigures, SessionFigures, ShardFigures,
};
use till_protocol::currency::Currency;
use till_protocol::id::TerminalId;
use till_runtime::{Figures as Raw, Handle};
use till_storage::disk::{Disk as _, StdDisk};
use till_storage::journal::State;
use till_storage::views::{StoreError, Views as _};

/// Sums of all sales are read from the terminals' rows. They are kept for so many times what reading them took, so that
/// showing them never costs more than a twentieth of a core.
const KEPT_TIMES: u32 = 20;

/// Shortest time for which sums are kept.
const KEPT_MIN: Duration = Duration::from_millis(500);

/// Sums of all sales, as of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Sums {
    read: Mutex<Option<(Instant, Duration, Vec<SalesFigures>, u64)>>,
}

impl Sums {
    fn get(&self, engine: &Handle) -> (Vec<SalesFigures>, u64) {
        let mut read = self.read.lock();
        if let Some((at, took, sales, stores)) = read.as_ref()
            && at.elapsed() < KEPT_MIN.max(*took * KEPT_TIMES)
        {
            return (sales.clone(), *stores);
        }
        let began = Instant::now();
        match sums(engine) {
            Ok((sales, stores)) => {
                *read = Some((Instant::now(), began.elapsed(), sales.clone(), stores));
                (sales, stores)
            }
            Err(error) => {
                tracing::warn!(%error, "sums of sales could not be read");
                (Vec::new(), 0)
            }
        }
    }
}

/// Sums over the terminals of every store, by currency; and the number of stores.
fn sums(engine: &Handle) -> Result<(Vec<SalesFigures>, u64), StoreError> {
    let mut stores = Vec::new();
    engine.views().stores(&mut |store, row| {
        stores.push((store, row.currency));
        ControlFlow::Continue(())
    })?;
    let mut by_currency: BTreeMap<u16, (u64, i128)> = BTreeMap::new();
    for (store, currency) in &stores {
        engine.views().terminals(*store, &mut |_, row| {
            let sum = by_currency.entry(*currency).or_default();
            sum.0 += row.totals.transactions;
            sum.1 += row.totals.net;
            ControlFlow::Continue(())
        })?;
    }
    let sales = by_currency
        .into_iter()
        .filter_map(|(number, (transactions, net_minor))| {
            let currency = Currency::from_numeric(number).ok()?;
            Some(SalesFigures {
                currency: currency.code().to_owned(),
                decimals: currency.exponent(),
                transactions,
                net_minor,
            })
        });
    Ok((
        sales.collect(),
        u64::try_from(stores.len()).unwrap_or(u64::MAX),
    ))
}

/// The figures of a running engine.
pub(super) fn of(engine: &Handle, sums: &Sums) -> Figures {
    let raw = engine.figures();
    let commit = engine.commit();
    let (sales, stores) = sums.get(engine);
    let (durable, applied) = (engine.durable(), engine.checkpoint());
    let bytes = engine.facts().journal().start().get();
    Figures {
        now_us: 0,
        started_at_us: 0,
        events: events(&raw),
        ack: ack(&raw),
        sessions: SessionFigures {
            connections: raw.connections,
            streams: raw.streams,
            broken: raw.broken,
            gaps: raw.gaps,
            slowed: raw.slowed,
        },
        journal: JournalFigures {
            durable,
            bytes: durable.saturating_sub(bytes),
            segments: u64::try_from(engine.facts().journal().segments().len()).unwrap_or(0),
            groups: commit.map_or(0, |commit| commit.groups),
            sync_us: commit.map_or(0, |commit| commit.sync_us),
        },
        flush: FlushFigures {
            applied,
            backlog_bytes: durable.saturating_sub(applied),
            behind_us: 0,
            rows: raw.rows_written,
        },
        disk: disk(
            &engine.config().data_dir,
            commit.is_some_and(|commit| commit.state == State::Full) || engine.views_full(),
        ),
        sales,
        stores,
        shards: (0..)
            .zip(&raw.shards)
            .map(|(number, shard)| shown(number, shard))
            .collect(),
        problems: engine
            .problems()
            .into_iter()
            .rev()
            .map(|(at_us, text)| Problem {
                at_us,
                text,
                hint: "see the log of the engine".to_owned(),
            })
            .collect(),
    }
}

/// Events by outcome. Those that are applied in memory and not durable yet are in flight.
fn events(raw: &Raw) -> EventFigures {
    let mut sum = till_core::Counters::default();
    raw.shards.iter().for_each(|shard| sum.add(&shard.counters));
    let in_flight = sum.received.saturating_sub(raw.acked);
    EventFigures {
        received: sum.received,
        acked: raw.acked.saturating_sub(sum.duplicate + sum.refused),
        applied: sum.applied.saturating_sub(in_flight),
        duplicates: sum.duplicate,
        refused: sum.refused,
        quarantined: sum.quarantined,
        in_flight,
        bytes: raw.bytes,
    }
}

fn ack(raw: &Raw) -> AckFigures {
    let quantile = |permille: u64| {
        let wanted = raw.acks.saturating_mul(permille).div_ceil(1_000).max(1);
        let mut seen = 0;
        raw.ack_buckets
            .iter()
            .find(|(_, count)| {
                seen += count;
                seen >= wanted
            })
            .map_or(0, |(bound, _)| *bound)
    };
    AckFigures {
        count: raw.acks,
        sum_us: raw.ack_us,
        p50_us: quantile(500),
        p99_us: quantile(990),
        p999_us: quantile(999),
        buckets: raw.ack_buckets.clone(),
    }
}

fn disk(dir: &Path, full: bool) -> DiskFigures {
    DiskFigures {
        // A file system that does not say shows as empty, and the log of the journal has the reason.
        free_bytes: StdDisk.free_bytes(dir).unwrap_or(0),
        total_bytes: 0,
        full,
    }
}

fn shown(number: u32, shard: &till_runtime::ShardFigures) -> ShardFigures {
    let hot = shard.hot.iter().take(5).map(|hot| HotKey {
        key: TerminalId::from_u64(hot.terminal)
            .map_or_else(|_| hot.terminal.to_string(), |id| format!("terminal {id}")),
        events: hot.events,
    });
    ShardFigures {
        shard: number,
        stores: shard.stores,
        actors: shard.actors + shard.terminals,
        events: shard.counters.applied,
        queued: shard.queued_kib,
        queue_max: shard.queue_kib_max,
        parked: u64::from(shard.parked),
        hot: hot.collect(),
    }
}
