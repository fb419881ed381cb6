//! Hostile devices against a real engine: what they are told, what memory they cost, and what honest devices lose by them.
//!
//! Each attack runs beside an honest fleet in a process of its own, whose oracle compares every event with what the engine
//! answers. The attackers' threads run where engine and fleet leave a processor idle: what honest devices lose is what the engine spends
//! on hostile bytes, not what the attackers compute.

mod admin;
mod certificates;
mod crowd;
mod doors;
mod fleet;
mod floods;
mod folder;
mod ground;
mod outcome;
mod privacy;
mod report;
mod slow;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::crowd::Crowd;
use crate::ground::Ground;
pub use crate::report::{Answers, Attack, Report};

/// Share of the quiet throughput that honest devices keep under each flood.
const KEPT: f64 = 0.8;

/// How hard to try.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long each flood lasts.
    pub duration: Duration,
    /// Hostile connections of a flood.
    pub connections: u32,
    /// Events a second that honest devices send.
    pub rate: u32,
    /// These attacks alone, by their names; all of them where none is named.
    pub only: Vec<String>,
    /// Whether throughput decides: not where the machine has other work.
    pub measures: bool,
    /// Half-open handshakes.
    pub handshakes: u32,
    /// Barcodes that must not be taken for cards.
    pub barcodes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(8),
            connections: 200,
            rate: 4_000,
            only: Vec::new(),
            measures: true,
            handshakes: 5_000,
            barcodes: 10_000,
        }
    }
}

impl Options {
    /// A short run.
    #[must_use]
    pub fn quick(self) -> Self {
        Self {
            duration: Duration::from_secs(3),
            handshakes: 1_000,
            barcodes: 2_000,
            ..self
        }
    }
}

/// The names of all attacks, in their order.
pub const NAMES: &[&str] = &[
    "broken-frames",
    "unreadable-frames",
    "valid-frames",
    "gaps-and-duplicates",
    "stale-epochs",
    "resets",
    "unread-answers",
    "slowloris",
    "promises",
    "small-promises",
    "silent-streams",
    "half-open",
    "churn",
    "certificates",
    "admin",
    "cards",
    "barcodes",
];

/// Runs the attacks; `on_attack` is told a line for each.
///
/// # Errors
/// When the engine or the honest fleet does not run at all.
pub fn run(options: &Options, on_attack: &mut dyn FnMut(&str)) -> Result<Report> {
    let begun = Instant::now();
    let mut report = Report::default();
    let wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let mut done = |report: &mut Report, attack: Attack| {
        on_attack(&attack.to_string());
        report.attacks.push(attack);
    };

    let ground = Ground::prepare(options)?;
    report.memory_bytes = ground.memory_bytes;
    report.stream_bytes = ground::STREAM_BYTES;
    let crowd = Crowd::new(options)?;
    if NAMES.iter().take(13).any(|name| wanted(name)) {
        let quiet = ground.quiet(options, &mut report);
        let quiet = quiet.context("the quiet phase")?;
        for name in NAMES.iter().take(13).filter(|name| wanted(name)) {
            let attack = ground.withstand(name, options, quiet, &crowd);
            done(&mut report, Attack::told(name, attack));
        }
    }
    if wanted("certificates") {
        let attack = certificates::attack(&ground, &crowd);
        done(&mut report, Attack::told("certificates", attack));
    }
    if wanted("admin") {
        let attack = admin::attack(&ground, &crowd);
        done(&mut report, Attack::told("admin", attack));
    }
    ground.end(&mut report)?;
    if wanted("cards") {
        done(&mut report, Attack::told("cards", privacy::cards()));
    }
    if wanted("barcodes") {
        done(
            &mut report,
            Attack::told("barcodes", privacy::barcodes(options.barcodes)),
        );
    }
    report.elapsed_s = begun.elapsed().as_secs_f64();
    report.passed = report.complaints.is_empty() && report.attacks.iter().all(|one| one.passed);
    Ok(report)
}
