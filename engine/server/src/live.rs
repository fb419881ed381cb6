//! A running engine as the admin port sees it, from its start to the end of its drain.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use till_ops::{Answer, Engine, EngineError, Figures, Health, Question};
use till_runtime::{Handle, Query, Reply};
use till_storage::views::StoreError;

use crate::answer::{Knows, answer};
use crate::silence::Silence;

mod figures;
mod health;

/// The engine behind the admin port. The port answers before the engine has started and while it drains.
pub(crate) struct Live {
    started_at_us: i64,
    phase: RwLock<Phase>,
    sums: figures::Sums,
}

#[derive(Clone)]
enum Phase {
    Starting,
    Running(Arc<Handle>),
    Draining(Arc<Handle>, i64),
}

impl Live {
    /// An engine that is starting.
    pub(crate) fn starting() -> Self {
        Self {
            started_at_us: now_us(),
            phase: RwLock::new(Phase::Starting),
            sums: figures::Sums::default(),
        }
    }

    /// The engine has started.
    pub(crate) fn started(&self, engine: Arc<Handle>) {
        *self.phase.write() = Phase::Running(engine);
    }

    /// The engine drains.
    pub(crate) fn draining(&self) {
        let mut phase = self.phase.write();
        if let Phase::Running(engine) = &*phase {
            *phase = Phase::Draining(Arc::clone(engine), now_us());
        }
    }

    fn engine(&self) -> Result<Arc<Handle>, EngineError> {
        match &*self.phase.read() {
            Phase::Running(engine) | Phase::Draining(engine, _) => Ok(Arc::clone(engine)),
            Phase::Starting => Err(EngineError::NotRunning(
                "it is starting and reads the journal; ask again in a moment".to_owned(),
            )),
        }
    }
}

impl Engine for Live {
    fn figures(&self) -> Figures {
        let mut shown = self.engine().map_or_else(
            |_| Figures::default(),
            |engine| figures::of(&engine, &self.sums),
        );
        shown.now_us = now_us();
        shown.started_at_us = self.started_at_us;
        shown
    }

    fn health(&self) -> Health {
        match &*self.phase.read() {
            Phase::Starting => health::starting(self.started_at_us),
            Phase::Running(engine) => health::running(engine, now_us()),
            Phase::Draining(_, since_us) => health::draining(*since_us),
        }
    }

    fn answer(&self, question: &Question) -> Result<Answer, EngineError> {
        answer(&RunningEngine(self.engine()?), question)
    }

    fn flush(&self) -> Result<u64, EngineError> {
        let flushed =
            RunningEngine(self.engine()?).with_store(|engine| Ok(answer_text(engine.flush_now())));
        flushed.map_err(EngineError::Failed)
    }

    fn retry_quarantine(&self) -> Result<(u64, u64), EngineError> {
        let retried = RunningEngine(self.engine()?)
            .with_store(|engine| Ok(answer_text(engine.retry_quarantine())));
        let retried = retried.map_err(EngineError::Failed)?;
        Ok((retried.applied, retried.quarantined))
    }

    fn stranded(&self) -> Result<Vec<serde_json::Value>, EngineError> {
        let failed = |error: &dyn ToString| EngineError::Failed(error.to_string());
        let stranded = self
            .engine()?
            .list_stranded()
            .map_err(|error| failed(&error))?;
        let rows = stranded.iter().map(serde_json::to_value);
        rows.collect::<Result<_, _>>()
            .map_err(|error| failed(&error))
    }

    fn release(&self, record: &str) -> Result<u32, EngineError> {
        let failed = |error: &dyn ToString| EngineError::Failed(error.to_string());
        let record = record.parse().map_err(|error| failed(&error))?;
        self.engine()?
            .release_stranded(&record)
            .map_err(|error| failed(&error))
    }
}

/// A running engine answers from its rows, once they hold everything that is durable.
struct RunningEngine(Arc<Handle>);

impl Knows for RunningEngine {
    fn ask(&self, query: &Query) -> Result<Reply, String> {
        self.ask_by(query, Handle::query)
    }

    fn ask_again(&self, query: &Query) -> Result<Reply, String> {
        self.ask_by(query, Handle::query_again)
    }
}

/// A way to ask an engine.
type Way = fn(&Handle, &Query) -> Result<Reply, StoreError>;

impl RunningEngine {
    fn ask_by(&self, query: &Query, way: Way) -> Result<Reply, String> {
        let query = query.clone();
        self.with_store(move |engine| answer_text(way(engine, &query)).map(Ok))
    }

    // Where several engines share a store, whoever waits for it is told soon when it is silent; what was asked for may still
    // be done then. The outer error of the work is one of the store.
    fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Handle) -> Result<Result<T, String>, String> + Send + 'static,
    ) -> Result<T, String> {
        let Some(store) = self.0.shared_store() else {
            return work(&self.0).flatten();
        };
        let address = store.hosts.join(",");
        let (engine, prober) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let is_there = move || answer_text(prober.ask_store());
        let done = Silence::default().ask(&address, move || work(&engine), is_there);
        done.flatten()
    }
}

fn answer_text<T>(answer: Result<T, impl ToString>) -> Result<T, String> {
    answer.map_err(|error| error.to_string())
}

/// The time, in us since 1970-01-01 UTC.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
