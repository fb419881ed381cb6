//! What crashed a shard, and what is to be done about it.
//!
//! A shard that crashes starts again from rows and journal, and devices send again what was not acknowledged. A frame that
//! crashes its shard every time would then come for ever: the terminal that sends it is parked, and everyone else goes on.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use thiserror::Error;
use till_core::{Record, SessionKey};
use till_protocol::id::{Epoch, TerminalId};
use till_protocol::reply::Hello;

use crate::shard::message::{FromDevice, ShardMessage};

/// Falls within [`WITHIN`] at which a shard is parked: it is not one frame then.
pub(crate) const CRASHES_MAX: usize = 8;
/// How far back falls count.
const WITHIN: Duration = Duration::from_secs(60);

/// The message of a device that a shard was at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PoisonMessage {
    pub(crate) terminal: TerminalId,
    /// 0: a Hello that asks for a new epoch.
    pub(crate) epoch: u32,
    /// 0: a Hello.
    pub(crate) first_seq: u64,
}

impl PoisonMessage {
    /// Whom to ask when the shard crashes on a message; `None` where no device sent it. Frames are asked for one by one, see
    /// [`PoisonMessage::frame`].
    pub(crate) fn of(message: &ShardMessage) -> Option<Self> {
        match message {
            ShardMessage::Device(FromDevice::Hello(request)) => Self::hello(&request.hello),
            _ => None,
        }
    }

    /// Whom to ask when it crashes on a Hello.
    pub(crate) fn hello(hello: &Hello) -> Option<Self> {
        Some(Self {
            terminal: hello.terminal,
            epoch: hello.epoch.map_or(0, Epoch::get),
            first_seq: 0,
        })
    }

    /// Whose record it is when it crashes on one of another journal.
    pub(crate) fn record(record: &Record) -> Option<Self> {
        let head = &record.head;
        let terminal = TerminalId::from_u64(head.terminal).ok()?;
        Some(Self {
            terminal,
            epoch: head.epoch,
            first_seq: head.first_seq,
        })
    }

    /// Whom to ask when it crashes on a frame.
    pub(crate) fn frame(key: SessionKey, first_seq: u64) -> Option<Self> {
        Some(Self {
            terminal: key.terminal,
            epoch: key.epoch.get(),
            first_seq,
        })
    }
}

impl std::fmt::Display for PoisonMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            terminal,
            epoch,
            first_seq,
        } = self;
        match first_seq {
            0 => write!(f, "a Hello of terminal {terminal}"),
            _ => write!(
                f,
                "the frame of terminal {terminal}, epoch {epoch}, from event {first_seq} on"
            ),
        }
    }
}

/// Why a shard crashed.
#[derive(Debug, Error)]
#[error("{cause}")]
pub(crate) struct Crash {
    pub(super) poison: Option<PoisonMessage>,
    pub(crate) cause: String,
}

/// What to do after a fall.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Remedy {
    /// Start the shard again.
    Restart,
    /// Start it again, and take nothing more from this terminal.
    Without(PoisonMessage),
    /// Take nothing more at all.
    Park,
}

/// The falls of one shard since the engine started.
#[derive(Debug, Default)]
pub(crate) struct Crashes {
    recent: VecDeque<Instant>,
    /// What each terminal crashed it with last. One entry costs a fall.
    suspects: HashMap<TerminalId, PoisonMessage>,
}

impl Crashes {
    /// Notes a fall.
    pub(crate) fn judge(&mut self, now: Instant, poison: Option<PoisonMessage>) -> Remedy {
        self.recent.push_back(now);
        let old = |at: &Instant| now.saturating_duration_since(*at) >= WITHIN;
        while self.recent.front().is_some_and(old) {
            self.recent.pop_front();
        }
        if self.recent.len() >= CRASHES_MAX {
            return Remedy::Park;
        }
        let Some(poison) = poison else {
            return Remedy::Restart;
        };
        match self.suspects.insert(poison.terminal, poison) {
            Some(before) if before == poison => Remedy::Without(poison),
            _ => Remedy::Restart,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(till: u64, first_seq: u64) -> Option<PoisonMessage> {
        Some(PoisonMessage {
            terminal: TerminalId::from_u64(7 << 32 | till).unwrap(),
            epoch: 1,
            first_seq,
        })
    }

    #[test]
    fn the_same_frame_again_parks_its_terminal_and_another_does_not() {
        let (mut crashes, now) = (Crashes::default(), Instant::now());
        assert_eq!(crashes.judge(now, frame(1, 10)), Remedy::Restart);
        assert_eq!(crashes.judge(now, frame(2, 10)), Remedy::Restart);
        // It came further than last time: that frame was taken.
        assert_eq!(crashes.judge(now, frame(1, 20)), Remedy::Restart);
        assert_eq!(crashes.judge(now, None), Remedy::Restart);
        let later = now + WITHIN * 100;
        let parked = frame(1, 20).unwrap();
        assert_eq!(
            crashes.judge(later, Some(parked)),
            Remedy::Without(parked),
            "however long the device was away"
        );
    }

    #[test]
    fn a_shard_that_crashes_on_everything_is_parked() {
        let (mut crashes, now) = (Crashes::default(), Instant::now());
        for till in 1..8 {
            let at = now + Duration::from_secs(till);
            assert_eq!(crashes.judge(at, frame(till, 1)), Remedy::Restart);
        }
        let mut spaced = Crashes::default();
        for till in 1..100 {
            let at = now + WITHIN * u32::try_from(till).unwrap() / 7;
            assert_eq!(spaced.judge(at, frame(till, 1)), Remedy::Restart);
        }
        assert_eq!(
            crashes.judge(now + Duration::from_secs(9), frame(9, 1)),
            Remedy::Park
        );
    }
}
