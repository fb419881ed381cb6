//! Connecting, and waiting for the cluster from threads that block.

mod cause;
mod connect;

use std::fmt;
use std::sync::{Arc, mpsc};

use tokio::runtime::{Builder, Runtime};

use crate::client::Client;
use crate::config::ScyllaConfig;
use crate::error::CqlError;

/// Threads that speak to the cluster. They encode and decode rows; waiting costs none.
const THREADS: usize = 2;

/// A connected cluster with threads of its own, for callers that block.
pub struct Cql {
    client: Arc<Client>,
    runtime: Option<Runtime>,
}

impl Cql {
    /// Connects: finds out what answers, and keeps connections to every node. Takes at most 10 s when no node answers.
    ///
    /// # Errors
    /// [`CqlError::Unreachable`] with every address that was tried; [`CqlError::TooOld`], [`CqlError::Authority`],
    /// [`CqlError::Datacenter`].
    pub fn connect(config: &ScyllaConfig) -> Result<Self, CqlError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("till-cql")
            .enable_all()
            .build()
            .map_err(CqlError::Threads)?;
        let config = config.clone();
        let connecting = async move { connect::connect(&config).await };
        match wait_on(&runtime, connecting) {
            Ok(client) => Ok(Self {
                client: Arc::new(client),
                runtime: Some(runtime),
            }),
            Err(error) => {
                // A name that is still being looked up must not hold the caller up.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// The cluster, for futures that are handed to [`Self::wait`].
    pub const fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Runs a future on this cluster's threads, beside the caller.
    ///
    /// # Errors
    /// [`CqlError::Stopped`] when the threads have ended.
    pub(crate) fn start(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), CqlError> {
        let runtime = self.runtime.as_ref().ok_or(CqlError::Stopped)?;
        drop(runtime.spawn(future));
        Ok(())
    }

    /// Runs a future on this cluster's threads and blocks until it has ended. May be called on any thread but those.
    ///
    /// # Errors
    /// What the future ends with; [`CqlError::Stopped`] when it panicked or the threads have ended.
    pub fn wait<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<CqlError> + Send + 'static,
    {
        match &self.runtime {
            Some(runtime) => wait_on(runtime, future),
            None => Err(CqlError::Stopped.into()),
        }
    }
}

/// A channel of the standard library and not `block_on`: that panics on a thread of another runtime.
fn wait_on<T, E>(
    runtime: &Runtime,
    future: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<CqlError> + Send + 'static,
{
    let (answer, waiting) = mpsc::sync_channel(1);
    drop(runtime.spawn(async move {
        // Nobody waits any more when this fails.
        drop(answer.send(future.await));
    }));
    waiting
        .recv()
        .unwrap_or_else(|_| Err(CqlError::Stopped.into()))
}

impl Drop for Cql {
    fn drop(&mut self) {
        // Waiting for the threads would panic on a thread of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Cql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cql").field(&self.client).finish()
    }
}

#[cfg(test)]
mod tests;
