//! The engine under attack, the honest fleet beside it, and what is measured of both.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use till_tests::{Engine, text};

use crate::crowd::{Crowd, Tally};
use crate::fleet::Fleet;
use crate::folder::{self, Folder};
use crate::report::{Attack, Report};
use crate::{KEPT, Options};

/// What an open stream may cost beside the bound, in bytes.
pub(crate) const STREAM_BYTES: u64 = 8 << 10;
/// Bound of the engine's memory.
const MEMORY_MIB: u64 = 448;
/// How much longer honest devices trade than an attack lasts.
const LEAD: Duration = Duration::from_secs(2);
/// Ticks of the system's clock for CPU, a second.
const TICKS: f64 = 100.0;

/// A small engine: its bounds can be reached, and its patience is short.
const CONFIG: &str = r#"
[network]
connections_max = 512
wide_connections = 8
streams_per_connection_max = 64
hello_timeout_s = 2
frame_timeout_s = 2
[engine]
memory_bytes = "448MiB"
permits_bytes = "16MiB"
gather_bytes = "8MiB"
[flush]
dirty_rows_max = 100000
"#;

/// An engine, and where its files lie.
pub(crate) struct Ground {
    folder: Folder,
    pub(crate) engine: Engine,
    pub(crate) data: PathBuf,
    pub(crate) memory_bytes: u64,
}

impl Ground {
    /// Starts the engine.
    pub(crate) fn prepare(options: &Options) -> Result<Self> {
        ensure!(options.connections <= 400, "at most 400 connections");
        let folder = folder::make(&std::env::temp_dir())?;
        let config = folder.path().join("small.toml");
        std::fs::write(&config, CONFIG)?;
        let data = folder.path().join("data");
        let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let arguments = [&["--config", text(&config)?][..], &ports[..]].concat();
        let engine = Engine::start_with(&data, &arguments)?;
        Ok(Self {
            folder,
            engine,
            data,
            memory_bytes: MEMORY_MIB << 20,
        })
    }

    /// What honest devices get when nobody else is there.
    pub(crate) fn quiet(&self, options: &Options, report: &mut Report) -> Result<f64> {
        // The first of all runs also registers stores and names goods.
        Fleet::start(self, options, Duration::from_secs(1))?.report()?;
        let fleet = Fleet::start(self, options, options.duration + LEAD)?;
        fleet.selling()?;
        let cpu = self.cpu_s()?;
        let per_s = fleet.per_s_while(options.duration, || {})?;
        report.quiet_engine_cpu_s = self.cpu_s()? - cpu;
        report.quiet_events_per_s = per_s;
        let said = fleet.report()?;
        ensure!(said.is_reconciled, "not reconciled: {}", said.told);
        Ok(per_s)
    }

    /// One attack beside honest devices. It begins when they trade, and ends before their oracle asks.
    pub(crate) fn withstand(
        &self,
        name: &str,
        options: &Options,
        quiet: f64,
        crowd: &Crowd,
    ) -> Result<Attack> {
        let begun = Instant::now();
        let mut attack = Attack::named(name);
        attack.connections = options.connections;
        self.reset_peak();
        let watch = Watch::start(&self.engine)?;
        let tally = Arc::new(Tally::default());
        let raid = crowd.gather(name, self, options, &tally)?;
        let fleet = Fleet::start(self, options, options.duration + LEAD)?;
        fleet.selling()?;
        let (cpu, hostile) = (self.cpu_s()?, cpu_s("self")?);
        let per_s = fleet.per_s_while(options.duration, || raid.begin());
        attack.engine_cpu_s = self.cpu_s()? - cpu;
        attack.hostile_cpu_s = cpu_s("self")? - hostile;
        raid.finish();
        crowd.end(raid, &mut attack);
        let (per_s, report) = (per_s?, fleet.report()?);
        attack.streams_peak = watch.streams();
        attack.engine_peak_mib = self.engine.kib("VmHWM:")? >> 10;
        tally.tell(&mut attack);
        attack.honest_events_per_s = Some(per_s);
        attack.must(report.is_reconciled, || {
            format!("honest events differ: {}", report.told)
        });
        if options.measures {
            let ratio = per_s / quiet.max(1.0);
            attack.honest_ratio = Some(ratio);
            attack.must(ratio >= KEPT, || {
                format!(
                    "honest devices kept {:.0} % of their throughput",
                    ratio * 100.0
                )
            });
        }
        attack.must_be_told(options.measures);
        attack.must(attack.attempts > 0, || "nothing was tried".to_owned());
        self.must_be_well(&mut attack);
        attack.elapsed_s = begun.elapsed().as_secs_f64();
        Ok(attack.judged())
    }

    /// The engine is up, within its memory, and nothing of it has failed.
    pub(crate) fn must_be_well(&self, attack: &mut Attack) {
        let bound = (self.memory_bytes + attack.streams_peak * STREAM_BYTES) >> 20;
        let peak = attack.engine_peak_mib;
        attack.must(peak <= bound, || {
            format!("{peak} MiB of memory, {bound} are allowed")
        });
        let reasons = self.engine.not_ready();
        attack.must(reasons.as_ref().is_ok_and(Vec::is_empty), || {
            format!("the engine is not ready: {reasons:?}")
        });
        let failed = self.engine.log().contains("panicked");
        attack.must(!failed, || "the engine has panicked".to_owned());
    }

    /// Ends the engine in good order, with its counters right.
    pub(crate) fn end(self, report: &mut Report) -> Result<()> {
        let status = self.engine.get("/api/v1/status")?;
        let events = status.pointer("/figures/events").context("no events")?;
        let of = |key: &str| events.get(key).and_then(Value::as_u64).unwrap_or(0);
        let sum: u64 = [
            "applied",
            "refused",
            "duplicates",
            "quarantined",
            "in_flight",
        ]
        .into_iter()
        .map(of)
        .sum();
        if of("received") != sum {
            report
                .complaints
                .push(format!("the counters do not add up: {events}"));
        }
        if let Err(error) = self.engine.stop() {
            report.complaints.push(format!("{error:#}"));
        }
        drop(self.folder);
        Ok(())
    }

    // The system then begins a new largest value; where it does not let us, the peak is that of all attacks so far.
    pub(crate) fn reset_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.engine.pid());
        drop(std::fs::write(path, "5"));
    }

    /// CPU that the engine has used, in s.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        cpu_s(&self.engine.pid().to_string())
    }
}

/// CPU that a process has used, in s.
fn cpu_s(process: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let fields = rest.split_whitespace().skip(11).take(2);
    let ticks: Vec<u32> = fields.map(str::parse).collect::<Result<_, _>>()?;
    Ok(f64::from(ticks.iter().sum::<u32>()) / TICKS)
}

/// Looks at the number of streams for as long as an attack lasts.
struct Watch {
    over: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn start(engine: &Engine) -> Result<Self> {
        let (over, peak) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let url = format!("{}/metrics", engine.admin.trim_end_matches('/'));
        let (until, most) = (Arc::clone(&over), Arc::clone(&peak));
        let look = move || {
            while !until.load(Ordering::Relaxed) {
                let streams = streams(&url).unwrap_or(0);
                most.fetch_max(streams, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(200));
            }
        };
        let thread = std::thread::Builder::new().spawn(look)?;
        Ok(Self { over, peak, thread })
    }

    fn streams(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        // A thread that failed has told the most that it saw.
        drop(self.thread.join());
        self.peak.load(Ordering::Relaxed)
    }
}

fn streams(url: &str) -> Result<u64> {
    let text = till_tests::get_text(url)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("tillstream_streams "));
    let number = line.context("no tillstream_streams")?;
    let whole = number.split('.').next().unwrap_or(number);
    Ok(whole.parse()?)
}
