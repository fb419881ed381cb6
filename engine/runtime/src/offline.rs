//! A data folder without an engine: questions, quarantine, rebuild.

use std::ops::ControlFlow;
use std::path::Path;

use till_core::{Outcome, QuarantineKey, Record, Shard, ShardConfig};
use till_embedded::EmbeddedViews;
use till_protocol::time::Timestamp;
use till_storage::facts::Facts;
use till_storage::journal::{
    CommitConfig, CommitError, Committer, Durable, JournalConfig, Lsn, Prepared, Sink,
};
use till_storage::names::NameBook;
use till_storage::rebuild::FactRows;
use till_storage::views::Views;

use crate::data::{Data, DataError, StartReport};
use crate::shard_actor::now_us;

/// What a retry of the quarantine did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RetryReport {
    /// Events and lines that took effect.
    pub applied: u64,
    /// Those that stay.
    pub quarantined: u64,
}

impl RetryReport {
    pub(crate) fn count(&mut self, decided: Result<bool, String>) {
        match decided {
            Ok(true) => self.applied += 1,
            Ok(false) => self.quarantined += 1,
            Err(error) => {
                tracing::warn!(error, "an entry could not be decided again");
                self.quarantined += 1;
            }
        }
    }
}

/// An open data folder that no engine runs on. Its rows hold everything that is durable.
#[derive(Debug)]
pub struct Offline {
    data: Data,
}

impl Offline {
    /// Opens a folder; recovers and replays as a start would. Blocks.
    ///
    /// # Errors
    /// [`DataError::Locked`] when an engine has it open: ask that one. Others as for a start.
    pub fn open(dir: &Path) -> Result<Self, DataError> {
        Ok(Self {
            data: Data::open(dir, JournalConfig::default())?,
        })
    }

    /// Opens a folder with rows made anew from base and journal; the old ones are moved aside.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn rebuild(dir: &Path) -> Result<Self, DataError> {
        let data = Data::open_with(dir, JournalConfig::default(), Some("rebuild was asked for"))?;
        Ok(Self { data })
    }

    /// The rows.
    pub fn views(&self) -> &EmbeddedViews {
        &self.data.views
    }

    /// The facts.
    pub fn facts(&self) -> &Facts {
        &self.data.facts
    }

    /// What opening it found.
    pub fn report(&self) -> &StartReport {
        &self.data.report
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.data.dir
    }

    /// Decides every quarantined event again and closes the folder.
    ///
    /// # Errors
    /// Says in words what could not be read or written.
    pub fn retry_quarantine(self) -> Result<RetryReport, String> {
        let Data {
            lock,
            journal,
            writer,
            views,
            facts,
            ..
        } = self.data;
        let names = NameBook::new(std::sync::Arc::<EmbeddedViews>::clone(&views));
        let mut shard = Shard::new(ShardConfig::default());
        let mut report = RetryReport::default();
        let committer = Committer::start(writer, CommitConfig::default(), Quiet).map_err(words)?;
        let appender = committer.appender();
        for key in entries(views.as_ref())? {
            let original = original(&facts, &key)?;
            let rows = FactRows::new(views.as_ref(), facts.as_ref());
            let decided = shard.retry(Timestamp::from_us(now_us()), key, &original, &rows, &names);
            let decided = match decided {
                Ok(record) => {
                    let applied = record
                        .verdicts
                        .iter()
                        .any(|v| v.outcome == Outcome::Applied);
                    let entry = Prepared::new(&record).map_err(words)?;
                    appender
                        .append(entry, ())
                        .map_err(|error| error.to_string())?;
                    Ok(applied)
                }
                Err(error) => Err(error.to_string()),
            };
            report.count(decided);
        }
        drop(appender);
        committer.close().map_err(words)?;
        crate::data::replay(&journal, views.as_ref(), &facts).map_err(words)?;
        drop(lock);
        Ok(report)
    }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Nobody waits for these records.
struct Quiet;

impl Sink<()> for Quiet {
    fn durable(&mut self, _durable: &Durable, _group: &mut Vec<(Lsn, ())>) {}

    fn poisoned(&mut self, error: &CommitError) {
        tracing::error!(%error, "the journal failed; nothing was decided");
    }
}

/// Everything in quarantine.
pub(crate) fn entries(views: &dyn Views) -> Result<Vec<QuarantineKey>, String> {
    let mut keys = Vec::new();
    views
        .quarantine(&mut |key, _| {
            keys.push(key);
            ControlFlow::Continue(())
        })
        .map_err(words)?;
    Ok(keys)
}

/// The journal's record of a quarantined event.
pub(crate) fn original(facts: &Facts, key: &QuarantineKey) -> Result<Record, String> {
    facts
        .by_terminal(key.terminal, key.epoch, key.seq, key.seq)
        .map_err(words)?
        .next()
        .ok_or_else(|| "its record was dropped by retention".to_owned())?
        .map(|fact| fact.record)
        .map_err(words)
}
