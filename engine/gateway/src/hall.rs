//! What all streams have in common.

use std::sync::Arc;
use std::time::Duration;

use till_runtime::{Handle, Intake, NetworkConfig};

use crate::conduct::Debtors;
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
    pub(crate) debtors: Debtors,
}

impl Hall {
    pub(crate) fn of(engine: &Handle) -> Self {
        let (intake, config) = (engine.intake(), engine.config());
        Self {
            network: config.network,
            drain_timeout: config.drain_timeout,
            unfinished: Arc::new(Room::new(config.gather_bytes)),
            debtors: Debtors::new(Arc::clone(intake.figures())),
            intake,
        }
    }
}
