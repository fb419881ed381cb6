//! Tills: what happens there, and how it gets to the engine by the client's own rules.

mod events;
mod mishaps;

use std::sync::{Arc, Mutex, PoisonError};

use till_client::{
    Cause, DeadLetter, DeadLetterError, DeadLetters, End, Notice, Outbox as _, OutboxError,
    Session, SessionConfig,
};
use till_protocol::id::{Epoch, TerminalId};
use till_protocol::reply::Message;
use till_protocol::time::DeviceTime;

use super::member::engine_at;
use super::wire::Conn;
use super::{Event, World};
use crate::coverage::Sight;
use crate::flash::Flash;
use crate::mistake::is_planted;
use crate::outbox::{Image, Pocket};
use crate::plan::{MS, Plan, SECOND};
use crate::rng::Rng;
use crate::workload::{Truth, Zone, frame};

/// Pieces that a till writes at a time.
const CHUNKS: usize = 16;

/// Letters that a till has put away.
#[derive(Clone, Debug, Default)]
struct Letters(Arc<Mutex<Vec<DeadLetter>>>);

impl Letters {
    fn take(&self) -> Vec<DeadLetter> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl DeadLetters for Letters {
    fn put(&mut self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        let mut letters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push(letter.clone());
        Ok(())
    }
}

/// A till with its outbox.
pub(super) struct Till {
    pub(super) terminal: TerminalId,
    pocket: Pocket,
    letters: Letters,
    /// `None` while it is off.
    session: Option<Session>,
    pub(super) conn: Option<u64>,
    /// The engine that it tries next.
    pub(super) engine: usize,
    pub(super) is_online: bool,
    pub(super) is_parted: bool,
    pub(super) is_lost: bool,
    /// Which event has which number in the epoch at hand, from 1.
    numbers: Vec<usize>,
    acked: u64,
    /// The last frame that was ever sent in this epoch begins here.
    pub(super) sent_upto: u64,
    image: Option<(Image, Vec<usize>)>,
    skew: i64,
    /// The name of its store's time zone.
    zone: &'static str,
    /// Events that may be sent again under their own id.
    with_ids: Vec<usize>,
    is_connecting: bool,
    tick: Option<u64>,
    /// It is put back once an engine has journalled something of it and not committed it.
    rewinds: bool,
    /// The next word of a new epoch does not reach it.
    loses_grant: bool,
    /// So many times it loses its connection when it is about to send.
    stumbles: u8,
}

impl Till {
    pub(super) fn new(number: u64, plan: &Plan, rng: &mut Rng) -> Option<Self> {
        let store = u32::try_from(number % plan.stores + 1).unwrap_or(1);
        let till = u32::try_from(number / plan.stores + 1).unwrap_or(1);
        let packed = u64::from(store) << 32 | u64::from(till);
        let terminal = TerminalId::from_u64(packed).ok()?;
        let pocket = Pocket::open(Flash::default(), terminal).ok()?;
        let skew = plan.till.skew;
        let zone = Zone::of(terminal.store().get().into(), plan.changed);
        let mut till = Self::off(terminal, pocket, (rng.signed(-skew, skew), zone.name));
        till.switch_on();
        Some(till)
    }

    // One that is switched off, and of which nothing is known.
    fn off(terminal: TerminalId, pocket: Pocket, (skew, zone): (i64, &'static str)) -> Self {
        Self {
            terminal,
            pocket,
            letters: Letters::default(),
            session: None,
            conn: None,
            engine: 0,
            is_online: true,
            is_parted: false,
            is_lost: false,
            numbers: Vec::new(),
            acked: 0,
            sent_upto: 0,
            image: None,
            skew,
            zone,
            with_ids: Vec::new(),
            is_connecting: false,
            tick: None,
            rewinds: false,
            loses_grant: false,
            stumbles: 0,
        }
    }

    /// Another device with what survives on this one's disk.
    fn copied(&self) -> Result<Self, OutboxError> {
        let pocket = self.pocket.restored(&self.pocket.image())?;
        let mut copy = Self {
            numbers: self.first(pocket.standing().last),
            ..Self::off(self.terminal, pocket, (self.skew, self.zone))
        };
        copy.switch_on();
        Ok(copy)
    }

    // What has the first so many numbers.
    fn first(&self, count: u64) -> Vec<usize> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.numbers.iter().copied().take(count).collect()
    }

    fn switch_on(&mut self) {
        let mut config = SessionConfig::new(self.terminal);
        // Clocks that are never changed.
        let is_fixed = is_planted("clocks-unchanged") && self.zone == "Europe/Vienna";
        let zone = if is_fixed { "Etc/GMT-2" } else { self.zone };
        config.zone = zone.to_owned();
        let (outbox, dead) = (self.pocket.clone(), self.letters.clone());
        self.session = Some(Session::new(config, Box::new(outbox), Box::new(dead)));
        self.acked = 0;
    }

    pub(super) const fn is_on(&self) -> bool {
        self.session.is_some()
    }

    /// What it still waits for, in words; `None` where it has nothing to say.
    pub(super) fn waits_for(&self) -> Option<String> {
        if self.is_lost {
            return None;
        }
        let standing = self.pocket.standing();
        let is_done = standing.committed == standing.last;
        let live = self.session.as_ref().is_some_and(Session::is_live);
        (!is_done).then(|| {
            format!(
                "{}: {standing:?} live {live} conn {:?}",
                self.terminal, self.conn
            )
        })
    }

    fn truth(&self, seq: u64) -> Option<usize> {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.numbers.get(at).copied()
    }
}

impl World {
    /// Something happens at a till.
    pub(super) fn happen(&mut self, number: usize) {
        if self.is_calm {
            return;
        }
        let pause = self.rng.within(1, 2 * self.plan.pace);
        self.after(pause, Event::Happen(number));
        let till = &self.tills[number];
        let Some(session) = till.session.as_ref().filter(|session| session.has_room()) else {
            return;
        };
        let (first, terminal) = (session.next_seq(), till.terminal.to_u64());
        let events = self.make(number, terminal);
        let reported: Vec<Truth> = events
            .iter()
            .map(|event| self.oracle.truths[*event].clone())
            .collect();
        let named = self.rng.one_in(3);
        let Some(bytes) = frame(&reported, first, named) else {
            return self
                .oracle
                .fail("WLD-1", "a frame could not be made".to_owned());
        };
        let till = &mut self.tills[number];
        let appended = till.session.as_mut().map(|session| session.append(bytes));
        if let Some(Err(error)) = appended {
            return self.oracle.fail("CLI-1", error.to_string());
        }
        till.numbers.extend(events);
        let soon = self.rng.within(MS, 200 * MS);
        self.after(soon, Event::Sync(number));
        if self.plan.till.crash_every > 0 && self.rng.one_in(60) {
            let sooner = self.rng.within(0, soon);
            self.after(sooner, Event::TillCrash(number));
        }
        self.pump(number);
    }

    pub(super) fn sync_till(&mut self, number: usize) {
        let till = &mut self.tills[number];
        if till.session.is_none() {
            return;
        }
        if let Err(error) = till.pocket.sync() {
            return self.oracle.fail("OUT-2", error.to_string());
        }
        self.pump(number);
    }

    /// A till tries to reach the engine.
    pub(super) fn connect(&mut self, number: usize) {
        let clock = DeviceTime::from_us(self.wall() + self.tills[number].skew);
        let till = &mut self.tills[number];
        till.is_connecting = false;
        if till.conn.is_some() || till.session.is_none() || !till.is_online || till.is_lost {
            return;
        }
        let n = till.engine;
        if till.is_parted || !self.nodes[n].is_reachable() {
            self.try_another(number);
            return self.connect_later(number);
        }
        let till = &mut self.tills[number];
        let Some(session) = &mut till.session else {
            return;
        };
        session.connected(clock);
        let conn = self.next_conn;
        self.next_conn += 1;
        till.conn = Some(conn);
        self.conns.insert(conn, Conn::new(number, n));
        self.pump(number);
    }

    // Engines of a cluster are tried in any order, until one of them has the store.
    fn try_another(&mut self, number: usize) {
        if self.nodes.len() > 1 {
            self.tills[number].engine = self.rng.index(self.nodes.len());
        }
    }

    fn turn_to(&mut self, number: usize, end: &End, was_live: bool) {
        if was_live && self.shared.is_some() && *end != End::Renew {
            self.saw(Sight::MovedAway);
        }
        match end {
            End::Renew => self.saw(Sight::Renewed),
            End::Redirect(address) => {
                self.saw(Sight::Redirected);
                let Some(n) = engine_at(address).filter(|n| *n < self.nodes.len()) else {
                    let what = format!("a device is sent to {address}, where nobody is");
                    return self.oracle.fail("PRO-1", what);
                };
                self.tills[number].engine = n;
            }
            End::Bye { .. } => self.try_another(number),
        }
    }

    pub(super) fn connect_later(&mut self, number: usize) {
        if !std::mem::replace(&mut self.tills[number].is_connecting, true) {
            let most = if self.is_calm { SECOND } else { 6 * SECOND };
            let pause = self.rng.within(20 * MS, most);
            self.after(pause, Event::Connect(number));
        }
    }

    pub(super) fn tick(&mut self, number: usize) {
        self.tills[number].tick = None;
        self.pump(number);
    }

    /// A till writes what it may.
    fn pump(&mut self, number: usize) {
        let now = self.instant();
        let till = &mut self.tills[number];
        let (Some(conn), Some(session)) = (till.conn, &mut till.session) else {
            return;
        };
        let mut chunks = Vec::new();
        if let Err(error) = session.transmit(now, &mut chunks, CHUNKS) {
            let what = format!("{} can't send: {error}", till.terminal);
            return self.oracle.fail("CLI-1", what);
        }
        let epoch = session.standing().epoch.map_or(0, Epoch::get);
        let wakes = session.timeout();
        for chunk in &chunks {
            let Ok((first, count)) = till_client::range(chunk) else {
                continue;
            };
            for seq in first..first + u64::from(count) {
                if let Some(truth) = self.tills[number].truth(seq) {
                    let terminal = self.tills[number].terminal.to_u64();
                    self.oracle.sends(terminal, epoch, seq, truth);
                }
            }
        }
        let is_more = chunks.len() == CHUNKS;
        self.send(conn, chunks);
        if is_more {
            self.wake(number, self.now + MS);
        }
        if let Some(wakes) = wakes {
            let wait = u64::try_from((wakes - now).as_micros()).unwrap_or(0);
            self.wake(number, self.now + wait.max(MS));
        }
    }

    fn wake(&mut self, number: usize, at: u64) {
        let till = &mut self.tills[number];
        if till.tick.is_none_or(|tick| at < tick) {
            till.tick = Some(at);
            self.at(at, Event::Tick(number));
        }
    }

    /// A till hears a message.
    pub(super) fn deliver(&mut self, number: usize, conn: u64, message: &Message) {
        if self.tills[number].conn != Some(conn) {
            return;
        }
        let now = self.instant();
        if let Message::Nack(_) = message {
            self.saw(Sight::Gap);
        }
        if self.is_grant_lost(number, message) {
            return self.drop_conn_for_now(number);
        }
        let Some(session) = &mut self.tills[number].session else {
            return;
        };
        let was_live = session.is_live();
        let delivered = session.handle(now, message.clone());
        self.take_letters(number);
        self.take_notices(number);
        match delivered {
            Ok(None) if self.stumbles(number, was_live) => return self.drop_conn_for_now(number),
            Ok(None) => {}
            Ok(Some(end)) => {
                self.turn_to(number, &end, was_live);
                self.hang_up(number, conn);
                self.leave(conn);
                return;
            }
            Err(error) => {
                let what = format!(
                    "{}: {error}; it was told {message:?}",
                    self.tills[number].terminal
                );
                return self.oracle.fail("CLI-1", what);
            }
        }
        self.pump(number);
    }

    fn take_letters(&mut self, number: usize) {
        // They speak of the epoch before the one that the same message may have begun.
        let till = &self.tills[number];
        for letter in till.letters.take() {
            let Some(truth) = till.truth(letter.seq) else {
                let what = format!("a letter of nobody: {letter:?}");
                return self.oracle.fail("WLD-1", what);
            };
            self.oracle.known[truth].is_buried = true;
            // Whatever one engine has had it can compare for as long as nothing of it is dropped.
            let may_be_gone = self.plan.retention.is_some() || self.plan.is_excused();
            if letter.cause == Cause::Unknown && self.shared.is_none() && !may_be_gone {
                let what = format!("event {truth} is put away as unknown: {letter:?}");
                self.oracle.fail("OUT-3", what);
            }
            if matches!(letter.cause, Cause::Refused(_) | Cause::Unreadable(_)) {
                self.coverage.saw(Sight::Refused);
            }
        }
    }

    fn take_notices(&mut self, number: usize) {
        let Some(session) = &mut self.tills[number].session else {
            return;
        };
        let notices: Vec<Notice> = session.notices().collect();
        for notice in notices {
            match notice {
                Notice::Acked {
                    epoch,
                    journalled,
                    committed,
                    ..
                } => {
                    // Among several engines only what is committed outlives one of them.
                    let upto = if self.shared.is_some() {
                        committed
                    } else {
                        journalled
                    };
                    if journalled > committed && std::mem::take(&mut self.tills[number].rewinds) {
                        self.after(MS, Event::Rewind(number, 2));
                    }
                    self.reported(number, epoch.get(), upto);
                }
                Notice::Renumbered { old, from, .. } => self.renumbered(number, old, from),
                Notice::Live { clock_suspect, .. } if clock_suspect => {
                    self.saw(Sight::ClockSuspect);
                }
                _ => {}
            }
        }
    }

    fn reported(&mut self, number: usize, epoch: u32, journalled: u64) {
        let till = &mut self.tills[number];
        let terminal = till.terminal.to_u64();
        let (from, upto) = (till.acked + 1, journalled);
        till.acked = till.acked.max(upto);
        for seq in from..=upto {
            if let Some(truth) = self.tills[number].truth(seq) {
                self.oracle.acked((terminal, epoch, seq), truth);
            }
        }
    }

    // What was not carried over is at the engine, or a dead letter.
    fn renumbered(&mut self, number: usize, old: Option<Epoch>, from: u64) {
        let till = &mut self.tills[number];
        let left = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        let left = left.min(till.numbers.len());
        let kept = till.numbers.split_off(left);
        let done = std::mem::replace(&mut till.numbers, kept);
        till.acked = 0;
        till.sent_upto = 0;
        if old.is_some() && !till.numbers.is_empty() {
            self.coverage.saw(Sight::CarriedOver);
        }
        for truth in done {
            self.oracle.done_with(truth);
        }
    }
}
