//! What a journal without its end is told like.

use std::fmt;
use std::path::PathBuf;

use till_storage::journal::Lost;

/// Ranges that a message names.
const NAMED_MAX: usize = 20;

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
        if self.lost.is_empty() {
            f.write_str("no event is known to be lost")?;
        } else {
            f.write_str("lost: ")?;
            for (number, one) in self.lost.iter().take(NAMED_MAX).enumerate() {
                let comma = if number == 0 { "" } else { ", " };
                write!(f, "{comma}{one}")?;
            }
            if self.lost.len() > NAMED_MAX {
                write!(f, " and {} more ranges", self.lost.len() - NAMED_MAX)?;
            }
        }
        f.write_str(
            "; an older copy of a segment may have been restored, the last segment may be missing, or the machine lost power \
             while durability was \"os\", which leaves out the syncs. Put the newer segments back, or accept the loss with \
             `tillstream rebuild`, which makes the rows anew from what the journal has",
        )
    }
}
