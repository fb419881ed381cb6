//! Which events of another journal are here already, under the number of another life of their terminal.
//!
//! A device that was put back from an image does not know that it has sent an event; neither does an engine whose forerunner
//! is down with it. So the event has a second number by the time the first one comes. What it says is the same.

use std::collections::{BTreeSet, HashMap, HashSet};

use till_core::{Outcome, Record};
use till_protocol::id::{Epoch, StoreId};
use till_storage::facts::{Fact, Fate, hour_of};
use till_storage::journal::Lsn;
use till_storage::query::{FactReader, each_event};
use till_storage::rebuild::store_of;
use till_storage::views::StoreError;

const HOUR_US: i64 = 3_600_000_000;

/// What some terminals have said, as far as it was asked for. An event lies in the hour of its own time, wherever else it is
/// filed: no more than those hours are read, and each once.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    terminals: HashSet<u64>,
    hours: HashSet<(u32, i32)>,
    /// In which lives a terminal has said something, by its content.
    said: HashMap<(u64, u64), Vec<u32>>,
}

impl Elsewhere {
    /// For the terminals of these records.
    pub(super) fn of(records: &[Record]) -> Self {
        Self {
            terminals: records.iter().map(|record| record.head.terminal).collect(),
            ..Self::default()
        }
    }

    /// The events of a record that count in another life of its terminal than `own`, by rising index. `settle` makes all that
    /// is decided durable: nothing else is found.
    pub(super) fn events(
        &mut self,
        (record, own): (&Record, Option<Epoch>),
        facts: &dyn FactReader,
        settle: &dyn Fn(),
    ) -> Result<Vec<u32>, StoreError> {
        let head = &record.head;
        let Some(store) = store_of(head) else {
            return Ok(Vec::new());
        };
        let mut asked = Vec::new();
        // What counted elsewhere when it was decided before may be nowhere now.
        let may_count = |fate: Fate| fate.outcome != Outcome::Refused;
        let fact = Fact::new(Lsn::ZERO, record.clone());
        each_content(&fact, may_count, |index, at_us, content| {
            asked.push((index, hour_of(at_us), content));
        })?;
        let hours: BTreeSet<i32> = asked.iter().map(|(_, hour, _)| *hour).collect();
        let new = hours
            .into_iter()
            .filter(|hour| !self.hours.contains(&(store.get(), *hour)));
        let new: Vec<i32> = new.collect();
        if !new.is_empty() {
            settle();
        }
        for hour in new {
            self.read(store, hour, facts)?;
        }
        let is_elsewhere = |content: u64| {
            let lives = self.said.get(&(head.terminal, content));
            lives.is_some_and(|lives| {
                lives
                    .iter()
                    .any(|life| own.is_none_or(|own| own.get() != *life))
            })
        };
        let found = asked
            .iter()
            .filter(|(_, _, content)| is_elsewhere(*content));
        Ok(found.map(|(index, _, _)| *index).collect())
    }

    /// One more record was taken in.
    pub(super) fn add(&mut self, record: &Record) -> Result<(), StoreError> {
        // What is decided before the first hour is read is found there.
        if self.hours.is_empty() {
            return Ok(());
        }
        self.note(&Fact::new(Lsn::ZERO, record.clone()))
    }

    fn read(
        &mut self,
        store: StoreId,
        hour: i32,
        facts: &dyn FactReader,
    ) -> Result<(), StoreError> {
        let from = i64::from(hour).saturating_mul(HOUR_US);
        let to = from.saturating_add(HOUR_US);
        facts.of_hours(store, from, to, &mut |fact| match self
            .terminals
            .contains(&fact.record.head.terminal)
        {
            true => self.note(fact),
            false => Ok(()),
        })?;
        self.hours.insert((store.get(), hour));
        Ok(())
    }

    fn note(&mut self, fact: &Fact) -> Result<(), StoreError> {
        let head = fact.record.head;
        let said = &mut self.said;
        // Those that wait for somebody to look at them are here as well.
        let stands = |fate: Fate| matches!(fate.outcome, Outcome::Applied | Outcome::Quarantined);
        each_content(fact, stands, |_, _, content| {
            let lives = said.entry((head.terminal, content)).or_default();
            if !lives.contains(&head.epoch) {
                lives.push(head.epoch);
            }
        })
    }
}

// Index, time and content of each event of such a fate. What has an id is known by that, and left out.
fn each_content(
    fact: &Fact,
    wanted: impl Fn(Fate) -> bool,
    mut each: impl FnMut(u32, i64, u64),
) -> Result<(), StoreError> {
    each_event(fact, |event, fate, index| {
        if wanted(fate) && event.event_id().is_none() {
            each(index, event.at_us(), event.content());
        }
        Ok(())
    })
}
