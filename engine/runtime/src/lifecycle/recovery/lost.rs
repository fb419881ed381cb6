//! How it is told that something is lost, or waits.

use std::fmt;
use std::path::PathBuf;

use till_storage::journal::Lost;

use crate::lifecycle::recovery::StartReport;

/// A journal that ends before what the rows hold.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LostEnd {
    /// The journal's folder.
    pub journal: PathBuf,
    /// The folder of the rows.
    pub rows: PathBuf,
    /// Position at which the journal ends.
    pub end: u64,
    /// Position up to which the rows hold records.
    pub reach: u64,
    /// Events that the rows know and that the journal has lost. There may be more that the rows never saw.
    pub lost: Vec<Lost>,
}

impl fmt::Display for LostEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (end, reach) = (self.end, self.reach);
        write!(
            f,
            "journal {} has lost its end: it ends at position {end}, and the rows in {} hold records up to position {reach} \
             ({} bytes more); ",
            self.journal.display(),
            self.rows.display(),
            reach.saturating_sub(end)
        )?;
        f.write_str(&Lost::words(&self.lost))?;
        f.write_str(
            "; an older copy of a segment may have been restored, the last segment may be missing, or the machine lost power \
             while durability was \"os\", which leaves out the syncs. Put the newer segments back, or accept the loss with \
             `tillstream rebuild`, which rebuilds the rows from what the journal has",
        )
    }
}

/// Says what of the journal is in no row.
pub(super) fn report_start(report: &StartReport) {
    for (store, records) in &report.left_out {
        tracing::error!(
            %store,
            records,
            "the journal has lost the store's registration, so its records wait there and are in no answer; its terminals are \
             refused. A Hello of one of them registers it again: the next start applies what waits"
        );
    }
    for one in &report.unapplied {
        tracing::error!(
            at = one.at.get(),
            "the journal holds what fits nowhere and is in no answer: {one}"
        );
    }
}
