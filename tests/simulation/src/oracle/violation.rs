//! What a world is failed for.

/// A promise that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Violation {
    /// Which one, as in the catalogue of invariants.
    pub(crate) id: &'static str,
    /// How.
    pub(crate) what: String,
}
