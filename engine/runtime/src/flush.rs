//! Durable rows reach the views, on a thread of its own.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::Receiver;
use till_storage::journal::Lsn;
use till_storage::views::{FlushBatch, StoreError, Views as _};

use crate::commit::Flush;
use crate::engine::Shared;
use crate::published::Published;
use crate::shard_actor::Message;

/// Time between two looks for room on a full disk.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// Starts the thread. It ends when the committer, which holds the other end of `flushes`, is gone.
pub(crate) fn start(
    shared: Arc<Shared>,
    flushes: Receiver<Flush>,
) -> std::io::Result<JoinHandle<()>> {
    let mut reached = vec![Lsn::new(shared.checkpoint()); shared.shards()];
    std::thread::Builder::new()
        .name("flush".to_owned())
        .spawn(move || {
            for Flush { shard, dirty, end } in &flushes {
                if let Some(place) = reached.get_mut(shard) {
                    *place = end;
                }
                let generation = dirty.generation;
                let mut batch = FlushBatch::from(*dirty);
                let checkpoint = reached.iter().min().copied().unwrap_or(end);
                batch.checkpoint = Some(checkpoint.get());
                write(&shared, &batch);
                Published::add(
                    &shared.published.rows,
                    u64::try_from(batch.rows()).unwrap_or(0),
                );
                shared.flushed(shard, checkpoint.get());
                if let Some(actor) = shared.actor(shard) {
                    // A shard that is being restarted takes its rows from the views.
                    let _gone = actor.cast(Message::Flushed(generation));
                }
            }
        })
}

/// Writes rows; waits for room while the disk is full.
fn write(shared: &Shared, batch: &FlushBatch) {
    loop {
        match shared.views.write(batch) {
            Ok(()) => return shared.set_views_full(false),
            Err(StoreError::Full { .. }) => {
                shared.set_views_full(true);
                std::thread::sleep(FULL_RETRY);
                if let Err(error) = shared.views.reopen() {
                    tracing::warn!(%error, "rows cannot be opened again yet");
                }
            }
            Err(error) => {
                // Rows that cannot be written are rebuilt from the journal by the next start; nothing acknowledged is lost.
                tracing::error!(%error, "rows cannot be written; ending the process, the next start rebuilds them");
                std::process::abort();
            }
        }
    }
}
