//! Events that the engine refused, kept until somebody sends them again.
//!
//! A dead letter is written before the outbox forgets the event. The file is JSON, one line per event, with the reason in
//! words and the event as the frame that it would travel in.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use till_protocol::code::Reason;

/// An event that was not taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeadLetter {
    /// The terminal, as its u64.
    pub terminal: u64,
    /// The epoch under which it was sent.
    pub epoch: u32,
    /// Its sequence number there.
    pub seq: u64,
    /// Why it is here.
    pub cause: Cause,
    /// A frame that holds this event alone.
    pub frame: Bytes,
}

/// Why an event is a dead letter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The engine refused it.
    Refused(Reason),
    /// After a restore nobody can tell whether the engine had it: its retention dropped what it would be compared with.
    Unknown,
    /// It stands in an outbox that was given up, and can't be read as an event of its own.
    Unreadable(Reason),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "refused: {reason}; {}", reason.sentence()),
            Self::Unknown => f.write_str(
                "the device was restored and the engine no longer holds what this event would be compared with",
            ),
            Self::Unreadable(reason) => {
                write!(f, "refused: {reason}; the whole frame is kept, as it can't be taken apart")
            }
        }
    }
}

/// Where dead letters are kept.
pub trait DeadLetters: fmt::Debug + Send {
    /// Keeps a dead letter. What it returns from is durable. The same event a second time is left out.
    ///
    /// # Errors
    /// Returns [`DeadLetterError`] when it can't be written; the event then stays in the outbox.
    fn put(&mut self, letter: &DeadLetter) -> Result<(), DeadLetterError>;
}

/// Why a dead letter can't be kept or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// The file system said no.
    #[error("dead-letter file {}: {source}; free the disk or mend the permissions", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A line is not a dead letter.
    #[error("line {line} of the dead-letter file {} is not a dead letter: {what}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

/// Dead letters in memory, for sources that are watched while they run.
#[derive(Debug, Default)]
pub struct MemoryDeadLetters {
    letters: Vec<DeadLetter>,
}

impl MemoryDeadLetters {
    /// What was refused, in order.
    pub fn letters(&self) -> &[DeadLetter] {
        &self.letters
    }
}

impl DeadLetters for MemoryDeadLetters {
    fn put(&mut self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        self.letters.push(letter.clone());
        Ok(())
    }
}

/// Dead letters that are only counted: for load generators, whose observer has seen the refusal.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDeadLetters;

impl DeadLetters for NoDeadLetters {
    fn put(&mut self, _letter: &DeadLetter) -> Result<(), DeadLetterError> {
        Ok(())
    }
}

/// The dead-letter file of a terminal.
#[derive(Debug)]
pub struct DeadLetterFile {
    path: PathBuf,
    file: File,
    known: BTreeSet<(u64, u32, u64)>,
}

#[derive(Deserialize, Serialize)]
struct Line {
    terminal: u64,
    epoch: u32,
    seq: u64,
    code: u16,
    reason: String,
    frame: String,
}

impl DeadLetterFile {
    /// Opens the file, or makes it. A last line that a crash cut short is removed: its event is still in the outbox.
    ///
    /// # Errors
    /// Returns [`DeadLetterError`] when the file can't be used, or a line before the last is damaged.
    pub fn open(path: &Path) -> Result<Self, DeadLetterError> {
        let io = |source| DeadLetterError::Io {
            path: path.to_owned(),
            source,
        };
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(io)?;
        if is_new {
            sync_folder_of(path).map_err(io)?;
        }
        let text = fs::read(path).map_err(io)?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        if whole < text.len() {
            file.set_len(u64::try_from(whole).unwrap_or(u64::MAX))
                .map_err(io)?;
        }
        file.sync_all().map_err(io)?;
        let known = read(path)?
            .iter()
            .map(|letter| (letter.terminal, letter.epoch, letter.seq))
            .collect();
        Ok(Self {
            path: path.to_owned(),
            file,
            known,
        })
    }

    /// Takes all letters out, for sending them again: hands each to `send`, then empties the file.
    ///
    /// `send` must have made the event durable elsewhere (in an outbox) before it returns. A crash in between leaves the
    /// file as it was; its events are then sent once more, under new numbers. Give events an event id where that matters.
    ///
    /// # Errors
    /// Returns the first error of `send`, with the file left whole, or [`DeadLetterError`] of the file.
    pub fn resend<E: From<DeadLetterError>>(
        &mut self,
        mut send: impl FnMut(DeadLetter) -> Result<(), E>,
    ) -> Result<usize, E> {
        let letters = read(&self.path)?;
        let count = letters.len();
        for letter in letters {
            send(letter)?;
        }
        let io = |source| DeadLetterError::Io {
            path: self.path.clone(),
            source,
        };
        self.file.set_len(0).map_err(io)?;
        self.file.sync_all().map_err(io)?;
        self.known.clear();
        Ok(count)
    }

    /// The letters in the file, in the order in which they came.
    ///
    /// # Errors
    /// Returns [`DeadLetterError`] when the file can't be read.
    pub fn letters(&self) -> Result<Vec<DeadLetter>, DeadLetterError> {
        read(&self.path)
    }
}

impl DeadLetters for DeadLetterFile {
    fn put(&mut self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        let key = (letter.terminal, letter.epoch, letter.seq);
        if self.known.contains(&key) {
            return Ok(());
        }
        let io = |source| DeadLetterError::Io {
            path: self.path.clone(),
            source,
        };
        let line = Line {
            terminal: letter.terminal,
            epoch: letter.epoch,
            seq: letter.seq,
            code: match letter.cause {
                Cause::Refused(reason) | Cause::Unreadable(reason) => reason.code(),
                Cause::Unknown => 0,
            },
            reason: letter.cause.to_string(),
            frame: hex(&letter.frame),
        };
        let mut text = serde_json::to_vec(&line).map_err(|error| io(error.into()))?;
        text.push(b'\n');
        let before = self.file.metadata().map_err(io)?.len();
        let written = self
            .file
            .write_all(&text)
            .and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // A half-written line must not run into the next one.
            self.file.set_len(before).map_err(io)?;
            return Err(io(source));
        }
        self.known.insert(key);
        Ok(())
    }
}

// A new file outlives a power cut only if its folder does.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    // Folders can't be opened where NTFS keeps its own order.
    match folder.unwrap_or_else(|| Path::new(".")) {
        folder if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<DeadLetter>, DeadLetterError> {
    let text = fs::read_to_string(path).map_err(|source| DeadLetterError::Io {
        path: path.to_owned(),
        source,
    })?;
    let mut letters = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let bad = |what: String| DeadLetterError::Line {
            path: path.to_owned(),
            line: at + 1,
            what,
        };
        let line: Line = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
        let frame = unhex(&line.frame).ok_or_else(|| bad("the frame is not hexadecimal".into()))?;
        letters.push(DeadLetter {
            terminal: line.terminal,
            epoch: line.epoch,
            seq: line.seq,
            cause: match line.code {
                0 => Cause::Unknown,
                code => Cause::Refused(Reason::from_code(code)),
            },
            frame: Bytes::from(frame),
        });
    }
    Ok(letters)
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests;
