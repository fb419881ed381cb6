//! What happens when records are durable: acks, handshakes that waited for them, rows that may be flushed, permits back.
//!
//! Everything here runs on the journal's thread, between two groups. It hands on and does no work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam::channel::Sender;
use till_core::Dirty;
use till_protocol::code::Reason;
use till_protocol::id::Seq;
use till_protocol::reply::Welcome;
use till_storage::journal::{Durable, Lsn, Sink, SyncError};
use tokio::sync::oneshot;

use crate::admission::Permit;
use crate::figures::Figures;
use crate::ingress::session::Session;
use crate::ingress::session::farewell::Farewell;

/// What rides through the journal with a record, or as a marker behind records.
#[derive(Debug)]
pub(crate) enum Companion {
    /// A record of a frame.
    Frame(FrameDone),
    /// A frame that was known: acked once what it repeats is durable.
    Known(FrameDone),
    /// A record that nobody waits for.
    Registered {
        /// Whose.
        shard: usize,
    },
    /// The record of a decision on a quarantined event.
    Retried {
        /// Whose.
        shard: usize,
        /// Told when it is durable.
        reply: oneshot::Sender<()>,
    },
    /// Marker: a handshake that speaks of records before it.
    Welcome(Arc<Session>, Welcome, Option<Permit>),
    /// Marker: the end of a session, after its last ack.
    Bye(Arc<Session>, Farewell, Permit),
    /// Marker: the end of sessions whose stores have left, after their last acks.
    Left(Vec<(Arc<Session>, Farewell)>),
    /// Marker: rows that hold every record before it.
    Rows {
        /// Whose.
        shard: usize,
        /// The round of the flush.
        round: u64,
        /// The rows.
        dirty: Box<Dirty>,
    },
    /// Marker: someone waits until everything before it is durable.
    Barrier(Sender<()>),
}

/// A frame on its way to its ack.
#[derive(Debug)]
pub(crate) struct FrameDone {
    pub(crate) session: Arc<Session>,
    pub(crate) shard: usize,
    /// Last sequence number of the frame.
    pub(crate) upto: Seq,
    pub(crate) refusals: Vec<(Seq, Reason)>,
    /// Events that are new and durable with it: applied or quarantined.
    pub(crate) kept: u32,
    /// When the frame was complete.
    pub(crate) received: Instant,
    /// Given back when this is dropped.
    pub(crate) permit: Permit,
}

/// The rows of one shard in one round of the flush.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) shard: usize,
    pub(crate) round: u64,
    pub(crate) dirty: Box<Dirty>,
    /// LSN up to which these rows hold every record of the shard.
    pub(crate) upto: u64,
}

/// What to do when the journal has failed: the default ends the process.
pub type OnPoison = Arc<dyn Fn(&SyncError) + Send + Sync>;

/// Hands on what has become durable.
pub(crate) struct DurableSink {
    pub(crate) figures: Arc<Figures>,
    pub(crate) rows: Sender<Part>,
    pub(crate) on_poison: OnPoison,
    /// LSN of the last record of each shard.
    last: Vec<u64>,
    /// Where the group before ended.
    through: u64,
    /// Of the group that is handed on: sessions to wake, room to give back for each shard, events. Each is done once.
    to_wake: Vec<Arc<Session>>,
    room: Vec<Option<Permit>>,
    acked: u64,
}

impl DurableSink {
    pub(crate) fn new(
        shards: usize,
        figures: Arc<Figures>,
        rows: Sender<Part>,
        on_poison: OnPoison,
        end: Lsn,
    ) -> Self {
        Self {
            figures,
            rows,
            on_poison,
            last: vec![0; shards],
            through: end.get(),
            to_wake: Vec::new(),
            room: (0..shards).map(|_| None).collect(),
            acked: 0,
        }
    }

    fn record(&mut self, shard: usize, lsn: Lsn) {
        if let Some(last) = self.last.get_mut(shard) {
            *last = lsn.get();
        }
    }

    fn ack(&mut self, lsn: Lsn, done: FrameDone) {
        let FrameDone {
            session,
            shard,
            upto,
            refusals,
            kept,
            received,
            permit,
        } = done;
        self.figures.ack.add(received.elapsed());
        self.acked += u64::from(kept);
        if session.durable(lsn.get(), upto.get(), &refusals) {
            self.to_wake.push(session);
        }
        match self.room.get_mut(shard) {
            Some(Some(room)) => room.join(permit),
            Some(none) => *none = Some(permit),
            None => drop(permit),
        }
    }

    // The end of a group: a session with many frames in it is woken once, and so are those who wait for room.
    fn wake(&mut self) {
        let acked = std::mem::take(&mut self.acked);
        self.figures.acked.fetch_add(acked, Ordering::Relaxed);
        for session in self.to_wake.drain(..) {
            session.wake();
        }
        for room in &mut self.room {
            drop(room.take());
        }
    }

    fn rows(&self, shard: usize, round: u64, mut dirty: Box<Dirty>, upto: u64) {
        let applied = self.last.get(shard).copied().unwrap_or(0);
        dirty.set_applied(applied);
        let part = Part {
            shard,
            round,
            dirty,
            upto,
        };
        // There is room for a part of every shard and round. A flush thread that has ended needs none.
        if self.rows.try_send(part).is_err() {
            tracing::debug!(shard, "rows without a flush to take them");
        }
    }
}

impl Sink<Companion> for DurableSink {
    fn durable(&mut self, durable: &Durable, group: &mut Vec<(Lsn, Companion)>) {
        let records = group.iter().rposition(|(_, one)| one.is_record());
        // The last record before a marker bounds what its rows hold: others of the same group may come behind it.
        let mut before = None;
        for (at, (lsn, companion)) in group.drain(..).enumerate() {
            match companion {
                Companion::Frame(done) => {
                    self.record(done.shard, lsn);
                    before = Some(lsn.get());
                    self.ack(lsn, done);
                }
                // What it repeats lies before it.
                Companion::Known(done) => self.ack(lsn, done),
                Companion::Registered { shard } => {
                    self.record(shard, lsn);
                    before = Some(lsn.get());
                }
                Companion::Retried { shard, reply } => {
                    self.record(shard, lsn);
                    before = Some(lsn.get());
                    // Whoever asked may have gone.
                    let _gone = reply.send(());
                }
                Companion::Welcome(session, welcome, _permit) => session.welcome(welcome),
                Companion::Bye(session, last, _permit) => session.end_committed(last),
                Companion::Left(sessions) => {
                    for (session, last) in sessions {
                        session.end_committed(last);
                    }
                }
                Companion::Rows {
                    shard,
                    round,
                    dirty,
                } => {
                    let is_behind_all = records.is_none_or(|last| last < at)
                        || crate::planted::is("watermark-ahead");
                    let upto = if is_behind_all {
                        durable.through().get()
                    } else {
                        before.unwrap_or(self.through)
                    };
                    self.rows(shard, round, dirty, upto);
                }
                Companion::Barrier(passed) => {
                    let _gone = passed.send(());
                }
            }
        }
        self.wake();
        self.through = durable.through().get();
        self.figures.durable(self.through);
    }

    fn poisoned(&mut self, error: &SyncError) {
        (self.on_poison)(error);
    }
}

impl Companion {
    const fn is_record(&self) -> bool {
        matches!(
            self,
            Self::Frame(_) | Self::Registered { .. } | Self::Retried { .. }
        )
    }
}

/// Ends the process without another ack: what the page cache says after a failed sync is worth nothing.
pub(crate) fn abort(error: &SyncError) {
    tracing::error!(
        %error,
        "ending the process: a write or sync of the journal failed, nothing more is acknowledged; look at the disk, then start again"
    );
    std::process::abort();
}

#[cfg(test)]
mod tests;
