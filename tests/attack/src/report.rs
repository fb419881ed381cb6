//! What the attacks came to.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What the engine answered, and how often.
pub type Answers = BTreeMap<String, u64>;

/// One attack.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Attack {
    /// Its name.
    pub name: String,
    /// Hostile connections at a time.
    pub connections: u32,
    /// What they tried: streams, frames, handshakes or requests.
    pub attempts: u64,
    /// Bytes that they sent, where they are counted.
    pub bytes: u64,
    /// What they were answered.
    pub answers: Answers,
    /// Largest memory of the engine meanwhile, in MiB.
    pub engine_peak_mib: u64,
    /// Most streams that were open at a time, looked at five times a second.
    pub streams_peak: u64,
    /// CPU of the engine meanwhile, in s.
    pub engine_cpu_s: f64,
    /// CPU of the hostile devices meanwhile, in s.
    pub hostile_cpu_s: f64,
    /// Events a second that honest devices got acknowledged meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub honest_events_per_s: Option<f64>,
    /// The same, as a share of what they got in the quiet phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub honest_ratio: Option<f64>,
    /// How long it took, in s.
    pub elapsed_s: f64,
    /// The engine withstood it.
    pub passed: bool,
    /// What it did not withstand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub complaints: Vec<String>,
}

/// All attacks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Bound of the engine's memory, as configured.
    pub memory_bytes: u64,
    /// What an open stream may cost beside that.
    pub stream_bytes: u64,
    /// Events a second that honest devices got acknowledged with nobody else there.
    pub quiet_events_per_s: f64,
    /// CPU of the engine then, in s.
    pub quiet_engine_cpu_s: f64,
    /// The attacks, in their order.
    pub attacks: Vec<Attack>,
    /// What was wrong with the engine afterwards.
    pub complaints: Vec<String>,
    /// How long all of it took, in s.
    pub elapsed_s: f64,
    /// Everything was withstood.
    pub passed: bool,
}

impl Attack {
    /// One that has not begun.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// One that may not have come to its end: then it was not withstood, and the others are of interest all the same.
    pub(crate) fn told(name: &str, attack: anyhow::Result<Self>) -> Self {
        attack.unwrap_or_else(|error| {
            let mut failed = Self::named(name);
            failed.complaints.push(format!("{error:#}"));
            failed
        })
    }

    /// Something that must hold.
    pub(crate) fn must(&mut self, holds: bool, complaint: impl FnOnce() -> String) {
        if !holds {
            self.complaints.push(complaint());
        }
    }

    /// Nothing more is to come.
    pub(crate) fn judged(mut self) -> Self {
        self.passed = self.complaints.is_empty();
        self
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = if self.passed { "ok" } else { "FAILED" };
        write!(
            f,
            "{:<20} {digest:<6} {} attempts",
            self.name, self.attempts
        )?;
        if self.engine_peak_mib > 0 {
            write!(
                f,
                ", engine {} MiB, {:.1} s of CPU ({:.1} s of theirs)",
                self.engine_peak_mib, self.engine_cpu_s, self.hostile_cpu_s
            )?;
        }
        if let Some(ratio) = self.honest_ratio {
            write!(f, ", honest {:.0} %", ratio * 100.0)?;
        }
        write!(f, ", {:?}", self.answers)?;
        for complaint in &self.complaints {
            write!(f, "\n  {complaint}")?;
        }
        Ok(())
    }
}
