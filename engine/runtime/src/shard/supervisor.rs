//! Watches the shards: one that crashes starts again from rows and journal; a terminal whose frame crashes it again is parked,
//! and so is a shard that crashes and falls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use till_core::{Shard, ShardConfig};
use till_storage::base::FoldError;
use till_storage::journal::Lsn;
use till_storage::rebuild::{Fold, Registrations, store_of};
use till_storage::views::WriteViews;

use crate::config::Config;
use crate::lifecycle::engine::Engine;
use crate::publish::row_backend::RowBackend;
use crate::shard::actor::ShardActor;
use crate::shard::crash::{Crash, Crashes, PoisonMessage, Remedy};
use crate::shard::handle::{Down, ShardHandle, shard_of};
use crate::shard::state::ShardArguments;

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
pub(crate) struct SupervisedShards {
    engine: Arc<Engine>,
    shards: HashMap<ActorId, usize>,
    crashes: HashMap<usize, Crashes>,
    stopping: bool,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisedShards;
    type Arguments = (Arc<Engine>, Vec<Shard>);

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        (engine, shards): (Arc<Engine>, Vec<Shard>),
    ) -> Result<SupervisedShards, ActorProcessingErr> {
        let mut watched = SupervisedShards {
            engine,
            shards: HashMap::new(),
            crashes: HashMap::new(),
            stopping: false,
        };
        for (index, shard) in shards.into_iter().enumerate() {
            watched.spawn(&myself, index, shard).await?;
        }
        Ok(watched)
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        watched: &mut SupervisedShards,
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
        watched: &mut SupervisedShards,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, crash) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, crash_of(error)),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                let cause = reason.unwrap_or_else(|| "it ended".to_owned());
                let poison = None;
                (cell, Crash { poison, cause })
            }
            _ => return Ok(()),
        };
        let Some(index) = watched.shards.remove(&cell.get_id()) else {
            return Ok(());
        };
        if !watched.stopping {
            watched.crashed(&myself, index, &crash);
        }
        Ok(())
    }
}

impl SupervisedShards {
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
        slot.run(Box::new(move |message| {
            actor.cast(message).map_err(|_| Down)
        }));
        Ok(())
    }

    fn crashed(&mut self, myself: &ActorRef<SupervisorMessage>, index: usize, crash: &Crash) {
        let Some(slot) = self.engine.slots.get(index).map(Arc::clone) else {
            return;
        };
        let crashes = self.crashes.entry(index).or_default();
        match crashes.judge(Instant::now(), crash.poison) {
            Remedy::Park => {
                self.park(index, &crash.cause);
                let engine = Arc::clone(&self.engine);
                // The flush may be at a slow disk: on a thread that may block.
                let _forgetting = tokio::task::spawn_blocking(move || engine.restart_flush(index));
                return;
            }
            Remedy::Without(poison) => self.park_terminal(&slot, poison, &crash.cause),
            Remedy::Restart => {}
        }
        let at = crash.poison.map(|poison| format!(" over {poison}"));
        let at = at.unwrap_or_default();
        tracing::error!(
            shard = index,
            cause = crash.cause,
            "a shard failed{at}; it starts again from rows and journal"
        );
        self.engine.figures.problem(
            &format!("shard {index} failed{at} and starts again: {}", crash.cause),
            "Nothing acknowledged is lost; report it if it comes back.",
        );
        slot.fail(false);
        let engine = Arc::clone(&self.engine);
        let myself = myself.clone();
        let _restoring = tokio::spawn(async move {
            // Reads the journal: on a thread that may block.
            let restoring = tokio::task::spawn_blocking(move || {
                let shard = restore(&engine, index).map(Box::new);
                shard.map_err(|error| error.to_string())
            });
            let shard = restoring
                .await
                .unwrap_or_else(|error| Err(error.to_string()));
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

    fn park_terminal(&self, slot: &ShardHandle, poison: PoisonMessage, cause: &str) {
        let terminal = poison.terminal;
        tracing::error!(
            %terminal,
            epoch = poison.epoch,
            first_seq = poison.first_seq,
            cause,
            "a terminal is parked: what it sends makes its shard fail every time"
        );
        let text = format!("{poison} makes the engine fail: {cause}");
        self.engine.figures.problem(
            &format!("terminal {terminal} is parked: {text}"),
            "The terminal keeps its events and is let in when the engine starts again; report it, with the log.",
        );
        slot.park_terminal(terminal, text);
    }
}

// A shard says what it was at; what fell otherwise says only why.
fn crash_of(error: ActorProcessingErr) -> Crash {
    match error.downcast::<Crash>() {
        Ok(crash) => *crash,
        Err(error) => Crash {
            poison: None,
            cause: error.to_string(),
        },
    }
}

/// A shard as rows and journal have it. For threads that may block.
pub(crate) fn restore(engine: &Engine, index: usize) -> Result<Shard, FoldError> {
    // Nothing that the failed one gave to the flush is written from here on, and everything that it gave to the journal is
    // durable: what is replayed is then replayed once.
    engine.restart_flush(index);
    if !crate::planted::is("refill-before-durable") {
        engine.barrier();
    }
    match &engine.row_backend {
        RowBackend::Own(views) => refill(engine, views.as_ref(), index),
        RowBackend::Shared(cluster) => cluster.restore(engine, index),
    }
}

/// A shard as rows of its own and the durable journal have it.
fn refill(engine: &Engine, views: &dyn WriteViews, index: usize) -> Result<Shard, FoldError> {
    let shards = engine.slots.len();
    let registrations = Registrations::new(engine.journal.clone(), []);
    let mut fold = Fold::new(views, engine.facts.as_ref(), shard_config(&engine.config))
        .with_dirty_rows(usize::MAX)
        .with_registrations(&registrations)
        .without(engine.waiting.stores());
    for item in engine.journal.records(Lsn::new(views.checkpoint()?)) {
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
