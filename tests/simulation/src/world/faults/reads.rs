//! Disks that cannot be read: an engine says so, and loses nothing.

use till_runtime::StartError;

use crate::coverage::Sight;
use crate::disk::UNREAD;
use crate::plan::{MS, SECOND};
use crate::world::node::Node;
use crate::world::{Event, World};

/// Starts that fail for what they cannot read, after which an operator has put the disk right. A start of a long journal reads
/// thousands of times, and with a failure in a few hundred reads would never come up.
const STARTS_UNREAD_MAX: u32 = 8;

impl World {
    /// A file of an engine cannot be read for a while.
    pub(in crate::world) fn blind(&mut self, n: usize) {
        self.again(self.plan.reads.blind_every, Event::Blind(n));
        if self.is_calm {
            return;
        }
        let disk = self.nodes[n].disk.clone();
        let dir = Node::journal_dir();
        let mut files = disk.lengths(&dir);
        files.extend(
            dir.parent()
                .map(|above| disk.lengths(above))
                .into_iter()
                .flatten(),
        );
        let Some((path, _)) = files.get(self.rng.index(files.len())) else {
            return;
        };
        disk.blind(path);
        self.fault("file_unreadable");
        self.saw(Sight::Blind);
        let pause = self.rng.within(100 * MS, 10 * SECOND);
        self.after(pause, Event::Mend(n));
    }

    pub(in crate::world) fn mend(&mut self, n: usize) {
        self.nodes[n].disk.mend();
    }

    /// Whether a start failed as it could not read something: then it says that, and nothing else.
    pub(in crate::world) fn is_unread(&self, error: &StartError) -> bool {
        !self.is_calm && error.to_string().contains(UNREAD)
    }

    /// Notes the reads that failed while an engine started.
    pub(in crate::world) fn note_unread(&mut self, n: usize, before: u64, is_up: bool) {
        let failed = self.nodes[n].disk.counts().reads_failed - before;
        self.nodes[n].unread_at_start += failed;
        if is_up {
            if std::mem::take(&mut self.nodes[n].starts_unread) > 0 {
                self.saw(Sight::StartUnread);
            }
            return;
        }
        self.nodes[n].starts_unread += u32::from(failed > 0);
        if self.nodes[n].starts_unread >= STARTS_UNREAD_MAX {
            self.nodes[n].disk.read_all();
        }
    }
}
