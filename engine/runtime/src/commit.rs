//! What rides through the committer beside each record, and what happens when it is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam::channel::Sender;
use till_core::Dirty;
use till_protocol::code::Reason;
use till_protocol::id::Seq;
use till_storage::journal::{CommitError, Durable, Lsn, Sink};
use tokio::sync::OwnedSemaphorePermit;

use crate::published::Published;
use crate::session::Session;

/// An answer that is owed once a record is durable.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) session: Arc<Session>,
    pub(crate) upto: Seq,
    pub(crate) refusals: Vec<(Seq, Reason)>,
    pub(crate) events: u32,
    pub(crate) received: Instant,
    /// Given back when it is dropped: the batch no longer counts against its shard's bound.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What rides beside a record or as a marker of its own.
#[derive(Debug)]
pub(crate) enum Companion {
    /// A batch of a device.
    Batch {
        /// Which shard handled it.
        shard: usize,
        /// The answer.
        owed: Owed,
    },
    /// A record that nobody waits for (a registration, a retry).
    Quiet {
        /// Which shard made it.
        shard: usize,
    },
    /// Nothing new to write: acknowledge again, once all before is durable.
    Known(Owed),
    /// Rows that may be written once all before is durable.
    Rows {
        /// Which shard they are of.
        shard: usize,
        /// The rows.
        dirty: Box<Dirty>,
    },
    /// Someone who waits for all before to be durable.
    Waiter(Sender<()>),
}

/// Rows that may be written, and how far the journal is in them.
#[derive(Debug)]
pub(crate) struct Flush {
    pub(crate) shard: usize,
    pub(crate) dirty: Box<Dirty>,
    /// Everything of this shard that begins before it is in the rows.
    pub(crate) end: Lsn,
}

/// Hands on what is durable.
#[derive(Debug)]
pub(crate) struct Answers {
    flushes: Sender<Flush>,
    published: Arc<Published>,
    /// Place of each shard's last record: how far its stores are applied.
    last: Vec<Lsn>,
    durable: Arc<AtomicU64>,
}

impl Answers {
    pub(crate) fn new(
        flushes: Sender<Flush>,
        published: Arc<Published>,
        shards: usize,
        durable: Arc<AtomicU64>,
    ) -> Self {
        Self {
            flushes,
            published,
            last: vec![Lsn::new(0); shards],
            durable,
        }
    }

    fn answer(&self, owed: Owed) {
        let Owed {
            session,
            upto,
            refusals,
            events,
            received,
            permit,
        } = owed;
        session.durable(upto, refusals);
        self.published.acked(events, received.elapsed());
        drop(permit);
    }

    fn noted(&mut self, shard: usize, at: Lsn) {
        if let Some(last) = self.last.get_mut(shard) {
            *last = at;
        }
    }
}

impl Sink<Companion> for Answers {
    fn durable(&mut self, durable: &Durable, group: &mut Vec<(Lsn, Companion)>) {
        let end = durable.through();
        self.durable.store(end.get(), Ordering::Release);
        for (at, companion) in group.drain(..) {
            match companion {
                Companion::Batch { shard, owed } => {
                    self.noted(shard, at);
                    self.answer(owed);
                }
                Companion::Quiet { shard } => self.noted(shard, at),
                Companion::Known(owed) => self.answer(owed),
                Companion::Rows { shard, mut dirty } => {
                    let last = self.last.get(shard).copied().unwrap_or_else(|| Lsn::new(0));
                    dirty.set_applied(last.get());
                    // The flush thread outlives the committer; if it is gone, the rows are rebuilt at the next start.
                    let _gone = self.flushes.send(Flush { shard, dirty, end });
                }
                Companion::Waiter(waiter) => {
                    let _gave_up = waiter.try_send(());
                }
            }
        }
    }

    fn poisoned(&mut self, error: &CommitError) {
        // What is on the disk is in doubt, and every acknowledgement from here on would be a guess. The next start reads
        // what is really there.
        tracing::error!(%error, "the journal failed; ending the process without another acknowledgement");
        std::process::abort();
    }
}
