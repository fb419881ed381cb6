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
    /// Events that are not acknowledged yet.
    pub backlog: u64,
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
    /// Events that were refused, by the engine's count.
    pub refused: u64,
    /// Events that are set aside, by the engine's count.
    pub quarantined: u64,
    /// Net sales in minor units.
    pub sales_total_minor: i128,
    /// How long it took, in seconds.
    pub elapsed_s: f64,
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
        )
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
