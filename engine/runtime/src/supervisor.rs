//! Watches the shards: one that fails starts again from rows and journal; one that fails again is parked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use till_core::{Shard, ShardConfig};
use till_storage::base::FoldError;
use till_storage::journal::Lsn;
use till_storage::rebuild::{Fold, Registrations, store_of};

use crate::config::Config;
use crate::engine::Engine;
use crate::route::shard_of;
use crate::shard_actor::{ShardActor, ShardArguments};

/// A second failure within this time parks a shard: what it dies of is in its records.
const TWICE_WITHIN: Duration = Duration::from_secs(60);

/// What the supervisor is told.
#[derive(Debug)]
pub(crate) enum SupervisorMessage {
    /// A shard was filled from rows and journal.
    Restored {
        index: usize,
        shard: Result<Box<Shard>, String>,
    },
    /// The engine stops: the end of a shard is no failure.
    Stop,
}

/// The actor.
#[derive(Debug)]
pub(crate) struct Supervisor;

/// What it knows.
#[derive(Debug)]
pub(crate) struct Watched {
    engine: Arc<Engine>,
    shards: HashMap<ActorId, usize>,
    failed: HashMap<usize, Instant>,
    stopping: bool,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = Watched;
    type Arguments = (Arc<Engine>, Vec<Shard>);

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        (engine, restored): (Arc<Engine>, Vec<Shard>),
    ) -> Result<Watched, ActorProcessingErr> {
        let mut watched = Watched {
            engine,
            shards: HashMap::new(),
            failed: HashMap::new(),
            stopping: false,
        };
        let mut restored = restored.into_iter();
        for index in 0..watched.engine.slots.len() {
            let shard = restored.next();
            let shard = shard.unwrap_or_else(|| Shard::new(shard_config(&watched.engine.config)));
            watched.spawn(&myself, index, shard).await?;
        }
        Ok(watched)
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        watched: &mut Watched,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Restored {
                index,
                shard: Ok(shard),
            } => watched.spawn(&myself, index, *shard).await?,
            SupervisorMessage::Restored {
                index,
                shard: Err(cause),
            } => watched.park(index, &cause),
            SupervisorMessage::Stop => {
                watched.stopping = true;
                for child in myself.get_children() {
                    child.stop(None);
                }
                myself.stop(None);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        watched: &mut Watched,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, cause) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, reason.unwrap_or_else(|| "it ended".to_owned()))
            }
            _ => return Ok(()),
        };
        let Some(index) = watched.shards.remove(&cell.get_id()) else {
            return Ok(());
        };
        if !watched.stopping {
            watched.failed(&myself, index, &cause);
        }
        Ok(())
    }
}

impl Watched {
    async fn spawn(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
        shard: Shard,
    ) -> Result<(), ActorProcessingErr> {
        let Some(slot) = self.engine.slots.get(index).map(Arc::clone) else {
            return Ok(());
        };
        let arguments = ShardArguments {
            index,
            shard,
            engine: Arc::clone(&self.engine),
            slot: Arc::clone(&slot),
        };
        let spawned = Actor::spawn_linked(None, ShardActor, arguments, myself.get_cell()).await;
        let (actor, _handle) = spawned?;
        self.shards.insert(actor.get_id(), index);
        slot.run(actor);
        Ok(())
    }

    fn failed(&mut self, myself: &ActorRef<SupervisorMessage>, index: usize, cause: &str) {
        let again = self
            .failed
            .insert(index, Instant::now())
            .is_some_and(|before| before.elapsed() < TWICE_WITHIN);
        if again {
            self.park(index, cause);
            return;
        }
        tracing::error!(
            shard = index,
            cause,
            "a shard failed; it starts again from rows and journal"
        );
        self.engine.figures.problem(
            &format!("shard {index} failed and starts again: {cause}"),
            "Nothing acknowledged is lost; report it if it comes back.",
        );
        if let Some(slot) = self.engine.slots.get(index) {
            slot.fail(false);
        }
        let engine = Arc::clone(&self.engine);
        let myself = myself.clone();
        // Reads the journal: on a thread that may block. The supervisor hears of it by message.
        let _restoring = tokio::task::spawn_blocking(move || {
            let shard = restore(&engine, index).map(Box::new);
            let shard = shard.map_err(|error| error.to_string());
            // The supervisor may have ended with the engine.
            let _gone = myself.cast(SupervisorMessage::Restored { index, shard });
        });
    }

    fn park(&self, index: usize, cause: &str) {
        tracing::error!(
            shard = index,
            cause,
            "a shard is parked: its stores take nothing until the engine is started again"
        );
        self.engine.figures.problem(
            &format!("shard {index} is parked: {cause}"),
            "Start the engine again; if the shard fails again, run `tillstream doctor`.",
        );
        if let Some(slot) = self.engine.slots.get(index) {
            slot.fail(true);
        }
    }
}

/// A shard as rows and journal have it.
fn restore(engine: &Engine, index: usize) -> Result<Shard, FoldError> {
    // Everything that the failed one gave to the journal is durable, and nothing that it gave to the flush is written
    // from here on: what is replayed is then replayed once.
    engine.settle();
    engine.flush.restart(index);
    let shards = engine.slots.len();
    let registrations = Registrations::new(engine.journal.clone(), []);
    let mut fold = Fold::new(
        engine.views.as_ref(),
        engine.facts.as_ref(),
        shard_config(&engine.config),
    )
    .with_dirty_rows(usize::MAX)
    .with_registrations(&registrations);
    for item in engine.journal.records(Lsn::new(engine.views.checkpoint()?)) {
        let (lsn, record) = item?;
        if store_of(&record.head).is_some_and(|store| shard_of(store, shards) == index) {
            fold.apply(lsn, &record)?;
        }
    }
    Ok(fold.into_shard())
}

pub(crate) fn shard_config(config: &Config) -> ShardConfig {
    ShardConfig {
        actors_max: config.actors_per_shard(),
        recent_bytes: config.recent_bytes_per_shard(),
    }
}
