//! A data folder that no engine has open, as the commands use it.

use std::path::Path;

use anyhow::{anyhow, bail};
use till_ops::{Answer, Question};
use till_runtime::Offline;
use till_storage::journal::Journal;
use till_storage::query::Sources;

use crate::answer::answer;
use crate::live::now_us;

/// An open folder; its lock is held while it is.
#[derive(Debug)]
pub(crate) struct Folder(Offline);

impl Folder {
    /// Opens a folder: recovers the journal and brings the rows to its end, as a start would.
    ///
    /// # Errors
    /// When there is no data in it, an engine has it open, or the journal is damaged; the message says what to do.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        must_hold_data(dir)?;
        Ok(Self(Offline::open(dir)?))
    }

    /// Opens a folder with all rows made anew from base and journal.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn rebuild(dir: &Path) -> anyhow::Result<Self> {
        must_hold_data(dir)?;
        Ok(Self(Offline::rebuild(dir)?))
    }

    /// Answers a question.
    ///
    /// # Errors
    /// When rows or facts cannot be read.
    pub(crate) fn answer(&self, question: &Question) -> anyhow::Result<Answer> {
        let sources = Sources {
            views: self.0.views(),
            facts: self.0.facts(),
            now_us: now_us(),
        };
        Ok(answer(&sources, question)?)
    }

    /// Decides the quarantined events again; gives (applied, still quarantined).
    ///
    /// # Errors
    /// When rows or facts cannot be read, or the journal cannot be written.
    pub(crate) fn retry_quarantine(self) -> anyhow::Result<(u64, u64)> {
        let report = self.0.retry_quarantine().map_err(|error| anyhow!(error))?;
        Ok((report.applied, report.quarantined))
    }

    /// The journal.
    pub(crate) fn journal(&self) -> &Journal {
        self.0.facts().journal()
    }
}

/// A folder that was never an engine's would be made into one, and answer every question with nothing.
fn must_hold_data(dir: &Path) -> anyhow::Result<()> {
    if !dir.join("journal").is_dir() {
        bail!(
            "{} holds no data: it has no folder `journal`",
            dir.display()
        );
    }
    Ok(())
}
