//! A table of actors: found by key with one probe, kept in slots that do not move, with a list of those to be flushed.

use hashbrown::HashTable;

/// Actors per chunk. A chunk is allocated at once and never moves; growing the table copies no actor.
const CHUNK_BITS: u32 = 10;
const CHUNK_LEN: usize = 1 << CHUNK_BITS;
/// No slot: there are never so many.
pub(crate) const NO_SLOT: u32 = u32::MAX;

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
        let table_index = self.free.pop().unwrap_or(self.slots);
        if table_index == self.slots {
            self.slots += 1;
            let (chunk, at) = split(table_index);
            if at == 0 {
                self.chunks.push(Vec::with_capacity(CHUNK_LEN));
            }
            self.chunks[chunk].push(actor);
        } else {
            *self.get_mut(table_index) = actor;
        }
        let chunks = &self.chunks;
        self.index.insert_unique(hash, table_index, |&table_index| {
            T::hash(&at(chunks, table_index).key())
        });
        table_index
    }

    /// Takes an actor out that is not among those to be flushed.
    pub(crate) fn remove(&mut self, table_index: u32) {
        let hash = T::hash(&self.get(table_index).key());
        if let Ok(found) = self.index.find_entry(hash, |&other| other == table_index) {
            found.remove();
            *self.get_mut(table_index) = T::default();
            self.free.push(table_index);
        }
    }

    /// Takes actors out, changed or not.
    pub(crate) fn remove_where(&mut self, which: impl Fn(&T) -> bool) {
        let gone: Vec<u32> = (0..self.slots)
            .filter(|&table_index| {
                let actor = self.get(table_index);
                actor.stamp().occupied && which(actor)
            })
            .collect();
        let chunks = &self.chunks;
        self.dirty
            .retain(|&table_index| !which(at(chunks, table_index)));
        for table_index in gone {
            self.remove(table_index);
        }
    }

    /// Digests an actor as changed.
    #[inline]
    pub(crate) fn touch(&mut self, table_index: u32, generation: u32) {
        let stamp = self.get_mut(table_index).stamp_mut();
        stamp.generation = generation;
        if !stamp.dirty {
            stamp.dirty = true;
            self.dirty.push(table_index);
        }
    }

    /// The slots changed since the last call; their actors count as taken.
    pub(crate) fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = std::mem::take(&mut self.dirty);
        for &table_index in &dirty {
            self.get_mut(table_index).stamp_mut().dirty = false;
        }
        dirty
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, table_index: u32) -> &mut T {
        let (chunk, at) = split(table_index);
        &mut self.chunks[chunk][at]
    }

    #[inline]
    pub(crate) fn get(&self, table_index: u32) -> &T {
        at(&self.chunks, table_index)
    }

    /// The slot of a key.
    #[inline]
    pub(crate) fn find(&self, key: &T::Key) -> Option<u32> {
        let chunks = &self.chunks;
        self.index
            .find(T::hash(key), |&table_index| {
                at(chunks, table_index).key() == *key
            })
            .copied()
    }

    /// The slot of a key, or [`NO_SLOT`].
    #[inline]
    pub(crate) fn slot_of(&self, key: &T::Key) -> u32 {
        self.find(key).unwrap_or(NO_SLOT)
    }

    /// All slots whose actors could be dropped.
    pub(crate) fn clean(&self, flushed: u32) -> impl Iterator<Item = (u32, &T)> {
        (0..self.slots)
            .map(|table_index| (table_index, self.get(table_index)))
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
fn at<T>(chunks: &[Vec<T>], table_index: u32) -> &T {
    let (chunk, at) = split(table_index);
    &chunks[chunk][at]
}

#[inline]
#[expect(
    clippy::as_conversions,
    reason = "u32 to usize widens on every machine that this runs on"
)]
const fn split(table_index: u32) -> (usize, usize) {
    (
        (table_index >> CHUNK_BITS) as usize,
        table_index as usize & (CHUNK_LEN - 1),
    )
}
