//! What the threads of an engine do, turn by turn.

use till_runtime::testing::{Flushed, Stepped};
use till_storage::base::retain;
use till_storage::journal::{Attempt, Lsn};
use till_storage::memory::MemoryViews;
use till_storage::views::{Views as _, WriteViews as _};

use crate::coverage::Sight;
use crate::plan::{MS, SECOND};
use crate::world::member::Chain;
use crate::world::node::Node;
use crate::world::{Event, World};

impl World {
    /// The engine has done something: what is durable is read, what it says goes out, what waits gets its turn.
    pub(in crate::world) fn engine_moved(&mut self, n: usize) {
        self.drive(n);
        if self.nodes[n].disk.is_dead() {
            return self.end_process(n);
        }
        self.read_durable(n);
        self.speak(n);
        let waits = self.nodes[n]
            .engine
            .as_ref()
            .is_some_and(Stepped::has_waiting);
        if waits && !std::mem::replace(&mut self.nodes[n].is_committing, true) {
            let pause = self.sync_takes();
            self.after(pause, Event::Commit(n));
        }
    }

    fn sync_takes(&mut self) -> u64 {
        if self.is_calm {
            return MS;
        }
        if self.rng.chance(self.plan.node.slow_sync) {
            self.fault("slow_sync");
            self.saw(Sight::SyncSlow);
            return self.rng.within(SECOND, 6 * SECOND);
        }
        self.rng.within(100, 12 * MS)
    }

    // Reads what is durable now, as anyone could after a loss of power.
    fn read_durable(&mut self, n: usize) {
        self.look_at_group(n);
        let Some(engine) = &self.nodes[n].engine else {
            return;
        };
        if self.shared.is_some() {
            self.look_at_segments(n);
            return self.read_member(n);
        }
        let end = engine.journal().end();
        let from = Lsn::new(self.oracle.read_upto);
        if end <= from {
            return;
        }
        // The segment that grows is read from its start: a write that strayed may have landed on what was read before.
        let segments = engine.journal().segments();
        let begun = segments.iter().rfind(|segment| segment.start <= from);
        let begun = begun.map_or(from, |segment| segment.start);
        let look = self.nodes[n].disk.look();
        for item in engine.journal().records_between(begun, end) {
            match item {
                Ok((position, _)) if position < from => {}
                Ok((position, record)) => self.oracle.durable(position.get(), &record),
                Err(error) => {
                    drop(look);
                    if self.is_stray_read(n, &error) {
                        return;
                    }
                    let what = format!("the journal cannot be read: {error}");
                    return self.oracle.fail("JRN-1", what);
                }
            }
        }
        drop(look);
        self.oracle.read_upto = end.get();
        let per_copy = self.oracle.take_per_copy();
        self.coverage.saw_times(Sight::CountedPerCopy, per_copy);
        self.look_at_segments(n);
    }

    // What counts as durable would survive.
    fn look_at_group(&mut self, n: usize) {
        let lies = self.plan.is_excused();
        let node = &mut self.nodes[n];
        let end = node.engine.as_ref().map_or(0, |e| e.journal().end().get());
        if end <= node.ends[1] {
            return;
        }
        node.ends = [node.ends[1], end];
        if !lies && !node.disk.is_durable(&Node::journal_dir(), end) {
            let what = format!("the group up to {end} counts as durable and would not survive");
            self.oracle.fail("ACK-1", what);
        }
    }

    fn look_at_segments(&mut self, n: usize) {
        let Some(engine) = &self.nodes[n].engine else {
            return;
        };
        let segments = engine.journal().segments().len();
        if segments > self.nodes[n].segments {
            self.nodes[n].segments = segments;
            self.coverage.saw(Sight::Rotated);
            if self.shared.is_none() {
                let pause = self.rng.within(MS, 2 * SECOND);
                self.after(pause, Event::Upkeep(n));
            }
        }
    }

    /// The journal's turn.
    pub(in crate::world) fn commit(&mut self, n: usize) {
        self.nodes[n].is_committing = false;
        self.advance_time(n);
        let Some(engine) = &mut self.nodes[n].engine else {
            return;
        };
        match engine.commit() {
            Ok(Attempt::Done) => {
                if std::mem::take(&mut self.nodes[n].is_slow) {
                    self.saw(Sight::RoomAgain);
                }
            }
            Ok(Attempt::Full { .. }) => {
                self.saw(Sight::DiskFull);
                self.nodes[n].is_slow = true;
                self.nodes[n].is_committing = true;
                self.after(250 * MS, Event::Commit(n));
                return self.engine_moved(n);
            }
            Err(halt) => return self.halted(n, &halt),
        }
        self.engine_moved(n);
        let end = self.nodes[n]
            .engine
            .as_ref()
            .map_or(0, |e| e.journal().end().get());
        if end > self.nodes[n].flushed_at {
            self.want_flush(n, self.plan.flush_every);
        }
        if self.shared.is_none() {
            self.want_write(n);
        }
        let conns = self.conns_of(n);
        for conn in conns {
            self.take_in(conn);
        }
        self.check_engine(n);
    }

    pub(in crate::world) fn check_engine(&mut self, n: usize) {
        let Some(engine) = &mut self.nodes[n].engine else {
            return;
        };
        let counters = engine.counters();
        let (broken, reread) = (engine.violations(), engine.rounds_reread());
        let is_read = self.oracle.read_upto == engine.journal().end().get();
        let is_quiet = self.shared.is_none() && is_read && !engine.has_waiting();
        self.oracle.counts(&counters, is_quiet);
        let over = engine.room().find(|(_, free, most)| free > most);
        if let Some((what, free, most)) = over {
            let what = format!("{free} {what} are free of {most}");
            self.oracle.fail("LIM-1", what);
        }
        if let (Some((id, times)), false) = (broken.first(), self.plan.is_excused()) {
            let what = format!(
                "the engine found it broken {times} times: {}",
                id.sentence()
            );
            self.oracle.fail(id.id(), what);
        }
        for (seen, sight) in [
            (counters.passivations, Sight::Passivated),
            (counters.activations, Sight::Activated),
            (counters.counts_from_facts, Sight::LateFromFacts),
            (counters.duplicate, Sight::Known),
            (counters.quarantined, Sight::Conflict),
            (counters.movements_waiting, Sight::Quarantined),
            (reread, Sight::RoundReread),
        ] {
            if seen > 0 {
                self.saw(sight);
            }
        }
    }

    pub(in crate::world) fn want_flush(&mut self, n: usize, pause: u64) {
        if !std::mem::replace(&mut self.nodes[n].is_flushing, true) {
            self.after(pause, Event::Flush(n));
        }
    }

    fn want_write(&mut self, n: usize) {
        if !std::mem::replace(&mut self.nodes[n].is_writing, true) {
            let pause = if self.is_calm {
                MS
            } else {
                self.rng.within(MS, 60 * MS)
            };
            self.after(pause, Event::Write(n));
        }
    }

    pub(in crate::world) fn flush(&mut self, n: usize) {
        self.nodes[n].is_flushing = false;
        self.advance_time(n);
        if self.is_too_soon(n, Chain::Flush, self.plan.flush_every) {
            return;
        }
        let node = &mut self.nodes[n];
        let Some(engine) = &mut node.engine else {
            return;
        };
        node.flushed_at = engine.journal().end().get();
        if let Err(halt) = engine.begin_flush() {
            return self.halted(n, &halt);
        }
        self.engine_moved(n);
    }

    pub(in crate::world) fn write_rows(&mut self, n: usize) {
        self.nodes[n].is_writing = false;
        let Some(engine) = &mut self.nodes[n].engine else {
            return;
        };
        match engine.flush_turn() {
            Ok(Flushed::Over) => {
                if self.rng.one_in(3) && self.nodes[n].rows.sync().is_err() {
                    self.fault("rows_not_synced");
                }
                self.look_at_rows(n);
                // Devices that were held back go on.
                let conns = self.conns_of(n);
                for conn in conns {
                    self.take_in(conn);
                }
            }
            Ok(Flushed::Idle | Flushed::Waiting) => {}
            Ok(Flushed::Failed) => {
                self.nodes[n].is_writing = true;
                self.after(250 * MS, Event::Write(n));
            }
            Err(halt) => return self.halted(n, &halt),
        }
        self.engine_moved(n);
    }

    /// Indexes of sealed segments, and segments that are old enough to go.
    pub(in crate::world) fn upkeep(&mut self, n: usize) {
        self.advance_time(n);
        if self.is_too_soon(n, Chain::Upkeep, 3 * SECOND) {
            return;
        }
        let shown = self.wall() + self.nodes[n].leapt;
        let node = &mut self.nodes[n];
        let Some(engine) = &mut node.engine else {
            return;
        };
        let behind = node.rows.checkpoint().unwrap_or(0) < engine.journal().end().get();
        let before = engine.journal().start();
        let kept_up = engine.keep_up();
        if engine.journal().start() > before {
            self.saw(Sight::CommittedDropped);
        }
        if !kept_up {
            self.fault("index_unwritten");
        } else if self.plan.retention.is_some() && behind {
            // The base is made where the rows end: they are brought up to the journal before.
            self.want_flush(n, MS);
            self.after(3 * SECOND, Event::Upkeep(n));
        } else if let Some(keep) = self.plan.retention {
            self.retain_before(n, shown.saturating_sub_unsigned(keep));
        }
        self.engine_moved(n);
    }

    fn retain_before(&mut self, n: usize, before: i64) {
        let node = &mut self.nodes[n];
        let Some(engine) = &mut node.engine else {
            return;
        };
        let upto = Lsn::new(node.rows.checkpoint().unwrap_or(0));
        let (journal, scratch) = (engine.journal(), MemoryViews::new());
        match retain(journal, engine.facts(), &scratch, before, upto, &mut |_| {}) {
            Ok(Some(upto)) => {
                node.has_base = true;
                node.segments = engine.journal().segments().len();
                let log = self.oracle.log.iter();
                let gone = log.filter(|entry| entry.position < upto.get());
                let truths = gone.flat_map(|entry| entry.events.iter());
                let at = truths.filter_map(|(_, _, truth)| *truth);
                let newest = at.map(|truth| self.oracle.truths[truth].at).max();
                node.dropped_us = node.dropped_us.max(newest.unwrap_or(i64::MIN));
                self.saw(Sight::Retained);
            }
            Ok(None) => {}
            Err(_) => self.fault("retention_failed"),
        }
    }
}
