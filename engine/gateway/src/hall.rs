//! What all streams have in common.

use std::sync::Arc;
use std::time::Duration;

use till_runtime::{Handle, Intake, NetworkConfig};

use crate::abuse_control::LimitedTerminals;
use crate::unfinished::Room;

/// What all streams have in common.
#[derive(Debug)]
pub(crate) struct Hall {
    pub(crate) intake: Arc<Intake>,
    pub(crate) network: NetworkConfig,
    pub(crate) drain_timeout: Duration,
    /// Room for frames that are not complete.
    pub(crate) unfinished: Arc<Room>,
    /// Terminals whose connections have to wait.
    pub(crate) limited_terminals: LimitedTerminals,
}

impl Hall {
    pub(crate) fn of(engine: &Handle) -> Self {
        let (intake, config) = (engine.intake(), engine.config());
        Self {
            network: config.network,
            drain_timeout: config.drain_timeout,
            unfinished: Arc::new(Room::new(config.gather_bytes)),
            limited_terminals: LimitedTerminals::new(Arc::clone(intake.figures())),
            intake,
        }
    }
}
