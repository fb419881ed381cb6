//! What must hold for any bytes that come from outside: from a device, a disk, a store, or whoever writes a file.
//!
//! Each target takes bytes, looks at them as the product does, and panics where something is not as it must be. The fuzzer in
//! `tests/fuzz` calls them with bytes that it makes up; the test in `tests/corpora.rs` with those that it found and that are
//! kept.

mod batches;
mod files;
mod frames;
mod journal;
mod log;
mod mending;
mod rows;
mod session;

/// A function that takes any bytes and returns.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: [(&str, Target); 8] = [
    ("frame", frames::frames),
    ("family", frames::family),
    ("session", session::session),
    ("journal", journal::tail),
    ("log", log::log),
    ("rows", rows::rows),
    ("config", files::config),
    ("csv", files::csv),
];

/// Gives bytes to the target with this name.
///
/// # Panics
/// Where something is not as it must be, and where there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    assert!(found.is_some(), "no target {name}");
    if let Some((_, target)) = found {
        target(bytes);
    }
}
