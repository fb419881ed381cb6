//! SPEC.md and the code say the same.
