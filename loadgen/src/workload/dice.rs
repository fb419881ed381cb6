//! Chance that repeats: a small generator that no new version of a library changes under us.

/// SplitMix64: every seed is good, and the next number costs about a nanosecond.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Further dice that are independent of these.
    pub fn fork(&mut self) -> Self {
        Self(self.roll())
    }

    /// Any number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.roll()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number from `low` to `high`, both possible.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = u64::try_from(high.saturating_sub(low)).unwrap_or(0);
        let step = i64::try_from(self.below(span.saturating_add(1))).unwrap_or(0);
        low.saturating_add(step)
    }

    /// True in `share` of 1,000 cases.
    pub fn in_1000(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }

    /// A place in a list of `len` things.
    pub fn index(&mut self, len: usize) -> usize {
        let bound = u64::try_from(len).unwrap_or(u64::MAX);
        usize::try_from(self.below(bound)).unwrap_or(0)
    }

    /// A number from 0 up to, but not with, 1.
    #[expect(clippy::as_conversions, reason = "53 bits fit a float exactly")]
    pub fn unit(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
