//! A stop in good order: nothing new in, everything admitted finished, every row written, the journal closed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use thiserror::Error;
use till_storage::journal::SyncError;
use tokio::time::timeout;

use crate::lifecycle::runtime::Running;
use crate::publish::door::FlushError;
use crate::shard::supervisor::SupervisorMessage;

/// Time that the last flush gets.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);
/// Time that shards get to end.
const SHARDS_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two looks whether devices are gone.
const LOOK: Duration = Duration::from_millis(5);

/// What a drain could not finish. Nothing that was acknowledged is lost by it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DrainError {
    /// Rows were not written; the next start makes up for it from the journal.
    #[error("rows were not flushed: {0}; the next start makes up for it")]
    Flush(#[from] FlushError),
    /// The journal was not closed; what was not acknowledged is sent again.
    #[error("the journal was not closed: {0}")]
    Journal(#[from] SyncError),
    /// A thread failed.
    #[error("the drain itself failed: {0}")]
    Failed(String),
}

/// Stops an engine.
pub(crate) async fn drain(running: Running, within: Duration) -> Result<(), DrainError> {
    let engine = Arc::clone(&running.engine);
    tracing::info!("draining: finishing what was admitted");
    engine.draining.send_replace(true);
    let ingress = running.ingress.as_ref();
    ingress.inspect(|ingress| ingress.shut());
    let until = Instant::now() + within;
    let streams = &engine.figures.ingress.streams;
    while streams.load(Ordering::Relaxed) > 0 && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
    let left = streams.load(Ordering::Relaxed);
    if left > 0 {
        tracing::warn!(
            streams = left,
            "closing on devices that did not finish in time"
        );
    }
    if let Some(ingress) = ingress {
        ingress.close().await;
    }
    end(running, true).await
}

/// Stops an engine as a crash would, but for the process: nothing is flushed.
pub(crate) async fn kill(running: Running) -> Result<(), DrainError> {
    running.engine.draining.send_replace(true);
    if let Some(ingress) = &running.ingress {
        ingress.shut();
        ingress.close().await;
    }
    end(running, false).await
}

async fn end(running: Running, flush: bool) -> Result<(), DrainError> {
    let Running {
        engine,
        syncer,
        flusher,
        upkeep,
        supervisor,
        mut supervised,
        shards,
        members,
        lock,
        ingress,
    } = running;
    drop(ingress);
    let door = engine.flush.clone();
    let flushed = blocking(move || {
        upkeep.stop();
        let flushed = if flush {
            door.stop(FLUSH_TIMEOUT).map(|_| ())
        } else {
            door.abandon();
            Ok(())
        };
        if flushed.is_ok() && flusher.join().is_err() {
            return Err(FlushError::Stopped);
        }
        match members {
            // What is not committed stays in the journal, and so do the slots until the lease is over.
            Some(members) if flush && flushed.is_ok() => members.leave(),
            Some(members) => members.end(),
            None => {}
        }
        flushed
    })
    .await?;
    // An error means that the supervisor has ended already.
    let _ended = supervisor.cast(SupervisorMessage::Stop);
    // It ends when its shards have. One may be waiting for a full disk, and its thread with it: that ends with the journal.
    match timeout(SHARDS_TIMEOUT, &mut supervised).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => tracing::error!("the supervisor of the shards failed"),
        Err(_) => tracing::warn!("closing the journal on shards that wait for it"),
    }
    let closed = blocking(move || syncer.close()).await?;
    shards.shutdown_background();
    drop(engine);
    drop(lock);
    closed?;
    flushed?;
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DrainError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| DrainError::Failed(error.to_string()))
}
