//! Where queries and folds read the records behind the rows again.

use till_core::RecordKind;
use till_core::event::{Event, for_each};
use till_protocol::id::{StoreId, TerminalId};

use crate::facts::{Fact, Facts, FactsError, Fate};
use crate::journal::{Lsn, ReadError};
use crate::views::StoreError;

/// A visitor of facts; an error ends the walk.
pub type VisitFact<'a> = &'a mut dyn FnMut(&Fact) -> Result<(), StoreError>;

/// Where the records behind the rows are read again.
///
/// A reader may give records besides those asked for; it never leaves one out that is in the journal.
pub trait FactReader: Send + Sync {
    /// Where the durable journal ends.
    fn end(&self) -> u64;

    /// Where the facts start: everything below was dropped by retention. 0 when nothing was, and where stores have no journal in
    /// common.
    fn start(&self) -> u64;

    /// Whether retention has dropped no record of a store that was received since a time, in microseconds since 1970 UTC. May say
    /// no where it has not.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read, as for all methods.
    fn is_whole(&self, _store: StoreId, _since_us: i64) -> Result<bool, StoreError> {
        Ok(self.start() == 0)
    }

    /// Records of a store that may hold events with `from_us <= event time < to_us`, by position.
    ///
    /// # Errors
    /// [`StoreError`] when a segment cannot be read, as for all methods of this trait.
    fn of_hours(
        &self,
        store: StoreId,
        from_us: i64,
        to_us: i64,
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError>;

    /// Records that may hold a sale with this receipt (its text, or its number in decimal digits), by position.
    ///
    /// # Errors
    /// See [`Self::of_hours`].
    fn of_receipt(&self, receipt: &str, visit: VisitFact<'_>) -> Result<(), StoreError>;

    /// Records that may hold events `first` to `last` of a terminal's epoch, by position.
    ///
    /// # Errors
    /// See [`Self::of_hours`].
    fn of_run(
        &self,
        terminal: TerminalId,
        epoch: u32,
        run: (u64, u64),
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError>;

    /// Records that may hold event `seq` of a terminal's epoch, by position.
    ///
    /// # Errors
    /// See [`Self::of_hours`].
    fn of_event(
        &self,
        terminal: TerminalId,
        epoch: u32,
        seq: u64,
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        self.of_run(terminal, epoch, (seq, seq), visit)
    }
}

fn failed(error: &FactsError) -> StoreError {
    let cause = error.to_string();
    match error {
        FactsError::Read(ReadError::Damaged { .. }) => StoreError::Damaged {
            table: "journal",
            cause,
        },
        FactsError::Read(_)
        | FactsError::Index { .. }
        | FactsError::Unwritten { .. }
        | FactsError::Newer { .. } => StoreError::Failed {
            table: "facts",
            cause,
        },
    }
}

fn walk(
    facts: impl Iterator<Item = Result<Fact, FactsError>>,
    visit: VisitFact<'_>,
) -> Result<(), StoreError> {
    for fact in facts {
        visit(&fact.map_err(|error| failed(&error))?)?;
    }
    Ok(())
}

impl FactReader for Facts {
    fn end(&self) -> u64 {
        self.journal().end().get()
    }

    fn start(&self) -> u64 {
        self.journal().start().get()
    }

    fn of_hours(
        &self,
        store: StoreId,
        from_us: i64,
        to_us: i64,
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        let found = self.by_store_hours(store.get(), from_us, to_us);
        walk(found.map_err(|error| failed(&error))?, visit)
    }

    fn of_receipt(&self, receipt: &str, visit: VisitFact<'_>) -> Result<(), StoreError> {
        let found = self.by_receipt(receipt).map_err(|error| failed(&error))?;
        let mut last = None;
        for event in found {
            if last != Some(event.fact.lsn) {
                last = Some(event.fact.lsn);
                visit(&event.fact)?;
            }
        }
        Ok(())
    }

    fn of_run(
        &self,
        terminal: TerminalId,
        epoch: u32,
        run: (u64, u64),
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        run_since(self, terminal, epoch, (run, Lsn::ZERO), visit)
    }
}

/// [`FactReader::of_run`] of records from a position in the journal on: see [`Facts::by_terminal`].
///
/// # Errors
/// As the method.
pub fn run_since(
    facts: &Facts,
    terminal: TerminalId,
    epoch: u32,
    (run, since): ((u64, u64), Lsn),
    visit: VisitFact<'_>,
) -> Result<(), StoreError> {
    let found = facts.by_terminal(terminal.to_u64(), epoch, run, since);
    walk(found.map_err(|error| failed(&error))?, visit)
}

/// Gives each event that a record says something of to `visit`, with its fate and index: of a retry, the one that it
/// decided. Events that had come before are left out, and so are records without events of their own.
///
/// # Errors
/// What `visit` returns; [`StoreError::Damaged`] when the payload is not what its head says.
pub fn each_event(
    fact: &Fact,
    mut visit: impl FnMut(Event<'_>, Fate, u32) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let record = &fact.record;
    if !matches!(record.head.kind, RecordKind::Batch | RecordKind::Retry) {
        return Ok(());
    }
    let batch = crate::rebuild::batch_of(record)?;
    for_each(&batch.view(), |index, event| {
        let fate = fact.fate(index).filter(|_| index >= record.head.skip);
        fate.map_or(Ok(()), |fate| visit(event, fate, index))
    })
}
