//! Rows of the engine's own: one round at a time, in calls of whole stores.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use till_storage::views::{FlushBatch, StoreError, WriteViews};

use crate::commit::Part;
use crate::figures::FlushState;
use crate::lifecycle::engine::Engine;
use crate::planted;
use crate::publish::batches::split;
use crate::publish::door::FlushError;
use crate::publish::publisher::{Publisher, Turned};

/// Time between two tries when the rows cannot be written.
const RETRY: Duration = Duration::from_millis(250);

/// The store of rows that is this engine's alone.
pub(crate) struct LocalViews {
    engine: Arc<Engine>,
    views: Arc<dyn WriteViews>,
    /// Calls that are left of a round.
    round: Option<VecDeque<FlushBatch>>,
    /// The first of them has failed before.
    has_failed: bool,
}

impl LocalViews {
    pub(crate) fn new(engine: &Arc<Engine>, views: &Arc<dyn WriteViews>) -> Self {
        Self {
            engine: Arc::clone(engine),
            views: Arc::clone(views),
            round: None,
            has_failed: false,
        }
    }

    fn report(&self, error: &StoreError) {
        let (state, hint) = match error {
            StoreError::Full { .. } => (
                FlushState::Full,
                "Free some room; the flush goes on by itself.",
            ),
            StoreError::Damaged { .. } => (
                FlushState::Damaged,
                "Stop the engine and run `tillstream rebuild`; nothing that was acknowledged is lost.",
            ),
            _ => (
                FlushState::Failed,
                "The flush tries again; look at the disk.",
            ),
        };
        if self.engine.figures.flush_state(state) {
            tracing::error!(%error, "rows cannot be written; events are taken in until too many rows wait");
            self.engine.figures.problem(&error.to_string(), hint);
        }
    }
}

impl Publisher for LocalViews {
    fn has_room(&self) -> bool {
        self.round.is_none()
    }

    fn begin(&mut self, parts: Vec<Part>, checkpoint: Option<u64>) {
        let batches: Vec<FlushBatch> = parts
            .into_iter()
            .map(|part| FlushBatch::from(*part.dirty))
            .collect();
        let is_empty = batches.iter().all(|batch| batch.rows() == 0) && checkpoint.is_none();
        self.round = Some(match is_empty {
            true => VecDeque::new(),
            false => split(batches, checkpoint).into(),
        });
    }

    fn turn(&mut self) -> Turned {
        let Some(calls) = &mut self.round else {
            return Turned::over(0);
        };
        if std::mem::take(&mut self.has_failed)
            && let Err(again) = self.views.reopen()
        {
            tracing::debug!(error = %again, "rows do not open yet");
        }
        while let Some(call) = calls.front() {
            if let Err(error) = self.views.write(call)
                && !planted::is("drop-failed-rows")
            {
                self.has_failed = true;
                self.report(&error);
                return match self.engine.is_draining() {
                    true => Turned::failed(FlushError::Rows(error.to_string())),
                    false => Turned::refused(RETRY),
                };
            }
            let names = call.names.iter();
            let names = names.map(|(space, id, name)| (*space, *id, name.as_str()));
            self.engine.names.written(names);
            calls.pop_front();
        }
        self.round = None;
        Turned::over(1)
    }

    fn is_dealt(&self) -> bool {
        self.round.is_none()
    }

    fn end(&mut self) {
        if let Err(error) = self.views.sync() {
            tracing::warn!(%error, "rows were not synced; the journal has what they lack");
        }
    }
}
