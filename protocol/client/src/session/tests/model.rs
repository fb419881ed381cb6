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
    fn sync_job(&mut self) -> Result<Option<SyncJob>, OutboxError> {
        Ok(None)
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
    pub(super) fn digests(&self) -> BTreeSet<u64> {
        let dead = self.0.lock().unwrap();
        let letters = dead.letters().iter();
        letters
            .map(|letter| frame::digest(&letter.frame, 0).unwrap())
            .collect()
    }
}

pub(super) fn terminal() -> TerminalId {
    TerminalId::new(StoreId::new(7).unwrap(), TillId::new(1).unwrap())
}

/// The smallest engine: one terminal's epochs as lists of digests.
#[derive(Debug, Default)]
pub(super) struct EngineModel {
    pub(super) epochs: BTreeMap<u32, Vec<u64>>,
    /// What took effect, in order.
    pub(super) applied: Vec<u64>,
    /// Digests that are refused.
    pub(super) refuses: BTreeSet<u64>,
    pub(super) epoch: u32,
    /// Newest epoch that was granted since the engine started.
    pub(super) granted: u32,
    /// What the stream has sent and is not yet durable: told with the next commit.
    journalled: u64,
    acked: u64,
    refusals: BTreeMap<u64, Reason>,
    /// Events below this number can't be looked up any more, in any epoch.
    pub(super) retained_from: u64,
    /// Of the epochs before this one it is forgotten how much is here.
    pub(super) forgotten_before: u32,
}

impl EngineModel {
    pub(super) fn hear(&mut self, bytes: &Bytes, say: &mut VecDeque<Bytes>) {
        let heard = Frame::decode(bytes.clone()).unwrap();
        let said = match Message::decode(&heard) {
            Ok(Message::Hello(hello)) => vec![self.handshake(&hello)],
            Ok(Message::Check(check)) => self.check(&check),
            Ok(_) => Vec::new(),
            Err(_) => self
                .take(bytes, heard.header.first_seq, heard.header.count)
                .into_iter()
                .collect(),
        };
        say.extend(said.iter().map(Message::encode));
    }

    fn latest(&self) -> u32 {
        self.epochs.keys().last().copied().unwrap_or(0)
    }

    fn handshake(&mut self, hello: &Hello) -> Message {
        let latest = self.latest();
        self.epoch = hello
            .epoch
            .map_or_else(|| latest.max(self.granted) + 1, Epoch::get);
        self.granted = self.granted.max(self.epoch);
        (self.journalled, self.acked) = (0, 0);
        self.refusals.clear();
        let is_forgotten = self.epoch < self.forgotten_before;
        let remembered = self.epochs.get(&self.epoch).filter(|_| !is_forgotten);
        let known = remembered.cloned().unwrap_or_default();
        let next_seq = match is_forgotten {
            true => Seq::MAX,
            false => seq(length_of(&known) + 1),
        };
        Message::Welcome(Welcome {
            terminal: hello.terminal,
            epoch: Epoch::new(self.epoch).unwrap(),
            latest_epoch: Epoch::new(latest).unwrap_or_else(|_| Epoch::new(self.epoch).unwrap()),
            next_seq,
            digest: known.last().copied().unwrap_or(0),
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

    fn check(&self, check: &Check) -> Vec<Message> {
        let own = self
            .epochs
            .get(&check.epoch.get())
            .cloned()
            .unwrap_or_default();
        let at = usize::try_from(check.first_seq.get() - 1).unwrap();
        let there = |seq: u64| seq >= self.retained_from && seq <= length_of(&own);
        let seqs = (check.first_seq.get()..).take(check.digests.len());
        let known = seqs.clone().take_while(|seq| there(*seq)).count();
        let pairs = check.digests.iter().zip(own.iter().skip(at));
        let matched: Vec<_> = pairs
            .zip(seqs)
            .take(known)
            .take_while(|((theirs, ours), _)| theirs == ours)
            .collect();
        let refusals: Vec<_> = matched
            .iter()
            .filter(|((_, ours), _)| self.refuses.contains(ours))
            .map(|(_, number)| (seq(*number), Reason::BadTime))
            .collect();
        let checked = Message::Checked(Checked {
            epoch: check.epoch,
            first_seq: check.first_seq,
            matched: u16::try_from(matched.len()).unwrap(),
            known: u16::try_from(known).unwrap(),
        });
        if refusals.is_empty() {
            return vec![checked];
        }
        let refused = Ack {
            refusals,
            ..Ack::default()
        };
        vec![Message::Ack(refused), checked]
    }

    fn take(&mut self, frame: &Bytes, first: u64, count: u32) -> Option<Message> {
        let latest = self.latest();
        assert!(self.epoch >= latest, "events came under a closed epoch");
        let epoch = self.epochs.entry(self.epoch).or_default();
        if first > length_of(epoch) + 1 {
            return Some(Message::Nack(Nack {
                expected: seq(length_of(epoch) + 1),
            }));
        }
        for (index, number) in (0..count).zip(first..) {
            let digest = frame::digest(frame, index).unwrap();
            let refused = self.refuses.contains(&digest);
            if refused {
                self.refusals.insert(number, Reason::BadTime);
            }
            if number == length_of(epoch) + 1 {
                epoch.push(digest);
                if !refused {
                    self.applied.push(digest);
                }
            } else {
                let known = epoch[usize::try_from(number - 1).unwrap()];
                assert_eq!(known, digest, "{number} came again with other content");
            }
        }
        self.journalled = self.journalled.max(first + u64::from(count) - 1);
        None
    }

    /// A sync: what the stream has sent is acknowledged, with at most two refusals a message.
    pub(super) fn commit(&mut self) -> Vec<Message> {
        let mut said = Vec::new();
        while self.acked < self.journalled || !self.refusals.is_empty() {
            let now: Vec<_> = (0..2).map_while(|_| self.refusals.pop_first()).collect();
            let next = self.refusals.first_key_value();
            let upto = next.map_or(self.journalled, |(next, _)| (next - 1).max(self.acked));
            self.acked = upto;
            said.push(Message::Ack(Ack {
                journalled: Seq::new(upto).ok(),
                committed: Seq::new(upto).ok(),
                refusals: now
                    .into_iter()
                    .map(|(number, reason)| (seq(number), reason))
                    .collect(),
            }));
        }
        said
    }
}

pub(super) fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

pub(super) fn length_of<T>(list: &[T]) -> u64 {
    u64::try_from(list.len()).unwrap()
}
