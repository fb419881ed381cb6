//! Every metric, with its help, in one table; and its Prometheus text form.
//!
//! Numbers are read from the engine when someone scrapes, so that the data path knows nothing of metrics. Units are base
//! units (seconds, bytes); no label names a terminal, a store, a person or a receipt.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::figures::{AckFigures, ClusterFigures, EngineFigures, Figures, ShardFigures};

/// Content type of the text form.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One metric.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Its name, without the `_total` that counters get.
    pub name: &'static str,
    /// What it says, in one sentence without full stop.
    pub help: &'static str,
    read: Read,
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metric")
            .field("name", &self.name)
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}

impl Metric {
    /// `counter`, `gauge` or `histogram`.
    pub const fn kind(&self) -> &'static str {
        match self.read {
            Read::Counter(_) | Read::Counters(..) | Read::Seconds(_) => "counter",
            Read::Gauge(_) | Read::Gauges(..) => "gauge",
            Read::Histogram(_) => "histogram",
        }
    }

    /// The name of its label, if it has one.
    pub const fn label(&self) -> Option<&'static str> {
        match self.read {
            Read::Counters(label, _) | Read::Gauges(label, _) => Some(label),
            Read::Counter(_) | Read::Seconds(_) | Read::Gauge(_) | Read::Histogram(_) => None,
        }
    }
}

/// How a metric is read from the figures.
#[derive(Clone, Copy)]
enum Read {
    Counter(fn(&Figures) -> u64),
    Seconds(fn(&Figures) -> f64),
    Gauge(fn(&Figures) -> f64),
    Counters(&'static str, fn(&Figures) -> Vec<(String, u64)>),
    Gauges(&'static str, fn(&Figures) -> Vec<(String, f64)>),
    Histogram(fn(&Figures) -> Option<&AckFigures>),
}

/// Powers of two, in us, that bound the buckets of ack times: from 64 us to 67 s.
const ACK_BOUNDS: std::ops::RangeInclusive<u32> = 6..=26;

const fn metric(name: &'static str, help: &'static str, read: Read) -> Metric {
    Metric { name, help, read }
}

/// All metrics, in the order in which they are shown.
pub const METRICS: &[Metric] = &[
    metric(
        "tillstream_build_info",
        "Version of the software that runs; always 1",
        Read::Gauges("version", |_| {
            vec![(env!("CARGO_PKG_VERSION").to_owned(), 1.0)]
        }),
    ),
    metric(
        "tillstream_start_time_seconds",
        "When the engine started, in seconds since 1970",
        Read::Gauge(|f| seconds(f.started_at_us.max(0).unsigned_abs())),
    ),
    metric(
        "tillstream_events_received",
        "Events in frames whose header and checksum were right",
        Read::Counter(|f| f.events.received),
    ),
    metric(
        "tillstream_events_acked",
        "Events that are durable and answered, each counted once",
        Read::Counter(|f| f.events.acked),
    ),
    metric(
        "tillstream_events",
        "Events by what became of them; with those in flight they add up to the received ones",
        Read::Counters("outcome", |f| {
            vec![
                ("applied".to_owned(), f.events.applied),
                ("duplicate".to_owned(), f.events.duplicates),
                ("refused".to_owned(), f.events.refused),
                ("quarantined".to_owned(), f.events.quarantined),
            ]
        }),
    ),
    metric(
        "tillstream_events_in_flight",
        "Events that were admitted and are not answered yet",
        Read::Gauge(|f| number(f.events.in_flight)),
    ),
    metric(
        "tillstream_frame_bytes",
        "Bytes of the frames that carried events",
        Read::Counter(|f| f.events.bytes),
    ),
    metric(
        "tillstream_ack_seconds",
        "Time from the receipt of a frame to its ack",
        Read::Histogram(|f| Some(&f.ack)),
    ),
    metric(
        "tillstream_connections",
        "QUIC connections that are open",
        Read::Gauge(|f| number(f.sessions.connections)),
    ),
    metric(
        "tillstream_streams",
        "Streams of terminals that are open",
        Read::Gauge(|f| number(f.sessions.streams)),
    ),
    metric(
        "tillstream_streams_broken",
        "Streams that were ended because their bytes could not be understood",
        Read::Counter(|f| f.sessions.broken),
    ),
    metric(
        "tillstream_gaps",
        "Frames that came before the one that was expected",
        Read::Counter(|f| f.sessions.gaps),
    ),
    metric(
        "tillstream_slowed",
        "Times that a device was told to slow down",
        Read::Counter(|f| f.sessions.slowed),
    ),
    metric(
        "tillstream_connections_made_to_wait",
        "Times that a connection had to wait, because too much of what it had sent was to no effect",
        Read::Counter(|f| f.sessions.made_to_wait),
    ),
    metric(
        "tillstream_connections_turned_away",
        "Connections that were not taken in, because there were too many",
        Read::Counter(|f| f.pki.turned_away),
    ),
    metric(
        "tillstream_handshakes_dropped",
        "First packets of handshakes that were dropped unread, because there were too many",
        Read::Counter(|f| f.pki.initials_dropped),
    ),
    metric(
        "tillstream_handshakes_failed",
        "Handshakes that came to nothing: no certificate that is believed, or none in time",
        Read::Counter(|f| f.pki.failed_handshakes),
    ),
    metric(
        "tillstream_certificates_revoked",
        "Certificates that the revocation lists in force name",
        Read::Gauge(|f| number(f.pki.revoked)),
    ),
    metric(
        "tillstream_certificates_read",
        "Times that changed certificates or revocation lists were read and taken",
        Read::Counter(|f| f.pki.reads),
    ),
    metric(
        "tillstream_certificates_stale",
        "1 while the files of certificates and lists are of no use and those before are in force",
        Read::Gauge(|f| f64::from(u8::from(f.pki.stale))),
    ),
    metric(
        "tillstream_revocation_list_overdue",
        "1 while a revocation list is past its time",
        Read::Gauge(|f| f64::from(u8::from(f.pki.overdue))),
    ),
    metric(
        "tillstream_connections_distrusted",
        "Connections that were closed because their certificate was revoked, had expired or was believed no more",
        Read::Counter(|f| f.pki.closed),
    ),
    metric(
        "tillstream_journal_durable_bytes",
        "Position in the journal up to which everything is on the disk",
        Read::Gauge(|f| number(f.journal.durable)),
    ),
    metric(
        "tillstream_journal_bytes",
        "Bytes of the journal that are kept",
        Read::Gauge(|f| number(f.journal.bytes)),
    ),
    metric(
        "tillstream_journal_segments",
        "Segments of the journal that are kept",
        Read::Gauge(|f| number(f.journal.segments)),
    ),
    metric(
        "tillstream_journal_groups",
        "Groups of records that were written, each with one sync",
        Read::Counter(|f| f.journal.groups),
    ),
    metric(
        "tillstream_journal_sync_seconds",
        "Time that the syncs of the journal took together",
        Read::Seconds(|f| seconds(f.journal.sync_us)),
    ),
    metric(
        "tillstream_journal_reads_failed",
        "Reads of records for commits and hand-overs that failed; each is made again until it works",
        Read::Counter(|f| f.journal.reads_failed),
    ),
    metric(
        "tillstream_flush_backlog_bytes",
        "Bytes of the journal that queries do not see yet",
        Read::Gauge(|f| number(f.flush.backlog_bytes)),
    ),
    metric(
        "tillstream_flush_behind_seconds",
        "Age of the oldest event that is journalled and that queries do not see yet",
        Read::Gauge(|f| seconds(f.flush.behind_us)),
    ),
    metric(
        "tillstream_flush_rows",
        "Rows that the flush wrote",
        Read::Counter(|f| f.flush.rows),
    ),
    metric(
        "tillstream_slots",
        "Slots of the shared store, by whose they are; without one all are 0",
        Read::Gauges("state", |f| {
            let of = |read: fn(&ClusterFigures) -> u64| number(f.cluster.as_ref().map_or(0, read));
            vec![
                ("all".to_owned(), of(|c| c.slots)),
                ("open".to_owned(), of(|c| c.slots_open)),
                ("wanted".to_owned(), of(|c| c.slots_wanted)),
                ("free".to_owned(), of(|c| c.slots_free)),
            ]
        }),
    ),
    metric(
        "tillstream_commit_seconds",
        "Time of a commit of a slot to the shared store, from the begin of its log to the commit; rows follow it",
        Read::Histogram(|f| f.cluster.as_ref().map(|c| &c.commit)),
    ),
    metric(
        "tillstream_project_seconds",
        "Time to write the rows of committed flushes of a slot to the shared store, of all that wait together",
        Read::Histogram(|f| f.cluster.as_ref().map(|c| &c.project)),
    ),
    metric(
        "tillstream_rows_wait_seconds",
        "Time that a shard waited for rows of the shared store, once for all that devices had said meanwhile",
        Read::Histogram(|f| f.cluster.as_ref().map(|c| &c.rows)),
    ),
    metric(
        "tillstream_handoffs_waiting",
        "Chunks of dead engines' journals that wait for the engines that have their slots",
        Read::Gauge(|f| number(f.cluster.as_ref().map_or(0, |c| c.handoffs_waiting))),
    ),
    metric(
        "tillstream_stranded",
        "Records that other engines handed off and that have no place; `tillstream quarantine list --stranded` shows them",
        Read::Gauge(|f| number(f.cluster.as_ref().map_or(0, |c| c.stranded))),
    ),
    metric(
        "tillstream_names_unwritten",
        "Names of SKUs and tenders in memory that are on their way to the shared store",
        Read::Gauge(|f| number(f.cluster.as_ref().map_or(0, |c| c.names_unwritten))),
    ),
    metric(
        "tillstream_redirects",
        "Times that a device was sent to another engine",
        Read::Counter(|f| f.cluster.as_ref().map_or(0, |c| c.redirects)),
    ),
    metric(
        "tillstream_engine_lag_seconds",
        "Age of the oldest event that an engine of the shared store has journalled and that is not in the rows",
        Read::Gauges("engine", |f| by_engine(f, |one| seconds(one.lag_us))),
    ),
    metric(
        "tillstream_engine_slots",
        "Slots that each engine of the shared store serves",
        Read::Gauges("engine", |f| by_engine(f, |one| number(one.slots))),
    ),
    metric(
        "tillstream_disk_free_bytes",
        "Bytes that can still be written where the data lies",
        Read::Gauge(|f| number(f.disk.free_bytes)),
    ),
    metric(
        "tillstream_disk_full",
        "1 while ingestion waits for room on the disk",
        Read::Gauge(|f| f64::from(u8::from(f.disk.full))),
    ),
    metric(
        "tillstream_memory_resident_bytes",
        "Memory that the engine's process holds",
        Read::Gauge(|f| number(f.memory.resident_bytes)),
    ),
    metric(
        "tillstream_memory_max_bytes",
        "Memory that the configuration allows the engine",
        Read::Gauge(|f| number(f.memory.max_bytes)),
    ),
    metric(
        "tillstream_shard_events",
        "Events that each shard applied",
        Read::Counters("shard", |f| by_shard(f, |s| s.events)),
    ),
    metric(
        "tillstream_shard_queued_bytes",
        "Bytes of frames that wait in a shard's mailbox or for the disk",
        Read::Gauges("shard", |f| floats(by_shard(f, |s| s.queued * 1_024))),
    ),
    metric(
        "tillstream_shard_actors",
        "Actors that each shard holds in memory",
        Read::Gauges("shard", |f| floats(by_shard(f, |s| s.actors))),
    ),
    metric(
        "tillstream_shard_parked_actors",
        "Actors that are parked: the shard itself, or terminals whose frames it failed over",
        Read::Gauges("shard", |f| floats(by_shard(f, |s| s.parked))),
    ),
    metric(
        "pos_stores",
        "Stores that are registered",
        Read::Gauge(|f| number(f.stores)),
    ),
    metric(
        "pos_transactions",
        "Completed transactions of all time, by currency",
        Read::Counters("currency", |f| {
            f.sales
                .iter()
                .map(|s| (s.currency.clone(), s.transactions))
                .collect()
        }),
    ),
    metric(
        "pos_sales_net",
        "Sales of all time before tax in units of the currency; falls with returns",
        Read::Gauges("currency", |f| {
            f.sales
                .iter()
                .map(|s| (s.currency.clone(), units(s.net_minor, s.decimals)))
                .collect()
        }),
    ),
];

fn by_shard(figures: &Figures, read: fn(&ShardFigures) -> u64) -> Vec<(String, u64)> {
    figures
        .shards
        .iter()
        .map(|shard| (shard.shard.to_string(), read(shard)))
        .collect()
}

fn by_engine(figures: &Figures, read: fn(&EngineFigures) -> f64) -> Vec<(String, f64)> {
    let engines = figures.cluster.iter().flat_map(|cluster| &cluster.engines);
    engines
        .map(|one| (one.address.clone(), read(one)))
        .collect()
}

fn floats(values: Vec<(String, u64)>) -> Vec<(String, f64)> {
    values
        .into_iter()
        .map(|(label, value)| (label, number(value)))
        .collect()
}

#[expect(
    clippy::as_conversions,
    reason = "Prometheus numbers are f64; above 2^53 the last digits do not matter"
)]
const fn number(value: u64) -> f64 {
    value as f64
}

fn seconds(us: u64) -> f64 {
    number(us) / 1e6
}

#[expect(
    clippy::as_conversions,
    reason = "a gauge for graphs; exact sums come from queries"
)]
fn units(minor: i128, decimals: u8) -> f64 {
    minor as f64 / 10_f64.powi(i32::from(decimals))
}

/// The text form of all metrics at this moment.
///
/// # Errors
/// Returns [`fmt::Error`] when the text cannot be put together.
pub(crate) fn render(figures: &Figures) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(figures.clone())));
    let mut out = String::with_capacity(16 * 1024);
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// The figures of one moment as metrics.
#[derive(Debug)]
struct Snapshot(Figures);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in METRICS {
            encode(metric, &self.0, &mut encoder)?;
        }
        Ok(())
    }
}

fn encode(
    metric: &Metric,
    figures: &Figures,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let kind = match metric.kind() {
        "counter" => MetricType::Counter,
        "histogram" => MetricType::Histogram,
        _ => MetricType::Gauge,
    };
    let mut at = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
    match metric.read {
        Read::Counter(read) => ConstCounter::new(read(figures)).encode(at),
        Read::Seconds(read) => ConstCounter::new(read(figures)).encode(at),
        Read::Gauge(read) => ConstGauge::new(read(figures)).encode(at),
        Read::Counters(label, read) => {
            for (value, count) in read(figures) {
                let labels = [(label, value)];
                ConstCounter::new(count).encode(at.encode_family(&labels)?)?;
            }
            Ok(())
        }
        Read::Gauges(label, read) => {
            for (value, level) in read(figures) {
                let labels = [(label, value)];
                ConstGauge::new(level).encode(at.encode_family(&labels)?)?;
            }
            Ok(())
        }
        Read::Histogram(read) => {
            let none = AckFigures::default();
            let ack = read(figures).unwrap_or(&none);
            let buckets = buckets(ack);
            at.encode_histogram::<NoLabelSet>(seconds(ack.sum_us), ack.count, &buckets, None)
        }
    }
}

/// The same buckets at every moment: a series that appeared during a run would make every rate over it wrong. Each power
/// of two is a bound of the engine's own buckets too, so that none of them lies across two of these.
fn buckets(ack: &AckFigures) -> Vec<(f64, u64)> {
    let mut below = 0;
    let mut bucket = |bound: f64, within: u64| {
        let own = within.saturating_sub(below);
        below = within;
        (bound, own)
    };
    let mut all: Vec<(f64, u64)> = ACK_BOUNDS
        .map(|power| {
            let bound = 1_u64 << power;
            let within = ack.buckets.iter().filter(|(us, _)| *us <= bound);
            bucket(seconds(bound), within.map(|(_, count)| count).sum())
        })
        .collect();
    all.push(bucket(f64::INFINITY, ack.count));
    all
}

#[cfg(test)]
mod tests;
