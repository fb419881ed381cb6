//! One suite of questions that every store of rows and facts answers alike: the same workload, the same rows, the same bytes of
//! JSON.
//!
//! The answers that count are those of the model: rows in memory and records in a list. A check panics where a store answers
//! otherwise; it is called from tests.
#![expect(
    clippy::unwrap_used,
    reason = "tests stop where their world is not as they made it"
)]

mod ask;
mod plays;

use till_core::{MoveKey, RecordKind, Rows as _};
use till_protocol::id::{SkuId, StoreId, TerminalId};

use crate::cluster::Commit;
use crate::facts::{Fact, range_of};
use crate::journal::Lsn;
use crate::query::{FactReader, Sources, VisitFact};
use crate::rebuild::FactRows;
use crate::testing::conformance::filled;
use crate::testing::world::{MINUTE_US, World, WorldLog};
use crate::views::{StoreError, Views, WriteViews};

pub use ask::answers;
pub use plays::{retry_of, timely_workload_of, workload_of};

/// A store under test.
pub trait Stand {
    /// Takes in a commit of slot 0: its records, and the rows after them.
    ///
    /// # Errors
    /// What the store says.
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError>;

    /// The rows.
    fn views(&self) -> &dyn Views;

    /// The records.
    fn facts(&self) -> &dyn FactReader;
}

/// Rows of one engine, with the records in a list.
#[derive(Debug, Default)]
pub struct Listed<V> {
    /// The rows.
    pub views: V,
    log: WorldLog,
}

impl<V> Listed<V> {
    /// These rows, and no record.
    pub fn new(views: V) -> Self {
        Self {
            views,
            log: WorldLog::default(),
        }
    }
}

impl<V: WriteViews> Stand for Listed<V> {
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let records = (0_u32..).zip(&commit.records);
        let facts = records.map(|(index, record)| {
            let position = Commit::position(commit.flush, index);
            Fact::new(Lsn::new(position), record.clone())
        });
        self.log.0.extend(facts);
        self.views.write(&commit.rows)
    }

    fn views(&self) -> &dyn Views {
        &self.views
    }

    fn facts(&self) -> &dyn FactReader {
        &self.log
    }
}

/// Plays every trade on a store of its own and compares what it then holds and answers with the model.
///
/// # Errors
/// What a store says.
pub fn run<S: Stand>(mut fresh: impl FnMut() -> S) -> Result<(), StoreError> {
    for (play, world) in plays::all() {
        tracing::info!(play, "queries");
        let mut stand = fresh();
        for commit in &world.commits {
            stand.commit(commit)?;
        }
        same_rows(play, &world, stand.views())?;
        same_answers(play, &world, &stand)?;
        same_movements(play, &world, &stand)?;
        every_event(play, &world, stand.facts())?;
    }
    Ok(())
}

fn same_rows(play: &str, world: &World, views: &dyn Views) -> Result<(), StoreError> {
    let mut expected = filled(world.views.as_ref())?.rows;
    let found = filled(views)?.rows;
    expected.checkpoint = found.checkpoint;
    assert_eq!(found, expected, "{play}: the rows differ");
    Ok(())
}

fn same_answers(play: &str, world: &World, stand: &impl Stand) -> Result<(), StoreError> {
    let expected = answers(&world.sources())?;
    let found = answers(&Sources {
        views: stand.views(),
        facts: stand.facts(),
        now_us: world.now_us,
    })?;
    assert_eq!(found.len(), expected.len());
    for ((question, answer), (_, expected)) in found.iter().zip(&expected) {
        assert_eq!(answer, expected, "{play}: {question}");
    }
    Ok(())
}

// Late counts: movements after a time, and before a record.
fn same_movements(play: &str, world: &World, stand: &impl Stand) -> Result<(), StoreError> {
    let model = FactRows::new(world.views.as_ref(), &world.log);
    let rows = FactRows::new(stand.views(), stand.facts());
    let last = world.log.0.last().unwrap().lsn.get();
    for before in [last / 2, last, u64::MAX] {
        let mut counts = Vec::new();
        for minutes in [-1, 600, 2_000, 5_000] {
            let after = MoveKey {
                at_us: plays::START_US + minutes * MINUTE_US,
                ..MoveKey::default()
            };
            counts.push((SkuId::of_code("milk"), after));
            counts.push((SkuId::of_code("tea"), after));
        }
        let store = StoreId::new(1).unwrap();
        assert_eq!(
            rows.moved_after(store, &counts, before)?,
            model.moved_after(store, &counts, before)?,
            "{play}: movements after {counts:?} before {before}"
        );
    }
    Ok(())
}

// Each sequence number is found in the record that carries it.
fn every_event(play: &str, world: &World, facts: &dyn FactReader) -> Result<(), StoreError> {
    for fact in &world.log.0 {
        let head = &fact.record.head;
        let Some((first, last)) = range_of(head) else {
            continue;
        };
        assert_ne!(head.kind, RecordKind::Retry);
        let terminal = TerminalId::from_u64(head.terminal).unwrap();
        for seq in [first, last] {
            let mut found = false;
            let visit: VisitFact<'_> = &mut |one| {
                found |= one.lsn == fact.lsn && one.record == fact.record;
                Ok(())
            };
            facts.of_event(terminal, head.epoch, seq, visit)?;
            assert!(found, "{play}: event {seq} of {terminal} is not found");
        }
    }
    Ok(())
}
