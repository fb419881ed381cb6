//! An engine with its door, put together.

use std::sync::Arc;

use thiserror::Error;
use till_runtime::{Config, Handle, Parts, Runtime};
use till_storage::cluster::SharedStore;

use crate::door::{Door, GatewayError};
use crate::gateway::Gateway;
use crate::pki::{Files, PkiError};

/// Why an engine did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The engine itself does not.
    #[error(transparent)]
    Engine(#[from] till_runtime::StartError),
    /// Certificates are of no use.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The door for devices does not open.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

/// Starts an engine: recovers what the last one left, and takes devices in. Call it on a multi-threaded tokio runtime with
/// timers and sockets; the gateway runs there, shards on a runtime of their own.
///
/// # Errors
/// [`StartError`]; nothing runs then, and nothing was changed but what recovery may change.
pub async fn start(config: Config) -> Result<Handle, StartError> {
    Box::pin(start_all(config, Parts::default(), None)).await
}

/// As [`start`], at a door that is bound already instead of [`Config::listen`].
///
/// # Errors
/// See [`start`].
pub async fn start_at(door: Door, config: Config) -> Result<Handle, StartError> {
    Box::pin(start_all(config, Parts::default(), Some(door))).await
}

/// As [`start_at`], as one of several engines on a store.
///
/// # Errors
/// See [`start`].
pub async fn start_shared(
    door: Door,
    config: Config,
    store: Arc<dyn SharedStore>,
) -> Result<Handle, StartError> {
    let parts = Parts {
        shared: Some(store),
        ..Parts::default()
    };
    Box::pin(start_all(config, parts, Some(door))).await
}

/// As [`start`], with parts replaced.
///
/// # Errors
/// See [`start`].
pub async fn start_with(config: Config, parts: Parts) -> Result<Handle, StartError> {
    Box::pin(start_all(config, parts, None)).await
}

async fn start_all(config: Config, parts: Parts, door: Option<Door>) -> Result<Handle, StartError> {
    let runtime = Runtime::prepare(config, parts).await?;
    let config = runtime.config();
    let door = door.map_or_else(|| Door::bind(config.listen), Ok)?;
    let files = Files::find(&config.pki, config.crl.as_deref(), &config.data_dir)?;
    // Read now: what is wrong with them must not wait for the recovery.
    drop(files.read()?);
    let identity = files.identity.clone();
    let mut engine = runtime.start(door.address()).await?;
    let gateway = Gateway::open(&engine, files, door)?;
    engine.take_devices(Box::new(gateway), identity)?;
    Ok(engine)
}
