//! A data folder that no engine has open, as the commands use it.

use std::path::Path;

use anyhow::bail;
use till_ops::{Answer, Question};
use till_runtime::{LostEnd, Offline, Query, Reply, StartReport};
use till_storage::journal::{Journal, Lost};

use crate::answer::{Knows, answer};
use crate::output::{Tenths, note};

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

    /// Opens a folder with all rows rebuilt from base and journal. Says what is lost before a journal that ends too early
    /// is taken as it is, and gives that.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn rebuild(dir: &Path) -> anyhow::Result<(Self, Vec<Lost>)> {
        must_hold_data(dir)?;
        let mut tenths = Tenths::default();
        let mut progress = |at: u64, end: u64| tenths.note("of the journal", at, end);
        let mut lost = Vec::new();
        let mut accepting = |end: &LostEnd| {
            note(format!(
                "the journal has lost its end: it ends at position {}, and the rows held records up to position {}; the loss is \
                 accepted",
                end.end, end.reach
            ));
            end.lost.iter().for_each(|one| note(format!("lost: {one}")));
            if end.lost.is_empty() {
                note("no event is known to be lost");
            }
            lost.clone_from(&end.lost);
        };
        let offline = Offline::rebuild(dir, &mut progress, &mut accepting)?;
        Ok((Self(offline), lost))
    }

    /// Answers a question.
    ///
    /// # Errors
    /// When rows or facts cannot be read.
    pub(crate) fn answer(&self, question: &Question) -> anyhow::Result<Answer> {
        Ok(answer(self, question)?)
    }

    /// Decides the quarantined events again; gives (applied, still quarantined).
    ///
    /// # Errors
    /// When rows or facts cannot be read, or the journal cannot be written.
    pub(crate) fn retry_quarantine(mut self: Box<Self>) -> anyhow::Result<(u64, u64)> {
        let report = self.0.retry_quarantine()?;
        Ok((report.applied, report.quarantined))
    }

    /// What opening found and did.
    pub(crate) const fn report(&self) -> &StartReport {
        self.0.report()
    }

    /// The journal.
    pub(crate) fn journal(&self) -> &Journal {
        self.0.journal()
    }
}

impl Knows for Folder {
    fn ask(&self, query: &Query) -> Result<Reply, String> {
        self.0.query(query).map_err(|error| error.to_string())
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
