//! A table of actors: found by key with one probe, kept in slots that do not move, with a list of those to be flushed.

use hashbrown::HashTable;

/// Actors per chunk. A chunk is allocated at once and never moves; growing the table copies no actor.
const CHUNK_BITS: u32 = 10;
const CHUNK_LEN: usize = 1 << CHUNK_BITS;

/// Which flush an actor waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stamp {
    /// The generation in which it was last touched.
    pub(crate) generation: u32,
    /// Changed since its row was last taken.
    pub(crate) dirty: bool,
    /// Whether the slot holds an actor.
    pub(crate) occupied: bool,
}

impl Stamp {
    /// Whether a store of rows that has flushed `flushed` holds all that the actor knows.
    pub(crate) const fn is_clean(&self, flushed: u32) -> bool {
        self.occupied && !self.dirty && self.generation <= flushed
    }
}

/// What a [`Table`] can hold.
pub(crate) trait Actor: Default {
    type Key: Copy + Eq;
    fn key(&self) -> Self::Key;
    fn hash(key: &Self::Key) -> u64;
    fn stamp(&self) -> &Stamp;
    fn stamp_mut(&mut self) -> &mut Stamp;
}

/// Actors by key and by slot.
#[derive(Debug)]
pub(crate) struct Table<T: Actor> {
    index: HashTable<u32>,
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    slots: u32,
}

impl<T: Actor> Default for Table<T> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            chunks: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            slots: 0,
        }
    }
}

impl<T: Actor> Table<T> {
    /// Puts an actor in whose key is not there yet.
    pub(crate) fn insert(&mut self, mut actor: T, generation: u32) -> u32 {
        *actor.stamp_mut() = Stamp {
            generation,
            dirty: false,
            occupied: true,
        };
        let hash = T::hash(&actor.key());
        let slot = self.free.pop().unwrap_or(self.slots);
        if slot == self.slots {
            self.slots += 1;
            let (chunk, at) = split(slot);
            if at == 0 {
                self.chunks.push(Vec::with_capacity(CHUNK_LEN));
            }
            self.chunks[chunk].push(actor);
        } else {
            *self.get_mut(slot) = actor;
        }
        let chunks = &self.chunks;
        self.index
            .insert_unique(hash, slot, |&slot| T::hash(&at(chunks, slot).key()));
        slot
    }

    /// Takes an actor out that is not among those to be flushed.
    pub(crate) fn remove(&mut self, slot: u32) {
        let hash = T::hash(&self.get(slot).key());
        if let Ok(found) = self.index.find_entry(hash, |&other| other == slot) {
            found.remove();
            *self.get_mut(slot) = T::default();
            self.free.push(slot);
        }
    }

    /// Takes actors out, changed or not.
    pub(crate) fn remove_where(&mut self, which: impl Fn(&T) -> bool) {
        let gone: Vec<u32> = (0..self.slots)
            .filter(|&slot| {
                let actor = self.get(slot);
                actor.stamp().occupied && which(actor)
            })
            .collect();
        let chunks = &self.chunks;
        self.dirty.retain(|&slot| !which(at(chunks, slot)));
        for slot in gone {
            self.remove(slot);
        }
    }

    /// Marks an actor as changed.
    #[inline]
    pub(crate) fn touch(&mut self, slot: u32, generation: u32) {
        let stamp = self.get_mut(slot).stamp_mut();
        stamp.generation = generation;
        if !stamp.dirty {
            stamp.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// The slots changed since the last call; their actors count as taken.
    pub(crate) fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = std::mem::take(&mut self.dirty);
        for &slot in &dirty {
            self.get_mut(slot).stamp_mut().dirty = false;
        }
        dirty
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut T {
        let (chunk, at) = split(slot);
        &mut self.chunks[chunk][at]
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &T {
        at(&self.chunks, slot)
    }

    /// The slot of a key.
    #[inline]
    pub(crate) fn find(&self, key: &T::Key) -> Option<u32> {
        let chunks = &self.chunks;
        self.index
            .find(T::hash(key), |&slot| at(chunks, slot).key() == *key)
            .copied()
    }

    /// All slots whose actors could be dropped.
    pub(crate) fn clean(&self, flushed: u32) -> impl Iterator<Item = (u32, &T)> {
        (0..self.slots)
            .map(|slot| (slot, self.get(slot)))
            .filter(move |(_, actor)| actor.stamp().is_clean(flushed))
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn dirty_len(&self) -> usize {
        self.dirty.len()
    }
}

#[inline]
fn at<T>(chunks: &[Vec<T>], slot: u32) -> &T {
    let (chunk, at) = split(slot);
    &chunks[chunk][at]
}

#[inline]
#[expect(
    clippy::as_conversions,
    reason = "u32 to usize widens on every machine that this runs on"
)]
const fn split(slot: u32) -> (usize, usize) {
    (
        (slot >> CHUNK_BITS) as usize,
        slot as usize & (CHUNK_LEN - 1),
    )
}
