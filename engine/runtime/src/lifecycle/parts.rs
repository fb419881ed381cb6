//! Parts of an engine that have more than one implementation.

use std::sync::Arc;

use till_storage::cluster::SharedStore;
use till_storage::disk::{Disk, StdDisk};
use till_storage::views::WriteViews;

use crate::commit::{OnPoison, abort};
use crate::ingress::placement::{Alone, Commits, Placement};

/// Parts of an engine that tests, simulators and clusters replace.
#[derive(Clone)]
pub struct Parts {
    /// The disk of the journal.
    pub disk: Arc<dyn Disk>,
    /// The rows; `None` for those in the data folder.
    pub views: Option<Arc<dyn WriteViews>>,
    /// What to do when the journal has failed.
    pub on_poison: OnPoison,
    /// Where stores are served.
    pub placement: Arc<dyn Placement>,
    /// When what is durable is committed.
    pub commits: Commits,
    /// The store that several engines share; it then says where stores are served and when what is durable is committed.
    pub shared: Option<Arc<dyn SharedStore>>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            disk: Arc::new(StdDisk),
            views: None,
            on_poison: Arc::new(abort),
            placement: Arc::new(Alone),
            commits: Commits::default(),
            shared: None,
        }
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}
