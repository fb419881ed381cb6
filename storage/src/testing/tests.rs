use super::MemoryCluster;
use super::conformance::{self, Fixture};
use super::suite::{self, Listed};
use crate::memory::MemoryViews;
use crate::views::{FlushBatch, StoreError, Views, WriteViews as _};

struct Memory(MemoryViews);

impl Fixture for Memory {
    fn views(&self) -> &dyn Views {
        &self.0
    }

    fn write(&self, flush: &FlushBatch) -> Result<(), StoreError> {
        self.0.write(flush)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.0.sync()
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.0.reopen()
    }

    fn restart(&mut self) {}
}

#[test]
fn the_model_of_the_suite_is_repeatable() {
    suite::run(|| Listed::new(MemoryViews::new())).unwrap();
}

#[test]
fn the_model_passes_the_suite() {
    conformance::run(|| Memory(MemoryViews::new())).unwrap();
}

#[test]
fn rows_that_are_asked_for_together_are_what_they_are_one_by_one() {
    conformance::rows_at_once(&MemoryCluster::new(16)).unwrap();
}

#[test]
fn sums_of_days_are_what_their_hours_add_up_to() {
    conformance::days(&MemoryCluster::new(1)).unwrap();
}
