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
pub const MISTAKES: &[Mistake] = &[
    mistake("ack-before-sync", 64),
    mistake("retry-failed-sync", 64),
    mistake("trust-tail", 64),
    mistake("no-checksum", 64),
    mistake("index-without-first", 64),
    mistake("base-without-ids", 64),
    mistake("base-too-far", 64),
    mistake("skip-unread", 512),
    mistake("stray-is-torn", 4_000),
    mistake("no-dedupe", 64),
    mistake("accept-gap", 64),
    mistake("no-tombstone", 64),
    mistake("refuse-good", 64),
    mistake("aside-good", 64),
    mistake("miscount", 64),
    mistake("count-nothing", 64),
    mistake("forget-event-ids", 64),
    mistake("apply-twice", 64),
    mistake("forget-retries", 64),
    mistake("lost-rollup-on-passivation", 64),
    mistake("count-forgets-later", 64),
    mistake("watermark-ahead", 64),
    mistake("drop-failed-rows", 64),
    mistake("refill-before-durable", 512),
    mistake("drop-refusals", 64),
    mistake("ack-falls", 64),
    mistake("leak-permit", 64),
    mistake("room-twice", 64),
    mistake("ack-known-at-once", 64),
    mistake("trim-early", 64),
    mistake("send-before-sync", 64),
    mistake("outbox-unsynced", 64),
    mistake("names-unsynced", 64),
    mistake("renumber-drops-one", 64),
    mistake("commit-any-epoch", 64),
    mistake("acquire-any-epoch", 64),
    mistake("rows-before-commit", 64),
    mistake("rows-taken-for-written", 64),
    mistake("applied-ahead", 64),
    mistake("stamp-by-clock", 64),
    mistake("rows-forgotten-early", 64),
    mistake("log-without-last", 64),
    mistake("seal-unwritten", 64),
    mistake("lease-by-wall-clock", 64),
    mistake("ignore-fence", 256),
    mistake("trust-unknown", 64),
    mistake("serve-without-rows", 64),
    mistake("no-lease", 64),
    mistake("stale-handshake", 64),
    mistake("drop-names", 64),
    mistake("drop-quarantine", 64),
    mistake("drop-backlog", 64),
    mistake("mark-ahead", 64),
    mistake("taken-away-early", 64),
    mistake("handoff-twice", 64),
    mistake("drop-stranded", 256),
    mistake("forget-taken-in", 64),
    mistake("crash-together", 512),
    mistake("keep-what-left", 512),
    mistake("remember-what-left", 64),
    mistake("tell-who-left", 2_000),
    mistake("check-uncommitted", 2_000),
    mistake("remember-rows", 64),
    mistake("drop-telemetry", 64),
    mistake("training-unwritten", 64),
    mistake("returns-unwritten", 64),
    mistake("old-hours-unwritten", 256),
    mistake("clocks-unchanged", 256),
    mistake("release-anew", 2_000),
];

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
