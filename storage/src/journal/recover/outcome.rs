//! What opening a journal comes to: the journal, or why not.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;
use till_protocol::id::StoreId;

use crate::journal::{BaseError, Journal, Lost, Lsn, Writer};

/// What [`Journal::open`] gives.
#[derive(Debug)]
pub struct Opened {
    /// For reading.
    pub journal: Journal,
    /// For appending, to be given to a [`Syncer`](crate::journal::Syncer).
    pub writer: Writer,
    /// The last group, where a crash had torn it: it was never acknowledged.
    pub cut: Option<Cut>,
    /// Where the log ends now. Rows that claim to have applied more were written for another journal, or it has lost its
    /// end: do not go on then.
    pub end: Lsn,
    /// Whether the journal was closed in good order.
    pub closed_cleanly: bool,
    /// Whether the journal was empty: no record was ever written to it.
    pub is_new: bool,
    /// Stores with records that no registration comes before, and how many: a base has it, or salvage has lost it.
    pub orphans: Vec<(StoreId, u64)>,
    /// Stores that a record registers.
    pub registered: BTreeSet<StoreId>,
}

/// A torn group that was cut off the end of the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cut {
    /// Place of the group.
    pub at: Lsn,
    /// The segment's file.
    pub segment: String,
    /// Bytes from there to the last one that was written.
    pub bytes: u64,
}

/// Damage below the last group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The segment's file.
    pub segment: String,
    /// Offset in it of the first group that is not whole.
    pub offset: u64,
    /// Place of that group.
    pub at: Lsn,
    /// How the damage is known from a torn end.
    pub proof: String,
    /// Events that are lost, as far as they can be told.
    pub lost: Vec<Lost>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segment,
            offset,
            at,
            proof,
            lost,
        } = self;
        write!(
            f,
            "journal is damaged in {segment} at offset {offset} (position {at}): {proof}; "
        )?;
        f.write_str(&Lost::words(lost))?;
        f.write_str(
            "; restore the file from a copy, or run `tillstream doctor --salvage`, which moves it aside and keeps the rest",
        )
    }
}

/// Why a journal does not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is out of range.
    #[error("{key} is {value}, outside {min} to {max}")]
    Config {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: u64,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// Acknowledged bytes are not what was written.
    #[error("{0}")]
    Damaged(Box<Damage>),
    /// Whole, and yet it ends before a position up to which everything was durable once.
    #[error(
        "journal has lost its end: it ends at position {end}, and everything up to position {known} was durable"
    )]
    LostEnd {
        /// Where it ends.
        end: u64,
        /// What was durable.
        known: u64,
    },
    /// A segment is not there.
    #[error(
        "journal lacks the segment that begins at position {from} (the next one begins at {to}); restore {from:020}.till, or run `tillstream doctor --salvage`"
    )]
    Missing {
        /// Where the missing segment begins.
        from: u64,
        /// Where the next one begins.
        to: u64,
    },
    /// A file in the folder is no segment.
    #[error("{0} is no segment of a journal; move it out of the folder")]
    Foreign(PathBuf),
    /// A segment's name and its content disagree.
    #[error("{file} holds the segment of position {holds}; give it back its own name")]
    Misplaced {
        /// The file.
        file: PathBuf,
        /// Where its content says that it begins.
        holds: Lsn,
    },
    /// A segment of another journal.
    #[error("{0} belongs to another journal; move it out of the folder")]
    OtherLog(PathBuf),
    /// Written by software that is newer than this.
    #[error(
        "{file} has version {version} of the layout, this software reads version 1; use a newer tillstream"
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The base is not whole.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// No room for the first segment.
    #[error("disk is full: no room for {bytes} bytes in {dir}")]
    Full {
        /// Bytes wanted.
        bytes: u64,
        /// The folder.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("{doing} {path} failed: {cause}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
}
