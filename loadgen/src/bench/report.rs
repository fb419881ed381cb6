//! The figures of a bench.

use std::fmt;

use serde::Serialize;

/// What a bench found out. All figures are of the measured part; naming the SKUs before it does not count.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Events sent and acknowledged.
    pub events: u64,
    /// Durable acknowledged events per second.
    pub events_per_s: f64,
    /// Time to the ack, from when the frame was due: half were faster. All in us.
    pub ack_p50_us: u64,
    /// 90 of 100 were faster.
    pub ack_p90_us: u64,
    /// 99 of 100 were faster.
    pub ack_p99_us: u64,
    /// 999 of 1,000 were faster.
    pub ack_p999_us: u64,
    /// The slowest.
    pub ack_max_us: u64,
    /// Bytes of an event on the wire, its share of the frame's header included.
    pub bytes_per_event: f64,
    /// Bytes that the journal grew by.
    pub journal_bytes: u64,
    /// Bytes that the engine had the disk write, views included.
    pub disk_bytes_written: u64,
    /// Sequential write+fdatasync of groups of the same size on the same disk, in MB/s.
    pub raw_disk_mb_s: f64,
    /// Event bytes per second over that.
    pub raw_disk_ratio: f64,
    /// Mean bytes of a group that was synced.
    pub group_bytes: usize,
    /// Groups, each with one sync.
    pub groups: u64,
    /// CPU time of the engine.
    pub engine_cpu_s: f64,
    /// CPU time of this client.
    pub client_cpu_s: f64,
    /// Largest resident memory of the engine, in MiB.
    pub engine_rss_mb: f64,
    /// `disk`: fdatasync before every ack.
    pub sync: &'static str,
    /// First send to last ack.
    pub elapsed_s: f64,
    /// Events per second that were due; nothing in a closed loop.
    pub offered_per_s: Option<u64>,
    /// Events in a frame.
    pub frame_events: u32,
    /// QUIC connections.
    pub connections: u32,
    /// Terminals on them.
    pub terminals: usize,
    /// Frames in flight per terminal, at most.
    pub in_flight: u32,
    /// Cores that engine and client share.
    pub shared_cores: usize,
    /// Everything in the engine equals what was acknowledged.
    pub reconciled: bool,
    /// What differs.
    #[serde(skip)]
    pub differences: Vec<String>,
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loop_kind = match self.offered_per_s {
            None => "as fast as acks came".to_owned(),
            Some(rate) => format!("at {rate} events/s offered"),
        };
        writeln!(
            f,
            "{:.0} durable events/s: {} events in {:.2} s, {loop_kind}",
            self.events_per_s, self.events, self.elapsed_s
        )?;
        writeln!(
            f,
            "  {} events a frame, {} connections, {} terminals, up to {} frames in flight each; loopback, {} cores shared",
            self.frame_events, self.connections, self.terminals, self.in_flight, self.shared_cores
        )?;
        writeln!(
            f,
            "  ack after {} us (p50), {} us (p99), {} us (p99.9), {} us at most",
            self.ack_p50_us, self.ack_p99_us, self.ack_p999_us, self.ack_max_us
        )?;
        writeln!(
            f,
            "  fdatasync before every ack: {} groups of {} bytes; the disk alone does {:.0} MB/s, the engine {:.2} of it",
            self.groups, self.group_bytes, self.raw_disk_mb_s, self.raw_disk_ratio
        )?;
        writeln!(
            f,
            "  {:.1} bytes an event, {} bytes in the journal, {} bytes to the disk",
            self.bytes_per_event, self.journal_bytes, self.disk_bytes_written
        )?;
        writeln!(
            f,
            "  engine: {:.2} s CPU, {:.0} MiB; client: {:.2} s CPU",
            self.engine_cpu_s, self.engine_rss_mb, self.client_cpu_s
        )?;
        let verdict = if self.reconciled {
            "equal to what was acknowledged"
        } else {
            "DIFFERENT"
        };
        write!(f, "  sales, stock and terminals in the engine: {verdict}")
    }
}
