//! Rows of a shared store are fetched before they are asked for: one by one, each would be a way there and back.
//!
//! What is fetched may be behind the commits, and the shard asks for it only where it has nothing newer in memory. It stays right
//! until the message is dealt with: the rows of a store that is served here change through this shard alone, and it drops
//! what it has in memory on other messages only.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use till_core::{Origin, ReadSet, Record, RowsError, SessionKey};
use till_protocol::reply::Hello;
use till_storage::cluster::Found;
use till_storage::views::StoreError;

use crate::lifecycle::engine::Engine;
use crate::shard::crash::PoisonMessage;
use crate::shard::message::has_frames;
use crate::shard::message::{FromDevice, Inbound};
use crate::shard::state::{ShardState, live};

/// Longest time that a store that hears this node is asked what a frame needs to know: some timeouts of its driver.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two times.
const PAUSE: Duration = Duration::from_millis(20);

/// Why it is not known what rows say.
#[derive(Debug)]
pub(super) enum Unknown {
    /// The shared store does not answer.
    Away(RowsError),
    /// What it says makes no sense.
    Rows(RowsError),
}

impl From<StoreError> for Unknown {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Failed { .. } => Self::Away(error.into()),
            _ => Self::Rows(error.into()),
        }
    }
}

impl From<RowsError> for Unknown {
    fn from(error: RowsError) -> Self {
        Self::Rows(error)
    }
}

impl From<Unknown> for RowsError {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Away(error) | Unknown::Rows(error) => error,
        }
    }
}

impl Engine {
    // What is wanted and not in the memory of this node.
    fn fetch(&self, read_set: &mut ReadSet) -> Result<Found, StoreError> {
        let Some(cluster) = self.row_backend.cluster() else {
            return Ok(Found::default());
        };
        let digest = self.names.retain_missing(&mut read_set.names);
        if read_set.is_empty() {
            return Ok(Found::default());
        }
        read_set.normalize();
        let mut found = cluster.store.rows_of(read_set)?;
        self.names.learn(mem::take(&mut found.names), digest);
        Ok(found)
    }
}

impl ShardState {
    /// What devices' words ask for; nothing where rows are at hand. A store that still hears this node may only be slow: it is
    /// asked again, as long as it does.
    pub(super) fn prefetch_patiently(&mut self, messages: &[FromDevice]) -> Result<Found, Unknown> {
        let began = Instant::now();
        loop {
            let known = self.prefetch(messages);
            let engine = &self.engine;
            let hears = engine
                .row_backend
                .cluster()
                .is_some_and(|one| one.is_alive());
            // Whoever says Hello asks again.
            let may_wait = hears && has_frames(messages);
            let is_away = matches!(known, Err(Unknown::Away(_)));
            let may_ask = may_wait && is_away && began.elapsed() <= PATIENCE;
            if !may_ask || !engine.driver.pause(PAUSE) {
                return known;
            }
        }
    }

    fn prefetch(&mut self, messages: &[FromDevice]) -> Result<Found, Unknown> {
        let engine = Arc::clone(&self.engine);
        if engine.row_backend.cluster().is_none() {
            return Ok(Found::default());
        }
        let now = engine.now();
        let mut read_set = mem::take(&mut self.read_set);
        read_set.clear();
        for hello in established(&engine, messages) {
            self.begin(PoisonMessage::hello(hello));
            self.shard.read_terminal(hello.terminal, &mut read_set);
        }
        for (key, frame) in frames(&engine, messages) {
            self.begin(PoisonMessage::frame(key, frame.content.first_seq()));
            let origin = frame.content.origin(now, key);
            self.shard.read_standing(&origin, &mut read_set);
        }
        self.blame_nobody_of(messages);
        let mut found = self.bring_in(&mut read_set)?;
        for (key, frame) in frames(&engine, messages) {
            self.begin(PoisonMessage::frame(key, frame.content.first_seq()));
            let origin = frame.content.origin(now, key);
            self.with_known(&found, |shard, rows| {
                shard.read_touched(&origin, rows, &mut read_set)
            })?;
        }
        self.blame_nobody_of(messages);
        found.extend(engine.fetch(&mut read_set)?);
        self.read_set = read_set;
        Ok(found)
    }

    // Rows are read for all of them. Whose a row is over which the shard crashes is seen when one is heard alone.
    fn blame_nobody_of(&mut self, messages: &[FromDevice]) {
        if messages.len() > 1 {
            self.begin(None);
        }
    }

    // Fetches what says whether events count, and takes stores and terminals of it in.
    fn bring_in(&mut self, read_set: &mut ReadSet) -> Result<Found, Unknown> {
        let found = self.engine.fetch(read_set)?;
        self.with_known(&found, |shard, rows| shard.bring_in(read_set, rows))?;
        read_set.clear();
        Ok(found)
    }

    /// What records that were handed off ask for.
    pub(super) fn prefetch_records(&mut self, records: &[&Record]) -> Result<Found, RowsError> {
        let mut read_set = ReadSet::default();
        for record in records {
            self.begin(PoisonMessage::record(record));
            let origin = Origin::Handoff(record);
            self.shard.read_standing(&origin, &mut read_set);
        }
        self.begin(None);
        let mut found = self.bring_in(&mut read_set)?;
        for record in records {
            self.begin(PoisonMessage::record(record));
            let origin = Origin::Handoff(record);
            self.with_known(&found, |shard, rows| {
                shard.read_touched(&origin, rows, &mut read_set)
            })?;
        }
        found.extend(self.engine.fetch(&mut read_set)?);
        Ok(found)
    }
}

// Terminals that say Hello to this engine.
fn established<'a>(
    engine: &'a Engine,
    messages: &'a [FromDevice],
) -> impl Iterator<Item = &'a Hello> {
    let hellos = messages.iter().filter_map(|one| match one {
        FromDevice::Hello(request) => Some(request.hello.as_ref()),
        FromDevice::Frames { .. } | FromDevice::End { .. } => None,
    });
    hellos.filter(|hello| engine.placement.is_here(hello.terminal.store()))
}

// Frames of live sessions of stores that are served here.
fn frames<'a>(
    engine: &'a Engine,
    messages: &'a [FromDevice],
) -> impl Iterator<Item = (SessionKey, &'a Inbound)> {
    let sessions = messages.iter().filter_map(|one| match one {
        FromDevice::Frames { session, frames } => Some((live(session)?, frames)),
        FromDevice::Hello(_) | FromDevice::End { .. } => None,
    });
    let here = sessions.filter(|(key, _)| engine.placement.is_here(key.terminal.store()));
    here.flat_map(|(key, frames)| frames.iter().map(move |frame| (key, frame)))
}
