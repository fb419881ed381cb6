//! What a chain did.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The state of a running chain, once a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Live {
    /// Since the start.
    pub elapsed: Duration,
    /// Events acknowledged per second, since the last time.
    pub acked_per_s: f64,
    /// Events acknowledged since the start.
    pub acked: u64,
    /// Time from when an event was due to its acknowledgement: 99 of 100 were faster, since the last time, in us.
    pub p99_us: u64,
    /// Net sales so far in minor units.
    pub sales_minor: i128,
    /// Events that are due and not acknowledged: with devices that are offline, under way, or not even made for want of room.
    pub backlog: u64,
    /// Memory of the engine in MiB, where it runs on this machine.
    pub engine_mb: Option<f64>,
    /// Once nothing new is due: rude devices that have not had an answer yet to all that they said. One whose engine was
    /// killed waits until its connection is given up (about 30 s).
    pub unfinished: Option<u64>,
}

/// The end of a chain's run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FleetReport {
    /// Events that devices made, each once.
    pub events_sent: u64,
    /// Events that were acknowledged as durable, each once: applied or quarantined.
    pub events_acked: u64,
    /// Events that took effect, by the engine's count.
    pub events_applied: u64,
    /// Events that came again.
    pub duplicates: u64,
    /// Events that rude devices made under the id of an earlier one: known, and without effect. What was sent was
    /// acknowledged, refused, or known.
    pub known: u64,
    /// Events that were refused, by the engine's count.
    pub refused: u64,
    /// Events that are quarantined, by the engine's count.
    pub quarantined: u64,
    /// Events that were acknowledged and that the engine does not hold, counted terminal by terminal.
    pub lost: u64,
    /// Events that the engine holds beyond those, counted terminal by terminal: such that took effect twice.
    pub doubled: u64,
    /// Net sales in minor units.
    pub sales_total_minor: i128,
    /// How long it took, in seconds.
    pub elapsed_s: f64,
    /// Events acknowledged per second of it.
    pub events_per_s: f64,
    /// Largest number of events that were due and not acknowledged, looked at once a second.
    pub backlog_max: u64,
    /// The same number when the last event had been due.
    pub backlog_last: u64,
    /// Largest memory of the engine in MiB, where it runs on this machine.
    pub engine_rss_mb: Option<f64>,
    /// Everything in the engine equals what was acknowledged.
    pub reconciled: bool,
    /// What differs.
    #[serde(skip)]
    pub differences: Vec<String>,
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>5.0} s  {:>9.0} events/s  p99 {:>7} us  sales {:>14}  backlog {:>7}",
            self.elapsed.as_secs_f64(),
            self.acked_per_s,
            self.p99_us,
            till_protocol::money::format_decimal_wide(self.sales_minor, 2),
            self.backlog
        )?;
        if let Some(mb) = self.engine_mb {
            write!(f, "  engine {mb:>5.0} MiB")?;
        }
        match self.unfinished {
            Some(0) => write!(f, "  ending"),
            Some(devices) => write!(f, "  ending: {devices} rude devices wait for answers"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FleetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} events in {:.1} s", self.events_sent, self.elapsed_s)?;
        writeln!(
            f,
            "  {} acknowledged: {} applied, {} quarantined; {} came again, {} refused",
            self.events_acked, self.events_applied, self.quarantined, self.duplicates, self.refused
        )?;
        write!(
            f,
            "  {:.0} events/s, backlog at most {} and {} at the end",
            self.events_per_s, self.backlog_max, self.backlog_last
        )?;
        if let Some(mb) = self.engine_rss_mb {
            write!(f, ", engine at most {mb:.0} MiB")?;
        }
        writeln!(f)?;
        let sales = till_protocol::money::format_decimal_wide(self.sales_total_minor, 2);
        writeln!(f, "  net sales {sales}")?;
        let verdict = if self.reconciled {
            "equal to what was acknowledged"
        } else {
            "DIFFERENT"
        };
        write!(f, "  sales, stock and terminals in the engine: {verdict}")
    }
}
