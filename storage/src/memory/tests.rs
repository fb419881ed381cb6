use super::MemoryViews;
use crate::conformance::{self, Fixture};
use crate::views::Views;

struct Memory(MemoryViews);

impl Fixture for Memory {
    fn views(&self) -> &dyn Views {
        &self.0
    }

    fn restart(&mut self) {}
}

#[test]
fn the_model_passes_the_suite() {
    conformance::run(|| Memory(MemoryViews::new())).unwrap();
}
