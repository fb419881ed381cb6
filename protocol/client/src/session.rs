//! One terminal's side of till/1, without I/O of its own.
//!
//! Messages go in with [`Session::handle`], bytes come out with [`Session::transmit`] and news with [`Session::notices`];
//! time is an argument. The session owns the outbox and the dead letters and calls them in the order that keeps the
//! promise: a refused event is a dead letter before the outbox forgets it, a new epoch is on disk before its first frame
//! is sent, an event is on disk before it is sent at all.
//!
//! | phase | input | what it does | next phase |
//! |---|---|---|---|
//! | Apart | connected | Hello: with the outbox's epoch, or with none after another history | Handshake |
//! | Handshake | Welcome, the same history | sends from the first event that is not committed | Live |
//! | Handshake | Welcome, another history | a new stream asks for a new epoch | Apart |
//! | Handshake | Welcome of a new epoch | Check, if the engine has other epochs | Checking or Live |
//! | Checking | Checked | the next Check, or the new epoch begins with what was not found | Checking or Live |
//! | Checking | Ack | dead letters of what was found as refused | Checking |
//! | Live | Ack | dead letters, then the outbox forgets what is committed | Live |
//! | Live | Nack | goes back | Live |
//! | any | Slow | a pause | the same |
//! | any | disconnected | | Apart |

mod handshake;
mod live;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;
use till_protocol::code::Reason;
use till_protocol::currency::Currency;
use till_protocol::family::Family;
use till_protocol::id::{Epoch, TerminalId};
use till_protocol::reply::{Hello, Message};
use till_protocol::time::{DeviceTime, Timestamp};

use crate::deadletter::{Cause, DeadLetter, DeadLetterError, DeadLetters};
use crate::frame::{self, FrameError};
use crate::outbox::{Outbox, OutboxError, Standing};

/// What a terminal says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionConfig {
    /// Which terminal it is.
    pub terminal: TerminalId,
    /// The currency of its store, for the store's first Hello.
    pub currency: Option<Currency>,
    /// IANA name of its store's time zone; empty = not stated.
    pub zone: String,
    /// Most frames in flight, if the engine allows more.
    pub window_frames: u32,
    /// Every event carries the source's own id, by which the engine knows it again in any epoch. Nothing is then looked for
    /// by its digest: digests leave texts out, so that two receipts of one second and one amount would pass for one event.
    pub has_event_ids: bool,
}

impl SessionConfig {
    /// The configuration of a terminal whose store the engine knows or takes with its defaults.
    pub const fn new(terminal: TerminalId) -> Self {
        Self {
            terminal,
            currency: None,
            zone: String::new(),
            window_frames: 1_024,
            has_event_ids: false,
        }
    }
}

/// What the owner of a session should know.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// The engine has accepted; frames flow.
    Live {
        /// The epoch of this session.
        epoch: Epoch,
        /// The sequence number that is sent next.
        next: u64,
        /// The engine's clock.
        time: Timestamp,
        /// The engine finds the device's clock too far off.
        clock_suspect: bool,
    },
    /// The engine acknowledged. Sequence numbers of the session's epoch.
    Acked {
        /// The epoch of the numbers.
        epoch: Epoch,
        /// Everything up to here survives a crash of the engine.
        journalled: u64,
        /// Everything up to here survives the loss of the engine's disk, and has left the outbox.
        committed: u64,
        /// Events that were refused: they are dead letters now.
        refusals: Vec<(u64, Reason)>,
    },
    /// A new epoch began: the events from `from` of the old epoch on are 1, 2, 3, ... of the new one.
    Renumbered {
        /// The epoch before; `None` for the first one.
        old: Option<Epoch>,
        /// The epoch from now on.
        new: Epoch,
        /// First event of the old epoch that was carried over; all before it are at the engine or dead letters.
        from: u64,
    },
    /// An event became a dead letter because nobody can tell whether the engine had it.
    Unknown {
        /// Its epoch.
        epoch: Epoch,
        /// Its number.
        seq: u64,
    },
    /// The engine missed frames and sees this event next: they are sent again.
    Resent {
        /// The number that the engine expects.
        expected: u64,
    },
    /// The engine asked for a pause.
    Slow {
        /// How long.
        wait: Duration,
    },
}

/// Why a stream is over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// A new stream is needed at once, to take a new epoch.
    Renew,
    /// The terminal is served elsewhere.
    Redirect(String),
    /// The engine ended the stream.
    Bye {
        /// Why.
        reason: Reason,
        /// In words.
        text: String,
    },
}

/// Why a session can't go on over its stream. The outbox is kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The outbox failed.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A dead letter can't be kept.
    #[error(transparent)]
    DeadLetter(#[from] DeadLetterError),
    /// A frame of the outbox can't be read.
    #[error("event {seq} in the outbox can't be read: {source}")]
    Frame {
        /// First event of the frame.
        seq: u64,
        /// What is wrong.
        source: FrameError,
    },
    /// The engine broke the protocol.
    #[error("the engine sent {what} out of place")]
    Protocol {
        /// What it sent.
        what: &'static str,
    },
}

/// The session of one terminal, over as many streams as it takes.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    outbox: Box<dyn Outbox>,
    dead: Box<dyn DeadLetters>,
    phase: Phase,
    /// The engine has another history of the outbox's epoch, which ends with this event: a new epoch is needed.
    diverged: Option<u64>,
    control: VecDeque<Bytes>,
    notices: VecDeque<Notice>,
    /// Next event to send.
    cursor: u64,
    /// Last event of this epoch that this session has sent.
    sent: u64,
    /// Last event of each frame that was sent and not yet acknowledged.
    in_flight: VecDeque<u64>,
    /// Frames that the engine allows in flight.
    credit: usize,
    journalled: u64,
    refused: BTreeSet<u64>,
    paused_until: Option<Instant>,
    /// The last gap that was answered, and when to answer it again if nothing moves.
    gap: Option<(u64, Option<Instant>)>,
    /// All events that were ever appended, over all epochs of this object's existence.
    total: u64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// No stream.
    Apart,
    /// Hello is out.
    Handshake,
    /// A new epoch is granted, and events are compared with those of the epochs before it.
    Checking(handshake::Comparison),
    /// Frames flow.
    Live,
}

/// How much of what was said has gone how far: counts of events since the session was made, which no new epoch changes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Appended to the outbox (with those that were in it at the start).
    pub appended: u64,
    /// On the device's disk.
    pub durable: u64,
    /// In the engine's journal, or dead letters.
    pub journalled: u64,
    /// Committed, or dead letters.
    pub committed: u64,
}

impl Session {
    /// A session without a stream.
    pub fn new(config: SessionConfig, outbox: Box<dyn Outbox>, dead: Box<dyn DeadLetters>) -> Self {
        let standing = outbox.standing();
        Self {
            config,
            dead,
            phase: Phase::Apart,
            diverged: None,
            control: VecDeque::new(),
            notices: VecDeque::new(),
            cursor: standing.committed + 1,
            sent: 0,
            in_flight: VecDeque::new(),
            credit: 0,
            journalled: standing.committed,
            refused: BTreeSet::new(),
            paused_until: None,
            gap: None,
            total: standing.last,
            outbox,
        }
    }

    /// A new stream stands. `clock` is what the device takes for the time.
    pub fn connected(&mut self, clock: DeviceTime) {
        self.disconnected();
        let hello = Hello {
            versions: Family::ALL.map(|family| (family.number(), 1)).to_vec(),
            terminal: self.config.terminal,
            epoch: self.epoch_to_ask_for(),
            clock,
            currency: self.config.currency,
            zone: self.config.zone.clone(),
        };
        self.control.push_back(hello.encode());
        self.phase = Phase::Handshake;
    }

    /// The epoch that a Hello names; `None` asks for a new one.
    fn epoch_to_ask_for(&self) -> Option<Epoch> {
        match self.diverged {
            None => self.outbox.standing().epoch,
            Some(_) => None,
        }
    }

    /// The stream is gone. What was not acknowledged is sent again over the next one.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Apart;
        self.control.clear();
        self.in_flight.clear();
        self.paused_until = None;
        self.gap = None;
    }

    /// Takes a message of the engine. Returns how the stream ended, if the message ended it.
    ///
    /// # Errors
    /// Returns [`SessionError`] when the stream must be given up; the outbox is unharmed.
    pub fn handle(&mut self, now: Instant, message: Message) -> Result<Option<End>, SessionError> {
        match (self.phase, message) {
            (_, Message::Redirect(redirect)) => return Ok(Some(End::Redirect(redirect.address))),
            (_, Message::Bye(bye)) => {
                return Ok(Some(End::Bye {
                    reason: bye.reason,
                    text: bye.text,
                }));
            }
            (_, Message::Slow(slow)) => {
                let wait = Duration::from_millis(u64::from(slow.wait_ms));
                self.paused_until = Some(now + wait);
                self.notices.push_back(Notice::Slow { wait });
            }
            (Phase::Handshake, Message::Welcome(welcome)) => return self.handle_welcome(&welcome),
            (Phase::Checking(comparison), Message::Checked(checked)) => {
                return self.handle_checked(comparison, &checked);
            }
            (Phase::Checking(comparison), Message::Ack(ack)) => {
                self.bury_found(comparison, &ack.refusals)?;
            }
            (Phase::Live, Message::Ack(ack)) => self.handle_ack(&ack)?,
            (Phase::Live, Message::Nack(nack)) => self.handle_nack(now, nack.expected.get())?,
            (_, other) => {
                return Err(SessionError::Protocol {
                    what: name_of(&other),
                });
            }
        }
        Ok(None)
    }

    /// Adds a frame of `count` events. A frame whose header does not start at [`Session::next_seq`] gets a new header.
    ///
    /// # Errors
    /// Returns [`SessionError`] when it is not a frame of events, or the outbox can't take it.
    pub fn append(&mut self, bytes: Bytes) -> Result<u64, SessionError> {
        let next = self.next_seq();
        let frame_error = |source| SessionError::Frame { seq: next, source };
        let (first, count) = frame::range(&bytes).map_err(frame_error)?;
        let bytes = if first == next {
            bytes
        } else {
            frame::renumbered(&bytes, next).map_err(frame_error)?
        };
        self.outbox.append(bytes, count)?;
        self.total += u64::from(count);
        Ok(next)
    }

    /// The news since the last call, in order.
    pub fn notices(&mut self) -> impl Iterator<Item = Notice> + '_ {
        self.notices.drain(..)
    }

    /// The outbox, for syncing it.
    pub fn outbox(&mut self) -> &mut dyn Outbox {
        &mut *self.outbox
    }

    /// Where the outbox stands.
    pub fn standing(&self) -> Standing {
        self.outbox.standing()
    }

    /// The sequence number of the next event that is appended.
    pub fn next_seq(&self) -> u64 {
        self.outbox.standing().last + 1
    }

    /// Whether another frame may be appended.
    pub fn has_room(&self) -> bool {
        self.outbox.has_room()
    }

    /// Whether a frame that is appended now could be sent now.
    pub fn window_open(&self) -> bool {
        matches!(self.phase, Phase::Live) && self.in_flight.len() < self.credit
    }

    /// Whether the engine has not yet answered the Hello of this stream.
    pub fn is_in_handshake(&self) -> bool {
        matches!(self.phase, Phase::Handshake)
    }

    /// Whether frames flow.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    /// The counts of events, which no new epoch changes.
    pub fn totals(&self) -> Totals {
        let standing = self.outbox.standing();
        let upto = |seq: u64| self.total - standing.last.saturating_sub(seq);
        Totals {
            appended: self.total,
            durable: upto(standing.durable),
            journalled: upto(self.journalled.max(standing.committed)),
            committed: upto(standing.committed),
        }
    }

    /// Keeps one event as a dead letter.
    fn bury(&mut self, seq: u64, cause: Cause) -> Result<(), SessionError> {
        let standing = self.outbox.standing();
        let Some(stored) = self.outbox.frame_of(seq)? else {
            return Ok(());
        };
        let index = stored.index_of(seq);
        // Only an event that can be read can be taken out of its frame; else the frame stays whole.
        let (frame, cause) = match (frame::single(&stored.bytes, index), cause) {
            (Ok(frame), cause) => (frame, cause),
            (Err(_), Cause::Refused(reason)) => (stored.bytes.clone(), Cause::Unreadable(reason)),
            (Err(_), cause) => (stored.bytes.clone(), cause),
        };
        // A frame that stays whole is one letter, however many events it has.
        let seq = match cause {
            Cause::Unreadable(_) => stored.first,
            Cause::Refused(_) | Cause::Unknown => seq,
        };
        self.dead.put(&DeadLetter {
            terminal: self.config.terminal.to_u64(),
            epoch: standing.epoch.map_or(0, Epoch::get),
            seq,
            cause,
            frame,
        })?;
        Ok(())
    }
}

const fn name_of(message: &Message) -> &'static str {
    match message {
        Message::Welcome(_) => "a Welcome",
        Message::Checked(_) => "a Checked",
        Message::Ack(_) => "an Ack",
        Message::Nack(_) => "a Nack",
        _ => "a device's message",
    }
}

#[cfg(test)]
mod tests;
