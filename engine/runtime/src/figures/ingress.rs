//! What is counted of the ways in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use till_protocol::code::Reason;
use till_protocol::codec::Frame;

/// What is counted of the ways in. One addition for each frame or less.
#[derive(Debug, Default)]
pub struct IngressFigures {
    /// Open connections.
    pub connections: AtomicI64,
    /// Open streams.
    pub streams: AtomicI64,
    /// Connections that were not taken in.
    pub turned_away: AtomicU64,
    /// First packets of handshakes that were dropped unread.
    pub initials_dropped: AtomicU64,
    /// Times that a connection had to wait for what it did to no effect.
    pub made_to_wait: AtomicU64,
    /// Certificates.
    pub pki: PkiFigures,
    pub(crate) slowed: AtomicU64,
    pub(crate) redirects: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) bytes: AtomicU64,
    refusals: Mutex<BTreeMap<u16, u64>>,
}

impl IngressFigures {
    pub(crate) fn frames(&self, frames: &[Frame]) {
        let count = u64::try_from(frames.len()).unwrap_or(0);
        let bytes = frames.iter().map(|frame| u64::from(frame.header.length));
        self.frames.fetch_add(count, Ordering::Relaxed);
        self.bytes.fetch_add(bytes.sum(), Ordering::Relaxed);
    }

    /// A stream was ended by this side.
    pub fn refused(&self, reason: Reason) {
        *self.refusals.lock().entry(reason.code()).or_default() += 1;
    }

    /// Streams that this side ended, by reason.
    pub(crate) fn refusals(&self) -> Vec<(Reason, u64)> {
        let refusals = self.refusals.lock();
        let refusals = refusals.iter();
        refusals
            .map(|(code, count)| (Reason::from_code(*code), *count))
            .collect()
    }
}

/// What is counted of certificates.
#[derive(Debug, Default)]
pub struct PkiFigures {
    in_force: Mutex<InForce>,
    reads: AtomicU64,
    /// Connections that were closed because their certificate counts no more.
    pub closed: AtomicU64,
    /// Handshakes that came to nothing.
    pub failed_handshakes: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct InForce {
    revoked: u64,
    trouble: Option<String>,
    overdue: Option<String>,
}

/// What is known of certificates, at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct PkiMetrics {
    /// Certificates that the lists in force revoke.
    pub revoked: u64,
    /// Times that changed files were taken.
    pub reads: u64,
    /// Why the files as they are now were not taken; those before are in force then.
    pub trouble: Option<String>,
    /// An authority whose next list should be here by now.
    pub overdue: Option<String>,
    /// Connections that were closed because their certificate was revoked, has expired or is believed no more.
    pub closed: u64,
    /// Handshakes that came to nothing.
    pub failed_handshakes: u64,
}

impl PkiFigures {
    /// Certificates are in force from now on, and lists that revoke so many. The first ones count as no change.
    pub fn taken(&self, revoked: usize, is_first: bool) {
        let mut in_force = self.in_force.lock();
        in_force.revoked = u64::try_from(revoked).unwrap_or(u64::MAX);
        in_force.trouble = None;
        self.reads
            .fetch_add(u64::from(!is_first), Ordering::Relaxed);
    }

    /// The files are again those that are in force.
    pub fn taken_again(&self) {
        self.in_force.lock().trouble = None;
    }

    /// The files as they are were not taken. True when that is news.
    pub fn not_taken(&self, why: &str) -> bool {
        let before = self.in_force.lock().trouble.replace(why.to_owned());
        before.as_deref() != Some(why)
    }

    /// A list that should be here by now. True when that is news.
    pub fn overdue(&self, authority: Option<&str>) -> bool {
        let mut in_force = self.in_force.lock();
        let is_news = authority.is_some() && in_force.overdue.as_deref() != authority;
        in_force.overdue = authority.map(str::to_owned);
        is_news
    }

    pub(crate) fn read(&self) -> PkiMetrics {
        let in_force = self.in_force.lock().clone();
        PkiMetrics {
            revoked: in_force.revoked,
            reads: self.reads.load(Ordering::Relaxed),
            trouble: in_force.trouble,
            overdue: in_force.overdue,
            closed: self.closed.load(Ordering::Relaxed),
            failed_handshakes: self.failed_handshakes.load(Ordering::Relaxed),
        }
    }
}
