//! One terminal's session: what the shard and the committer have to say to its device.
//!
//! Written from any thread, read by the one task that owns the sending half of the stream. Nothing queues here: sequence
//! numbers only rise, so the latest one stands for all before it.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use parking_lot::Mutex;
use till_core::SessionKey;
use till_protocol::code::Reason;
use till_protocol::id::Seq;
use till_protocol::reply::{Ack, Message, Nack};
use tokio::sync::Notify;

/// A live session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Who speaks.
    pub(crate) key: SessionKey,
    /// Rises with every Hello that a shard answered; a shard takes frames of a terminal's newest session only.
    pub(crate) generation: u64,
    journalled: AtomicU64,
    /// Sequence number that a device must go on with; 0 = no gap.
    gap: AtomicU64,
    refusals: Mutex<Vec<(Seq, Reason)>>,
    has_refusals: AtomicBool,
    over: AtomicU16,
    news: Notify,
}

impl Session {
    pub(crate) fn new(key: SessionKey, generation: u64) -> Self {
        Self {
            key,
            generation,
            journalled: AtomicU64::new(0),
            gap: AtomicU64::new(0),
            refusals: Mutex::new(Vec::new()),
            has_refusals: AtomicBool::new(false),
            over: AtomicU16::new(0),
            news: Notify::new(),
        }
    }

    /// Everything up to `upto` is durable. Called with proof of it, by the committer alone.
    pub(crate) fn durable(&self, upto: Seq, refusals: Vec<(Seq, Reason)>) {
        if !refusals.is_empty() {
            self.refusals.lock().extend(refusals);
            self.has_refusals.store(true, Ordering::Release);
        }
        self.journalled.fetch_max(upto.get(), Ordering::AcqRel);
        self.news.notify_one();
    }

    /// Events are missing: the device must go on with `expected`.
    pub(crate) fn gap(&self, expected: Seq) {
        self.gap.store(expected.get(), Ordering::Release);
        self.news.notify_one();
    }

    /// The session ends, for a reason. The first reason stands.
    pub(crate) fn end(&self, reason: Reason) {
        let _first_stands =
            self.over
                .compare_exchange(0, reason.code(), Ordering::AcqRel, Ordering::Acquire);
        self.news.notify_one();
    }

    /// Waits for something to say.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Why the session is over, once it is.
    pub(crate) fn over(&self) -> Option<Reason> {
        match self.over.load(Ordering::Acquire) {
            0 => None,
            code => Some(Reason::from_code(code)),
        }
    }

    /// What is new since `said`, the last sequence number that was acknowledged on this stream.
    pub(crate) fn message(&self, said: &mut u64) -> Option<Message> {
        let refusals = if self.has_refusals.swap(false, Ordering::AcqRel) {
            std::mem::take(&mut *self.refusals.lock())
        } else {
            Vec::new()
        };
        let upto = self.journalled.load(Ordering::Acquire);
        if upto > *said || !refusals.is_empty() {
            *said = upto;
            let upto = Seq::new(upto).ok();
            // On one machine what is journalled is committed.
            return Some(Message::Ack(Ack {
                journalled: upto,
                committed: upto,
                refusals,
            }));
        }
        let expected = Seq::new(self.gap.swap(0, Ordering::AcqRel)).ok()?;
        Some(Message::Nack(Nack { expected }))
    }
}
