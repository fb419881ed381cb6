//! The hand that drives a stepped engine: it takes the turns that are waited for, and brings messages to shards.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crossbeam::channel::Receiver;
use parking_lot::Mutex;
use till_storage::journal::{Attempt, GroupSync};

use crate::commit::{Companion, DurableSink};
use crate::driver::Driver;
use crate::publish::flusher::{Flusher, Next};
use crate::shard::handle::{Deliver, Down};
use crate::shard::message::ShardMessage;
use crate::shard::state::ShardState;
use crate::testing::Halt;

type Group = Mutex<GroupSync<Companion, DurableSink>>;

/// Takes the turns of journal and flush for parts that wait for them.
#[derive(Debug, Default)]
pub(super) struct Hand {
    group: OnceLock<Weak<Group>>,
    flusher: OnceLock<Weak<Mutex<Flusher>>>,
    /// Why the engine cannot go on.
    halt: Mutex<Option<Halt>>,
}

impl Hand {
    /// Takes these in hand.
    pub(super) fn take(&self, group: &Arc<Group>, flusher: &Arc<Mutex<Flusher>>) {
        self.group.get_or_init(|| Arc::downgrade(group));
        self.flusher.get_or_init(|| Arc::downgrade(flusher));
    }

    pub(super) fn take_halt(&self) -> Option<Halt> {
        self.halt.lock().take()
    }

    fn halt(&self, halt: Halt) {
        self.halt.lock().get_or_insert(halt);
    }
}

impl Driver for Hand {
    // Where the journal cannot go on, the engine halts with the turn that waits.
    fn await_journal(&self, done: &Receiver<()>) {
        let Some(group) = self.group.get().and_then(Weak::upgrade) else {
            return;
        };
        while done.is_empty() {
            let turned = group.lock().turn();
            match turned {
                Ok(Attempt::Done) => {}
                Ok(Attempt::Full { .. }) => return self.halt(Halt::Stuck),
                Err(error) => return self.halt(error.into()),
            }
        }
    }

    fn await_flush(&self, done: &Receiver<()>) {
        let Some(flusher) = self.flusher.get().and_then(Weak::upgrade) else {
            return;
        };
        while done.is_empty() {
            let turned = flusher.lock().turn();
            if !matches!(turned, Next::Over | Next::News(_)) {
                return;
            }
        }
    }

    fn pause(&self, _time: Duration) -> bool {
        false
    }
}

/// A shard without an actor: it turns to a message at the call that brings it.
#[derive(Debug)]
pub(super) struct Hosted {
    pub(super) state: Mutex<ShardState>,
    hand: Arc<Hand>,
    /// What devices say is put away, as if more followed in the mailbox.
    gathers: AtomicBool,
    /// The shard wants to hear what is put away at the end of its mailbox.
    is_rung: AtomicBool,
    gathered: AtomicUsize,
}

impl Hosted {
    pub(super) fn new(state: ShardState, hand: &Arc<Hand>) -> Self {
        Self {
            state: Mutex::new(state),
            hand: Arc::clone(hand),
            gathers: AtomicBool::new(false),
            is_rung: AtomicBool::new(false),
            gathered: AtomicUsize::new(0),
        }
    }

    /// The way in.
    pub(super) fn mailbox(self: &Arc<Self>) -> Deliver {
        let this = Arc::downgrade(self);
        Box::new(move |message| match this.upgrade() {
            Some(this) => this.deliver(message),
            None => Err(Down),
        })
    }

    fn deliver(&self, message: ShardMessage) -> Result<(), Down> {
        if matches!(message, ShardMessage::Hear) {
            self.is_rung.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let is_said = matches!(message, ShardMessage::Device(_));
        self.turn(message)?;
        if !self.gathers.load(Ordering::Relaxed) {
            return self.hear();
        }
        if is_said && self.is_rung.load(Ordering::Relaxed) {
            self.gathered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Puts aside what devices say, until [`Self::deliver_together`].
    pub(super) fn gather(&self) {
        self.gathers.store(true, Ordering::Relaxed);
    }

    /// The mailbox is at its end: what was put away is heard. Gives how many messages that were.
    pub(super) fn deliver_together(&self) -> usize {
        self.gathers.store(false, Ordering::Relaxed);
        // A shard that ends halts the engine.
        let _ended = self.hear();
        self.gathered.swap(0, Ordering::Relaxed)
    }

    fn hear(&self) -> Result<(), Down> {
        match self.is_rung.swap(false, Ordering::Relaxed) {
            true => self.turn(ShardMessage::Hear),
            false => Ok(()),
        }
    }

    fn turn(&self, message: ShardMessage) -> Result<(), Down> {
        let done = self.state.lock().handle(message);
        done.map_err(|stop| {
            self.hand.halt(stop.into());
            Down
        })
    }
}
