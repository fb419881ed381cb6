//! A session: what the shard and the journal have to say to one stream, coalesced until its writer takes it.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{BufMut as _, Bytes, BytesMut};
use parking_lot::Mutex;
use till_core::SessionKey;
use till_protocol::code::Reason;
use till_protocol::id::{Seq, TerminalId};
use till_protocol::limits::{ACK_REFUSALS_MAX, NOTICE_BYTES_MAX};
use till_protocol::reply::{Ack, Bye, Checked, Nack, Slow, Welcome};
use tokio::sync::Notify;

/// One stream of one terminal. Shared by its reader, its writer, its shard and the journal's thread.
#[derive(Debug)]
pub(crate) struct Session {
    terminal: TerminalId,
    /// Which life it speaks for; set by the shard when it greets.
    key: OnceLock<SessionKey>,
    /// Last sequence number that is durable; 0 = none.
    journalled: AtomicU64,
    /// What was asked for again, so that one gap is told once.
    nacked: AtomicU64,
    /// A newer session took its place, or it was ended: nothing more is taken from it.
    over: AtomicBool,
    out: Mutex<Outgoing>,
    flagged: AtomicBool,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Outgoing {
    welcome: Option<Welcome>,
    acked: u64,
    refusals: Vec<(Seq, Reason)>,
    nack: Option<Seq>,
    checked: Vec<Checked>,
    slow: Option<u32>,
    bye: Option<Bye>,
    is_closed: bool,
}

/// Answers to Checks that may wait; a device asks one at a time.
const CHECKED_MAX: usize = 4;

/// What the writer is to send.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// Whole frames, one after another.
    pub(crate) bytes: Bytes,
    /// Nothing follows.
    pub(crate) is_last: bool,
}

impl Session {
    pub(crate) fn new(terminal: TerminalId) -> Self {
        Self {
            terminal,
            key: OnceLock::new(),
            journalled: AtomicU64::new(0),
            nacked: AtomicU64::new(0),
            over: AtomicBool::new(false),
            out: Mutex::new(Outgoing::default()),
            flagged: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Who speaks.
    pub(crate) const fn terminal(&self) -> TerminalId {
        self.terminal
    }

    /// The life that was greeted.
    pub(crate) fn key(&self) -> Option<SessionKey> {
        self.key.get().copied()
    }

    /// The shard has greeted it as this life of the terminal.
    pub(crate) fn greeted(&self, key: SessionKey) {
        // The first greeting stands: a second Hello on a stream never gets here.
        let _first = self.key.set(key);
    }

    /// Whether it was ended or replaced.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Sends the greeting. Everything before `next_seq` is durable.
    pub(crate) fn welcome(&self, welcome: Welcome) {
        let mut out = self.out.lock();
        let known = welcome.next_seq.get().saturating_sub(1);
        self.journalled.fetch_max(known, Ordering::AcqRel);
        out.welcome = Some(welcome);
        drop(out);
        self.flag();
    }

    /// Everything up to `upto` is durable. True: [`tell`](Self::tell) it, once its group is through; until then more may
    /// come, and one message says it all.
    #[must_use]
    pub(crate) fn durable(&self, upto: u64, refusals: Vec<(Seq, Reason)>) -> bool {
        if refusals.is_empty() {
            self.journalled.fetch_max(upto, Ordering::AcqRel);
        } else {
            // Under the lock, so that no ack covers a refused event without its refusal.
            let mut out = self.out.lock();
            self.journalled.fetch_max(upto, Ordering::AcqRel);
            out.refusals.extend(refusals);
        }
        !self.flagged.swap(true, Ordering::AcqRel)
    }

    /// Wakes the writer.
    pub(crate) fn tell(&self) {
        self.wake.notify_one();
    }

    /// Asks for events again, once for each gap.
    pub(crate) fn gap(&self, expected: Seq) {
        if self.nacked.swap(expected.get(), Ordering::Relaxed) != expected.get() {
            self.out.lock().nack = Some(expected);
            self.flag();
        }
    }

    /// A frame was taken: the next gap is told again.
    pub(crate) fn in_step(&self) {
        self.nacked.store(0, Ordering::Relaxed);
    }

    /// Answers a Check. `false`: too many wait.
    pub(crate) fn checked(&self, checked: Checked) -> bool {
        let mut out = self.out.lock();
        if out.checked.len() >= CHECKED_MAX {
            return false;
        }
        out.checked.push(checked);
        drop(out);
        self.flag();
        true
    }

    /// Tells the device that it is held back.
    pub(crate) fn slow(&self, wait_ms: u32) {
        self.out.lock().slow = Some(wait_ms);
        self.flag();
    }

    /// Ends the stream with a reason; what is durable is acked before. The first reason stands.
    pub(crate) fn bye(&self, reason: Reason, text: Option<&str>) {
        self.over.store(true, Ordering::Release);
        let mut bye = Bye::new(reason);
        if let Some(text) = text {
            bye.text = cut(text);
        }
        self.out.lock().bye.get_or_insert(bye);
        self.flag();
    }

    /// Ends the stream without a word: the device said goodbye, or is gone.
    pub(crate) fn close(&self) {
        self.over.store(true, Ordering::Release);
        self.out.lock().is_closed = true;
        self.flag();
    }

    /// Waits until there is something to send.
    pub(crate) async fn messages(&self) -> Messages {
        loop {
            self.wake.notified().await;
            self.flagged.store(false, Ordering::Release);
            let messages = self.take();
            if messages.is_last || !messages.bytes.is_empty() {
                return messages;
            }
        }
    }

    fn take(&self) -> Messages {
        let mut out = self.out.lock();
        let mut bytes = BytesMut::new();
        if let Some(welcome) = out.welcome.take() {
            bytes.put(welcome.encode());
            out.acked = 0;
        }
        let upto = self.journalled.load(Ordering::Acquire);
        // An ack before the greeting would be of another session's making.
        if self.key.get().is_some() && (upto > out.acked || !out.refusals.is_empty()) {
            put_acks(&mut bytes, upto, &mem::take(&mut out.refusals));
            out.acked = upto;
        }
        if let Some(expected) = out.nack.take() {
            bytes.put(Nack { expected }.encode());
        }
        for checked in mem::take(&mut out.checked) {
            bytes.put(checked.encode());
        }
        if let Some(wait_ms) = out.slow.take() {
            bytes.put(Slow { wait_ms }.encode());
        }
        let bye = out.bye.take();
        let is_last = bye.is_some() || out.is_closed;
        if let Some(bye) = bye {
            bytes.put(bye.encode());
            out.is_closed = true;
        }
        Messages {
            bytes: bytes.freeze(),
            is_last,
        }
    }

    fn flag(&self) {
        if !self.flagged.swap(true, Ordering::AcqRel) {
            self.tell();
        }
    }
}

// Refusals beyond one message come in acks of their own before the last.
fn put_acks(bytes: &mut BytesMut, upto: u64, refusals: &[(Seq, Reason)]) {
    let seq = Seq::new(upto).ok();
    let mut rest = refusals;
    loop {
        let (now, later) = rest.split_at(rest.len().min(ACK_REFUSALS_MAX));
        let ack = Ack {
            journalled: seq,
            committed: seq,
            refusals: now.to_vec(),
        };
        bytes.put(ack.encode());
        if later.is_empty() {
            return;
        }
        rest = later;
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(NOTICE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
