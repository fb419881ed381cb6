//! What devices say, and how a shard hears many of them at once.
//!
//! Where a store is shared, what a shard must know of it is some ways there and back. It asks once for all that waits in its
//! mailbox, so how long the store takes decides how late devices are answered, and not how many are heard.

use crate::shard::message::FromDevice;
use crate::shard::message::has_frames;
use crate::shard::message::has_hellos;
use std::mem;
use std::sync::Arc;

use till_core::{HelloError, RowsError};
use till_protocol::code::Reason;
use till_storage::cluster::Found;

use crate::admission::Permit;
use crate::commit::Companion;
use crate::ingress::placement::Commits;
use crate::ingress::session::Session;
use crate::ingress::session::farewell::Farewell;
use crate::shard::crash::PoisonMessage;
use crate::shard::message::{Inbound, ShardMessage};
use crate::shard::prefetch::Unknown;
use crate::shard::state::{Done, ShardState};

/// How much is heard together, in events, or lines of long ones. What they ask for is a hundred thousand rows at most, some
/// seconds of a store's work and some ten megabytes; they are far less where tills have traded for a while.
const DRAINED_AT_ONCE: u64 = 16_384;

impl ShardState {
    /// A device says something. It is heard at once, or with all that is said until the shard comes to the end of its mailbox
    /// as it is now.
    pub(super) fn deliver(&mut self, messages: FromDevice) -> Done {
        let is_shared = self.engine.row_backend.cluster().is_some();
        if !is_shared || !self.waiting.is_trusting {
            return self.drain(vec![messages]);
        }
        if self.waiting.messages.is_empty() && self.slot.send(ShardMessage::Hear).is_err() {
            // The actor ends, and whoever speaks is told with it.
            return Ok(());
        }
        self.waiting.weight += messages.weight();
        self.waiting.messages.push(messages);
        match self.waiting.weight < DRAINED_AT_ONCE {
            true => Ok(()),
            false => self.drain_all(),
        }
    }

    /// The shard has come as far as a flush.
    pub(super) fn trust(&mut self) {
        self.waiting.is_trusting = true;
    }

    /// Hears all that waits.
    pub(super) fn drain_all(&mut self) -> Done {
        self.waiting.weight = 0;
        let messages = mem::take(&mut self.waiting.messages);
        match messages.is_empty() {
            true => Ok(()),
            false => self.drain(messages),
        }
    }

    fn drain(&mut self, mut messages: Vec<FromDevice>) -> Done {
        match self.prefetch_patiently(&messages) {
            Ok(known) => self.drain_each(messages, Ok(&known)),
            // Frames may need less than Hellos do.
            Err(Unknown::Away(_)) if has_frames(&messages) && has_hellos(&messages) => {
                let is_hello = |one: &FromDevice| matches!(one, FromDevice::Hello(_));
                let (hellos, rest) = messages.into_iter().partition(is_hello);
                self.drain(rest)?;
                self.drain(hellos)
            }
            // Devices keep their events, and come again: what cannot be decided is not journalled.
            Err(Unknown::Away(error)) => {
                if let Some(cluster) = self.engine.row_backend.cluster() {
                    cluster.pause_intake(&error.to_string());
                }
                self.send_away(messages);
                Ok(())
            }
            // Whose it is, is found by halves: the others do not suffer from it.
            #[cfg(feature = "planted")]
            Err(Unknown::Rows(error)) if till_core::planted::is("crash-together") => {
                self.drain_each(messages, Err(&error))
            }
            Err(Unknown::Rows(_)) if messages.len() > 1 => {
                let rest = messages.split_off(messages.len() / 2);
                self.drain(messages)?;
                self.drain(rest)
            }
            Err(error) => self.drain_each(messages, Err(&error.into())),
        }
    }

    // `known`: what must be known of them, or why it is not.
    fn drain_each(&mut self, messages: Vec<FromDevice>, known: Result<&Found, &RowsError>) -> Done {
        messages.into_iter().try_for_each(|one| match one {
            FromDevice::Hello(request) => {
                self.begin(PoisonMessage::hello(&request.hello));
                match known {
                    Ok(known) => self.handshake(request, known),
                    Err(error) => {
                        self.not_served(&request, &HelloError::from(error.clone()));
                        Ok(())
                    }
                }
            }
            FromDevice::Frames { session, frames } => match known {
                Ok(known) => self.frames(&session, frames, known),
                // The session ends with the first of them.
                Err(error) => frames.into_iter().next().map_or(Ok(()), |frame| {
                    self.answer(session, Err(error.clone()), frame.permit, frame.received)
                }),
            },
            FromDevice::End {
                session,
                last,
                permit,
            } => {
                self.bye(session, last, permit);
                Ok(())
            }
        })
    }

    // Ends sessions whose frames, and those whose Hellos, cannot be decided while the shared store does not answer.
    fn send_away(&mut self, messages: Vec<FromDevice>) {
        for one in messages {
            match one {
                FromDevice::Hello(request) => request.session.bye(Reason::Busy, None),
                FromDevice::Frames { session, .. } => {
                    self.slot.leave(&session);
                    session.bye(Reason::Busy, None);
                }
                FromDevice::End {
                    session,
                    last,
                    permit,
                } => self.bye(session, last, permit),
            }
        }
    }

    fn frames(&mut self, session: &Arc<Session>, frames: Vec<Inbound>, known: &Found) -> Done {
        frames
            .into_iter()
            .try_for_each(|frame| self.frame(session, frame, known))
    }

    fn bye(&mut self, session: Arc<Session>, last: Farewell, permit: Permit) {
        self.begin(None);
        // One that waits for a commit must be found until it is told; its stream takes it out then.
        if self.engine.commits == Commits::WithJournal {
            self.slot.leave(&session);
        }
        self.marker(Companion::Bye(session, last, permit));
    }
}
