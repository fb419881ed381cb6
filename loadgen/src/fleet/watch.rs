//! What is watched once a second: how fast acks come, how much waits, and how much memory the engine takes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::report::{FleetReport, Live};
use crate::engine::{self, to_f64};

/// Figures from one look to the next, and their extremes.
#[derive(Debug)]
pub(super) struct Watch {
    identity: PathBuf,
    /// Process id of the engine; another one after it has been started again.
    pid: u32,
    last: (Instant, u64),
    backlog_max: u64,
    backlog_last: u64,
    engine_rss_mb: Option<f64>,
}

impl Watch {
    /// Watches the engine behind an identity file. A process id of 0 means that it is not known.
    pub(super) fn new(identity: &Path, pid: u32) -> Self {
        Self {
            identity: identity.to_owned(),
            pid,
            last: (Instant::now(), 0),
            backlog_max: 0,
            backlog_last: 0,
            engine_rss_mb: None,
        }
    }

    /// Acks per second since the last look.
    pub(super) fn rate(&mut self, acked: u64) -> f64 {
        let now = Instant::now();
        let seconds = now.duration_since(self.last.0).as_secs_f64().max(1e-3);
        let rate = to_f64(acked.saturating_sub(self.last.1)) / seconds;
        self.last = (now, acked);
        rate
    }

    /// Memory of the engine in MiB, if it runs on this machine.
    pub(super) fn engine_mb(&mut self) -> Option<f64> {
        if self.pid == 0 {
            return None;
        }
        let used = engine::usage(self.pid).ok().or_else(|| {
            self.pid = engine::beside(&self.identity)?.pid;
            engine::usage(self.pid).ok()
        })?;
        let most = self.engine_rss_mb.unwrap_or(0.0).max(used.rss_mb);
        self.engine_rss_mb = Some(most);
        Some(used.rss_now_mb)
    }

    /// Takes a look into the extremes.
    pub(super) fn saw(&mut self, live: &Live, is_over: bool) {
        self.backlog_max = self.backlog_max.max(live.backlog);
        if !is_over {
            self.backlog_last = live.backlog;
        }
    }

    /// Puts the extremes into a report.
    pub(super) fn add_to(&self, report: FleetReport) -> FleetReport {
        FleetReport {
            backlog_max: self.backlog_max,
            backlog_last: self.backlog_last,
            engine_rss_mb: self.engine_rss_mb,
            ..report
        }
    }
}
