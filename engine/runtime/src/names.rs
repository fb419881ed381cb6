//! Names of ids, shared by all shards: a claim is seen by every shard at once, long before its row is written.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use till_core::{Claim, Names, RowsError, Space};
use till_storage::views::Views;

/// Parts of the book, so that shards rarely wait for each other.
const PARTS: usize = 16;
/// Names that one part keeps in memory once their rows are written.
const NAMES_PER_PART: usize = 16_384;

/// The names of ids: those that were claimed lately in memory, all others in the rows.
pub(crate) struct NameBook {
    views: Arc<dyn Views>,
    parts: [Mutex<HashMap<(u8, u64), Entry>>; PARTS],
}

struct Entry {
    name: Box<str>,
    /// Its row is written, so that it may be forgotten.
    is_written: bool,
}

impl std::fmt::Debug for NameBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NameBook").finish_non_exhaustive()
    }
}

impl NameBook {
    pub(crate) fn new(views: Arc<dyn Views>) -> Self {
        Self {
            views,
            parts: std::array::from_fn(|_| Mutex::new(HashMap::new())),
        }
    }

    /// The rows of these names are written.
    pub(crate) fn written<'a>(&self, names: impl IntoIterator<Item = (Space, u64, &'a str)>) {
        for (space, id, name) in names {
            let key = key(space, id);
            let mut part = self.part(id).lock();
            if let Some(entry) = part.get_mut(&key)
                && &*entry.name == name
            {
                entry.is_written = true;
            }
        }
    }

    fn part(&self, id: u64) -> &Mutex<HashMap<(u8, u64), Entry>> {
        // Ids are hashes; their low bits are as good as any.
        let [low, ..] = id.to_le_bytes();
        let [first, ..] = &self.parts;
        self.parts.get(usize::from(low) % PARTS).unwrap_or(first)
    }

    fn stored(&self, space: Space, id: u64) -> Result<Option<String>, RowsError> {
        Ok(self.views.name(space, id)?)
    }
}

impl Names for NameBook {
    fn claim(&self, space: Space, id: u64, name: &str) -> Result<Claim, RowsError> {
        let compare = |known: &str| {
            if known == name {
                Claim::Known
            } else {
                Claim::Collision
            }
        };
        let mut part = self.part(id).lock();
        if let Some(entry) = part.get(&key(space, id)) {
            return Ok(compare(&entry.name));
        }
        let stored = self.stored(space, id)?;
        let claim = stored.as_deref().map_or(Claim::New, compare);
        if part.len() >= NAMES_PER_PART {
            part.retain(|_, entry| !entry.is_written);
        }
        let entry = Entry {
            is_written: stored.is_some(),
            name: stored.map_or_else(|| name.into(), String::into_boxed_str),
        };
        part.insert(key(space, id), entry);
        Ok(claim)
    }

    fn known(&self, space: Space, id: u64) -> Result<bool, RowsError> {
        if self.part(id).lock().contains_key(&key(space, id)) {
            return Ok(true);
        }
        Ok(self.stored(space, id)?.is_some())
    }
}

const fn key(space: Space, id: u64) -> (u8, u64) {
    let number = match space {
        Space::Sku => 1,
        Space::Tender => 2,
    };
    (number, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use till_storage::memory::MemoryViews;
    use till_storage::views::FlushBatch;

    #[test]
    fn the_first_claim_stands_and_is_found_again_in_the_rows() {
        let views = Arc::new(MemoryViews::new());
        let book = NameBook::new(Arc::clone(&views) as Arc<dyn Views>);
        assert_eq!(book.claim(Space::Sku, 7, "tea").unwrap(), Claim::New);
        assert_eq!(book.claim(Space::Sku, 7, "tea").unwrap(), Claim::Known);
        assert_eq!(book.claim(Space::Sku, 7, "milk").unwrap(), Claim::Collision);
        // The same number in the other space is another id.
        assert!(!book.known(Space::Tender, 7).unwrap());
        let flush = FlushBatch {
            names: vec![(Space::Sku, 9, "rice".to_owned())],
            ..FlushBatch::default()
        };
        views.write(&flush).unwrap();
        assert!(book.known(Space::Sku, 9).unwrap());
        assert_eq!(book.claim(Space::Sku, 9, "oats").unwrap(), Claim::Collision);
        assert_eq!(book.claim(Space::Sku, 9, "rice").unwrap(), Claim::Known);
    }

    #[test]
    fn memory_is_bounded_and_no_unwritten_name_is_forgotten() {
        let views = Arc::new(MemoryViews::new());
        let book = NameBook::new(Arc::clone(&views) as Arc<dyn Views>);
        let count = NAMES_PER_PART as u64 * 3;
        for number in 0..count {
            let id = number * PARTS as u64;
            let name = format!("n{number}");
            assert_eq!(book.claim(Space::Sku, id, &name).unwrap(), Claim::New);
            if number > 0 {
                let flush = FlushBatch {
                    names: vec![(Space::Sku, id, name.clone())],
                    ..FlushBatch::default()
                };
                views.write(&flush).unwrap();
                book.written([(Space::Sku, id, name.as_str())]);
            }
        }
        assert!(book.part(0).lock().len() <= NAMES_PER_PART);
        assert_eq!(
            book.claim(Space::Sku, 0, "other").unwrap(),
            Claim::Collision
        );
    }
}
