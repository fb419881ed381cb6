//! From fjall's errors to what is left to do.

use std::io::ErrorKind;
use std::path::PathBuf;

use thiserror::Error;
use till_storage::views::StoreError;

/// Why the rows were not opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// They are damaged, or of another format: move the folder aside and rebuild.
    #[error("derived rows in {} do not open: {cause}; move the folder aside, they are rebuilt from the journal", dir.display())]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// What does not fit.
        cause: String,
    },
    /// Another process has them open.
    #[error("derived rows in {} are in use by another process", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// There is no room to open them.
    #[error("no room on the disk to open derived rows in {}", dir.display())]
    Full {
        /// The folder.
        dir: PathBuf,
    },
    /// The disk failed, or the folder may not be used.
    #[error("could not open derived rows in {}: {cause}", dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What went wrong, in words.
        cause: String,
    },
}

impl OpenError {
    pub(crate) fn new(dir: PathBuf, error: &fjall::Error) -> Self {
        match class(error) {
            Class::Full => Self::Full { dir },
            Class::Locked => Self::Locked { dir },
            Class::Damaged => Self::Damaged {
                dir,
                cause: error.to_string(),
            },
            Class::Io | Class::Poisoned => Self::Io {
                dir,
                cause: error.to_string(),
            },
        }
    }
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        let cause = error.to_string();
        match error {
            OpenError::Damaged { .. } => Self::Damaged {
                table: "rows",
                cause,
            },
            OpenError::Full { .. } => Self::Full { cause },
            OpenError::Locked { .. } | OpenError::Io { .. } => Self::Failed {
                table: "rows",
                cause,
            },
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    Full,
    Locked,
    Damaged,
    Io,
    Poisoned,
}

fn class_of_io(error: &std::io::Error) -> Class {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Class::Full,
        // A file that ends early, is missing, or is there where fjall makes it again because the one that names it is
        // missing, is no failure of the disk: something was cut or taken away.
        ErrorKind::UnexpectedEof
        | ErrorKind::InvalidData
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists => Class::Damaged,
        _ => Class::Io,
    }
}

pub(crate) fn class(error: &fjall::Error) -> Class {
    match error {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => class_of_io(io),
        fjall::Error::Locked => Class::Locked,
        fjall::Error::Poisoned => Class::Poisoned,
        _ => Class::Damaged,
    }
}
