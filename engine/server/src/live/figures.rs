//! The runtime's figures in the words of the admin port.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use till_ops::{
    AckFigures, ClusterFigures, DiskFigures, EngineFigures, EventFigures, Figures, FlushFigures,
    HotKey, JournalFigures, MemoryFigures, PkiFigures, Problem, SalesFigures, SessionFigures,
    ShardFigures, StoreFigures,
};
use till_protocol::currency::Currency;
use till_protocol::id::{SkuId, TerminalId};
use till_runtime::{FlushState, Handle, Latency, Metrics, ShardMetrics};
use till_storage::journal::State;
use till_storage::views::{StoreError, Views};

/// Sums of all sales are read from the terminals' rows. They are kept for so many times what reading them took, so that
/// showing them never costs more than a twentieth of a core.
const KEPT_TIMES: u32 = 20;

/// Shortest time for which sums are kept.
const KEPT_MIN: Duration = Duration::from_millis(500);

/// When sums were read, how long that took, the sums, and the number of stores.
type Taken = (Instant, Duration, Vec<SalesFigures>, u64);

/// Sums of all sales, as of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Sums {
    read: Mutex<Option<Taken>>,
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
        match sums(engine.views()) {
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
fn sums(views: &dyn Views) -> Result<(Vec<SalesFigures>, u64), StoreError> {
    let mut stores = Vec::new();
    views.stores(&mut |store, row| {
        stores.push((store, row.currency));
        ControlFlow::Continue(())
    })?;
    let mut by_currency: BTreeMap<u16, (u64, i128)> = BTreeMap::new();
    for (store, currency) in &stores {
        views.terminals(*store, &mut |_, row| {
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
    let raw = engine.metrics();
    let (sales, stores) = sums.get(engine);
    let in_flight = raw
        .events
        .applied
        .saturating_add(raw.events.quarantined)
        .saturating_sub(raw.acked);
    let pki = pki(&raw);
    Figures {
        now_us: raw.now_us,
        started_at_us: raw.started_at_us,
        events: EventFigures {
            received: raw.events.received,
            acked: raw.acked,
            applied: raw.events.applied.saturating_sub(in_flight),
            duplicates: raw.events.duplicate,
            refused: raw.events.refused,
            quarantined: raw.events.quarantined,
            in_flight,
            bytes: raw.frame_bytes,
        },
        ack: times(raw.ack),
        sessions: SessionFigures {
            connections: raw.connections,
            streams: raw.streams,
            broken: raw.refusals.iter().map(|(_, count)| count).sum(),
            gaps: raw.events.frames_gap,
            slowed: raw.slowed,
            made_to_wait: raw.made_to_wait,
        },
        pki,
        journal: JournalFigures {
            durable: raw.journal.durable,
            bytes: raw.journal.bytes,
            segments: raw.journal.segments,
            groups: raw.commit.groups,
            sync_us: raw.commit.sync_us,
            reads_failed: raw.journal.reads_failed,
        },
        flush: FlushFigures {
            applied: raw.flush.applied,
            backlog_bytes: raw.flush.backlog_bytes,
            behind_us: raw.flush.behind_us,
            rows: raw.flush.rows,
        },
        disk: DiskFigures {
            free_bytes: raw.disk_free_bytes.unwrap_or(0),
            total_bytes: 0,
            full: raw.commit.state == State::Full || raw.flush.state == FlushState::Full,
        },
        memory: MemoryFigures {
            resident_bytes: raw.rss_bytes.unwrap_or(0),
            max_bytes: raw.memory_max_bytes,
        },
        sales,
        stores,
        shards: raw.shards.iter().map(shown).collect(),
        cluster: cluster(engine),
        problems: raw
            .problems
            .into_iter()
            .map(|problem| Problem {
                at_us: problem.at_us,
                text: problem.text,
                hint: problem.hint.to_owned(),
            })
            .collect(),
    }
}

fn pki(raw: &Metrics) -> PkiFigures {
    PkiFigures {
        revoked: raw.pki.revoked,
        reads: raw.pki.reads,
        stale: raw.pki.trouble.is_some(),
        overdue: raw.pki.overdue.is_some(),
        closed: raw.pki.closed,
        failed_handshakes: raw.pki.failed_handshakes,
        turned_away: raw.turned_away,
        initials_dropped: raw.initials_dropped,
    }
}

fn cluster(engine: &Handle) -> Option<ClusterFigures> {
    let store = engine.shared_store()?;
    let open = engine.open_slots()?;
    let sight = engine.sight()?;
    let engines = sight.engines.into_iter().map(|one| EngineFigures {
        address: one.address,
        slots: one.slots,
        lag_us: u64::try_from(one.lag.as_micros()).unwrap_or(u64::MAX),
        leaving: one.is_leaving,
    });
    Some(ClusterFigures {
        store: StoreFigures {
            hosts: store.hosts.clone(),
            keyspace: store.keyspace.clone(),
        },
        slots: u64::from(engine.slots()),
        slots_open: u64::try_from(open).unwrap_or(u64::MAX),
        slots_wanted: u64::from(engine.wanted_slots()),
        slots_free: sight.slots_free,
        commit: times(sight.commit),
        project: times(sight.project),
        rows: times(sight.rows),
        handoffs_waiting: sight.handoffs_waiting,
        stranded: engine.stranded(),
        names_unwritten: engine.names_unwritten(),
        redirects: engine.redirects(),
        engines: engines.collect(),
    })
}

fn times(raw: Latency) -> AckFigures {
    AckFigures {
        count: raw.count,
        sum_us: raw.sum_us,
        p50_us: raw.p50_us,
        p99_us: raw.p99_us,
        p999_us: raw.p999_us,
        buckets: raw.buckets,
    }
}

fn shown(shard: &ShardMetrics) -> ShardFigures {
    let terminals = shard.hot_terminals.iter().map(|(terminal, events)| HotKey {
        key: TerminalId::from_u64(*terminal)
            .map_or_else(|_| terminal.to_string(), |id| format!("terminal {id}")),
        events: *events,
    });
    let skus = shard.hot_skus.iter().map(|(sku, events)| HotKey {
        key: format!("SKU {}", SkuId::from_u64(*sku)),
        events: *events,
    });
    ShardFigures {
        shard: u32::try_from(shard.shard).unwrap_or(u32::MAX),
        stores: shard.stores,
        actors: shard.actors + shard.terminals,
        events: shard.events.applied,
        queued: u64::from(shard.permits_used),
        queue_max: u64::from(shard.permits_max),
        parked: u64::from(shard.is_parked)
            + u64::try_from(shard.parked_terminals.len()).unwrap_or(u64::MAX),
        hot: terminals.take(3).chain(skus.take(3)).collect(),
    }
}
