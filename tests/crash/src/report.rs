//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use till_loadgen::fleet::FleetReport;

/// Differences that are told one by one.
const DIFFERENCES_SHOWN: usize = 20;

/// What a run came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Engines that were killed.
    pub kills: u64,
    /// Losses of power.
    pub power_losses: u64,
    /// Events that were acknowledged, each once.
    pub acked: u64,
    /// Of those, what the engines did not hold at the end.
    pub lost: u64,
    /// Events that the engines held beyond those.
    pub doubled: u64,
    /// Whether all sums, levels and terminals were as the oracle expected.
    pub reconciled: bool,
    /// From the start of a process to its first device.
    pub recovery_ms: Recovery,
    /// How often what happened.
    pub faults: BTreeMap<String, u64>,
    /// What replays the choices of the run.
    pub seed: u64,
    /// How long it took.
    pub elapsed_s: f64,
    /// What was different.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// Where the data lies that was different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
    #[serde(skip)]
    recoveries: Vec<u64>,
}

/// Times of starts, in ms.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Recovery {
    /// Half of them were faster.
    pub p50: u64,
    /// The slowest.
    pub max: u64,
}

impl Report {
    /// Nothing has happened yet.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            reconciled: true,
            ..Self::default()
        }
    }

    /// Something happened.
    pub fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    /// Something happened so many times.
    pub fn add(&mut self, what: &str, times: u64) {
        if times > 0 {
            *self.faults.entry(what.to_owned()).or_default() += times;
        }
    }

    /// An engine came up.
    pub fn recovered(&mut self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.recoveries.push(ms);
        self.recoveries.sort_unstable();
        let middle = self.recoveries.get(self.recoveries.len() / 2);
        self.recovery_ms = Recovery {
            p50: middle.copied().unwrap_or(0),
            max: self.recoveries.last().copied().unwrap_or(0),
        };
    }

    /// The oracle has judged a fleet.
    pub fn judged(&mut self, part: &str, fleet: &FleetReport) {
        self.acked += fleet.events_acked;
        self.lost += fleet.lost;
        self.doubled += fleet.doubled;
        self.reconciled &= fleet.reconciled;
        let shown = fleet.differences.iter().take(DIFFERENCES_SHOWN);
        self.differences
            .extend(shown.map(|one| format!("{part}: {one}")));
    }

    /// Whether nothing was lost, doubled or different.
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.reconciled
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "  {difference}")?;
        }
        for (what, times) in &self.faults {
            writeln!(f, "  {times:>8}  {what}")?;
        }
        writeln!(
            f,
            "{} kills and {} losses of power in {:.0} s; an engine was back after {} ms, at most {} ms",
            self.kills,
            self.power_losses,
            self.elapsed_s,
            self.recovery_ms.p50,
            self.recovery_ms.max
        )?;
        if let Some(kept) = &self.kept {
            writeln!(f, "the folder is kept: {}", kept.display())?;
        }
        let verdict = if self.is_clean() {
            "everything in the engines equals it"
        } else {
            "the engines DIFFER"
        };
        write!(
            f,
            "{} events were acknowledged; {} of them lost, {} applied twice: {verdict} (seed {})",
            self.acked, self.lost, self.doubled, self.seed
        )
    }
}
