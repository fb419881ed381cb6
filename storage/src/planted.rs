//! Mistakes made on purpose, in the builds that have them.

#[cfg(feature = "planted")]
pub(crate) use till_core::planted::is;

/// No build but the simulator's makes a mistake on purpose.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_mistake: &str) -> bool {
    false
}
