//! How many events an engine makes durable in a second, and how long each waits for its ack.
//!
//! Closed loop by default: each terminal keeps a window of frames in flight. With a rate it is an open loop: frames are
//! due by a schedule, and latency counts from the moment a frame was due, however late it was sent.

mod disk;
mod flow;
mod report;
pub(crate) mod template;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

pub use self::flow::Plan;
pub(crate) use self::flow::now_us;
pub use self::report::BenchReport;
use crate::admin::Admin;
use crate::engine::{self, Engine, EngineOptions, EngineStarter, Ready, Usage, to_f64};
use crate::oracle::{self, Baseline, Expected, StoreBook};
use crate::wire;
use crate::workload::Catalogue;

/// What is measured.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// Data folder of the engine that is started; a temporary one in the working directory when `None`.
    pub data: Option<PathBuf>,
    /// Further arguments of `serve` for it.
    pub serve: Vec<String>,
    /// An engine that runs already (QUIC address, identity file, admin URL), instead of one that is started.
    pub engine: Option<(SocketAddr, PathBuf, Option<String>)>,
    /// Events to send, rounded up to whole frames.
    pub events: u64,
    /// Events in a frame.
    pub frame_events: u32,
    /// QUIC connections.
    pub connections: u32,
    /// Events per second that are due; `None` = as fast as acks come.
    pub rate: Option<u64>,
    /// Stores.
    pub stores: u32,
    /// SKUs of each store.
    pub skus: u32,
    /// Frames in flight per terminal; `None` = chosen by the size of a frame.
    pub in_flight: Option<u32>,
    /// Seed of the trade.
    pub seed: u64,
    /// Show a progress bar.
    pub progress: bool,
}

impl Default for BenchConfig {
    fn default() -> Self {
        Self {
            data: None,
            serve: Vec::new(),
            engine: None,
            events: 4_000_000,
            frame_events: 256,
            connections: 4,
            rate: None,
            stores: 16,
            skus: 3_000,
            in_flight: None,
            seed: 1,
            progress: false,
        }
    }
}

/// A temporary folder that goes away with this.
#[derive(Debug)]
struct Scratch(Option<PathBuf>);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            std::fs::remove_dir_all(path).ok();
        }
    }
}

/// Runs the bench and compares what the engine holds with what was acknowledged.
///
/// # Errors
/// Fails when the engine cannot be started or asked, or ends a stream.
pub fn run(config: &BenchConfig, starter: &dyn EngineStarter) -> Result<BenchReport> {
    if config.events == 0 || config.frame_events == 0 || config.connections == 0 {
        bail!("events, frame-events and connections must be at least 1");
    }
    let (data, _scratch) = folder(config)?;
    let mut own = None;
    let ready = match &config.engine {
        None => {
            let options = EngineOptions {
                data: data.clone(),
                extra: config.serve.clone(),
                ..EngineOptions::default()
            };
            let engine = Engine::start(starter, &options)?;
            let mut ready = engine.ready().clone();
            if ready.identity.as_os_str().is_empty() {
                ready.identity = data.join("pki/device.pem");
            }
            own = Some(engine);
            ready
        }
        Some((quic, identity, admin)) => running(*quic, identity, admin.as_deref())?,
    };
    let report = measured(config, &ready, &data);
    if let Some(engine) = own {
        engine.drain()?;
    }
    report
}

/// The folder whose file system is measured, and what is to be removed at the end.
fn folder(config: &BenchConfig) -> Result<(PathBuf, Scratch)> {
    if let Some(data) = &config.data {
        std::fs::create_dir_all(data)
            .with_context(|| format!("could not make {}", data.display()))?;
        return Ok((data.clone(), Scratch(None)));
    }
    // Not in the system's folder for temporary files: that one may live in memory, where a sync costs nothing.
    let path = std::env::current_dir()?.join(format!(".tillload-{}", std::process::id()));
    std::fs::create_dir_all(&path).with_context(|| format!("could not make {}", path.display()))?;
    Ok((path.clone(), Scratch(Some(path))))
}

/// An engine that runs already.
pub(crate) fn running(quic: SocketAddr, identity: &Path, admin: Option<&str>) -> Result<Ready> {
    // Looked at first: where it is not, nothing lies beside it.
    wire::read_identity(identity)?;
    let beside = engine::beside(identity);
    let pid = beside.as_ref().map_or(0, |ready| ready.pid);
    let admin = admin
        .map(str::to_owned)
        .or_else(|| beside.map(|ready| ready.admin));
    let admin = admin.with_context(|| {
        format!(
            "could not find the admin port of the engine at {quic}: no engine.json lies near {}; say --admin URL",
            identity.display()
        )
    })?;
    Ok(Ready {
        quic,
        admin,
        identity: identity.to_owned(),
        pid,
    })
}

fn measured(config: &BenchConfig, ready: &Ready, data: &Path) -> Result<BenchReport> {
    let admin = Admin::new(&ready.admin);
    let catalogue = Catalogue::new(config.seed, config.skus);
    let plan = Plan::new(config, &catalogue)?;
    let baseline = Baseline::read(&admin, &plan.stores(), true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (before, mut at_start) = (Journal::read(&admin), Usage::default());
    let flow = runtime.block_on(flow::run(&plan, ready, &catalogue, || {
        at_start = engine::usage(ready.pid).unwrap_or_default();
    }))?;
    let at_ack = engine::usage(ready.pid).unwrap_or_default();
    admin.flush()?;
    let after = Journal::read(&admin);
    let at_end = engine::usage(ready.pid).unwrap_or(at_ack);
    drop(runtime);
    let differences =
        oracle::compare(&admin, &baseline, &flow.books(&plan), &flow.expected(&plan))?;
    let groups = after.groups.saturating_sub(before.groups).max(1);
    let journal_bytes = after.durable.saturating_sub(before.durable);
    let group_bytes = usize::try_from(journal_bytes / groups).unwrap_or(1 << 20);
    let raw_disk_mb_s = disk::raw_mb_s(data, group_bytes, journal_bytes)?;
    let elapsed_s = flow.elapsed.as_secs_f64().max(1e-9);
    let sent_mb_s = to_f64(flow.bytes) / elapsed_s / 1e6;
    Ok(BenchReport {
        events: flow.events,
        events_per_s: to_f64(flow.events) / elapsed_s,
        ack_p50_us: flow.latency.value_at_quantile(0.5),
        ack_p90_us: flow.latency.value_at_quantile(0.9),
        ack_p99_us: flow.latency.value_at_quantile(0.99),
        ack_p999_us: flow.latency.value_at_quantile(0.999),
        ack_max_us: flow.latency.max(),
        bytes_per_event: to_f64(flow.bytes) / to_f64(flow.events.max(1)),
        journal_bytes,
        disk_bytes_written: at_end.written_bytes.saturating_sub(at_start.written_bytes),
        raw_disk_mb_s,
        raw_disk_ratio: sent_mb_s / raw_disk_mb_s,
        group_bytes,
        groups,
        engine_cpu_s: at_ack.cpu_s - at_start.cpu_s,
        client_cpu_s: flow.client_cpu_s,
        engine_rss_mb: at_end.rss_mb,
        sync: "disk",
        elapsed_s,
        offered_per_s: config.rate,
        frame_events: config.frame_events,
        connections: config.connections,
        terminals: plan.terminals(),
        in_flight: plan.in_flight,
        shared_cores: std::thread::available_parallelism().map_or(0, usize::from),
        differences: differences.iter().map(ToString::to_string).collect(),
        reconciled: differences.is_empty(),
    })
}

/// What the engine says of its journal; zeros where it does not say.
#[derive(Clone, Copy, Debug, Default)]
struct Journal {
    durable: u64,
    groups: u64,
}

impl Journal {
    fn read(admin: &Admin) -> Self {
        let status = admin.status().unwrap_or_default();
        let number = |name: &str| {
            status
                .pointer(&format!("/figures/journal/{name}"))
                .and_then(serde_json::Value::as_u64)
        };
        Self {
            durable: number("durable").unwrap_or(0),
            groups: number("groups").unwrap_or(0),
        }
    }
}

impl flow::Flow {
    /// What each store must show.
    fn books(&self, plan: &Plan) -> BTreeMap<u32, StoreBook> {
        let mut books: BTreeMap<u32, StoreBook> = BTreeMap::new();
        for (index, terminal) in self.terminals.iter().enumerate() {
            let store = plan.terminal(index).store().get();
            let book = books.entry(store).or_default();
            for event in &terminal.first_events {
                book.take(event);
            }
            for (template, times) in plan.templates.iter().zip(&terminal.sent) {
                if *times == 0 {
                    continue;
                }
                let times = i128::from(*times);
                book.sums.add(&template.sums, times);
                for (sku, quantity) in &template.moved {
                    book.stock
                        .entry(*sku)
                        .or_default()
                        .moved_before_counts(quantity * times);
                }
            }
        }
        books
    }

    fn expected(&self, plan: &Plan) -> BTreeMap<(u32, u32), Expected> {
        let expected = |(index, terminal): (usize, &flow::FlowSent)| {
            let id = plan.terminal(index);
            let expected = Expected {
                epoch: terminal.epoch,
                next_seq: terminal.events + 1,
                applied: terminal.events,
                ..Expected::default()
            };
            ((id.store().get(), id.till().get()), expected)
        };
        self.terminals.iter().enumerate().map(expected).collect()
    }
}

/// A length of time for a schedule of frames.
fn due(frame: u64, frame_events: u32, rate: u64) -> Duration {
    let nanos =
        u128::from(frame) * u128::from(frame_events) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn bar(is_shown: bool, events: u64) -> ProgressBar {
    if !is_shown {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(events);
    let style = ProgressStyle::with_template(
        "{bar:40} {human_pos}/{human_len} events, {per_sec}, {eta} left",
    );
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
