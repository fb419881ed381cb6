//! The oracle: knows what happened at the tills, reads what the engine made durable, and says what must be true.
//!
//! Its arithmetic is its own. Of the engine it uses the journal's reader and the wire's view of a payload, nothing of what
//! decides or sums up.

mod acks;
mod counts;
mod dump;
mod fold;
mod handoffs;
mod read;
mod released;
mod twice;
mod verdict;
mod violation;

use std::collections::{HashMap, HashSet};

use till_core::{Record, RecordKind};

pub(crate) use acks::Acknowledged;
pub(crate) use fold::{Model, compare, same_rows};
pub(crate) use violation::Violation;

use crate::workload::{Act, Truth};
use counts::Counts;
use read::{Fate, outcome_of, read, reported};

/// What a till knows of one of its events.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// The engine has acknowledged it.
    pub(crate) is_acked: bool,
    /// It is a dead letter.
    pub(crate) is_buried: bool,
    /// The device has lost it: nobody sends it any more.
    pub(crate) is_dropped: bool,
    /// It was sent under more than one number by its source.
    pub(crate) is_twin: bool,
    /// Outboxes that have it besides the one in which it began.
    copies: u32,
}

/// A durable record, as the oracle has read it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    pub(crate) terminal: u64,
    pub(crate) epoch: u32,
    pub(crate) first: u64,
    pub(crate) skip: u32,
    pub(crate) count: u32,
    /// Number, fate and truth of each event that the record decides.
    pub(crate) events: Vec<(u64, Fate, Option<usize>)>,
}

/// Something that was quarantined: terminal, life and number of its event, and what the verdict says of it.
type Quarantined = (u64, u32, u64, u16, u32);

/// Watches one world.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) truths: Vec<Truth>,
    pub(crate) known: Vec<Known>,
    by_key: HashMap<(u64, i64), usize>,
    /// Which truth a terminal sent under a number.
    sent: HashMap<(u64, u32, u64), usize>,
    /// Numbers under which copies of a terminal sent different events: what has no payload there names none of them.
    sent_twice: HashSet<(u64, u32, u64)>,
    /// Numbers under which bytes were sent that are no event.
    garbage: HashSet<(u64, u32, u64)>,
    /// What happened under an id of its source's.
    by_id: HashMap<(u64, u64), Vec<usize>>,
    pub(crate) log: Vec<Entry>,
    /// All records before this LSN were read.
    pub(crate) read_upto: u64,
    fates: HashMap<(u64, u32, u64), Fate>,
    next: HashMap<(u64, u32), u64>,
    quiesced: Vec<u32>,
    applied: Vec<u32>,
    /// The disk has lied: what was acknowledged may be gone.
    pub(crate) is_excused: bool,
    /// Several engines share a store: what counts is what is committed there.
    pub(crate) is_clustered: bool,
    /// The engines and disks in whose journals an event lies.
    journals: HashMap<usize, Vec<(usize, u64)>>,
    pub(crate) error: Option<Violation>,
    /// What was quarantined and took effect with a later record: where that lies.
    retried: HashMap<Quarantined, u64>,
    /// How often that was since somebody asked.
    again: u64,
    /// Events that counted once more for another copy of their outbox.
    per_copy: u64,
    /// Terminals of which an image was put back, or an outbox copied.
    branched: HashSet<u64>,
    /// Terminals of which an outbox was copied.
    copied: HashSet<u64>,
    /// Terminals of which an outbox was copied, and then one of the copies put back.
    put_back_beside: HashSet<u64>,
    /// The event that is committed under a number.
    committed: HashMap<(u64, u32, u64), Option<usize>>,
    /// Numbers under which records were handed off.
    handed_off: HashSet<(u64, u32, u64)>,
    /// Numbers under which records may count that an operator released.
    released: HashSet<(u64, u32, u64)>,
    /// The numbers that these records have by themselves.
    wanted: HashSet<(u64, u32, u64)>,
    /// The numbers under which an event counts.
    positions: HashMap<usize, Vec<(u64, u32, u64)>>,
    /// A disk of one of several engines is gone.
    pub(crate) is_disk_lost: bool,
    /// Events that took effect twice where that is allowed, since somebody asked.
    doubled: u64,
    /// Events of all records that were read.
    seen: Counts,
    /// What an engine had counted, and what was durable then.
    counted_from: Option<(Counts, Counts)>,
}

impl Oracle {
    pub(crate) fn fail(&mut self, id: &'static str, what: String) {
        if self.error.is_none() {
            self.error = Some(Violation { id, what });
        }
    }

    /// Something happened at a till.
    pub(crate) fn happened(&mut self, truth: Truth) -> usize {
        let number = self.truths.len();
        if truth.act != Act::Garbage {
            self.by_key.insert((truth.terminal, truth.at), number);
        }
        if let Some(id) = truth.id {
            let same = self.by_id.entry((truth.terminal, id)).or_default();
            same.push(number);
        }
        self.truths.push(truth);
        self.known.push(Known::default());
        self.quiesced.push(0);
        self.applied.push(0);
        number
    }

    /// How many events took effect twice, where that is allowed, since the last time.
    pub(crate) const fn take_doubled(&mut self) -> u64 {
        std::mem::replace(&mut self.doubled, 0)
    }

    /// How many events counted once more for another copy of their outbox since the last time.
    pub(crate) const fn take_per_copy(&mut self) -> u64 {
        std::mem::replace(&mut self.per_copy, 0)
    }

    /// How much that was quarantined has taken effect since the last time.
    pub(crate) const fn take_again(&mut self) -> u64 {
        std::mem::replace(&mut self.again, 0)
    }

    /// Another outbox has these events now, and goes on with them.
    pub(crate) fn copied(&mut self, events: &[usize]) {
        for truth in events {
            self.known[*truth].copies += 1;
        }
    }

    /// A terminal has sent an event under a number.
    pub(crate) fn sends(&mut self, terminal: u64, epoch: u32, seq: u64, truth: usize) {
        if self.truths[truth].act == Act::Garbage {
            self.garbage.insert((terminal, epoch, seq));
        }
        let position = (terminal, epoch, seq);
        let before = self.sent.insert(position, truth);
        if before.is_some_and(|before| before != truth) {
            self.sent_twice.insert(position);
        }
    }

    /// A record is durable.
    pub(crate) fn durable(&mut self, position: u64, record: &Record) {
        let head = &record.head;
        let Some(events) = read(record) else {
            return self.retried(position, record);
        };
        let mut entry = Entry {
            position,
            terminal: head.terminal,
            epoch: head.epoch,
            first: head.first_seq,
            skip: head.skip,
            count: head.count,
            events: Vec::new(),
        };
        let events = match events {
            Ok(events) => events,
            Err(cause) => return self.fail("JRN-2", format!("record at {position}: {cause}")),
        };
        self.seen.skip(head.skip);
        for index in head.skip..head.count {
            let seq = head.first_seq + u64::from(index);
            let fate = outcome_of(record, index);
            self.seen.note(fate);
            let found = events.iter().find(|(at, _)| *at == index);
            let truth = match found {
                Some((_, event)) => {
                    let known = self.by_key.get(&(head.terminal, event.at)).copied();
                    let is_same = known.is_some_and(|known| event.is(&self.truths[known]));
                    if !is_same {
                        let what =
                            format!("event {seq} of {} is nobody's: {event:?}", head.terminal);
                        self.fail("JRN-2", what);
                    }
                    known
                }
                None => self.sent_there((head.terminal, head.epoch, seq)),
            };
            let event = found.and(truth);
            if !self.is_due((head.terminal, head.epoch, seq), fate, event) {
                let what = format!("event {seq} of {} is {fate:?}: {event:?}", head.terminal);
                self.fail("DEC-1", what);
            }
            self.decided(&entry, seq, fate, truth);
            entry.events.push((seq, fate, truth));
        }
        self.in_sequence(&entry);
        self.log.push(entry);
    }

    // The one event that was sent under a number.
    fn sent_there(&self, position: (u64, u32, u64)) -> Option<usize> {
        let is_one = !self.sent_twice.contains(&position);
        self.sent.get(&position).copied().filter(|_| is_one)
    }

    // What was quarantined takes effect once.
    fn retried(&mut self, position: u64, record: &Record) {
        let head = &record.head;
        if head.kind != RecordKind::Retry {
            return;
        }
        for verdict in &record.verdicts {
            let seq = head.first_seq + u64::from(verdict.index);
            let quarantined = (
                head.terminal,
                head.epoch,
                seq,
                verdict.reason,
                verdict.flags,
            );
            self.again += 1;
            if let Some(before) = self.retried.insert(quarantined, position) {
                let what = format!(
                    "{quarantined:?} was quarantined, and took effect at {before} and {position}"
                );
                self.fail("SEQ-2", what);
            }
        }
    }

    /// A record is durable in the journal of one of several engines.
    pub(crate) fn journalled(&mut self, journal: (usize, u64), record: &Record) {
        for truth in self.truths_of(record) {
            let journals = self.journals.entry(truth).or_default();
            if !journals.contains(&journal) {
                journals.push(journal);
            }
        }
    }

    // The events of a record, as far as somebody knows them.
    fn truths_of(&self, record: &Record) -> Vec<usize> {
        let head = &record.head;
        let events = reported(record);
        let decided = events.iter().filter(|(index, _)| *index >= head.skip);
        decided
            .filter_map(|(_, event)| self.by_key.get(&(head.terminal, event.at)).copied())
            .collect()
    }

    fn decided(&mut self, entry: &Entry, seq: u64, fate: Fate, truth: Option<usize>) {
        self.fates.insert((entry.terminal, entry.epoch, seq), fate);
        if self.is_clustered {
            let position = (entry.terminal, entry.epoch, seq);
            self.committed.insert(position, truth);
        }
        let Some(truth) = truth else {
            return;
        };
        if fate == Fate::Duplicate {
            return;
        }
        self.quiesced[truth] += 1;
        self.applied[truth] += u32::from(fate == Fate::Applied);
        let position = (entry.terminal, entry.epoch, seq);
        self.positions.entry(truth).or_default().push(position);
        let times = self.applied[truth];
        let is_per_copy = times <= self.most_effects(truth);
        if !is_per_copy && !self.may_double(truth) {
            let what = format!(
                "event {truth} took effect twice, again as {seq} of epoch {} at {}",
                entry.epoch, entry.position
            );
            return self.fail("SEQ-2", what);
        }
        if fate == Fate::Applied && times > 1 {
            self.per_copy += u64::from(is_per_copy);
            self.doubled += u64::from(!is_per_copy);
        }
    }

    fn in_sequence(&mut self, entry: &Entry) {
        let key = (entry.terminal, entry.epoch);
        let expected = self.next.get(&key).copied().unwrap_or(1);
        let begins = entry.first + u64::from(entry.skip);
        if begins != expected {
            let what = format!(
                "terminal {} epoch {}: a record begins at {begins}, expected {expected}",
                entry.terminal, entry.epoch
            );
            let id = if begins < expected { "SEQ-2" } else { "SEQ-1" };
            self.fail(id, what);
        }
        self.next.insert(key, entry.first + u64::from(entry.count));
        let mut last = None;
        for (seq, fate, truth) in &entry.events {
            let own = truth.filter(|truth| !self.known[*truth].is_twin);
            let (Some(own), true) = (own, *fate == Fate::Applied) else {
                continue;
            };
            if last.is_some_and(|last| own <= last) {
                let what = format!("event {seq} took effect before one that happened earlier");
                self.fail("SEQ-1", what);
            }
            last = Some(own);
        }
    }

    /// The journal ends here now. What it held behind that is gone, which only a lie of the disk excuses.
    pub(crate) fn ends_at(&mut self, end: u64) {
        let kept = self.log.partition_point(|entry| entry.position < end);
        if kept < self.log.len() && !self.is_excused {
            let lost = self.log.len() - kept;
            self.fail(
                "ACK-1",
                format!("{lost} durable records are gone behind {end}"),
            );
        }
        for entry in self.log.split_off(kept).into_iter().rev() {
            let key = (entry.terminal, entry.epoch);
            self.next.insert(key, entry.first + u64::from(entry.skip));
            for (seq, fate, truth) in entry.events {
                self.fates.remove(&(entry.terminal, entry.epoch, seq));
                if let (Some(truth), true) = (truth, fate != Fate::Duplicate) {
                    self.quiesced[truth] -= 1;
                    self.applied[truth] -= u32::from(fate == Fate::Applied);
                }
            }
        }
        self.retried.retain(|_, position| *position < end);
        self.read_upto = self.read_upto.min(end);
    }

    /// A device was told that an event is journalled. What was refused is a dead letter by now.
    pub(crate) fn acked(&mut self, position: (u64, u32, u64), truth: usize) {
        self.known[truth].is_acked = true;
        if self.is_excused {
            return;
        }
        let (terminal, epoch, seq) = position;
        match self.fates.get(&position) {
            None => {
                let what = format!(
                    "event {seq} of {terminal} epoch {epoch} is acknowledged, and not durable"
                );
                self.fail("ACK-1", what);
            }
            Some(Fate::Refused) if !self.known[truth].is_buried => {
                let what = format!(
                    "event {seq} of {terminal} epoch {epoch} was refused, and its ack does not say so"
                );
                self.fail("REF-1", what);
            }
            // Of two copies: nobody can say whose event it was.
            Some(Fate::Refused) if self.sent_twice.contains(&position) => {}
            Some(_) if self.quiesced[truth] == 0 => {
                let what = format!(
                    "event {truth} is acknowledged as {seq} of {terminal}, where another one lies"
                );
                self.fail("ACK-1", what);
            }
            Some(_) => {}
        }
    }

    /// A device says of an event that the engine has it, or that it is a dead letter, and forgets it.
    pub(crate) fn done_with(&mut self, truth: usize) {
        self.known[truth].is_acked = true;
        // Among several engines: committed. The disk of one may be lost.
        let is_there = self.quiesced[truth] > 0 || self.known[truth].is_buried;
        if !is_there && !self.is_excused {
            self.fail(
                "ACK-1",
                format!("a device forgets event {truth}, which nobody has"),
            );
        }
    }

    /// A device has lost an event with its power. One that it could lose it must not have sent.
    pub(crate) fn forgotten(&mut self, truth: usize) {
        self.known[truth].is_dropped = true;
        if self.quiesced[truth] > 0 && !self.known[truth].is_twin {
            let what =
                format!("event {truth} was sent, and a loss of power took it from its device");
            self.fail("OUT-1", what);
        }
    }

    /// Long after the last trouble: everything that a device still had is at the engine, and once.
    /// `stranded`: what waits in the inbox of an owner, and is listed there.
    pub(crate) fn quiesced(&mut self, stranded: &[Record]) {
        let waits = stranded.iter().flat_map(|one| self.truths_of(one));
        let waits: HashSet<usize> = waits.collect();
        for truth in 0..self.truths.len() {
            let known = self.known[truth];
            let times = self.quiesced[truth];
            let must = (!known.is_dropped || known.is_acked) && !known.is_buried;
            let must = must && !waits.contains(&truth);
            if times == 0 && must && !self.is_excused {
                let what = format!(
                    "event {truth} ({:?}) is lost; {known:?}",
                    self.truths[truth]
                );
                return self.fail("LIV-1", what);
            }
            let is_allowed = times <= self.most_effects(truth) || self.may_double(truth);
            if !is_allowed && !known.is_buried {
                let what = format!("event {truth} was decided {times} times");
                return self.fail("SEQ-2", what);
            }
        }
    }
}
