//! Names of ids, shared by all shards: a claim is seen by every shard at once, long before its row is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// How often names were forgotten. What was read before that may be older than what was forgotten.
    forgotten: AtomicU64,
    /// Names whose rows are not written.
    unwritten: AtomicU64,
}

struct Entry {
    /// `None`: it was looked up, and nobody has named it yet.
    name: Option<Box<str>>,
    /// The rows say the same, so that it may be forgotten.
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
            forgotten: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
        }
    }

    /// Leaves those ids of which nothing is in memory. To be given to [`Self::learn`] with what the rows say of them.
    pub(crate) fn retain_missing(&self, ids: &mut Vec<(Space, u64)>) -> u64 {
        let digest = self.forgotten.load(Ordering::Acquire);
        ids.retain(|(space, id)| !self.part(*id).lock().contains_key(&key(*space, *id)));
        digest
    }

    /// Takes in what the rows say of ids that were not in memory. What was claimed meanwhile stands; names that are not taken
    /// in are looked up when they are used.
    pub(crate) fn learn(
        &self,
        found: impl IntoIterator<Item = ((Space, u64), Option<String>)>,
        digest: u64,
    ) {
        for ((space, id), name) in found {
            let mut part = self.part(id).lock();
            let has_room = part.len() < NAMES_PER_PART;
            if has_room && self.forgotten.load(Ordering::Acquire) == digest {
                part.entry(key(space, id)).or_insert_with(|| Entry {
                    name: name.map(String::into_boxed_str),
                    is_written: true,
                });
            }
        }
    }

    /// Takes in names that are on their way to the rows, as shards bring them from a recovery.
    pub(crate) fn hold(&self, names: &[(Space, u64, String)]) {
        for (space, id, name) in names {
            let mut part = self.part(*id).lock();
            part.entry(key(*space, *id)).or_insert_with(|| {
                self.unwritten.fetch_add(1, Ordering::Relaxed);
                Entry {
                    name: Some(name.as_str().into()),
                    is_written: false,
                }
            });
        }
    }

    /// The rows of these names are written.
    pub(crate) fn written<'a>(&self, names: impl IntoIterator<Item = (Space, u64, &'a str)>) {
        for (space, id, name) in names {
            let key = key(space, id);
            let mut part = self.part(id).lock();
            if let Some(entry) = part.get_mut(&key)
                && entry.name.as_deref() == Some(name)
                && !std::mem::replace(&mut entry.is_written, true)
            {
                self.unwritten.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Names whose rows are not written, and that are kept until they are.
    pub(crate) fn unwritten(&self) -> u64 {
        self.unwritten.load(Ordering::Relaxed)
    }

    fn part(&self, id: u64) -> &Mutex<HashMap<(u8, u64), Entry>> {
        // Ids are hashes; their low bits are as good as any.
        let [low, ..] = id.to_le_bytes();
        let [first, ..] = &self.parts;
        self.parts.get(usize::from(low) % PARTS).unwrap_or(first)
    }

    // Looks at the entry of an id, from the rows where it is not in memory. No lock is held while these are read: what was
    // claimed meanwhile stands, and after names were forgotten the rows are read again.
    fn with_entry<T>(
        &self,
        (space, id): (Space, u64),
        look: impl FnOnce(&mut Entry) -> T,
    ) -> Result<T, RowsError> {
        let key = key(space, id);
        loop {
            let digest = self.forgotten.load(Ordering::Acquire);
            if let Some(entry) = self.part(id).lock().get_mut(&key) {
                return Ok(look(entry));
            }
            let name = self.views.name(space, id)?.map(String::into_boxed_str);
            let mut part = self.part(id).lock();
            if self.forgotten.load(Ordering::Acquire) != digest {
                continue;
            }
            let is_written = true;
            let before = part.len();
            if before >= NAMES_PER_PART && !part.contains_key(&key) {
                part.retain(|_, entry| !entry.is_written);
                if part.len() < before {
                    self.forgotten.fetch_add(1, Ordering::AcqRel);
                }
            }
            let entry = part.entry(key).or_insert(Entry { name, is_written });
            return Ok(look(entry));
        }
    }
}

impl Names for NameBook {
    fn look_up(&self, space: Space, id: u64, name: &str) -> Result<Claim, RowsError> {
        self.with_entry((space, id), |entry| match entry.name.as_deref() {
            Some(known) if known == name => Claim::Known,
            Some(_) => Claim::Collision,
            None => Claim::New,
        })
    }

    // The rows are not asked again: what they said of the id, its look-up has left here. Only names whose rows are written are
    // forgotten meanwhile; a claim to another of such an id keeps both, as the rows do.
    fn claim(&self, space: Space, id: u64, name: &str) -> bool {
        let mut part = self.part(id).lock();
        let entry = part.entry(key(space, id)).or_insert(Entry {
            name: None,
            is_written: true,
        });
        match entry.name.as_deref() {
            Some(known) => known == name,
            None => {
                self.unwritten.fetch_add(1, Ordering::Relaxed);
                *entry = Entry {
                    name: Some(name.into()),
                    is_written: false,
                };
                true
            }
        }
    }

    fn known(&self, space: Space, id: u64) -> Result<bool, RowsError> {
        self.with_entry((space, id), |entry| entry.name.is_some())
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
    use till_storage::views::{FlushBatch, WriteViews as _};

    // What a shard does with a name that a record brings.
    fn claim(book: &NameBook, id: u64, name: &str) -> Claim {
        let found = book.look_up(Space::Sku, id, name).unwrap();
        if found == Claim::New {
            assert!(book.claim(Space::Sku, id, name));
        }
        found
    }

    #[test]
    fn the_first_claim_stands_and_is_found_again_in_the_rows() {
        let views = Arc::new(MemoryViews::new());
        let shared: Arc<dyn Views> = Arc::<MemoryViews>::clone(&views);
        let book = NameBook::new(shared);
        assert_eq!(claim(&book, 7, "tea"), Claim::New);
        assert_eq!(claim(&book, 7, "tea"), Claim::Known);
        assert_eq!(claim(&book, 7, "milk"), Claim::Collision);
        // The same number in the other space is another id.
        assert!(!book.known(Space::Tender, 7).unwrap());
        let flush = FlushBatch {
            names: vec![(Space::Sku, 9, "rice".to_owned())],
            ..FlushBatch::default()
        };
        views.write(&flush).unwrap();
        assert!(book.known(Space::Sku, 9).unwrap());
        assert_eq!(claim(&book, 9, "oats"), Claim::Collision);
        assert_eq!(claim(&book, 9, "rice"), Claim::Known);
    }

    #[test]
    fn names_of_a_recovery_are_known_before_their_rows_are_written() {
        let book = NameBook::new(Arc::new(MemoryViews::new()));
        book.hold(&[(Space::Sku, 7, "tea".to_owned())]);
        assert!(book.known(Space::Sku, 7).unwrap());
        assert_eq!(claim(&book, 7, "milk"), Claim::Collision);
        assert_eq!(claim(&book, 7, "tea"), Claim::Known);
    }

    #[test]
    fn what_was_read_at_once_is_known_and_older_than_what_was_claimed_meanwhile() {
        let book = NameBook::new(Arc::new(MemoryViews::new()));
        book.hold(&[(Space::Sku, 1, "salt".to_owned())]);
        let mut wanted = vec![(Space::Sku, 1), (Space::Sku, 7), (Space::Sku, 8)];
        let digest = book.retain_missing(&mut wanted);
        assert_eq!(wanted, [(Space::Sku, 7), (Space::Sku, 8)]);
        assert_eq!(claim(&book, 8, "oats"), Claim::New);
        let found = [
            ((Space::Sku, 7), Some("tea".to_owned())),
            ((Space::Sku, 8), None),
        ];
        book.learn(found.clone(), digest);
        assert_eq!(claim(&book, 7, "milk"), Claim::Collision);
        assert_eq!(claim(&book, 8, "rice"), Claim::Collision);
        // After names were forgotten, what was read before is not taken in: the rows are asked, and have none here.
        let book = NameBook::new(Arc::new(MemoryViews::new()));
        let digest = book.retain_missing(&mut wanted);
        book.forgotten.fetch_add(1, Ordering::AcqRel);
        book.learn(found, digest);
        assert_eq!(claim(&book, 7, "milk"), Claim::New);
    }

    #[test]
    fn memory_is_bounded_and_no_unwritten_name_is_forgotten() {
        let views = Arc::new(MemoryViews::new());
        let shared: Arc<dyn Views> = Arc::<MemoryViews>::clone(&views);
        let book = NameBook::new(shared);
        let parts = u64::try_from(PARTS).unwrap();
        let count = u64::try_from(NAMES_PER_PART).unwrap() * 3;
        for number in 0..count {
            let id = number * parts;
            let name = format!("n{number}");
            assert_eq!(claim(&book, id, &name), Claim::New);
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
        assert_eq!(claim(&book, 0, "other"), Claim::Collision);
    }
}
