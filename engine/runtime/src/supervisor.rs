//! The one restart policy: a shard that fails comes back from the rows and the journal; one that fails again soon is parked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use till_core::{Shard, ShardConfig};
use till_storage::base::FoldError;
use till_storage::journal::{Appender, Lsn};
use till_storage::rebuild::{Fold, store_of};
use till_storage::views::Views as _;

use crate::commit::Companion;
use crate::engine::Shared;
use crate::shard_actor::ShardActor;

/// A second failure within this time parks the shard: it would fail a third time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watches the shards.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: Appender<Companion>,
}

/// When each shard last failed.
#[derive(Debug)]
pub(crate) struct Failures(Vec<Option<Instant>>);

/// What the supervisor is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Start the shards, then answer.
    Start(ractor::RpcReplyPort<Result<(), String>>),
}

impl Actor for Supervisor {
    type Msg = Order;
    type State = Failures;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Order>,
        (): (),
    ) -> Result<Failures, ActorProcessingErr> {
        Ok(Failures(vec![None; self.shared.shards()]))
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        _failures: &mut Failures,
    ) -> Result<(), ActorProcessingErr> {
        let Order::Start(port) = order;
        let mut result = Ok(());
        for number in 0..self.shared.shards() {
            if let Err(error) = self.spawn(&myself, number).await {
                result = Err(error);
                break;
            }
        }
        let _gave_up = port.send(result);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Order>,
        event: SupervisionEvent,
        failures: &mut Failures,
    ) -> Result<(), ActorProcessingErr> {
        let SupervisionEvent::ActorFailed(cell, error) = event else {
            return Ok(());
        };
        let Some(number) = self.shared.number_of(cell.get_id()) else {
            return Ok(());
        };
        self.shared.set_actor(number, None);
        let again = failures
            .0
            .get_mut(number)
            .and_then(|last| last.replace(Instant::now()))
            .is_some_and(|last| last.elapsed() < PATIENCE);
        tracing::error!(shard = number, %error, again, "a shard failed");
        if again {
            self.shared
                .published
                .show(number, |shown| shown.parked = true);
            tracing::error!(
                shard = number,
                "it failed twice in a minute and is parked; its stores are not served"
            );
            return Ok(());
        }
        match self.revive(&myself, number).await {
            Ok(()) => self
                .shared
                .published
                .show(number, |shown| shown.restarts += 1),
            Err(error) => {
                self.shared
                    .published
                    .show(number, |shown| shown.parked = true);
                tracing::error!(shard = number, %error, "it could not be brought back and is parked");
            }
        }
        Ok(())
    }
}

impl Supervisor {
    async fn spawn(&self, myself: &ActorRef<Order>, number: usize) -> Result<(), String> {
        let shard = Shard::new(ShardConfig {
            actors_max: self.shared.actors_max(),
        });
        let actor = ShardActor {
            number,
            shared: Arc::clone(&self.shared),
        };
        let (actor, _task) = Actor::spawn_linked(
            None,
            actor,
            (shard, self.journal.clone()),
            myself.get_cell(),
        )
        .await
        .map_err(|error| error.to_string())?;
        self.shared.set_actor(number, Some(actor));
        Ok(())
    }

    /// Brings the rows of the shard's stores to the end of the journal, and starts an empty shard on them.
    async fn revive(&self, myself: &ActorRef<Order>, number: usize) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || catch_up(&shared, &journal, number))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        self.spawn(myself, number).await
    }
}

/// What the shard had given to the journal becomes durable, what it had given to the flush is written, and the rest is
/// applied from the journal.
fn catch_up(
    shared: &Shared,
    journal: &Appender<Companion>,
    number: usize,
) -> Result<(), FoldError> {
    let (done, waiter) = crossbeam::channel::bounded(1);
    if journal.marker(Companion::Waiter(done)).is_ok() {
        let _closed = waiter.recv();
    }
    while shared.is_flushing(number) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let end = shared.facts.journal().end();
    let from = Lsn::new(shared.views.checkpoint()?);
    let mut fold = Fold::new(
        shared.views.as_ref(),
        shared.facts.as_ref(),
        ShardConfig::default(),
    );
    for item in shared.facts.journal().records_between(from, end) {
        let (lsn, record) = item?;
        if store_of(&record.head).is_some_and(|store| shared.route(store) == number) {
            fold.apply(lsn, &record)?;
        }
    }
    fold.finish_part()
}
