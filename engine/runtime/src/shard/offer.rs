//! Gives records that another engine handed off to the shards of their stores.

use crate::lifecycle::engine::Engine;

use till_protocol::id::{Epoch, TerminalId};
use till_storage::rebuild::store_of;
use tokio::sync::oneshot;

use crate::shard::handle::{ShardHandle, shard_of};
use crate::shard::message::{Left, Offer, Offered, ShardMessage};

/// Gives records of another journal to the shards of their stores, in their order. For threads that may block.
///
/// # Errors
/// Says why nothing is known of some of them; all may be given again.
pub(crate) fn take_in(engine: &Engine, offers: Vec<Offer>) -> Offered {
    let mut by_shard: Vec<Vec<Offer>> = Vec::new();
    by_shard.resize_with(engine.slots.len(), Vec::new);
    for offer in offers {
        let shard = store_of(&offer.record.head).map(|store| shard_of(store, engine.slots.len()));
        if let Some(some) = shard.and_then(|shard| by_shard.get_mut(shard)) {
            some.push(offer);
        }
    }
    let mut left = Left::new();
    for (slot, offers) in engine.slots.iter().zip(by_shard) {
        if !offers.is_empty() {
            left.extend(offer(slot, offers)?);
        }
    }
    left.sort_unstable_by_key(|(index, _)| *index);
    Ok(left)
}

fn offer(slot: &ShardHandle, offers: Vec<Offer>) -> Offered {
    let (reply, answer) = oneshot::channel();
    let sent = slot.send(ShardMessage::TakeIn { offers, reply });
    sent.map_err(|_| "its shard does not run".to_owned())?;
    let offered = answer.blocking_recv();
    offered.map_err(|_| "its shard failed".to_owned())?
}

/// Takes the next epoch of a terminal; `None` where its store is not registered. For threads that may block.
///
/// # Errors
/// Says why it is not known.
pub(crate) fn take_epoch(engine: &Engine, terminal: TerminalId) -> Result<Option<Epoch>, String> {
    let shard = engine.slot(terminal.store()).ok_or("it has no shard")?;
    let (reply, answer) = oneshot::channel();
    let sent = shard.send(ShardMessage::TakeEpoch { terminal, reply });
    sent.map_err(|_| "its shard does not run".to_owned())?;
    let taken = answer.blocking_recv();
    let taken = taken.map_err(|_| "its shard failed".to_owned())?;
    taken.map_err(|error| error.to_string())
}
