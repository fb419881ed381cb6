//! What an engine cannot read of its own journal: it is read again all the time, and told as long as it lasts.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use till_storage::journal::ReadError;

/// First pause before what commits need is read again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest pause before it is read again. It is short against the time in which a person looks.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What commits need, among what is handed off: that has numbers from 1 on.
pub(super) const COMMITS: u64 = 0;

/// Reads of the journal that have failed and not worked since.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// By what is read: [`COMMITS`], or the number of what is handed off.
    pub(super) lasting: Mutex<BTreeMap<u64, Failing>>,
    failed: AtomicU64,
    /// Rounds that were committed after all.
    went_on: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Failing {
    text: String,
    kind: UnreadKind,
    pub(super) tries: u64,
}

/// What kind of trouble it is, the worst last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum UnreadKind {
    /// The file system did not give the bytes.
    Passing,
    /// The bytes are of a version that is not known here.
    Newer,
    /// The bytes are not those that were written.
    Damaged,
}

impl UnreadKind {
    pub(super) const fn of(error: &ReadError) -> Self {
        match error {
            ReadError::Damaged { .. } => Self::Damaged,
            ReadError::Newer(_) => Self::Newer,
            _ => Self::Passing,
        }
    }

    pub(super) const fn hint(self) -> &'static str {
        match self {
            Self::Passing => {
                "It is read again and goes on by itself; look at the disk of the data folder and at the limit of open files."
            }
            Self::Newer => {
                "Stop the engine and start the version that wrote it; nothing is skipped."
            }
            Self::Damaged => {
                "It is read again; if it stays, stop the engine and run `tillstream doctor`. Nothing is committed past it, and nothing \
                 is skipped."
            }
        }
    }
}

/// The pause before the next try, after so many.
pub(super) fn pause_after(tries: u32) -> Duration {
    let doubled = PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(16));
    doubled.min(PAUSE_MAX)
}

impl Unread {
    // True: that is news.
    pub(super) fn note(&self, of: u64, error: &ReadError) -> bool {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let kind = UnreadKind::of(error);
        let mut lasting = self.lasting.lock();
        let before = lasting.get(&of);
        let is_news = before.is_none_or(|before| before.kind < kind);
        let tries = before.map_or(0, |before| before.tries) + 1;
        let text = error.to_string();
        lasting.insert(of, Failing { text, kind, tries });
        is_news
    }

    /// Reads that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Rounds of the flush that were committed after a read for them had failed.
    #[cfg(feature = "testing")]
    pub(crate) fn went_on(&self) -> u64 {
        self.went_on.load(Ordering::Relaxed)
    }

    pub(super) fn note_going_on(&self) {
        self.went_on.fetch_add(1, Ordering::Relaxed);
    }

    /// What cannot be read now, in words, and what to do; the worst of it.
    pub(crate) fn words(&self) -> Option<(String, &'static str)> {
        let lasting = self.lasting.lock();
        let (of, worst) = lasting
            .iter()
            .max_by_key(|(of, one)| (one.kind, Reverse(**of)))?;
        let (what, tries) = (waiting(*of), worst.tries);
        let text = format!("{what}: {} (read {tries} times)", worst.text);
        Some((text, worst.kind.hint()))
    }
}

pub(super) const fn waiting(of: u64) -> &'static str {
    if of == COMMITS {
        "no commit is made, as what it needs cannot be read back"
    } else {
        "records are not handed off, as they cannot be read back"
    }
}
