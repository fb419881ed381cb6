//! The quarantine: what is durable and had no effect is decided again.

use thiserror::Error;
use till_protocol::code::Reason;
use till_protocol::family::stock::v1::kind;
use till_protocol::id::{Epoch, SkuId, TerminalId};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use till_protocol::view::View;

use super::batch::Found;
use super::decide::Decider;
use super::names::names_all_skus;
use super::plan::{Planner, Scope};
use super::recover::read_back;
use super::{SessionKey, Shard};
use crate::event::{Event, for_each};
use crate::flag;
use crate::hash::Map;
use crate::invariant::InvariantId;
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
enum Waiting {
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
        let scope = self.scope(terminal, key.epoch, u64::MAX, rows);
        let verdict = if key.line == u16::MAX {
            self.decide_again(&scope, original, &verified, index, names)?
        } else {
            self.check_waiting(&scope, &verified.view(), index, key)?
        };
        let head = RecordHead {
            kind: RecordKind::Retry,
            skip: 0,
            received_at_us: now.us(),
            ..*head
        };
        let record = Record {
            head,
            payload: original.payload.clone(),
            verdicts: vec![verdict],
        };
        self.apply_retry(&record, &scope)?;
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
        scope: &Scope<'_>,
        original: &Record,
        verified: &Verified,
        index: u32,
        names: &dyn Names,
    ) -> Result<Verdict, RetryError> {
        let view = verified.view();
        let flags = original.verdict(index).map_or(0, |verdict| verdict.flags);
        let cause = original.verdict(index).map_or(0, |verdict| verdict.reason);
        if cause == Reason::SkuCollision.code() {
            must_name_its_skus(&view, index)?;
        }
        let mut collided = Vec::new();
        self.claim_names(&view, |other| other == index, names, &mut collided)?;
        self.plan.ops.clear();
        let terminal = TerminalId::from_u64(scope.terminal);
        let (Ok(terminal), Ok(epoch)) = (terminal, Epoch::new(scope.epoch)) else {
            return Err(RetryError::OtherRecord);
        };
        let clock_suspect = flags & flag::CLOCK_SUSPECT != 0;
        let masked = if flags & flag::CARD_MASKED != 0 {
            vec![index]
        } else {
            Vec::new()
        };
        let mut decider = Decider {
            now: Timestamp::from_us(original.head.received_at_us),
            session: SessionKey {
                terminal,
                epoch,
                clock_suspect,
            },
            found: Found {
                masked: &masked,
                ..Found::default()
            },
            names,
            event_ids: &self.event_ids,
            named: std::mem::take(&mut self.plan.named),
            collided,
            in_batch: Map::default(),
            verdicts: Vec::new(),
        };
        let mut planner = Planner {
            actors: &mut self.actors,
            contributor: &mut self.contributor,
            plan: &mut self.plan,
        };
        let seq = original.head.first_seq + u64::from(index);
        with_event(&view, index, |event| {
            decider.event(&mut planner, scope, event, index, seq)
        })?;
        let applied = Verdict {
            index,
            outcome: Outcome::Applied,
            reason: 0,
            flags: 0,
        };
        let verdict = decider.verdicts.first().copied().unwrap_or(applied);
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
        scope: &Scope<'_>,
        view: &View<'_>,
        index: u32,
        key: QuarantineKey,
    ) -> Result<Verdict, RetryError> {
        let found = self.waiting(scope, view, index, (key.seq, key.line))?;
        let (table_index, waiting) = found.ok_or(RetryError::OtherRecord)?;
        let mut level = self.actors.skus.get(table_index).level.clone();
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

    // What a line waits for, with all that it needs brought in.
    fn waiting(
        &mut self,
        scope: &Scope<'_>,
        view: &View<'_>,
        index: u32,
        (seq, line): (u64, u16),
    ) -> Result<Option<(u32, Waiting)>, RowsError> {
        let mut found = None;
        with_event(view, index, |event| {
            let Some(sku) = event.sku_of_item(line) else {
                return Ok(());
            };
            let table_index = self.actors.sku(scope.sku(sku), scope.stored, scope.rows)?;
            let level = &self.actors.skus.get(table_index).level;
            let base = level.base_key();
            let moved_after = |after| {
                scope
                    .rows
                    .moved_after(scope.store, SkuId::from_u64(sku), after, scope.position)
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
            found = Some((table_index, waiting));
            Ok(())
        })?;
        Ok(found)
    }

    /// Does what a retry says, live and in recovery.
    pub(super) fn apply_retry(
        &mut self,
        record: &Record,
        scope: &Scope<'_>,
    ) -> Result<(), RowsError> {
        let verified = read_back(scope.position, record)?;
        let view = verified.view();
        self.plan.ops.clear();
        self.plan_record(&view, record, scope)?;
        let mut lines = Vec::new();
        for verdict in &record.verdicts {
            if let Some(line) = verdict.waiting_line() {
                let seq = record.head.first_seq + u64::from(verdict.index);
                let found = self.waiting(scope, &view, verdict.index, (seq, line))?;
                lines.extend(found);
            }
        }
        // From here on nothing can fail.
        self.take_names(&view, record);
        self.apply_plan(scope, record.head.received_at_us);
        for (table_index, waiting) in lines {
            let effect = self.level(table_index, |level| waiting.take_into(level));
            if effect == Effect::Waits {
                self.violations.count(InvariantId::Rep1);
            }
        }
        for verdict in &record.verdicts {
            self.set_free(record, verdict);
        }
        self.touch_terminal(scope.terminal, self.actors.generation);
        self.touch_store(scope.store.get());
        Ok(())
    }

    // Takes an entry out of the quarantine.
    fn set_free(&mut self, record: &Record, verdict: &Verdict) {
        let key = QuarantineKey {
            terminal: record.head.terminal,
            epoch: record.head.epoch,
            seq: record.head.first_seq + u64::from(verdict.index),
            line: verdict.waiting_line().unwrap_or(u16::MAX),
        };
        self.quarantine.insert(key, None);
        self.retried.insert(key, self.actors.generation);
        if key.line == u16::MAX
            && let Some(terminal) = self.actors.terminals.get_mut(&key.terminal)
        {
            terminal.row.quarantined = terminal.row.quarantined.saturating_sub(1);
            terminal.row.applied += 1;
        }
    }
}

impl Waiting {
    fn take_into(&self, level: &mut Level) -> Effect {
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
