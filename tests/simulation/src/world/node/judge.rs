//! What the rows of an engine that is alone must say.

use till_storage::base::FoldError;
use till_storage::journal::ReadError;
use till_storage::memory::MemoryViews;
use till_storage::rebuild::{Registrations, rebuild, replay_here};
use till_storage::views::Views as _;

use crate::coverage::Sight;
use crate::oracle::{Model, compare, same_rows};
use crate::world::World;

impl World {
    /// The last judgement.
    pub(in crate::world) fn finish(&mut self) {
        for n in 0..self.nodes.len() {
            self.check_engine(n);
            self.all_is_given_back(n);
        }
        if self.shared.is_some() {
            return self.finish_shared();
        }
        self.oracle.quiesced(&[]);
        let model = Model::of(&self.oracle, self.nodes[0].dropped_us);
        self.judge_rows(&model);
    }

    // Nothing is under way any more.
    fn all_is_given_back(&mut self, n: usize) {
        let Some(engine) = &self.nodes[n].engine else {
            return;
        };
        let held = engine.room().find(|(_, free, most)| free < most);
        if let Some((what, free, most)) = held {
            let what = format!("{free} {what} are free of {most} in an engine that holds nothing");
            self.oracle.fail("LIM-1", what);
        }
    }

    /// The rows may hold all that the journal does: then they are looked at as at the end. What was wrong for a while may be
    /// right again by then. Each look adds up all that ever happened, so that the looks become rare: at the first such moment,
    /// the second, the fourth and so on.
    pub(in crate::world) fn look_at_rows(&mut self, n: usize) {
        let node = &self.nodes[n];
        let Some(engine) = &node.engine else {
            return;
        };
        let end = engine.journal().end().get();
        let upto = node.rows.checkpoint();
        let is_level = self.oracle.read_upto == end && upto.is_ok_and(|upto| upto == end);
        let is_judged = self.shared.is_none() && !self.plan.is_excused() && !node.disk.is_dead();
        if !is_level || !is_judged {
            return;
        }
        self.nodes[n].levels += 1;
        if self.nodes[n].levels.is_power_of_two() {
            let mut model = Model::of(&self.oracle, self.nodes[n].dropped_us);
            // What would fit by now waits until somebody has it decided again.
            model.leave_out_bulk();
            self.judge_rows(&model);
        }
    }

    fn judge_rows(&mut self, model: &Model) {
        if let Err(broken) = compare(model, self.nodes[0].rows.as_ref()) {
            return self.oracle.fail(broken.id, broken.what);
        }
        let node = &self.nodes[0];
        let Some(engine) = &node.engine else {
            return;
        };
        let rebuilt_views = MemoryViews::new();
        let registrations = Registrations::new(engine.journal().clone(), []);
        let look = node.disk.look();
        let made = rebuild(
            engine.journal(),
            engine.facts(),
            &rebuilt_views,
            (&registrations, replay_here),
            &mut |_| {},
        );
        drop(look);
        match made {
            Ok(_) => {
                if let Err(broken) = same_rows(model, self.nodes[0].rows.as_ref(), &rebuilt_views) {
                    self.oracle.fail(broken.id, broken.what);
                }
            }
            Err(FoldError::Read(ReadError::Damaged { .. })) if self.has_strayed(0) => {
                self.saw(Sight::StrayFound);
            }
            Err(error) => self.oracle.fail("REP-1", format!("no rebuild: {error}")),
        }
    }
}
