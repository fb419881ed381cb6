//! The flush of one of several engines without its thread: turn by turn.

use std::sync::Arc;
use std::time::Instant;

use super::rounds::Finished;
use super::{FlushInbox, FlushReply, Flusher, Request};
use crate::cluster::{Cluster, Committing};
use crate::engine::Engine;

/// A flush into a shared store that whoever steps the engine drives. While a round is on its way nothing else is turned to,
/// as the thread would not.
pub(crate) struct FlushTurns {
    flusher: Flusher,
    cluster: Arc<Cluster>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    round: Finished<FlushReply>,
    committing: Committing,
    rows: usize,
    began: Instant,
}

impl FlushTurns {
    pub(crate) fn new(engine: &Arc<Engine>, cluster: &Arc<Cluster>, inbox: FlushInbox) -> Self {
        Self {
            flusher: Flusher::new(Arc::clone(engine), inbox),
            cluster: Arc::clone(cluster),
            under_way: None,
        }
    }

    /// Whether a round is on its way into the store.
    pub(crate) const fn is_writing(&self) -> bool {
        self.under_way.is_some()
    }

    /// Begins a round, if none is under way.
    pub(crate) fn begin(&mut self) {
        if self.under_way.is_none() && !self.flusher.rounds.is_running() {
            self.flusher.begin();
        }
    }

    /// A shard starts again: what came of it is forgotten. Not while a round is on its way.
    pub(crate) fn restart(&mut self, shard: usize) {
        self.flusher.rounds.restart(shard);
    }

    /// Turns to what has come, and gets on with a round. True: one is over.
    pub(crate) fn turn(&mut self) -> bool {
        if self.under_way.is_none() {
            self.turn_to_others();
        }
        let Some(under_way) = &mut self.under_way else {
            return false;
        };
        let engine = Arc::clone(&self.flusher.engine);
        let result = match self.cluster.commit_turn(&engine, &mut under_way.committing) {
            Ok(false) => return false,
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        };
        let Some(done) = self.under_way.take() else {
            return false;
        };
        if result.is_ok() {
            let (checkpoint, began) = (done.round.checkpoint, done.began);
            self.flusher.committed(done.rows, checkpoint, began);
        }
        self.flusher.kept(done.round, result);
        true
    }

    fn turn_to_others(&mut self) {
        let flusher = &mut self.flusher;
        while let Ok(part) = flusher.inbox.parts.try_recv() {
            flusher.rounds.take(part);
        }
        while let Ok(request) = flusher.inbox.requests.try_recv() {
            match request {
                Request::Abandon => {}
                request => flusher.request(request),
            }
        }
        if flusher.rounds.is_complete()
            && let Some(round) = flusher.rounds.finish()
        {
            self.keep(round);
        } else if !flusher.rounds.is_running() && !flusher.waiting.is_empty() {
            flusher.begin();
        }
    }

    fn keep(&mut self, mut round: Finished<FlushReply>) {
        let parts = std::mem::take(&mut round.parts);
        let rows = parts.iter().map(|part| part.dirty.rows()).sum();
        if let Some(error) = self.flusher.given_up.clone() {
            return self.flusher.kept(round, Err(error));
        }
        self.under_way = Some(UnderWay {
            committing: self.cluster.gather(&self.flusher.engine, parts),
            round,
            rows,
            began: Instant::now(),
        });
    }
}
