//! The quarantine: what is durable and had no effect is decided again, and applied as everything else is.

use thiserror::Error;
use till_protocol::code::Reason;
use till_protocol::family::stock::v1::kind;
use till_protocol::id::{Epoch, SkuId, TerminalId};
use till_protocol::time::Timestamp;
use till_protocol::view::View;

use super::names::names_all_skus;
use super::prefetch::{Arrival, Lookup, Screened};
use super::recover::read_back;
use super::touch::Scope;
use super::{SessionKey, Shard};
use crate::event::{Event, for_each};
use crate::flag;
use crate::record::{Outcome, Record, RecordHead, RecordKind, Verdict};
use crate::row::{MoveKey, Names, QuarantineKey, Rows, RowsError};
use crate::sku::{Effect, Level};

/// An entry of the quarantine that cannot be decided again.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum RetryError {
    /// It was taken out of the quarantine before.
    #[error("the event is no longer in the quarantine")]
    Gone,
    /// The record at hand is not the one that set it aside.
    #[error("the record at hand is not the one of the quarantined event")]
    OtherRecord,
    /// The reason still holds; nothing was written.
    #[error("still quarantined: {0}")]
    Still(Reason),
    /// Rows could not be read.
    #[error(transparent)]
    Rows(#[from] RowsError),
}

/// What becomes of a waiting line.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// The level as a whole is taken from the facts again.
    Recompute { moved: i128 },
    /// A count that becomes the base.
    Recount {
        key: MoveKey,
        quantity: i64,
        moved: i128,
    },
    /// A reservation that found no room.
    Reserve { change: i128, unit: u8 },
}

impl Shard {
    /// Decides a quarantined event, or the waiting movement of a line, again, and applies what comes of it. The record in
    /// the answer is to be journalled.
    ///
    /// `original` is the journal's record of the event's sequence number. The movements of a parked SKU are all taken
    /// from the facts, so that one retry brings its level back; the retries of its other entries then only remove them.
    /// An event that was quarantined for a collision and does not bring the code of each SKU that it uses stays.
    ///
    /// # Errors
    /// [`RetryError`]; nothing has changed then.
    pub fn retry(
        &mut self,
        now: Timestamp,
        key: QuarantineKey,
        original: &Record,
        rows: &dyn Rows,
        names: &dyn Names,
    ) -> Result<Record, RetryError> {
        if !self.is_quarantined(&key, rows)? {
            return Err(RetryError::Gone);
        }
        let head = &original.head;
        let index = key
            .seq
            .checked_sub(head.first_seq)
            .and_then(|at| u32::try_from(at).ok());
        let index = index
            .filter(|_| head.kind == RecordKind::Batch)
            .filter(|_| (head.terminal, head.epoch) == (key.terminal, key.epoch))
            .ok_or(RetryError::OtherRecord)?;
        // A line also waits of an event that was quarantined itself and has been applied by a retry.
        let outcome = original.outcome(index).map(|(outcome, _)| outcome);
        let is_of_line = key.line != u16::MAX && outcome == Some(Outcome::Applied);
        if !is_of_line && outcome != Some(Outcome::Quarantined) {
            return Err(RetryError::OtherRecord);
        }
        let terminal = TerminalId::from_u64(key.terminal).map_err(|error| RowsError {
            table: "terminals",
            cause: error.to_string(),
        })?;
        self.actors.store(terminal.store(), rows)?;
        self.actors.terminal(terminal, rows)?;
        let verified = read_back(0, original)?;
        let (view, scope) = (verified.view(), Scope::of(terminal.store(), head));
        let verdict = if key.line == u16::MAX {
            self.decide_again(original, &view, index, Lookup { rows, names })?
        } else {
            self.check_waiting(&scope, &view, (index, key), rows)?
        };
        let head = RecordHead {
            kind: RecordKind::Retry,
            skip: 0,
            // Never before the event itself, whatever a clock says: rows of shared stores that both write keep the later one.
            received_at_us: now.us().max(head.received_at_us),
            ..*head
        };
        let record = Record {
            head,
            payload: original.payload.clone(),
            verdicts: vec![verdict],
        };
        self.apply(&record, Some(&view), &scope);
        self.names.claim(names);
        // One that was received before this start is in none of the counts.
        if key.line == u16::MAX && self.counters.quarantined > 0 {
            self.counters.quarantined -= 1;
            self.counters.applied += 1;
        }
        Ok(record)
    }

    // What this shard knows that the rows do not say yet, else what the rows say.
    fn is_quarantined(&self, key: &QuarantineKey, rows: &dyn Rows) -> Result<bool, RowsError> {
        if let Some(row) = self.quarantine.get(key) {
            return Ok(row.is_some());
        }
        if self.retried.contains_key(key) {
            return Ok(false);
        }
        rows.is_quarantined(key)
    }
}

impl Shard {
    // The verdict on a whole event, as if it came now; its flags stay those of its receipt.
    fn decide_again(
        &mut self,
        original: &Record,
        view: &View<'_>,
        index: u32,
        ask: Lookup<'_>,
    ) -> Result<Verdict, RetryError> {
        let before = original.verdict(index).copied();
        let flags = before.map_or(0, |verdict| verdict.flags);
        if before.is_some_and(|verdict| verdict.reason == Reason::SkuCollision.code()) {
            must_name_its_skus(view, index)?;
        }
        let head = RecordHead {
            skip: 0,
            ..original.head
        };
        let terminal = TerminalId::from_u64(head.terminal);
        let (Ok(terminal), Ok(epoch)) = (terminal, Epoch::new(head.epoch)) else {
            return Err(RetryError::OtherRecord);
        };
        let session = SessionKey {
            terminal,
            epoch,
            clock_suspect: flags & flag::CLOCK_SUSPECT != 0,
        };
        let is_masked = flags & flag::CARD_MASKED != 0;
        let screened = Screened {
            masked: if is_masked { &[index] } else { &[] },
            ..Screened::default()
        };
        let arrival = Arrival::of_frame(head, session, screened).only(index);
        self.prefetch(&arrival, view, ask)?;
        let applied = Verdict {
            index,
            outcome: Outcome::Applied,
            reason: 0,
            flags: 0,
        };
        let verdict = self.decide(&arrival).first().copied().unwrap_or(applied);
        match verdict.outcome {
            Outcome::Applied => Ok(verdict),
            Outcome::Duplicate | Outcome::Refused | Outcome::Quarantined => {
                Err(RetryError::Still(Reason::from_code(verdict.reason)))
            }
        }
    }

    // Whether the movement of a line has a place now.
    fn check_waiting(
        &mut self,
        scope: &Scope,
        view: &View<'_>,
        (index, key): (u32, QuarantineKey),
        rows: &dyn Rows,
    ) -> Result<Verdict, RetryError> {
        self.touched.clear();
        self.prefetch_waiting(scope, view, (index, key.seq, key.line), (u64::MAX, rows))?;
        let waiting = self.touched.waiting.as_ref();
        let (table_index, waiting) = waiting.ok_or(RetryError::OtherRecord)?;
        let mut level = self.actors.skus.get(*table_index).level.clone();
        if waiting.take_into(&mut level) == Effect::Waits {
            let reason = if level.is_parked() {
                Reason::Parked
            } else {
                Reason::Overflow
            };
            return Err(RetryError::Still(reason));
        }
        let reason = Reason::Parked.code();
        Ok(Verdict {
            index,
            outcome: Outcome::Applied,
            reason,
            flags: u32::from(key.line),
        })
    }

    /// Brings in what a waiting line needs. `position` is the LSN of the record that releases it.
    pub(super) fn prefetch_waiting(
        &mut self,
        scope: &Scope,
        view: &View<'_>,
        (index, seq, line): (u32, u64, u16),
        (position, rows): (u64, &dyn Rows),
    ) -> Result<(), RowsError> {
        with_event(view, index, |event| {
            let Some(sku) = event.sku_of_item(line) else {
                return Ok(());
            };
            let stored = self.actors.stored(scope.store);
            let table_index = self.actors.sku(scope.sku(sku), stored, rows)?;
            let base = self.actors.skus.get(table_index).level.base_key();
            let moved_after = |after| {
                let count = (SkuId::from_u64(sku), after);
                let sums = rows.moved_after(scope.store, &[count], position)?;
                Ok(sums.first().copied().unwrap_or(0))
            };
            let key = scope.key(event.at_us(), seq, line);
            let waiting = match event {
                Event::Stock(stock) => {
                    let record = stock.record;
                    let (quantity, unit) = (record.quantity.to_native(), record.unit);
                    match record.kind {
                        kind::RESERVED => Waiting::Reserve {
                            change: quantity.into(),
                            unit,
                        },
                        kind::RELEASED => Waiting::Reserve {
                            change: -i128::from(quantity),
                            unit,
                        },
                        kind::COUNTED if base < key => Waiting::Recount {
                            key,
                            quantity,
                            moved: moved_after(key)?,
                        },
                        _ => Waiting::Recompute {
                            moved: moved_after(base)?,
                        },
                    }
                }
                Event::Sale(_) => Waiting::Recompute {
                    moved: moved_after(base)?,
                },
                Event::Sensor(_) | Event::Device(_) => return Ok(()),
            };
            self.touched.waiting = Some((table_index, waiting));
            Ok(())
        })
    }
}

impl Waiting {
    /// Takes the line into the level of its SKU.
    pub(crate) fn take_into(&self, level: &mut Level) -> Effect {
        match self {
            Self::Recompute { moved } => level.recompute(*moved),
            Self::Recount {
                key,
                quantity,
                moved,
            } => level.recount(*key, *quantity, *moved),
            Self::Reserve { change, unit } => level.reserve(*change, *unit),
        }
    }
}

// Which id collided is not journalled. Without the code of each nobody can say which of two names the event means.
fn must_name_its_skus(view: &View<'_>, index: u32) -> Result<(), RetryError> {
    let mut is_clear = false;
    with_event(view, index, |event| {
        is_clear = names_all_skus(event);
        Ok(())
    })?;
    if is_clear {
        Ok(())
    } else {
        Err(RetryError::Still(Reason::SkuCollision))
    }
}

fn with_event(
    view: &View<'_>,
    index: u32,
    mut act: impl FnMut(&Event<'_>) -> Result<(), RowsError>,
) -> Result<(), RowsError> {
    for_each(
        view,
        |at, event| if at == index { act(&event) } else { Ok(()) },
    )
}
