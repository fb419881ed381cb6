//! Where an engine's rows go.

use std::fmt;
use std::sync::Arc;

use till_storage::views::WriteViews;

use crate::cluster::node::Cluster;

/// Where an engine's rows go.
#[derive(Clone)]
pub(crate) enum RowBackend {
    /// Into a store that is this engine's alone.
    Own(Arc<dyn WriteViews>),
    /// Into one that several engines share.
    Shared(Arc<Cluster>),
}

impl RowBackend {
    /// The cluster that the engine is one of.
    pub(crate) const fn cluster(&self) -> Option<&Arc<Cluster>> {
        match self {
            Self::Own(_) => None,
            Self::Shared(cluster) => Some(cluster),
        }
    }
}

impl fmt::Debug for RowBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own(_) => "Own",
            Self::Shared(_) => "Shared",
        })
    }
}
