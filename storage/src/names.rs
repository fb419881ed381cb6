//! The names of ids, shared by all shards of a node: those in the views, and those that are not flushed yet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use till_core::{Claim, Names, RowsError, Space};

use crate::views::Views;

/// Names in memory above which those are forgotten that the views have.
const HELD_MAX: usize = 262_144;

/// Names over views. A claim holds from the moment it is made, on every shard.
pub struct NameBook {
    views: Arc<dyn Views>,
    held: Mutex<HashMap<(Space, u64), Box<str>>>,
}

impl std::fmt::Debug for NameBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NameBook").finish_non_exhaustive()
    }
}

impl NameBook {
    /// The names of these views.
    pub fn new(views: Arc<dyn Views>) -> Self {
        Self {
            views,
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<(Space, u64), Box<str>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in names that are on their way to the views, as after a recovery.
    pub fn hold(&self, names: &[(Space, u64, String)]) {
        let mut held = self.held();
        for (space, id, name) in names {
            held.entry((*space, *id))
                .or_insert_with(|| name.as_str().into());
        }
    }

    fn trim(&self, held: &mut HashMap<(Space, u64), Box<str>>) -> Result<(), RowsError> {
        if held.len() < HELD_MAX {
            return Ok(());
        }
        let mut written = Vec::new();
        for (space, id) in held.keys() {
            if self.views.name(*space, *id)?.is_some() {
                written.push((*space, *id));
            }
        }
        for key in written {
            held.remove(&key);
        }
        Ok(())
    }
}

impl Names for NameBook {
    fn look_up(&self, space: Space, id: u64, name: &str) -> Result<Claim, RowsError> {
        let mut held = self.held();
        let known = match held.get(&(space, id)) {
            Some(known) => Some(known.as_ref() == name),
            None => self.views.name(space, id)?.map(|known| known == name),
        };
        match known {
            Some(true) => Ok(Claim::Known),
            Some(false) => Ok(Claim::Collision),
            None => {
                self.trim(&mut held)?;
                Ok(Claim::New)
            }
        }
    }

    fn claim(&self, space: Space, id: u64, name: &str) -> bool {
        let mut held = self.held();
        let known = held.entry((space, id)).or_insert_with(|| name.into());
        known.as_ref() == name
    }

    fn known(&self, space: Space, id: u64) -> Result<bool, RowsError> {
        if self.held().contains_key(&(space, id)) {
            return Ok(true);
        }
        Ok(self.views.name(space, id)?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryViews;
    use crate::views::{FlushBatch, WriteViews as _};

    #[test]
    fn a_claim_holds_before_and_after_it_is_flushed() {
        let views = Arc::new(MemoryViews::new());
        let book = NameBook::new(Arc::<MemoryViews>::clone(&views));
        let look_up = |id, name| book.look_up(Space::Sku, id, name).unwrap();
        // A look changes nothing.
        assert_eq!(look_up(1, "a"), Claim::New);
        assert_eq!(look_up(1, "b"), Claim::New);
        assert!(book.claim(Space::Sku, 1, "a"));
        assert_eq!(look_up(1, "a"), Claim::Known);
        assert_eq!(look_up(1, "b"), Claim::Collision);
        assert!(!book.claim(Space::Sku, 1, "b"));
        assert!(book.claim(Space::Tender, 1, "b"));
        views
            .write(&FlushBatch {
                names: vec![(Space::Sku, 2, "c".to_owned())],
                ..FlushBatch::default()
            })
            .unwrap();
        assert_eq!(look_up(2, "d"), Claim::Collision);
        assert!(book.known(Space::Sku, 2).unwrap());
        assert!(!book.known(Space::Sku, 3).unwrap());
    }
}
