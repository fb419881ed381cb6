//! A shard as an actor: it gives each message to [`ShardState`], and ends where that cannot go on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use till_storage::rebuild::panic_text;

use crate::shard::crash::{Crash, PoisonMessage};
use crate::shard::message::ShardMessage;
use crate::shard::state::{ShardArguments, ShardState, Stop};

/// The actor; all state is in [`ShardState`].
#[derive(Debug)]
pub(crate) struct ShardActor;

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardState;
    type Arguments = ShardArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<ShardMessage>,
        arguments: ShardArguments,
    ) -> Result<ShardState, ActorProcessingErr> {
        Ok(ShardState::new(arguments))
    }

    async fn handle(
        &self,
        _myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        state.begin(PoisonMessage::of(&message));
        // What a panic leaves of the shard is never looked at again: the actor ends.
        let done = catch_unwind(AssertUnwindSafe(|| state.handle(message)));
        let poison = state.poison;
        let (poison, cause) = match done {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(stop @ Stop::Closed)) => (None, stop.to_string()),
            Ok(Err(stop @ Stop::Record(_))) => (poison, stop.to_string()),
            Err(panic) => (poison, panic_text(panic.as_ref())),
        };
        // Nothing of the frame or message that it crashed on was journalled; it is counted when it comes again.
        state.slot.published.lock().counters = state.counted;
        Err(Crash { poison, cause }.into())
    }
}
