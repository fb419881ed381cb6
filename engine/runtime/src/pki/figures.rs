//! What is counted of certificates.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Pki;

/// What is counted of certificates.
#[derive(Debug, Default)]
pub(crate) struct PkiFigures {
    in_force: Mutex<InForce>,
    reads: AtomicU64,
    /// Connections that were closed because their certificate counts no more.
    pub(crate) closed: AtomicU64,
    /// Handshakes that came to nothing.
    pub(crate) failed_handshakes: AtomicU64,
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
    /// These certificates are in force from now on. The first ones count as no change.
    pub(crate) fn taken(&self, pki: &Pki, is_first: bool) {
        let revoked = pki.lists().map_or(0, super::Lists::revoked);
        let mut in_force = self.in_force.lock();
        in_force.revoked = u64::try_from(revoked).unwrap_or(u64::MAX);
        in_force.trouble = None;
        self.reads
            .fetch_add(u64::from(!is_first), Ordering::Relaxed);
    }

    /// The files are again those that are in force.
    pub(crate) fn taken_again(&self) {
        self.in_force.lock().trouble = None;
    }

    /// The files as they are were not taken. True when that is news.
    pub(crate) fn not_taken(&self, why: &str) -> bool {
        let before = self.in_force.lock().trouble.replace(why.to_owned());
        before.as_deref() != Some(why)
    }

    /// A list that should be here by now. True when that is news.
    pub(crate) fn overdue(&self, authority: Option<&str>) -> bool {
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
