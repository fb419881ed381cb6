//! The newest movements of a shard, in memory: what a count that arrives late is computed from.
//!
//! A late count wants the sum of its SKU's movements after it. Movements are numbered as they come, and each says how many
//! numbers back the one before it of the same SKU stands; so a walk from a SKU's newest movement meets its own alone.
//! Each also says up to which event time *all* movements of its SKU before it lie, those included that were forgotten, or
//! that came before the actor was in memory. So a walk knows when it is done: once nothing before can lie after the count.
//! Where it ends sooner, there is no answer, and the facts are asked.
//!
//! An entry takes 16 bytes. What neighbours share (terminal, life, about the time) stands once, in a span; a quantity that
//! is too large for an entry stands beside it. Entries lie in chunks; the oldest chunk goes when its room is needed.

use std::collections::VecDeque;

use crate::row::MoveKey;

/// Entries of a chunk, in bits; fewer where there is room for few. A vector begins with room for four.
const CHUNK_BITS: (u32, u32) = (2, 12);
/// Chunks that there is room for at least, whatever is in them.
const CHUNKS_MIN: usize = 4;
/// What an entry takes at most: a span of its own and a quantity beside it.
const ENTRY_BYTES_MAX: usize =
    size_of::<Entry>() + 2 * (size_of::<MoveRun>() + size_of::<(u16, i128)>());
/// What a step of [`Entry::before`] is in us, in bits.
const STEP_BITS: u32 = 16;
/// Numbers of movements, beyond which a [`RingIndex`] would begin again. It takes years to get there.
const NUMBERS_MAX: u64 = (1 << 48) - 1;

/// Where a SKU's newest movement stands: one more than its number, in as few bytes as it gets. 0 for nowhere.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct RingIndex([u16; 3]);

impl RingIndex {
    const NOWHERE: Self = Self([0; 3]);

    #[expect(
        clippy::as_conversions,
        reason = "the 16-bit parts of a number below 2^48"
    )]
    const fn of(number: u64) -> Self {
        let all = number + 1;
        Self([all as u16, (all >> 16) as u16, (all >> 32) as u16])
    }

    fn number(self) -> Option<u64> {
        let [low, middle, high] = self.0.map(u64::from);
        (low | middle << 16 | high << 32).checked_sub(1)
    }
}

/// A movement.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// How many numbers back the SKU's movement before stands; 0: it has none here.
    back: u32,
    /// Event time after that of the span, in us.
    at: i32,
    /// [`WIDE`] where it stands beside.
    quantity: i32,
    /// Upper bound of the event times of all the SKU's movements before, in steps after this one's; or [`NOTHING`],
    /// [`UNBOUND`].
    before: i16,
    /// Sequence number after that of the span.
    seq: u8,
    /// Line after that of the span.
    line: u8,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// There is no movement before.
const NOTHING: i16 = i16::MIN;
/// A movement before lies too far in the future to say so.
const UNBOUND: i16 = i16::MAX;
/// The quantity of an entry whose own stands beside.
const WIDE: i32 = i32::MIN;

/// What entries that follow one another share.
#[derive(Clone, Copy, Debug, Default)]
struct MoveRun {
    terminal: u64,
    seq: u64,
    at_us: i64,
    epoch: u32,
    line: u16,
    /// The first of them in its chunk.
    first: u16,
}

impl MoveRun {
    /// Time, sequence number and line of a movement within the span, if it belongs there.
    #[inline]
    fn ring_index(&self, key: &MoveKey) -> Option<(i32, u8, u8)> {
        if self.terminal != key.terminal || self.epoch != key.epoch {
            return None;
        }
        let at = i32::try_from(key.at_us.checked_sub(self.at_us)?).ok()?;
        let seq = u8::try_from(key.seq.checked_sub(self.seq)?).ok()?;
        let line = u8::try_from(key.line.checked_sub(self.line)?).ok()?;
        Some((at, seq, line))
    }
}

/// Entries with successive numbers, and what belongs to them.
#[derive(Debug, Default)]
struct Chunk {
    entries: Vec<Entry>,
    spans: Vec<MoveRun>,
    wide: Vec<(u16, i128)>,
}

impl Chunk {
    fn clear(&mut self) {
        self.entries.clear();
        self.spans.clear();
        self.wide.clear();
    }

    const fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.spans.capacity() * size_of::<MoveRun>()
            + self.wide.capacity() * size_of::<(u16, i128)>()
    }

    /// An entry with its key and quantity.
    fn get(&self, at: usize) -> Option<(&Entry, MoveKey, i128)> {
        let entry = self.entries.get(at)?;
        let after = self
            .spans
            .partition_point(|span| usize::from(span.first) <= at);
        let span = self.spans.get(after.checked_sub(1)?)?;
        let key = MoveKey {
            at_us: span.at_us + i64::from(entry.at),
            epoch: span.epoch,
            seq: span.seq + u64::from(entry.seq),
            terminal: span.terminal,
            line: span.line + u16::from(entry.line),
        };
        let mut quantity = i128::from(entry.quantity);
        if entry.quantity == WIDE {
            let beside = self
                .wide
                .binary_search_by_key(&at, |(at, _)| usize::from(*at));
            quantity = self.wide.get(beside.ok()?)?.1;
        }
        Some((entry, key, quantity))
    }
}

/// The newest movements of a shard.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    bytes_max: usize,
    /// Bytes of all chunks but the one that is being filled.
    full_bytes: usize,
    /// Entries of a chunk, in bits.
    bits: u32,
    chunks: VecDeque<Chunk>,
    /// The number of the first entry of the first chunk; a multiple of a chunk's entries.
    first: u64,
    /// The number that comes next.
    next: u64,
    /// The newest span, a copy.
    span: MoveRun,
}

impl Recent {
    /// Room for movements in so many bytes, which are taken as they are needed.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let entries = bytes_max / ENTRY_BYTES_MAX / CHUNKS_MIN;
        Self {
            bytes_max,
            bits: entries.max(1).ilog2().clamp(CHUNK_BITS.0, CHUNK_BITS.1),
            ..Self::default()
        }
    }

    /// Keeps a movement of a SKU whose newest one so far stands at `ring_index`. `latest` is the largest key of them all, the
    /// default where there is none. Gives the place of the new one, which stands for the SKU's from now on.
    #[inline]
    pub(crate) fn push(
        &mut self,
        ring_index: RingIndex,
        latest: &MoveKey,
        key: &MoveKey,
        quantity: i128,
    ) -> RingIndex {
        let within = match self.chunks.back() {
            Some(chunk) if chunk.entries.len() < self.chunk_len() => self.span.ring_index(key),
            _ => {
                if !self.begin_chunk() {
                    return RingIndex::NOWHERE;
                }
                None
            }
        };
        let number = self.next;
        let (at, seq, line) = within.unwrap_or_else(|| self.begin_span(key));
        let Some(chunk) = self.chunks.back_mut() else {
            return RingIndex::NOWHERE;
        };
        let small = i32::try_from(quantity).ok().filter(|small| *small != WIDE);
        if small.is_none() {
            let offset = u16::try_from(chunk.entries.len()).unwrap_or(u16::MAX);
            chunk.wide.push((offset, quantity));
        }
        chunk.entries.push(Entry {
            // One that was forgotten is not found there; one that stands too far back to say so is as good as forgotten.
            back: ring_index
                .number()
                .map_or(0, |before| u32::try_from(number - before).unwrap_or(0)),
            at,
            quantity: small.unwrap_or(WIDE),
            before: steps_before(latest, key.at_us),
            seq,
            line,
        });
        self.next += 1;
        RingIndex::of(number)
    }

    /// What a SKU whose newest movement stands at `ring_index` has moved after a count; `None` where that is not known here.
    pub(crate) fn moved_after(&self, ring_index: RingIndex, count: &MoveKey) -> Option<i128> {
        let mut number = ring_index.number()?;
        let mut sum = 0_i128;
        loop {
            let index = number.checked_sub(self.first)?;
            let chunk = self.chunks.get(usize::try_from(index >> self.bits).ok()?)?;
            let at = usize::try_from(index).ok()? & (self.chunk_len() - 1);
            let (entry, key, quantity) = chunk.get(at)?;
            if key > *count {
                sum = sum.saturating_add(quantity);
            }
            if ends_before(entry.before, key.at_us, count.at_us) {
                return Some(sum);
            }
            if entry.back == 0 {
                return None;
            }
            number = number.checked_sub(u64::from(entry.back))?;
        }
    }

    /// Bytes that are taken.
    pub(crate) fn bytes(&self) -> usize {
        self.full_bytes + self.chunks.back().map_or(0, Chunk::bytes)
    }

    const fn chunk_len(&self) -> usize {
        1 << self.bits
    }

    // False where there is no room for any.
    #[cold]
    fn begin_chunk(&mut self) -> bool {
        self.full_bytes = self.bytes();
        let most = self.chunk_len() * ENTRY_BYTES_MAX;
        let is_over = self.next >= NUMBERS_MAX - u64::from(u32::MAX);
        let mut spare = None;
        while is_over || self.full_bytes + most > self.bytes_max {
            let Some(mut oldest) = self.chunks.pop_front() else {
                return false;
            };
            self.full_bytes -= oldest.bytes();
            self.first += 1 << self.bits;
            oldest.clear();
            // Others have gone because this chunk was not enough: its room is needed as well.
            spare = (oldest.bytes() <= most).then_some(oldest);
        }
        let mut chunk = spare.unwrap_or_default();
        chunk.entries.reserve_exact(self.chunk_len());
        self.chunks.push_back(chunk);
        true
    }

    #[cold]
    fn begin_span(&mut self, key: &MoveKey) -> (i32, u8, u8) {
        if let Some(chunk) = self.chunks.back_mut() {
            self.span = MoveRun {
                terminal: key.terminal,
                seq: key.seq,
                at_us: key.at_us,
                epoch: key.epoch,
                line: key.line,
                first: u16::try_from(chunk.entries.len()).unwrap_or(u16::MAX),
            };
            chunk.spans.push(self.span);
        }
        (0, 0, 0)
    }
}

// How far the movements before lie before (or after) this one, rounded up.
#[inline]
fn steps_before(latest: &MoveKey, at_us: i64) -> i16 {
    if *latest == MoveKey::default() {
        return NOTHING;
    }
    let after_us = latest.at_us.saturating_sub(at_us);
    let steps = after_us.saturating_add((1 << STEP_BITS) - 1) >> STEP_BITS;
    i16::try_from(steps.clamp(i64::from(NOTHING) + 1, i64::from(UNBOUND))).unwrap_or(UNBOUND)
}

// Whether all movements before one lie before a count. At the very time of the count they might not.
fn ends_before(before: i16, at_us: i64, count_us: i64) -> bool {
    match before {
        NOTHING => true,
        UNBOUND => false,
        steps => at_us.saturating_add(i64::from(steps) << STEP_BITS) < count_us,
    }
}

#[cfg(test)]
mod tests;
