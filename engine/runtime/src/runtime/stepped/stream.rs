//! What a device and a stepped engine say to each other.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::reply::{Bye, Check, Hello, Message};

use super::{Halt, Stepped};
use crate::admission::Room;
use crate::gateway::check;
use crate::gateway::intake::{checked, sent_again};
use crate::gateway::session::{Farewell, Session};
use crate::gateway::stream::End;
use crate::route::{Slot, shard_of};
use crate::shard_actor::{FromDevice, Knock, ShardMessage};

/// One stream of a terminal.
#[derive(Debug)]
pub struct Stream {
    session: Arc<Session>,
    slot: Arc<Slot>,
    shard: usize,
}

/// What became of frames.
#[derive(Debug)]
#[must_use]
pub enum Taken {
    /// Their shard has turned to them, or their session is over.
    Yes,
    /// There is no room, or the greeting is not out: nothing more is read of the stream.
    Later(Vec<Frame>),
}

/// What the engine has to say to a device.
#[derive(Debug, Default)]
pub struct Said {
    /// Whole frames, one after another.
    pub bytes: Bytes,
    /// Nothing follows.
    pub is_last: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.session.close();
        self.slot.leave(&self.session);
    }
}

impl Stepped {
    /// A stream begins with its Hello. `Err` is what the device is told in place of a greeting.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn hello(&mut self, hello: Hello) -> Result<Result<Stream, Message>, Halt> {
        let store = hello.terminal.store();
        let admitted = self
            .engine
            .registry
            .admit(hello.terminal, hello.currency, &hello.zone);
        let listing = match admitted {
            Ok(listing) => listing,
            Err(reason) => return Ok(Err(Bye::new(reason).into())),
        };
        let Some(slot) = self.engine.slot(store).map(Arc::clone) else {
            return Ok(Err(Bye::new(Reason::Internal).into()));
        };
        let Some(permit) = slot.gate.try_enter() else {
            return Ok(Err(Bye::new(Reason::Busy).into()));
        };
        let untold = Arc::clone(&self.engine.untold);
        let session = Arc::new(Session::new(hello.terminal, untold, self.engine.commits));
        let shard = shard_of(store, self.engine.slots.len());
        let knock = Knock {
            session: Arc::clone(&session),
            hello: Box::new(hello),
            listing,
            permit: Some(permit),
        };
        self.tell(shard, ShardMessage::Device(FromDevice::Hello(knock)))?;
        Ok(Ok(Stream {
            session,
            slot,
            shard,
        }))
    }

    /// Frames of a stream reach their shard, if there is room for them.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn frames(&mut self, stream: &Stream, frames: Vec<Frame>) -> Result<Taken, Halt> {
        let session = &stream.session;
        if session.is_over() {
            return Ok(Taken::Yes);
        }
        let Some(greeted) = session.welcomed_now() else {
            return Ok(Taken::Later(frames));
        };
        let rooms = frames.iter().map(|frame| Room::of(&frame.header));
        let room = rooms.fold(Room::default(), Room::and);
        let Some(permit) = stream.slot.gate.try_admit(room) else {
            return Ok(Taken::Later(frames));
        };
        for frame in &frames {
            if let Some((first, last)) = sent_again(&greeted, &frame.header) {
                let facts = self.engine.reader.as_ref();
                match check::refusals(facts, greeted.key, first, last) {
                    Ok(refusals) => session.refused(&refusals),
                    Err(_) => session.bye(Reason::Internal, None),
                }
            }
        }
        let (frames, bad) = checked(&self.engine, frames, permit, Instant::now());
        let inbound = ShardMessage::Device(FromDevice::Frames {
            session: Arc::clone(session),
            frames,
        });
        self.tell(stream.shard, inbound)?;
        if let Some(End::Bye(reason, text)) = bad {
            session.bye(reason, text.as_deref());
        }
        Ok(Taken::Yes)
    }

    /// From now on what devices say is put aside, as by a shard that shares a store and has more in its mailbox, until
    /// [`hear_together`](Self::hear_together).
    pub fn gather(&mut self) {
        for shard in &self.shards {
            shard.lock().gather();
        }
    }

    /// Shards hear what waits, each all of it together. Gives how many messages the one has heard that had most.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn hear_together(&mut self) -> Result<usize, Halt> {
        let mut most = 0;
        for index in 0..self.shards.len() {
            let shard = self.shards.get(index);
            most = most.max(shard.map_or(0, |shard| shard.lock().gathered()));
            self.tell(index, ShardMessage::Hear)?;
        }
        Ok(most)
    }

    /// A device asks which of its events are here. `false`: the greeting is not out, or what is asked for is in no
    /// commit; ask again.
    pub fn check(&self, stream: &Stream, check: &Check) -> bool {
        let session = &stream.session;
        if session.is_over() {
            return true;
        }
        if session.welcomed_now().is_none() {
            return false;
        }
        match check::answer(self.engine.reader.as_ref(), session.terminal(), check) {
            Ok(None) => return false,
            Ok(Some((checked, refusals))) => {
                if !session.checked(checked, refusals) {
                    session.bye(Reason::Busy, None);
                }
            }
            Err(_) => session.bye(Reason::Internal, None),
        }
        true
    }

    /// A device says goodbye: its stream ends behind its last ack. `false`: there is no room, try again.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn goodbye(&mut self, stream: &Stream) -> Result<bool, Halt> {
        let Some(permit) = stream.slot.gate.try_enter() else {
            return Ok(false);
        };
        let end = ShardMessage::Device(FromDevice::End {
            session: Arc::clone(&stream.session),
            last: Farewell::Silent,
            permit,
        });
        self.tell(stream.shard, end)?;
        Ok(true)
    }

    /// What there is to say to the device of a stream now.
    pub fn say(&self, stream: &Stream) -> Said {
        let messages = stream.session.messages_now();
        Said {
            bytes: messages.bytes,
            is_last: messages.is_last,
        }
    }
}
