//! The names of SKUs and tenders, shared by all shards.

use parking_lot::RwLock;
use std::sync::Arc;

use hashbrown::HashMap;
use till_core::{Claim, Names, RowsError, Space};
use till_storage::views::Views;

/// Names that were claimed since the start, above those in the views.
///
/// A name costs its length and about 50 bytes; a chain has some hundred thousand. Two shards that name one id at the same
/// moment meet here, so that one of them finds a collision.
#[derive(Debug)]
pub(crate) struct NodeNames {
    views: Arc<dyn Views>,
    claimed: RwLock<HashMap<(Space, u64), Box<str>>>,
}

impl NodeNames {
    pub(crate) fn new(views: Arc<dyn Views>) -> Self {
        Self {
            views,
            claimed: RwLock::new(HashMap::new()),
        }
    }

    /// The name of an id, also one that has not been flushed yet.
    pub(crate) fn get(&self, space: Space, id: u64) -> Result<Option<String>, RowsError> {
        if let Some(name) = self.claimed.read().get(&(space, id)) {
            return Ok(Some(name.to_string()));
        }
        Ok(self.views.name(space, id)?)
    }
}

impl Names for NodeNames {
    fn claim(&self, space: Space, id: u64, name: &str) -> Result<Claim, RowsError> {
        let verdict = |known: &str| {
            if known == name {
                Claim::Known
            } else {
                Claim::Collision
            }
        };
        if let Some(known) = self.claimed.read().get(&(space, id)) {
            return Ok(verdict(known));
        }
        let stored = self.views.name(space, id)?;
        let mut claimed = self.claimed.write();
        if let Some(known) = claimed.get(&(space, id)) {
            return Ok(verdict(known));
        }
        let known = stored.as_deref().unwrap_or(name);
        claimed.insert((space, id), known.into());
        Ok(if stored.is_some() {
            verdict(known)
        } else {
            Claim::New
        })
    }

    fn known(&self, space: Space, id: u64) -> Result<bool, RowsError> {
        Ok(self.get(space, id)?.is_some())
    }
}
