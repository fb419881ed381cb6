//! Mistakes made on purpose: the simulation has to find each of them.
//!
//! They lie where a programmer would make them, behind a feature that no other build has. A run plants one at most.

/// A mistake: its name, and the most seeds that finding it may take.
#[derive(Clone, Copy, Debug)]
pub struct Mistake {
    /// What `--planted` calls it.
    pub name: &'static str,
    /// Seeds, from the first one on.
    pub budget: u64,
}

const fn mistake(name: &'static str, budget: u64) -> Mistake {
    Mistake { name, budget }
}

/// All mistakes.
pub const MISTAKES: &[Mistake] = &[mistake("trim-early", 64), mistake("send-before-sync", 64)];

/// Whether the world of this thread makes a mistake.
#[cfg(feature = "planted")]
pub(crate) fn is_planted(name: &str) -> bool {
    till_core::planted::is(name)
}

/// Whether the world of this thread makes a mistake.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is_planted(_name: &str) -> bool {
    false
}

/// Plants a mistake in this thread. False: this build has none.
#[cfg(feature = "planted")]
pub(crate) fn plant(mistake: Option<Mistake>) -> bool {
    till_core::planted::plant(mistake.map(|mistake| mistake.name));
    true
}

/// Plants a mistake in this thread. False: this build has none.
#[cfg(not(feature = "planted"))]
pub(crate) const fn plant(mistake: Option<Mistake>) -> bool {
    mistake.is_none()
}
