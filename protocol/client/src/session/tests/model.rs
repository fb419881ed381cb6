//! The smallest engine, and memories that a test can look into.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use till_protocol::codec::Frame;
use till_protocol::id::{Seq, StoreId, TillId};
use till_protocol::reply::{Ack, Check, Checked, Hello, Message, Nack, Welcome, welcome_flag};
use till_protocol::time::Timestamp;

use super::*;
use crate::deadletter::MemoryDeadLetters;
use crate::outbox::{MemoryOutbox, Stored, Sync, SyncDone, SyncJob};

/// An outbox that a test can look into, copy and put back.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(pub(super) Arc<Mutex<MemoryOutbox>>);

impl Outbox for Shared {
    fn standing(&self) -> Standing {
        self.0.lock().unwrap().standing()
    }
    fn has_room(&self) -> bool {
        true
    }
    fn sync_policy(&self) -> Sync {
        Sync::Group
    }
    fn survives_crash(&self) -> bool {
        false
    }
    fn append(&mut self, frame: Bytes, count: u32) -> Result<(), OutboxError> {
        self.0.lock().unwrap().append(frame, count)
    }
    fn frame_of(&mut self, seq: u64) -> Result<Option<Stored>, OutboxError> {
        self.0.lock().unwrap().frame_of(seq)
    }
    fn commit(&mut self, upto: u64) -> Result<(), OutboxError> {
        self.0.lock().unwrap().commit(upto)
    }
    fn begin_epoch(&mut self, epoch: Epoch, from: u64) -> Result<(), OutboxError> {
        self.0.lock().unwrap().begin_epoch(epoch, from)
    }
    fn sync_job(&mut self) -> Option<SyncJob> {
        None
    }
    fn synced(&mut self, _done: SyncDone) -> Result<(), OutboxError> {
        Ok(())
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct SharedDead(pub(super) Arc<Mutex<MemoryDeadLetters>>);

impl DeadLetters for SharedDead {
    fn put(&mut self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        self.0.lock().unwrap().put(letter)
    }
}

impl SharedDead {
    pub(super) fn marks(&self) -> BTreeSet<u64> {
        let dead = self.0.lock().unwrap();
        let letters = dead.letters().iter();
        letters
            .map(|letter| frame::mark(&letter.frame, 0).unwrap())
            .collect()
    }
}

pub(super) fn terminal() -> TerminalId {
    TerminalId::new(StoreId::new(7).unwrap(), TillId::new(1).unwrap())
}

/// The smallest engine: one terminal's epochs as lists of marks.
#[derive(Debug, Default)]
pub(super) struct Engine {
    pub(super) epochs: BTreeMap<u32, Vec<u64>>,
    /// What took effect, in order.
    pub(super) applied: Vec<u64>,
    /// Marks that are refused.
    pub(super) refuses: BTreeSet<u64>,
    pub(super) committed: u64,
    pub(super) epoch: u32,
    /// Events below this number can't be looked up any more, in any epoch.
    pub(super) retained_from: u64,
}

impl Engine {
    pub(super) fn hear(&mut self, bytes: &Bytes, say: &mut VecDeque<Bytes>) {
        let heard = Frame::decode(bytes.clone()).unwrap();
        let reply = match Message::decode(&heard) {
            Ok(Message::Hello(hello)) => self.greet(&hello),
            Ok(Message::Check(check)) => self.check(&check),
            Ok(_) => return,
            Err(_) => self.take(bytes, heard.header.first_seq, heard.header.count),
        };
        say.push_back(reply.encode());
    }

    fn greet(&mut self, hello: &Hello) -> Message {
        let latest = self.epochs.keys().last().copied().unwrap_or(0);
        self.epoch = hello.epoch.map_or(latest + 1, Epoch::get);
        let known = self.epochs.get(&self.epoch).cloned().unwrap_or_default();
        self.committed = self.committed.min(length_of(&known));
        Message::Welcome(Welcome {
            terminal: hello.terminal,
            epoch: Epoch::new(self.epoch).unwrap(),
            latest_epoch: Epoch::new(latest.max(1)).unwrap(),
            next_seq: seq(length_of(&known) + 1),
            mark: known.last().copied().unwrap_or(0),
            credit_frames: 4,
            frame_bytes_max: 1 << 20,
            frame_events_max: 1_024,
            time: Timestamp::default(),
            flags: if self.epoch < latest {
                welcome_flag::CLOSED
            } else {
                0
            },
        })
    }

    fn check(&self, check: &Check) -> Message {
        let own = self
            .epochs
            .get(&check.epoch.get())
            .cloned()
            .unwrap_or_default();
        let at = usize::try_from(check.first_seq.get() - 1).unwrap();
        let looked_up = |seq: u64| seq >= self.retained_from;
        let seqs = (check.first_seq.get()..).take(check.marks.len());
        let known = seqs.clone().filter(|seq| looked_up(*seq)).count();
        let matched = check
            .marks
            .iter()
            .zip(own.iter().skip(at))
            .zip(seqs)
            .take_while(|((theirs, ours), seq)| {
                (theirs == ours || self.refuses.contains(ours)) && looked_up(*seq)
            })
            .count();
        Message::Checked(Checked {
            epoch: check.epoch,
            first_seq: check.first_seq,
            matched: u16::try_from(matched).unwrap(),
            known: u16::try_from(known).unwrap(),
        })
    }

    fn take(&mut self, frame: &Bytes, first: u64, count: u32) -> Message {
        let latest = self.epochs.keys().last().copied().unwrap_or(0);
        assert!(self.epoch >= latest, "events came under a closed epoch");
        let epoch = self.epochs.entry(self.epoch).or_default();
        if first > length_of(epoch) + 1 {
            return Message::Nack(Nack {
                expected: seq(length_of(epoch) + 1),
            });
        }
        let mut refusals = Vec::new();
        for (index, seq) in (0..count).zip(first..) {
            let mark = frame::mark(frame, index).unwrap();
            let refused = self.refuses.contains(&mark);
            if refused {
                refusals.push((Seq::new(seq).unwrap(), Reason::BadTime));
            }
            if seq == length_of(epoch) + 1 {
                epoch.push(mark);
                if !refused {
                    self.applied.push(mark);
                }
            }
        }
        Message::Ack(Ack {
            journalled: Seq::new(length_of(epoch)).ok(),
            committed: Seq::new(self.committed).ok(),
            refusals,
        })
    }

    pub(super) fn commit(&mut self) -> Option<Message> {
        let journalled = length_of(self.epochs.get(&self.epoch)?);
        self.committed = journalled;
        Some(Message::Ack(Ack {
            journalled: Seq::new(journalled).ok(),
            committed: Seq::new(journalled).ok(),
            refusals: Vec::new(),
        }))
    }
}

pub(super) fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

pub(super) fn length_of<T>(list: &[T]) -> u64 {
    u64::try_from(list.len()).unwrap()
}
