//! What a device and a stepped engine say to each other.

use bytes::Bytes;
use till_protocol::codec::Frame;
use till_protocol::reply::{Check, Hello, Message};

use crate::ingress::inlet::{End, FrameBatch, Inlet};
use crate::testing::{Halt, Stepped};

/// One stream of a terminal.
#[derive(Debug)]
pub struct Stream(Inlet);

/// What became of frames.
#[derive(Debug)]
#[must_use]
pub enum Taken {
    /// Their shard has turned to them, or their session is over.
    Yes,
    /// There is no room, or the handshake is not out: nothing more is read of the stream.
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
        self.0.session().close();
        self.0.leave();
    }
}

impl Stepped {
    /// A stream begins with its Hello. `Err` is what the device is told in place of a handshake.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn hello(&mut self, hello: Hello) -> Result<Result<Stream, Message>, Halt> {
        let knocking = match self.engine.intake.open(Box::new(hello)) {
            Ok(knocking) => knocking,
            Err(last) => return Ok(Err(last)),
        };
        let entered = self.guarded(|_| knocking.try_enter())?;
        Ok(entered.map(Stream).map_err(Message::from))
    }

    /// Frames of a stream reach their shard, if there is room for them.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn frames(&mut self, stream: &Stream, frames: Vec<Frame>) -> Result<Taken, Halt> {
        let Stream(inlet) = stream;
        if inlet.session().is_over() {
            return Ok(Taken::Yes);
        }
        let batch = FrameBatch::from(frames);
        match self.guarded(|_| inlet.try_submit(batch))? {
            Err(frames) => return Ok(Taken::Later(frames)),
            Ok(Err(End::Bye(reason, text))) => inlet.session().bye(reason, text.as_deref()),
            Ok(_) => {}
        }
        Ok(Taken::Yes)
    }

    /// From now on what devices say is put away, as by a shard that shares a store and has more in its mailbox, until
    /// [`deliver_together`](Self::deliver_together).
    pub fn gather(&self) {
        self.shards.iter().for_each(|shard| shard.gather());
    }

    /// Shards hear what waits, each all of it together. Gives how many messages the one has heard that had most.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn deliver_together(&mut self) -> Result<usize, Halt> {
        self.guarded(|this| {
            let heard = this.shards.iter().map(|shard| shard.deliver_together());
            heard.max().unwrap_or(0)
        })
    }

    /// A device asks which of its events are here. `false`: the handshake is not out, or what is asked for is in no
    /// commit; ask again.
    pub fn check(&self, stream: &Stream, check: &Check) -> bool {
        stream.0.try_check(check)
    }

    /// A device says goodbye: its stream ends behind its last ack. `false`: there is no room, try again.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn goodbye(&mut self, stream: &Stream) -> Result<bool, Halt> {
        self.guarded(|_| stream.0.try_goodbye())
    }

    /// What there is to say to the device of a stream now.
    pub fn say(&self, stream: &Stream) -> Said {
        let messages = stream.0.session().messages_now();
        Said {
            bytes: messages.bytes,
            is_last: messages.is_last,
        }
    }
}
