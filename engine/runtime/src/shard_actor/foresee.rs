//! Rows of a shared store are fetched before they are asked for: one by one, each would be a way there and back.
//!
//! What is fetched is what is committed, and the shard asks for it only where it has nothing newer in memory. It stays right
//! until the message is dealt with: the rows of a store that is served here change through this shard alone, and it drops
//! what it has in memory on other messages only.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use till_core::{Record, RowsError, SessionKey, Wants};
use till_protocol::reply::Hello;
use till_storage::cluster::Found;
use till_storage::views::StoreError;

use super::hear::has_frames;
use super::{Content, FromDevice, Inbound, ShardState, live};
use crate::engine::Engine;
use crate::fall::Suspect;

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
    fn fetch(&self, wants: &mut Wants) -> Result<Found, StoreError> {
        let Some(cluster) = self.keeping.cluster() else {
            return Ok(Found::default());
        };
        let mark = self.names.retain_missing(&mut wants.names);
        if wants.is_empty() {
            return Ok(Found::default());
        }
        wants.settle();
        let mut found = cluster.store.rows_of(wants)?;
        self.names.learn(mem::take(&mut found.names), mark);
        Ok(found)
    }
}

impl ShardState {
    /// What devices' words ask for; nothing where rows are at hand. A store that still hears this node may only be slow: it is
    /// asked again, as long as it does.
    pub(super) fn foresee_patiently(&mut self, said: &[FromDevice]) -> Result<Found, Unknown> {
        let began = Instant::now();
        loop {
            let known = self.foresee(said);
            let engine = &self.engine;
            let hears = engine
                .keeping
                .cluster()
                .is_some_and(|one| one.is_alive() && engine.by_hand.is_none());
            // Whoever says Hello asks again.
            let may_wait = hears && has_frames(said);
            if !may_wait || !matches!(known, Err(Unknown::Away(_))) || began.elapsed() > PATIENCE {
                return known;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn foresee(&mut self, said: &[FromDevice]) -> Result<Found, Unknown> {
        let engine = Arc::clone(&self.engine);
        if engine.keeping.cluster().is_none() {
            return Ok(Found::default());
        }
        let mut wants = mem::take(&mut self.wants);
        wants.clear();
        for hello in greeted(&engine, said) {
            self.begin(Suspect::hello(hello));
            self.shard.want_terminal(hello.terminal, &mut wants);
        }
        for (key, frame) in frames(&engine, said) {
            self.begin(Suspect::frame(key, frame.content.first_seq()));
            match &frame.content {
                Content::Batch(batch) => self.shard.want_standing(key, batch, &mut wants),
                Content::Unreadable { .. } => self.shard.want_terminal(key.terminal, &mut wants),
            }
        }
        self.blame_nobody_of(said);
        let mut found = self.bring_in(&mut wants)?;
        for (key, frame) in frames(&engine, said) {
            self.begin(Suspect::frame(key, frame.content.first_seq()));
            if let Content::Batch(batch) = &frame.content {
                self.with_known(&found, |shard, rows| {
                    shard.want_goods(key, batch, rows, &mut wants)
                })?;
            }
        }
        self.blame_nobody_of(said);
        found.extend(engine.fetch(&mut wants)?);
        self.wants = wants;
        Ok(found)
    }

    // Rows are read for all of them. Whose a row is over which the shard falls is seen when one is heard alone.
    fn blame_nobody_of(&mut self, said: &[FromDevice]) {
        if said.len() > 1 {
            self.begin(None);
        }
    }

    // Fetches what says whether events count, and takes stores and terminals of it in.
    fn bring_in(&mut self, wants: &mut Wants) -> Result<Found, Unknown> {
        let found = self.engine.fetch(wants)?;
        self.with_known(&found, |shard, rows| shard.bring_in(wants, rows))?;
        wants.clear();
        Ok(found)
    }

    /// What records that were handed off ask for.
    pub(super) fn foresee_records(&mut self, records: &[&Record]) -> Result<Found, RowsError> {
        let mut wants = Wants::default();
        for record in records {
            self.begin(Suspect::record(record));
            self.shard.want_standing_of_record(record, &mut wants);
        }
        self.begin(None);
        let mut found = self.bring_in(&mut wants)?;
        for record in records {
            self.begin(Suspect::record(record));
            self.with_known(&found, |shard, rows| {
                shard.want_goods_of_record(record, rows, &mut wants)
            })?;
        }
        found.extend(self.engine.fetch(&mut wants)?);
        Ok(found)
    }
}

// Terminals that say Hello to this engine.
fn greeted<'a>(engine: &'a Engine, said: &'a [FromDevice]) -> impl Iterator<Item = &'a Hello> {
    let hellos = said.iter().filter_map(|one| match one {
        FromDevice::Hello(knock) => Some(knock.hello.as_ref()),
        FromDevice::Frames { .. } | FromDevice::End { .. } => None,
    });
    hellos.filter(|hello| engine.placement.is_here(hello.terminal.store()))
}

// Frames of live sessions of stores that are served here.
fn frames<'a>(
    engine: &'a Engine,
    said: &'a [FromDevice],
) -> impl Iterator<Item = (SessionKey, &'a Inbound)> {
    let sessions = said.iter().filter_map(|one| match one {
        FromDevice::Frames { session, frames } => Some((live(session)?, frames)),
        FromDevice::Hello(_) | FromDevice::End { .. } => None,
    });
    let here = sessions.filter(|(key, _)| engine.placement.is_here(key.terminal.store()));
    here.flat_map(|(key, frames)| frames.iter().map(move |frame| (key, frame)))
}
