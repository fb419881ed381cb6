//! What a shard shows of itself: who sends and sells most, and its figures.

use till_core::SessionKey;
use till_core::event::{Event, for_each};
use till_protocol::verified::Verified;

use crate::shard::state::{SAMPLE_FRAMES, ShardState};

impl ShardState {
    pub(super) fn look_into(&mut self, batch: &Verified, key: SessionKey) {
        self.terminals
            .add(key.terminal.to_u64(), u64::from(batch.count()));
        self.frames += 1;
        if !self.frames.is_multiple_of(SAMPLE_FRAMES) {
            return;
        }
        let skus = &mut self.skus;
        let seen: Result<(), std::convert::Infallible> = for_each(&batch.view(), |_, event| {
            match event {
                Event::Sale(sale) => {
                    for line in sale.lines {
                        skus.add(line.sku.to_native(), 1);
                    }
                }
                Event::Stock(stock) => skus.add(stock.record.sku.to_native(), 1),
                Event::Sensor(_) | Event::Device(_) => {}
            }
            Ok(())
        });
        if let Err(never) = seen {
            match never {}
        }
    }

    pub(super) fn publish(&mut self) {
        let violations = self.shard.violations().clone();
        let counters = self.shard.counters();
        let mut published = self.slot.published.lock();
        published.counters = counters;
        published.violations = violations;
        published.actors = self.shard.actors();
        published.stores = self.shard.stores();
        published.terminals = self.shard.terminals();
        published.dirty_rows = self.shard.dirty_rows();
        published.hot_terminals = self.terminals.take();
        published.hot_skus = self.skus.take();
    }
}
