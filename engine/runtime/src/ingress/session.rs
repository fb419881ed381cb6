//! A session: what the shard and the journal have to say to one stream, coalesced until its writer takes it.
//!
//! An ack speaks of what this stream has sent, never of what the engine knows besides: a device whose history is another
//! one must not take it for its own.

pub(crate) mod farewell;
pub(crate) mod pending_refusals;
mod uncommitted;

use std::mem;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut as _, Bytes, BytesMut};
use till_core::SessionKey;
use till_protocol::code::Reason;
use till_protocol::id::{Seq, TerminalId};
use till_protocol::limits::NOTICE_BYTES_MAX;
use till_protocol::reply::{Ack, Bye, Checked, Message, Nack, Slow, Welcome};
use tokio::sync::{Semaphore, watch};

use crate::ingress::placement::Commits;
pub(crate) use crate::ingress::session::farewell::Farewell;
use crate::ingress::session::pending_refusals::PendingRefusals;
pub(crate) use crate::ingress::session::pending_refusals::RUNS_MAX;
use crate::ingress::session::uncommitted::Uncommitted;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Notify, Ordering};

/// One stream of one terminal. Shared by its reader, its writer, its shard and the journal's thread.
#[derive(Debug)]
pub struct Session {
    terminal: TerminalId,
    /// Which epoch it speaks for; set by the shard when it accepts.
    established: OnceLock<Established>,
    /// The handshake is on its way: what it speaks of is durable.
    welcomed: watch::Sender<bool>,
    /// Last sequence number that this stream has sent and that is durable; 0 = none.
    journalled: AtomicU64,
    /// What is durable and not committed; `None` where the one is the other.
    uncommitted: Option<Mutex<Uncommitted>>,
    /// Last sequence number that was given to the journal, of this stream or as its handshake had it. Its shard alone changes it.
    taken: AtomicU64,
    /// What was asked for again, so that one gap is told once.
    nacked: AtomicU64,
    /// Last sequence number that was known when the session began, and came again.
    repeated: AtomicU64,
    /// What its shard has found to be to no effect, and its connection is not charged with yet.
    useless: AtomicU64,
    /// A newer session took its place, or it was ended: nothing more is taken from it.
    over: AtomicBool,
    /// Room for the refusals that wait for all devices.
    room: Arc<Semaphore>,
    out: Mutex<Outgoing>,
    flagged: AtomicBool,
    wake: Notify,
}

/// Whom the shard has accepted, and where that epoch stood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Established {
    pub(crate) key: SessionKey,
    /// Last sequence number that was known; 0 = none.
    pub(crate) known: u64,
    /// Some event of this terminal was refused.
    pub(crate) has_refusals: bool,
}

#[derive(Debug, Default)]
struct Outgoing {
    welcome: Option<Welcome>,
    acked: u64,
    committed: u64,
    /// Refusals that no ack has told.
    pending_refusals: PendingRefusals,
    /// More refusals than fit came while the device did not listen: nothing more is acked.
    is_overrun: bool,
    nack: Option<Seq>,
    checked: Vec<(Checked, Vec<(Seq, Reason)>)>,
    slow: Option<u32>,
    /// The end, once all that was sent is committed.
    held: Option<Farewell>,
    bye: Option<Message>,
    is_closed: bool,
}

/// Answers to Checks that may wait; a device asks one at a time.
const CHECKED_MAX: usize = 4;

/// What the writer is to send.
#[derive(Debug, Default)]
pub struct Messages {
    /// Whole frames, one after another.
    pub bytes: Bytes,
    /// Nothing follows.
    pub is_last: bool,
}

impl Session {
    pub(crate) fn new(terminal: TerminalId, room: Arc<Semaphore>, commits: Commits) -> Self {
        Self {
            terminal,
            established: OnceLock::new(),
            welcomed: watch::Sender::new(false),
            journalled: AtomicU64::new(0),
            uncommitted: match commits {
                Commits::WithJournal => None,
                Commits::Apart => Some(Mutex::default()),
            },
            taken: AtomicU64::new(0),
            nacked: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            useless: AtomicU64::new(0),
            over: AtomicBool::new(false),
            room,
            out: Mutex::new(Outgoing::default()),
            flagged: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Who speaks.
    pub const fn terminal(&self) -> TerminalId {
        self.terminal
    }

    /// The epoch that was accepted.
    pub(crate) fn key(&self) -> Option<SessionKey> {
        self.established.get().map(|established| established.key)
    }

    /// The shard has accepted it as a epoch of the terminal.
    pub(crate) fn established(&self, established: Established) {
        self.taken.store(established.known, Ordering::Relaxed);
        // The first handshake stands: a second Hello on a stream never gets here.
        let _first = self.established.set(established);
    }

    /// Waits until all that the handshake speaks of is durable. `None`: the session ended first.
    pub(crate) async fn welcomed(&self) -> Option<Established> {
        if !*self.welcomed.borrow() {
            let mut welcomed = self.welcomed.subscribe();
            // The sender lives as long as the session.
            let _never_closed = welcomed
                .wait_for(|welcomed| *welcomed || self.is_over())
                .await;
        }
        self.welcomed_now()
    }

    /// Takes nothing more from it; its last word is on the way.
    pub(crate) fn stop(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Whether it was ended or replaced.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Sends the handshake. Everything before `next_seq` is durable.
    pub(crate) fn welcome(&self, welcome: Welcome) {
        self.out.lock().welcome = Some(welcome);
        self.welcomed.send_replace(true);
        self.flag();
    }

    /// What this stream has sent up to `upto` is durable at an LSN of the journal. True: [`wake`](Self::wake) it, once its
    /// group is through; until then more may come, and one message says it all.
    #[must_use]
    pub(crate) fn durable(&self, position: u64, upto: u64, refusals: &[(Seq, Reason)]) -> bool {
        // Before the number rises, so that no ack covers a refused event without its refusal.
        self.refused(refusals);
        self.journalled.fetch_max(upto, Ordering::AcqRel);
        if let Some(uncommitted) = &self.uncommitted {
            uncommitted.lock().durable(position, upto);
        }
        !self.flagged.swap(true, Ordering::AcqRel)
    }

    /// All that this terminal has in the journal up to an LSN is committed. Places never fall. Nothing is to be said where a
    /// commit is not apart from the journal.
    pub(crate) fn committed_upto(&self, position: u64) {
        let Some(uncommitted) = &self.uncommitted else {
            return;
        };
        let (has_risen, is_done) = {
            let mut uncommitted = uncommitted.lock();
            (uncommitted.committed_upto(position), uncommitted.is_done())
        };
        if is_done {
            self.let_go();
        }
        if has_risen {
            self.flag();
        }
    }

    /// Wakes the writer.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Keeps refusals for the ack that covers them. They may come before what they speak of is durable.
    pub(crate) fn refused(&self, refusals: &[(Seq, Reason)]) {
        if refusals.is_empty() {
            return;
        }
        #[cfg(feature = "planted")]
        if till_core::planted::is("drop-refusals") {
            return;
        }
        let mut out = self.out.lock();
        if out.is_overrun || out.pending_refusals.add(&self.room, refusals) {
            return;
        }
        out.is_overrun = true;
        out.pending_refusals = PendingRefusals::default();
        drop(out);
        self.bye(Reason::Busy, Some("too many refusals wait to be read"));
    }

    /// Asks for events again, once for each gap.
    pub(crate) fn gap(&self, expected: Seq) {
        if self.nacked.swap(expected.get(), Ordering::Relaxed) != expected.get() {
            self.out.lock().nack = Some(expected);
            self.flag();
        }
    }

    /// A frame was taken: the next gap is told again.
    pub(crate) fn in_step(&self, upto: Seq) {
        self.nacked.store(0, Ordering::Relaxed);
        self.taken.fetch_max(upto.get(), Ordering::Relaxed);
    }

    /// A frame came whose events are all known. Once in a session a device may say again what was known before it, in its
    /// order: it had no ack for it when its line broke. What else is known it has said in this very session.
    pub(crate) fn again(&self, upto: Seq) {
        let known = self
            .established
            .get()
            .map_or(0, |established| established.known);
        let before = self.repeated.fetch_max(upto.get(), Ordering::Relaxed);
        if upto.get() > known || upto.get() <= before {
            self.is_useless(1);
        }
    }

    /// Something was to no effect.
    pub(crate) fn is_useless(&self, points: u64) {
        self.useless.fetch_add(points, Ordering::Relaxed);
    }

    /// What was to no effect since this was asked last.
    pub fn take_useless(&self) -> u64 {
        match self.useless.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.useless.swap(0, Ordering::Relaxed),
        }
    }

    /// The sequence number that comes next.
    pub(crate) fn expected(&self) -> u64 {
        self.taken.load(Ordering::Relaxed).saturating_add(1)
    }

    /// Answers a Check, with the refusals among what matched. `false`: too many answers wait.
    pub(crate) fn checked(&self, checked: Checked, refusals: Vec<(Seq, Reason)>) -> bool {
        let mut out = self.out.lock();
        if out.checked.len() >= CHECKED_MAX {
            return false;
        }
        out.checked.push((checked, refusals));
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
        self.say_last(bye.into());
        self.end();
    }

    // The first reason stands, also one that waits.
    fn say_last(&self, last: Message) {
        let mut out = self.out.lock();
        match out.held.take() {
            Some(held) => out.end_with(held),
            None => {
                out.bye.get_or_insert(last);
            }
        }
    }

    /// Ends the stream once all that it has sent is committed: nothing more is taken from it, and its last ack leaves before
    /// the last word. Whoever waits for that bounds the wait by [`Session::let_go`].
    pub(crate) fn end_committed(&self, last: Farewell) {
        self.over.store(true, Ordering::Release);
        self.out.lock().held.get_or_insert(last);
        // Looked at once the word is there: a commit in the meantime finds it.
        let is_done = self
            .uncommitted
            .as_ref()
            .is_none_or(|all| all.lock().is_done());
        if is_done {
            self.let_go();
        }
        self.welcomed.send_modify(|_| {});
    }

    /// Says the last word now, if one waits for a commit.
    pub fn let_go(&self) {
        let mut out = self.out.lock();
        let Some(held) = out.held.take() else {
            return;
        };
        out.end_with(held);
        drop(out);
        self.end();
    }

    /// The store is not this engine's any more: what the session has sent and is not committed yet is for others to commit.
    /// Should the store come back, commits from then on say nothing of it. The last word is said now if one waits.
    pub(crate) fn part(&self) {
        if let Some(uncommitted) = &self.uncommitted {
            uncommitted.lock().end();
        }
        self.let_go();
    }

    /// Ends the stream without a word: the device said goodbye, or is gone.
    pub fn close(&self) {
        self.over.store(true, Ordering::Release);
        self.out.lock().is_closed = true;
        self.end();
    }

    fn end(&self) {
        // Whoever waits for the handshake looks again.
        self.welcomed.send_modify(|_| {});
        self.flag();
    }

    /// Waits until there is something to send.
    pub async fn messages(&self) -> Messages {
        loop {
            self.wake.notified().await;
            let messages = self.messages_now();
            if messages.is_last || !messages.bytes.is_empty() {
                return messages;
            }
        }
    }

    /// What there is to send now.
    pub(crate) fn messages_now(&self) -> Messages {
        self.flagged.store(false, Ordering::Release);
        self.take()
    }

    /// Whom the shard has accepted, once what the handshake speaks of is durable.
    pub(crate) fn welcomed_now(&self) -> Option<Established> {
        let established = self.established.get().copied();
        established.filter(|_| *self.welcomed.borrow() && !self.is_over())
    }

    fn take(&self) -> Messages {
        let mut out = self.out.lock();
        let mut bytes = BytesMut::new();
        if let Some(welcome) = out.welcome.take() {
            bytes.put(welcome.encode());
        }
        // What is committed is read first: it is never more than what is durable.
        let committed = self.uncommitted.as_ref().map(|all| all.lock().committed());
        let upto = self.journalled.load(Ordering::Acquire);
        if out.put_ack(&mut bytes, upto, committed.unwrap_or(upto)) {
            drop(out);
            self.flag();
            return Messages {
                bytes: bytes.freeze(),
                is_last: false,
            };
        }
        if let Some(expected) = out.nack.take() {
            bytes.put(Nack { expected }.encode());
        }
        for (checked, refusals) in mem::take(&mut out.checked) {
            if !refusals.is_empty() {
                bytes.put(out.ack(&refusals));
            }
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
            self.wake();
        }
    }
}

impl Outgoing {
    // One ack at a time, so that what waits in a writer is small too. Refusals beyond it come in acks of their own, before
    // anything else is said. An ack ends before the first refusal of the next one: a device forgets what an ack covers.
    // True: there is another.
    fn put_ack(&mut self, bytes: &mut BytesMut, upto: u64, committed: u64) -> bool {
        if self.is_overrun {
            return false;
        }
        let (refusals, next) = self.pending_refusals.take(upto);
        let upto = next.map_or(upto, |next| next.saturating_sub(1));
        let acked = upto.max(self.acked);
        let committed = committed.min(acked).max(self.committed);
        if acked > self.acked || committed > self.committed || !refusals.is_empty() {
            (self.acked, self.committed) = (acked, committed);
            bytes.put(self.ack(&refusals));
            #[cfg(feature = "planted")]
            if till_core::planted::is("ack-falls") && acked > 0 {
                (self.acked, self.committed) = (acked - 1, committed.saturating_sub(1));
                bytes.put(self.ack(&[]));
            }
        }
        next.is_some()
    }

    fn ack(&self, refusals: &[(Seq, Reason)]) -> Bytes {
        let ack = Ack {
            journalled: Seq::new(self.acked).ok(),
            committed: Seq::new(self.committed).ok(),
            refusals: refusals.to_vec(),
        };
        ack.encode()
    }

    fn end_with(&mut self, last: Farewell) {
        match last.into_message() {
            Some(message) => {
                self.bye.get_or_insert(message);
            }
            None => self.is_closed = true,
        }
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(NOTICE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod shuttled;
#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests;
